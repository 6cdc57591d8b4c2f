"""Certificates in a folder over SFTP, at a real server of OpenSSH."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from regie.connectors.sftp.connector import Sftp
from regie.core.capabilities.certificate import NOTHING, DeployedState, Deployment, Target
from regie.core.errors import AuthFailed, Denied, NotFound, OutcomeUnknown, Refused, Unavailable
from regie.core.plan import Change, NoChange
from regie.gateway.ssh import Ssh, SshHost, SshPlace
from regie.gateway.vault import SecretText
from regie.kit.access import Calls
from regie.kit.network import Network
from regie_sandbox.servers.authority import Issued
from tests.counterparts.disk import disk
from tests.counterparts.here import HERE, NOBODYS_PORT
from tests.counterparts.sshd import Sshd, new_key, sshd

from .cloud import AUTHORITY, Shelf
from .conftest import all_connectors
from .driving import MARKER, bring_about, planned, read_of, write_of

pytestmark = pytest.mark.slow

DEPLOY, SHOP, RENEWALS = "certificate.deploy", "shop.example.test", 10
FILES = ("certificate.pem", "chain.pem", "key.pem")


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    """A server that lets in whoever runs the tests, and where that is root, everybody."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        with sshd(folder) as started:
            yield started


SLOW_S = 0.05
"""A reading takes a millisecond; one that takes longer has been held up."""


class Died(BaseException):
    """What a process does not survive."""


class Watched(Calls):
    """Calls, before one of which something happens."""

    at, number = 0, 0
    event: Callable[[], object]

    @asynccontextmanager
    async def one(self, *arguments: Any, **more: Any) -> AsyncIterator[None]:
        self.number += 1
        if self.number == self.at:
            self.event()
        async with super().one(*arguments, **more):
            yield


@dataclass
class Site:
    """A folder at the server, and connections to it."""

    server: Sshd
    folder: Path
    shelf: Shelf = field(default_factory=Shelf)
    opened: dict[tuple[str, ...], Ssh] = field(default_factory=dict)

    @property
    def live(self) -> Path:
        return self.folder / "shop"

    def sftp(self, calls: Calls | None = None, private_key: str = "", /, **settings: JsonValue) -> Sftp:
        known: dict[str, JsonValue] = {
            "address": self.server.address,
            "user": self.server.user,
            "host_key": self.server.host_key,
            "folder": str(self.folder),
            "targets": {"shop": {"server_name": SHOP}, "Shop": {}, "odd": {"server": SHOP}},
        }
        manifest = all_connectors()["sftp"].manifest
        effective = manifest.effective({**known, **settings})
        assert manifest.faults({**known, **settings}, {"ssh_key"}) == []

        async def key(refused: SecretText | None = None) -> SecretText:
            return SecretText(private_key or self.server.private_key)

        where = [str(effective[name]) for name in ("address", "user", "host_key")]
        ssh = self.opened.setdefault((*where, private_key), Ssh(SshPlace(*where), key, HERE))
        calls = calls or Calls(manifest.title)
        host = SshHost(
            ssh,
            network=Network(calls, HERE),
            calls=calls,
            resolve=self.shelf.resolve,
            folders=[str(effective["folder"])],
            commands={},
        )
        return Sftp(host, effective, self.shelf)

    async def deploy(self, certificate: str, **settings: JsonValue) -> tuple[DeployedState, bool]:
        """What it gives, and whether something was changed."""
        state, changed = await bring_about(self.sftp(**settings), DEPLOY, wanting(certificate))
        assert state == await self.found()
        return state, changed

    async def found(self) -> DeployedState:
        found: DeployedState = await read_of(self.sftp(), "certificate.find_deployed").read(
            Target(target="shop", connection="files-1")
        )
        return found

    def issue(self) -> str:
        return self.shelf.issue(SHOP).certificate

    def holds(self, certificate: str) -> bool:
        """Whether the three files are those of a certificate."""
        issued = self.shelf.issued[certificate]
        return [(self.live / name).read_text() for name in FILES] == [issued.chain, issued.chain, issued.key]

    def everything(self) -> dict[str, str | bytes]:
        """All links and files."""
        found = (each for each in self.folder.rglob("*") if each.is_symlink() or each.is_file())
        return {str(each): str(each.readlink()) if each.is_symlink() else each.read_bytes() for each in found}


