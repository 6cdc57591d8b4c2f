"""Strangers' programs, as a bundle brings them, accept it whole and refuse it after whatever they can see."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regie.core.signed_note import SigningKey
from regie.notary.keys import KeyFile

from .conftest import EVENTS, RUNS, Built
from .forging import Forgery
from .test_tampering import CASES, GRANTED

pytestmark = pytest.mark.slow

SIZE = RUNS * EVENTS
GO_CODE = Path("/usr/share/gocode")
SIGSTORE = Path(__file__).parents[2] / "verify/foreign"
KINDS = {
    "a word of a record": f"record {GRANTED} ",
    "a record is dropped": f"record {GRANTED} ",
    "a record is inserted": f"record {GRANTED} ",
    "two records change places": "record 100 ",
    "the last record is cut off": "",
    "the bundle is an old one": "kept checkpoint",
    "a record, and every hash fits": "",
    "a history under another key": "checkpoint",
    "a history under the stolen key": "kept checkpoint",
    "an event of a run is left out, stolen key": "kept checkpoint",
    "a record is dated back, stolen key": "kept checkpoint",
    "somebody approves for himself, stolen key": "kept checkpoint",
    "a hash of a record": "record 261 ",
    "the size in the checkpoint": "checkpoint",
    "the signature of the checkpoint": "checkpoint",
    "what the anchor log holds": "anchor",
    "the place in the anchor log": "anchor",
    "the checkpoint is gone": "checkpoint",
}
"""What a tool that knows logs and nothing of runs can see, and what it must name."""

Verify = Callable[[Path, Path], subprocess.CompletedProcess[str]]


def lacking(what: str) -> None:
    if os.environ.get("CI"):  # noqa: TID251  a test asks where it runs
        pytest.fail(f"On CI it must check a bundle: {what}")
    # Elsewhere a developer may lack the tool; the reason says what to install.
    pytest.skip(f"It is not installed: {what}")


@pytest.fixture(scope="module")
def go(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Verify:
    """verify.go, compiled with the Go project's own code for logs."""
    compiler = shutil.which("go")
    if compiler is None or not (GO_CODE / "src/golang.org/x/mod/sumdb").exists():
        lacking("make go")
    folder = tmp_path_factory.mktemp("go")
    environment = {
        "GO111MODULE": "off",
        "GOPATH": str(GO_CODE),
        "GOCACHE": str(folder / "cache"),
        "PATH": os.environ["PATH"],  # noqa: TID251  the compiler's own programs
    }
    command = [str(compiler), "build", "-o", str(folder / "verify"), str(built.folder / "bundle/verify.go")]
    compiled = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    return lambda bundle, kept: run(str(folder / "verify"), bundle, kept)


@pytest.fixture(scope="module")
def sigstore(built: Built) -> Verify:
    """verify.mjs, with Sigstore's package."""
    node = need_sigstore()
    return lambda bundle, kept: run(f"{node} {built.folder}/bundle/verify.mjs", bundle, kept)


def need_sigstore() -> str:
    """The program that runs verify.mjs."""
    node = shutil.which("node")
    if node is None or not (SIGSTORE / "node_modules/@sigstore/verify").exists():
        lacking("make sigstore")
    return str(node)


def run(program: str, bundle: Path, kept: Path) -> subprocess.CompletedProcess[str]:
    command = [*program.split(), str(bundle), str(kept)]
    return subprocess.run(command, cwd=SIGSTORE, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("tool", ["go", "sigstore"])
def test_a_stranger_accepts_a_bundle_and_refuses_it_after_each_kind_of_tampering(
    request: pytest.FixtureRequest, built: Built, tmp_path: Path, tool: str
) -> None:
    verify: Verify = request.getfixturevalue(tool)
    key = KeyFile(built.folder / "signing.json").read()[-1]
    (tmp_path / "kept").write_text(built.kept)
    whole = verify(built.folder / "bundle", tmp_path / "kept")
    assert whole.stdout.startswith(f"ok {SIZE} records"), whole.stderr
    for number, (kind, named) in enumerate(KINDS.items()):
        bundle = shutil.copytree(built.folder / "bundle", tmp_path / str(number))
        CASES[kind].act(Forgery(bundle), key)
        refused = verify(bundle, tmp_path / "kept")
        assert (kind, refused.returncode) == (kind, 1), refused.stdout
        assert named in refused.stderr, f"{kind}: {refused.stderr}"


@pytest.mark.parametrize("tool", ["go", "sigstore"])
def test_keys_may_have_a_plus_in_their_text(request: pytest.FixtureRequest, exported: Path, tool: str) -> None:
    """As one in every two has: it also stands between the parts of a key."""
    forgery = Forgery(exported)
    origin, anchor = forgery.manifest["origin"], forgery.manifest["anchor"]
    key = next(key for key in map(SigningKey, seeds()) if str(key.verifier(origin)).count("+") > 2)
    forgery.rewrite(forgery.leaves, key)
    for name, log in (("log.vkey", origin), ("anchor.vkey", anchor)):
        (exported / name).write_text(f"{key.verifier(log)}\n")
    verify: Verify = request.getfixturevalue(tool)
    accepted = verify(exported, exported / "checkpoint")
    assert accepted.stdout.startswith(f"ok {SIZE} records"), accepted.stderr


def seeds() -> Iterator[bytes]:
    return (bytes([number]) * 32 for number in range(256))
