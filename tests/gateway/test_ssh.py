"""A host over SSH keeps what a host on this machine keeps, and is the one whose key is pinned."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from regie.core.errors import AuthFailed, Denied, NotFound, OutcomeUnknown, Refused, Terminal, Unavailable
from regie.gateway.ssh import Ssh, SshHost, SshPlace
from regie.gateway.vault import SecretText
from regie.kit.access import Calls
from regie.kit.host import LARGEST_FILE, Host, Stored
from regie.kit.keys import Material, Part
from regie.kit.local_host import LocalHost
from regie.kit.network import Network
from tests.counterparts.disk import disk
from tests.counterparts.here import HERE, NOBODYS_PORT
from tests.counterparts.sshd import Sshd, new_key, sshd

pytestmark = pytest.mark.slow

PEM = "-----BEGIN {0}-----\nAAAA\n-----END {0}-----"


def fill(*paths: str) -> None:
    for path in paths:
        Path(path).write_text(PEM.format("CERTIFICATE"))


def listed(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def resolve(material: Material) -> bytes:
    return f"{material.certificate} {material.part}\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder: Path = tmp_path_factory.mktemp("sshd")
    with sshd(folder) as started:
        yield started


def way(server: Sshd, **other: str) -> Ssh:
    async def private_key(refused: SecretText | None = None) -> SecretText:
        return SecretText(other.get("private_key", server.private_key))

    place = SshPlace(
        other.get("address", server.address), other.get("user", server.user), other.get("host_key", server.host_key)
    )
    return Ssh(place, private_key, HERE)


def rules(folder: Path, **commands: list[str]) -> dict[str, Any]:
    calls = Calls("Web server")
    return {
        "network": Network(calls, HERE),
        "calls": calls,
        "resolve": resolve,
        "folders": [str(folder)],
        "commands": commands,
        "sockets": {"door": str(folder / "door.sock")},
    }


@asynccontextmanager
async def signed_in(server: Sshd, folder: Path, **commands: list[str]) -> AsyncIterator[SshHost]:
    ssh = way(server)
    try:
        yield SshHost(ssh, **rules(folder, **commands))
    finally:
        await ssh.aclose()


@pytest.fixture(params=["here", "over SSH"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    """Both kinds of hosts, with one folder."""
    commands = {"test": ["sh", "-c", "echo 'it is; fine'; exit 3"]}
    if request.param == "here":
        yield LocalHost(**rules(tmp_path, **commands))
        return
    async with signed_in(request.getfixturevalue("server"), tmp_path, **commands) as made:
        yield made


async def test_a_file_is_put_in_place_as_a_whole(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    path.write_text("former")
    with path.open("rb") as open_before:
        await host.write(str(path), Material("secret://c/certificate-1", Part.CHAIN), b"end", mode=0o640)
        assert open_before.read() == b"former"
    assert await host.read(str(path)) == b"secret://c/certificate-1 chain\nend"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert listed(tmp_path) == ["site.pem"]
    await host.remove(str(path))
    await host.remove(str(path))
    assert await host.read(str(path)) is None


async def test_a_file_that_is_passed_on_comes_as_its_blocks(host: Host, tmp_path: Path) -> None:
    certificate, key = PEM.format("CERTIFICATE"), PEM.format("EC PRIVATE KEY")
    (tmp_path / "site.pem").write_text(f"subject: somebody\n{certificate}\n\n\n{key}\n")
    await host.write(str(tmp_path / "copy.pem"), Stored(str(tmp_path / "site.pem")))
    assert (tmp_path / "copy.pem").read_text() == f"{certificate}\n{key}\n"
    assert await host.certificates(str(tmp_path / "site.pem")) == f"{certificate}\n".encode()
    assert await host.certificates(str(tmp_path / "none.pem")) is None
    with pytest.raises(NotFound):
        await host.write(str(tmp_path / "copy.pem"), Stored(str(tmp_path / "none.pem")))


async def test_what_is_missing_too_large_or_outside(host: Host, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await host.write(str(tmp_path / "no" / "folder"), b"x")
    (tmp_path / "large").write_bytes(b" " * (LARGEST_FILE + 1))
    with pytest.raises(Terminal):
        await host.read(str(tmp_path / "large"))
    (tmp_path / "away").symlink_to("/etc")
    for path in (tmp_path / "away" / "hostname", Path("/etc/hostname"), tmp_path / ".." / "x"):
        with pytest.raises(Denied):
            await host.read(str(path))
        with pytest.raises(Denied):
            await host.write(str(path), b"x")
        with pytest.raises(Denied):
            await host.remove(str(path))


async def test_the_files_of_its_folders_are_listed(host: Host, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("b.pem", "a.pem", "łódź.pem"):
        (tmp_path / name).touch()
    assert sorted(await host.list_files()) == [str(tmp_path / name) for name in ("a.pem", "b.pem", "łódź.pem")]


async def test_a_link_leads_elsewhere_in_one_step(host: Host, tmp_path: Path) -> None:
    link = tmp_path / "shop"
    assert await host.leads_to(str(link)) is None
    for slot in ("a", "b"):
        for _ in range(2):
            await host.make_folder(str(tmp_path / slot))
        await host.write(str(tmp_path / slot / "name"), slot.encode())
        await host.point(str(link), slot)
        assert (await host.leads_to(str(link)), await host.read(str(link / "name"))) == (slot, slot.encode())
    assert sorted(listed(tmp_path)) == ["a", "b", "shop"]
    assert await host.leads_to(str(tmp_path / "none" / "shop")) is None
    with pytest.raises(NotFound):
        await host.make_folder(str(tmp_path / "none" / "a"))
    with pytest.raises(Refused, match="is no link") as caught:
        await host.leads_to(str(tmp_path / "a"))
    assert caught.value.code == "no-link"
    with pytest.raises(Refused):
        await host.point(str(tmp_path / "a"), "b")
    for to in ("../away", "/etc"):
        with pytest.raises(Denied):
            await host.point(str(link), to)
    assert sorted(listed(tmp_path)) == ["a", "b", "shop"]


async def test_what_a_file_holds_is_compared_without_being_told(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("it chain\nend")
    assert await host.holds(str(tmp_path / "file"), Material("it", Part.CHAIN), b"end")
    assert not await host.holds(str(tmp_path / "file"), Material("it", Part.CHAIN))
    assert not await host.holds(str(tmp_path / "none"), b"")


@pytest.mark.parametrize("option", ["size=64k", "nr_inodes=2"])
async def test_a_full_disk_is_said_to_be_full(host: Host, tmp_path: Path, option: str) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with disk(folder, option):
        await host.write(str(folder / "small"), b"former")
        for change in (
            host.write(str(folder / "small"), b"x" * 200_000),
            *(
                ()
                if option.startswith("size")
                else (host.make_folder(str(folder / "a")), host.point(str(folder / "b"), "a"))
            ),
        ):
            with pytest.raises(Refused, match="no space left") as caught:
                await change
            assert caught.value.code == "disk-full"
        assert await host.read(str(folder / "small")) == b"former"
        assert listed(folder) == ["small"]


async def test_a_name_that_is_no_text_hides_no_other(host: Host, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pem")
    fill(odd, str(tmp_path / "a.pem"))
    assert sorted(await host.list_files()) == [str(tmp_path / "a.pem"), odd]
    assert await host.read(odd) == PEM.format("CERTIFICATE").encode()


async def test_only_its_commands_are_run(host: Host) -> None:
    outcome = await host.run("test")
    assert (outcome.code, outcome.said) == (3, "it is; fine\n")
    with pytest.raises(Denied):
        await host.run("reboot")


async def test_a_socket_is_asked_and_answers(host: Host, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await host.ask("door", b"hello")
    with pytest.raises(Denied):
        await host.ask("window", b"hello")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "door.sock"):
        assert await host.ask("door", b"hello ", Material("it", Part.CHAIN)) == "HELLO IT CHAIN\n"


async def test_nobody_is_spoken_to_whose_key_is_not_the_pinned_one(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    wrong = {
        "shows another key": {"host_key": new_key()[1]},
        "does not let": {"private_key": new_key()[0]},
        "cannot be used": {"private_key": "no key at all"},
        "no public key": {"host_key": "ssh-ed25519 nonsense"},
    }
    for says, other in wrong.items():
        host = SshHost(way(server, **other), **rules(tmp_path))
        with pytest.raises((AuthFailed, Denied), match=says):
            await host.read(str(tmp_path / "file"))
    with pytest.raises(Unavailable):
        await SshHost(way(server, address=f"127.0.0.1:{NOBODYS_PORT}"), **rules(tmp_path)).read(str(tmp_path / "file"))


async def test_a_connection_that_has_gone_is_made_again(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ssh = way(server)
    host = SshHost(ssh, **rules(tmp_path, last=["sh", "-c", "kill -9 $PPID"]))
    assert await host.read(str(tmp_path / "file")) == b"x"
    with pytest.raises(OutcomeUnknown):
        await host.run("last")
    assert await host.read(str(tmp_path / "file")) == b"x"
    await ssh.aclose()


async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regie.gateway.ssh.LOGIN_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable):
            await SshHost(way(server, address=address), **rules(tmp_path)).read(str(tmp_path / "file"))