def wanting(certificate: str, target: str = "shop") -> Deployment:
    return Deployment(target=target, certificate=certificate, connection="files-1")


@pytest.fixture
async def site(server: Sshd, tmp_path: Path) -> AsyncIterator[Site]:
    folder = tmp_path / "Zertifikate für łódź"
    folder.mkdir()
    made = Site(server, folder)
    yield made
    for each in made.opened.values():
        await each.aclose()


@contextmanager
def reading(live: Path) -> Iterator[list[str]]:
    """Somebody who fetches all the while, and follows the link once each time: what was wrong, if anything."""
    is_over, wrong, times = threading.Event(), [], 0

    def fetch() -> None:
        nonlocal times
        while not is_over.wait(0.005):
            link, place, began_s = live.lstat(), live.parent / live.readlink(), time.monotonic()
            try:
                ssl.create_default_context().load_cert_chain(place / "chain.pem", place / "key.pem")
            except (OSError, ssl.SSLError) as error:
                # On a busy machine two deployments may overtake one reading, which then takes long and ends under
                # another link. Whatever else is wrong counts.
                is_overtaken = live.lstat().st_mtime_ns != link.st_mtime_ns and time.monotonic() - began_s > SLOW_S
                if not is_overtaken:
                    wrong.append(f"{place.name}: {error}")
            times += 1

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        yield wrong
    finally:
        is_over.set()
        thread.join()
    assert times


async def test_three_files_are_put_in_place_and_renewed_together(site: Site) -> None:
    assert (await site.found()) == DeployedState(target="shop", connection="files-1", serial="", restore=NOTHING)
    first = site.issue()
    state, changed = await site.deploy(first)
    assert changed
    assert site.holds(first)
    kept = await site.shelf.get(first)
    assert (state.serial, state.installed, state.certificate, state.restore) == (kept.serial, kept.serial, first, first)
    assert state.not_after == kept.not_after
    assert [oct((site.live / name).stat().st_mode & 0o777) for name in FILES] == ["0o644", "0o644", "0o600"]
    assert await site.deploy(first) == (state, False)
    with reading(site.live) as wrong:
        for _ in range(RENEWALS):
            reference = site.issue()
            await site.deploy(reference)
            assert site.holds(reference)
    assert wrong == []
    assert sorted(each.name for each in site.folder.iterdir()) == [".shop.a", ".shop.b", "shop"]


async def test_the_group_of_the_folder_reads_the_key_where_it_is_said(site: Site) -> None:
    if site.server.user == "root":
        site.folder.chmod(0o2755)
    await site.deploy(site.issue(), targets={"shop": {"group_reads": True}})
    status = (site.live / "key.pem").stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o640, site.folder.stat().st_gid)


async def test_a_dry_run_foresees_and_changes_nothing(site: Site) -> None:
    reference = site.issue()
    change = await planned(site.sftp(), DEPLOY, wanting(reference))
    assert isinstance(change, Change)
    serial = (await site.shelf.get(reference)).serial
    assert [(each.before, each.after) for each in change.fields] == [(NOTHING, serial)]
    write = write_of(site.sftp(), DEPLOY)
    seen = await write.observe(wanting(reference), MARKER)
    foreseen = write.gives(wanting(reference), write.foreseen(change, seen))
    assert list(site.folder.iterdir()) == []
    assert (await site.deploy(reference))[0] == foreseen


async def test_undo_brings_the_former_files_back(site: Site) -> None:
    first, second = site.issue(), site.issue()
    await site.deploy(first)
    before = await site.found()
    await site.deploy(second)
    await site.deploy(before.restore)
    assert site.holds(first)
    assert (await site.found()) == before


async def test_undo_of_the_first_one_takes_it_and_its_key_away(site: Site) -> None:
    before = await site.found()
    await site.deploy(site.issue())
    await site.deploy(site.issue())
    assert (await site.deploy(before.restore)) == (before, True)
    assert site.everything() == {}
    with pytest.raises(NotFound, match="there was nothing"):
        await site.deploy("")


