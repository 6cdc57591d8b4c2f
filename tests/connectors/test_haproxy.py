"""HAProxy, real, with certificates put in place while clients connect."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from regie.core.errors import Refused, RegieError, Unavailable
from regie_sandbox.servers.authority import Issued
from regie_sandbox.servers.haproxy import haproxy

from .deploying import AUTHORITY, TARGET, Deploying, Site, clients

pytestmark = pytest.mark.slow


def ask(path: str, line: str) -> str:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(path)
        door.sendall(line.encode())
        door.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: door.recv(4096), b"")).decode()


class TestHaproxy(Deploying):
    program = "/usr/sbin/haproxy"

    def serving(self, folder: Path, first: Issued) -> Iterator[Site]:
        with haproxy(folder, first, target=TARGET) as server:
            yield Site.of("haproxy", server, "-c", "-q", "-f", socket=str(server.socket))

    async def no_reload(self, site: Site) -> RegieError:
        with pytest.raises(Unavailable, match="nobody listens") as caught:
            await site.deploy(site.issue(), socket=str(site.folder / "nobody.sock"))
        return caught.value

    async def test_a_file_that_it_has_not_loaded(self, site: Site) -> None:
        await site.deploy(site.issue())
        before = await site.found()
        copy = site.folder.parent / "not-loaded"
        copy.mkdir()
        (copy / site.live.name).write_bytes(site.live.read_bytes())
        with clients(site.port), pytest.raises(Refused, match="does not know the file") as caught:
            await site.deploy(site.issue(), folder=str(copy))
        assert caught.value.code == "unknown-file"
        await self.still(site, before)

    async def test_what_a_cut_off_attempt_left_open_is_not_mixed_with_ours(self, site: Site) -> None:
        other = site.folder / "other.pem"
        path, sent = str(site.settings["socket"]), AUTHORITY.issue(["other.example.test"])
        targets: dict[str, JsonValue] = {**site.address(site.port), "other": {"server_name": "other.example.test"}}
        for left_open in (other, site.live):
            ask(path, f"set ssl cert {left_open} <<\n{sent.chain}{sent.key}\n")
            reference = site.issue()
            assert (await site.deploy(reference, targets=targets)).certificate == reference
        assert "No ongoing transaction" in ask(path, f"abort ssl cert {site.live}\n")
