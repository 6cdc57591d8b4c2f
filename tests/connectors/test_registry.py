"""What every connector promises, checked for each folder there is: a new folder is checked without an edited test.

Each capability is driven with its recording, and then with every way in which a vendor can fail.
"""

from __future__ import annotations

import ast
import json
import re
import traceback
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from regie.core import capabilities
from regie.core.capability import Capability, Effect
from regie.core.errors import (
    AuthFailed,
    Failure,
    NotFound,
    OutcomeUnknown,
    Refused,
    RegieError,
    Retryable,
    Terminal,
    Throttled,
    Unavailable,
)
from regie.core.plan import Change, NoChange, Pending
from regie.discovery import members
from regie.kit.connector import provided
from regie.kit.discovery import Found
from regie.kit.manifest import RULES
from regie.kit.session import LARGEST_BODY

from .conftest import (
    RECORDINGS,
    SECRET,
    BrokenWrites,
    Case,
    Handler,
    Player,
    Recorded,
    Recording,
    all_connectors,
    recording_of,
)

CONNECTORS = all_connectors()
MARKER = "regie-0123456789abcdef0123"

each_connector = pytest.mark.parametrize("found", CONNECTORS.values(), ids=CONNECTORS)


def cases(*, writes: bool) -> pytest.MarkDecorator:
    """Every recorded case that writes, or every one that does not."""
    kept = [
        pytest.param(name, recording_of(name), case, id=f"{name}-{case.capability}")
        for name in CONNECTORS
        if (RECORDINGS / f"{name}.yaml").is_file()
        for case in recording_of(name).cases
        if (case.change is not None) is writes
    ]
    return pytest.mark.parametrize(("name", "recording", "case"), kept)


def folder_of(found: Found) -> Path:
    return Path(__file__).parents[2] / "src" / "regie" / "connectors" / found.name


def is_recorded(found: Found) -> bool:
    return found.manifest.access == "http"


def test_there_are_connectors() -> None:
    assert {"jira", "graph"} <= set(CONNECTORS)


@each_connector
def test_a_folder_is_three_files_and_a_recording_or_a_test(found: Found) -> None:
    """What grows too long goes into further modules beside the connector."""
    files = {each.name for each in folder_of(found).iterdir() if each.name != "__pycache__"}
    assert {"__init__.py", "connector.py", "manifest.yaml"} <= files
    assert {Path(name).suffix for name in files} == {".py", ".yaml"}
    # What is spoken over HTTP is recorded; everything else is tried against the real thing.
    there = RECORDINGS / f"{found.name}.yaml" if is_recorded(found) else RECORDINGS.parent / f"test_{found.name}.py"
    assert there.is_file()


@each_connector
def test_the_names_agree(found: Found) -> None:
    assert found.manifest.name == found.name
    assert found.connector.__name__.lower() == found.name.replace("_", "")
    assert found.connector.__doc__


@each_connector
def test_the_manifest_says_what_the_code_declares(found: Found) -> None:
    declared = {each for entry in provided(found.connector).values() for each in entry.permissions}
    assert list(found.manifest.permissions) == sorted(declared)


@each_connector
def test_every_capability_is_known_and_recorded(found: Found) -> None:
    known = {each.name: each for each in members(capabilities, Capability)}
    entries = provided(found.connector)
    assert entries
    for name, entry in entries.items():
        assert entry.capability is known[name]
        assert entry.permissions
        assert all(entry.permissions)
        assert (entry.repeat is None) == (entry.capability.effect is Effect.READ)
        if entry.undo is not None:
            assert entry.undo.name in entries
            assert entry.undo.effect is not Effect.READ
    if not is_recorded(found):
        return
    recorded = recording_of(found.name).cases
    assert sorted({each.capability for each in recorded}) == list(entries)
    for case in recorded:
        assert (case.change is None) == (known[case.capability].effect is Effect.READ)