@pytest.mark.parametrize("names", [FILES, ("fullchain.pem", "privkey.pem", "README")])
async def test_what_somebody_else_put_there_comes_back_untouched(site: Site, names: tuple[str, ...]) -> None:
    theirs = AUTHORITY.issue([SHOP])
    (site.folder / "theirs").mkdir()
    for name in names:
        (site.folder / "theirs" / name).write_text(f"# ours\n{theirs.chain}")
    site.live.symlink_to("theirs")
    everything, before = site.everything(), await site.found()
    assert (before.certificate, before.restore) == ("", "")
    assert before.serial == (theirs.serial if names == FILES else "")
    await site.deploy(site.issue())
    last = site.issue()
    await site.deploy(last)
    assert site.holds(last)
    assert (await site.deploy(before.restore)) == (before, True)
    assert (await site.deploy("")) == (before, False)
    left = site.everything()
    assert left.pop(str(site.folder / ".shop.original")) == "theirs"
    assert left == everything


async def test_what_is_no_link_is_not_replaced(site: Site) -> None:
    site.live.mkdir()
    with pytest.raises(Refused, match="is no link") as caught:
        await site.deploy(site.issue())
    assert caught.value.code == "no-link"
    assert caught.value.hint is not None
    assert "ln -s shop-before" in caught.value.hint
    assert list(site.folder.iterdir()) == [site.live]


async def test_a_link_that_leads_out_of_the_folder_is_not_followed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    site.live.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Denied, match="outside the folders"):
        await site.deploy(site.issue())


@pytest.mark.parametrize("name", FILES)
async def test_reading_back_finds_what_was_altered_and_mends_it(site: Site, name: str) -> None:
    reference, other = site.issue(), AUTHORITY.issue([SHOP])
    await site.deploy(reference)
    own = (site.live / name).read_text()
    (site.live / name).write_text(own + (other.key if name == "key.pem" else other.chain))
    assert isinstance(await planned(site.sftp(read_back=False), DEPLOY, wanting(reference)), NoChange)
    change = await planned(site.sftp(), DEPLOY, wanting(reference))
    assert isinstance(change, Change)
    assert [(each.before, each.after) for each in change.fields] == [("altered", "as kept")]
    await site.deploy(reference)
    assert site.holds(reference)


async def test_what_reads_back_otherwise_is_never_put_in_place(site: Site) -> None:
    first, second = site.issue(), site.issue()
    await site.deploy(first)
    calls = Watched("SFTP")
    write = write_of(site.sftp(calls), DEPLOY)
    change = write.plan(wanting(second), await write.observe(wanting(second), MARKER))
    assert isinstance(change, Change)
    calls.number = 0
    calls.at = 6  # the link, the folder and three files are done
    calls.event = lambda: (site.folder / ".shop.b" / "key.pem").write_text("somebody else's")
    with pytest.raises(Refused, match="nothing was changed") as caught:
        await write.apply(wanting(second), change, MARKER)
    assert caught.value.code == "not-as-written"
    assert site.holds(first)


async def test_cut_off_before_any_call_the_former_or_the_new_is_whole_and_the_next_attempt_finishes(site: Site) -> None:
    await site.deploy(site.issue())
    at = 0
    with reading(site.live) as wrong:
        while True:
            at += 1
            former, reference = (await site.found()).certificate, site.issue()
            calls = Watched("SFTP")
            calls.at = at

            def die() -> None:
                raise Died

            calls.event = die
            try:
                await bring_about(site.sftp(calls), DEPLOY, wanting(reference))
            except Died:
                assert site.holds(former) or site.holds(reference)
                await site.deploy(reference)
                assert site.holds(reference)
            else:
                break
    assert wrong == []
    assert at > 10


async def test_other_names_targets_and_certificates_are_refused(site: Site) -> None:
    other = site.shelf.issue("other.example.test").certificate
    with pytest.raises(Refused, match="is not for shop"):
        await site.deploy(other)
    with pytest.raises(NotFound, match="no certificate is kept"):
        await site.deploy("secret://certificates/certificate-none")
    with pytest.raises(NotFound, match="no target 'mail'"):
        await planned(site.sftp(), DEPLOY, wanting(other, "mail"))
    with pytest.raises(Denied, match="is no name of a file"):
        await planned(site.sftp(), DEPLOY, wanting(other, "Shop"))
    with pytest.raises(Denied, match="odd of the connection cannot be used"):
        await planned(site.sftp(), DEPLOY, wanting(other, "odd"))
    assert list(site.folder.iterdir()) == []


