"""A host as an access: what lies in its folders, the commands that it has, and nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from regie.core.errors import Denied, NotFound, Terminal, Unavailable
from regie.kit.access import Calls
from regie.kit.host import LARGEST_FILE
from regie.kit.keys import Material, Part
from regie.kit.local_host import LocalHost
from regie.kit.network import Network
from tests.counterparts.here import HERE


async def resolve(material: Material) -> bytes:
    return f"{material.certificate} {material.part}\n".encode()


def host(folder: Path, **commands: list[str]) -> LocalHost:
    calls = Calls("Web server")
    return LocalHost(
        network=Network(calls, HERE), calls=calls, resolve=resolve, folders=[str(folder)], commands=commands
    )


def listed(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def test_a_file_is_put_in_place_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    path.write_text("former")
    with path.open("rb") as open_before:
        await host(tmp_path).write(str(path), Material("secret://c/certificate-1", Part.CHAIN), b"end", mode=0o640)
        assert open_before.read() == b"former"
    assert await host(tmp_path).read(str(path)) == b"secret://c/certificate-1 chain\nend"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert listed(tmp_path) == ["site.pem"]


async def test_what_is_not_there_is_nothing_and_can_be_taken_away(tmp_path: Path) -> None:
    assert await host(tmp_path).read(str(tmp_path / "none")) is None
    await host(tmp_path).remove(str(tmp_path / "none"))
    with pytest.raises(NotFound):
        await host(tmp_path).write(str(tmp_path / "no" / "folder"), b"x")


@pytest.mark.parametrize("path", ["/etc/passwd", "{0}/../other", "{0}", "site.pem", "{0}other/site.pem"])
async def test_nothing_outside_its_folders_is_touched(tmp_path: Path, path: str) -> None:
    outside = path.format(tmp_path)
    with pytest.raises(Denied):
        await host(tmp_path).read(outside)
    with pytest.raises(Denied):
        await host(tmp_path).write(outside, b"x")
    with pytest.raises(Denied):
        await host(tmp_path).remove(outside)


async def test_a_link_that_leads_outside_is_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "file").write_text("theirs")
    (inside / "folder").symlink_to(outside)
    with pytest.raises(Denied):
        await host(inside).read(str(inside / "folder" / "file"))
    with pytest.raises(Denied):
        await host(inside).write(str(inside / "folder" / "file"), b"ours")
    assert (outside / "file").read_text() == "theirs"


async def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b" " * (LARGEST_FILE + 1))
    with pytest.raises(Terminal):
        await host(tmp_path).read(str(tmp_path / "large"))


async def test_only_the_commands_it_has_are_run(tmp_path: Path) -> None:
    web = host(tmp_path, test=["sh", "-c", "echo fine; exit 3"], gone=["no-such-program-at-all"])
    outcome = await web.run("test")
    assert (outcome.code, outcome.said, outcome.is_good) == (3, "fine\n", False)
    with pytest.raises(Denied):
        await web.run("reboot")
    with pytest.raises(Unavailable):
        await web.run("gone")