@each_connector
def test_the_manifest_refers_to_settings_and_secrets_that_exist(found: Found) -> None:
    manifest = found.manifest
    settings, secrets = set(manifest.authentication.settings), set(manifest.authentication.secrets)
    settings |= {manifest.address, manifest.trusts} - {""}
    if manifest.host:
        settings |= {*manifest.host.folders, *manifest.host.sockets}
    if manifest.inbound:
        secrets.add(manifest.inbound.secret)
    assert settings <= set(manifest.settings)
    assert secrets == set(manifest.secrets)
    examples = {name: each.example for name, each in manifest.settings.items()}
    assert manifest.faults(examples, manifest.secrets) == []
    for each in manifest.settings.values():
        assert each.required == (each.default is None)
        assert each.required or type(each.default) is type(each.example)


@each_connector
def test_the_quality_level_is_earned(found: Found) -> None:
    levels = list(RULES)
    asked = {rule for level in levels[: levels.index(found.manifest.quality.level) + 1] for rule in RULES[level]}
    assert asked <= set(found.manifest.quality.rules)
    assert set(found.manifest.quality.rules) <= {rule for rules in RULES.values() for rule in rules}


@each_connector
def test_a_connector_knows_neither_secrets_nor_customers(found: Found) -> None:
    source = "\n".join(each.read_text(encoding="utf-8") for each in folder_of(found).glob("*.py"))
    source = source.replace("from __future__ import annotations\n", "")
    assert not re.search(r"secret://|\btenant\b", source, re.IGNORECASE)
    imported = {
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    ours = {each for each in imported if each.startswith("regie")}
    own = f"regie.connectors.{found.name}"
    assert all(each.startswith(("regie.core", "regie.kit", own)) for each in ours)
    assert not imported & {"httpx2", "boto3", "botocore", "subprocess", "asyncio", "time", "os", "random"}


@cases(writes=False)
async def test_a_recorded_read_keeps_the_contract(
    recorded: Callable[[str], Recorded], name: str, recording: Recording, case: Case
) -> None:
    player = Player(recording.address, case.exchanges)
    read = recorded(name).read(case.capability, player)
    gives = await read.read(read.capability.wants.model_validate(case.want))
    assert isinstance(gives, read.capability.gives)
    assert gives.model_dump(mode="json") == case.gives
    assert player.is_finished


@cases(writes=True)
async def test_a_recorded_write_keeps_the_contract(
    recorded: Callable[[str], Recorded], name: str, recording: Recording, case: Case
) -> None:
    player = Player(recording.address, case.exchanges)
    write = recorded(name).write(case.capability, player)
    want = write.capability.wants.model_validate(case.want)
    seen = await write.observe(want, MARKER)
    change = write.plan(want, seen)
    assert isinstance(change, Change)
    assert case.change is not None
    assert (change.target, change.title) == (case.change.target, case.change.title)
    assert [(each.field, each.before, each.after) for each in change.fields] == case.change.fields
    assert change.capability == case.capability
    assert isinstance(write.gives(want, write.foreseen(change, seen)), write.capability.gives)
    receipt = await write.apply(want, change, MARKER)
    while isinstance(receipt, Pending):
        assert receipt.again_after_s > 0
        receipt = await write.resume(want, json.loads(json.dumps(receipt.handle)))
    confirmed = await write.confirm(want, receipt, MARKER)
    assert isinstance(write.plan(want, confirmed), NoChange)
    assert write.gives(want, confirmed).model_dump(mode="json") == case.gives
    assert player.is_finished


def status(code: int, **headers: str) -> Handler:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx2.Response(code, headers=named, content=f'{{"note": "{SECRET}"}}'.encode())


def body(content: bytes) -> Handler:
    return lambda _: httpx2.Response(200, content=content)


def fault(error: type[httpx2.TransportError]) -> Handler:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error(f"about {SECRET}", request=request)

    return fail


# How it ends, what a read makes of it, what a write makes of it.
ENDS: dict[str, tuple[Handler, tuple[type[RegieError], ...], tuple[type[RegieError], ...]]] = {
    "400": (status(400), (Refused,), (Refused,)),
    "401": (status(401), (AuthFailed,), (AuthFailed,)),
    "403": (status(403), (AuthFailed,), (AuthFailed,)),
    "404": (status(404), (NotFound,), (NotFound,)),
    "409": (status(409), (Refused,), (Refused, Unavailable)),
    "429": (status(429, Retry_After="7"), (Throttled,), (Throttled,)),
    "429-without-a-time": (status(429), (Throttled,), (Throttled,)),
    "500": (status(500), (Unavailable,), (OutcomeUnknown,)),
    "502": (status(502), (Unavailable,), (OutcomeUnknown,)),
    "503": (status(503), (Unavailable,), (OutcomeUnknown,)),
    "503-with-a-time": (
        status(503, Retry_After="Fri, 21 Nov 2031 12:00:07 GMT", Date="Fri, 21 Nov 2031 12:00:00 GMT"),
        (Unavailable,),
        (OutcomeUnknown,),
    ),
    "garbage": (body(b"<html>" + SECRET.encode()), (Unavailable,), (OutcomeUnknown,)),
    "another-shape": (body(b'["%s"]' % SECRET.encode()), (Terminal,), ()),
    "too-large": (body(b" " * (LARGEST_BODY + 1)), (Unavailable,), (OutcomeUnknown,)),
    "read-timeout": (fault(httpx2.ReadTimeout), (Unavailable,), (OutcomeUnknown,)),
    "cut-connection": (fault(httpx2.RemoteProtocolError), (Unavailable,), (OutcomeUnknown,)),
    "no-connection": (fault(httpx2.ConnectError), (Unavailable,), (Unavailable,)),
}
each_end = pytest.mark.parametrize("end", ENDS)


def check(error: RegieError, expected: tuple[type[RegieError], ...], end: str) -> None:
    assert isinstance(error, expected)
    if isinstance(error, Retryable | OutcomeUnknown):
        timed = end in {"429", "503-with-a-time"}
        assert error.after_s == (7 if timed else None)
    told = "".join(traceback.format_exception(error)) + Failure.of(error).model_dump_json()
    assert SECRET not in told


@each_end
@cases(writes=False)
async def test_a_read_that_fails(
    recorded: Callable[[str], Recorded], name: str, recording: Recording, case: Case, end: str
) -> None:
    handler, expected, _ = ENDS[end]
    read = recorded(name).read(case.capability, handler)
    with pytest.raises(RegieError) as caught:
        await read.read(read.capability.wants.model_validate(case.want))
    check(caught.value, expected, end)


@each_end
@cases(writes=True)
async def test_an_observation_that_fails(
    recorded: Callable[[str], Recorded], name: str, recording: Recording, case: Case, end: str
) -> None:
    handler, expected, _ = ENDS[end]
    write = recorded(name).write(case.capability, handler)
    with pytest.raises(RegieError) as caught:
        await write.observe(write.capability.wants.model_validate(case.want), MARKER)
    check(caught.value, expected, end)


# Many writes are answered without a body, so another shape of it says nothing about them.
@pytest.mark.parametrize("end", [end for end in ENDS if end != "another-shape"])
@cases(writes=True)
async def test_a_write_that_fails(
    recorded: Callable[[str], Recorded], name: str, recording: Recording, case: Case, end: str
) -> None:
    handler, _, expected = ENDS[end]
    write = recorded(name).write(case.capability, BrokenWrites(recording.address, case.exchanges, handler))
    want = write.capability.wants.model_validate(case.want)
    change = write.plan(want, await write.observe(want, MARKER))
    assert isinstance(change, Change)
    with pytest.raises(RegieError) as caught:
        await write.apply(want, change, MARKER)
    check(caught.value, expected, end)