async def test_a_folder_that_is_not_there(site: Site) -> None:
    with pytest.raises(NotFound, match="there is no folder for"):
        await site.deploy(site.issue(), folder=f"{site.folder}/none")


@pytest.fixture
def closed(site: Site) -> Iterator[dict[str, JsonValue]]:
    """Settings with a folder that the user may not write into. Root may write everywhere, and is somebody else here."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if site.server.user == "root":
            folder.chmod(0o755)
            yield {"folder": made, "user": "nobody"}
        else:
            folder.chmod(0o500)
            yield {"folder": made}


async def test_a_folder_that_may_not_be_written(site: Site, closed: dict[str, JsonValue]) -> None:
    with pytest.raises(AuthFailed, match="may not be made") as caught:
        await site.deploy(site.issue(), **closed)
    assert caught.value.hint is not None
    assert "write FOLDER" in caught.value.hint


async def test_a_host_with_another_key_is_not_spoken_to(site: Site) -> None:
    with pytest.raises(AuthFailed, match="shows another key than the one that is pinned"):
        await site.deploy(site.issue(), host_key=new_key()[1])
    with pytest.raises(AuthFailed, match="does not let"):
        await bring_about(site.sftp(None, new_key()[0]), DEPLOY, wanting(site.issue()))
    assert list(site.folder.iterdir()) == []


def fill(filler: Path) -> None:
    """Take all the space there is."""
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


async def test_a_disk_that_is_full_leaves_the_former_in_place(site: Site) -> None:
    with disk(site.folder, "size=64k"):
        first, second = site.issue(), site.issue()
        await site.deploy(first)
        filler = site.folder / "filler"
        fill(filler)
        with pytest.raises(Refused, match="there is no space left") as caught:
            await site.deploy(second)
        assert caught.value.code == "disk-full"
        assert site.holds(first)
        filler.unlink()
        await site.deploy(second)
        assert site.holds(second)


async def test_a_host_that_is_not_there(site: Site) -> None:
    with pytest.raises(Unavailable, match="nobody listens there"):
        await site.deploy(site.issue(), address=f"127.0.0.1:{NOBODYS_PORT}")


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A way to a port that can be cut: its own port, and what cuts it."""
    ends: list[asyncio.StreamWriter] = []

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            sink.write(piece)
        sink.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        ends.extend((writer, there_writer))
        await asyncio.gather(pass_on(reader, there_writer), pass_on(there_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(join, "127.0.0.1", 0) as started:

        def cut() -> None:
            started.close()
            for each in ends:
                each.transport.abort()

        yield started.sockets[0].getsockname()[1], cut


async def test_a_host_that_vanishes_leaves_the_former_in_place_and_the_next_attempt_finishes(site: Site) -> None:
    first, second = site.issue(), site.issue()
    await site.deploy(first)
    async with relay(site.server.port) as (port, cut):
        calls = Watched("SFTP")
        write = write_of(site.sftp(calls, address=f"127.0.0.1:{port}"), DEPLOY)
        change = write.plan(wanting(second), await write.observe(wanting(second), MARKER))
        assert isinstance(change, Change)
        calls.number, calls.at, calls.event = 0, 4, cut
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await write.apply(wanting(second), change, MARKER)
        with pytest.raises(Unavailable):
            await write.observe(wanting(second), MARKER)
    assert site.holds(first)
    await site.deploy(second)
    assert site.holds(second)


async def test_a_key_is_told_to_nobody(site: Site) -> None:
    issued: Issued = site.shelf.issued[site.issue()]
    [reference] = site.shelf.issued
    write = write_of(site.sftp(), DEPLOY)
    seen = await write.observe(wanting(reference), MARKER)
    told = repr((seen, write.plan(wanting(reference), seen), await site.deploy(reference)))
    assert issued.key.splitlines()[1] not in told
