"""The policies of a workspace: `policies/*.cedar` beside ours, and `policies/*.yaml`, the golden tables about them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from regie.core.errors import DefinitionError, Fault
from regie.core.release import Release
from regie.core.source import decode, read_record, read_source
from regie.policy import golden
from regie.policy.cedar import ALWAYS, faults_of, policies_of, shipped
from regie.policy.golden import Checked, Table

FOLDER = "policies"


def read_policies(workspace: Path | None) -> tuple[dict[str, str], list[Fault]]:
    """The texts of all policies that count, by file name: ours, and the workspace's beside or in place of them."""
    texts, paths, faults = dict(shipped()), dict[str, str](), list[Fault]()
    for file in sorted((workspace / FOLDER).glob("*.cedar")) if workspace else ():
        if file.name == ALWAYS:
            hint = "Write what you forbid besides into a file of another name."
            faults.append(Fault(str(file), 1, 1, f"{ALWAYS} holds in every installation and is not replaced", hint))
            continue
        try:
            texts[file.name] = decode(file.read_bytes(), str(file))
        except DefinitionError as error:
            faults += error.faults
        except OSError as error:
            faults.append(Fault(str(file), 1, 1, f"cannot be read: {error.strerror}"))
        paths[file.name] = str(file)
    return texts, faults + faults_of(texts, paths)


def golden_faults(workspace: Path | None, release: Release) -> list[Fault]:
    """Where the policies of a release decide otherwise than its golden tables say, by line."""
    faults: list[Fault] = []
    for file in _tables(workspace):
        try:
            text = decode(file.read_bytes(), str(file))
            table = read_record(text, str(file), Table)
        except DefinitionError as error:
            faults += error.faults
            continue
        except OSError as error:
            faults.append(Fault(str(file), 1, 1, f"cannot be read: {error.strerror}"))
            continue
        source = read_source(text, str(file))
        faults += [
            source.fault(source.root.below("decisions", each.number), each.fault)
            for each in golden.check(table, policies_of(release), release)
            if each.fault
        ]
    return faults


def golden_lines(workspace: Path | None, release: Release) -> list[tuple[Path, Checked]]:
    """Every line of every golden table with what came of it.

    Raises:
        DefinitionError: A table cannot be read.
    """
    return [
        (file, each)
        for file in _tables(workspace)
        for each in golden.check(
            read_record(decode(file.read_bytes(), str(file)), str(file), Table), policies_of(release), release
        )
    ]


def _tables(workspace: Path | None) -> Iterator[Path]:
    return iter(sorted((workspace / FOLDER).glob("*.yaml")) if workspace else ())
