"""DNS as an access: a real name server, with the key that counts and with others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dns.tsig
import pytest

from regie.core.errors import AuthFailed, Denied, InvalidInput, NotFound, OutcomeUnknown, Unavailable
from regie.kit.access import Calls
from regie.kit.dns import Dns, Server
from regie_sandbox.servers.knot import ALGORITHM, KEY_NAME, Knot, knot
from tests.counterparts.here import HERE, NOBODYS_PORT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    folder: Path = tmp_path_factory.mktemp("knot")
    with knot(folder) as started:
        yield started


def access(port: int, name: str, secret: str) -> Dns:
    async def key() -> dns.tsig.Key | None:
        return dns.tsig.Key(name, secret, ALGORITHM) if name else None

    return Dns(Server("127.0.0.1", port), key, Calls("Knot"), HERE, ("zone:update",))


def ours(server: Knot) -> Dns:
    return access(server.port, KEY_NAME, server.secret)


async def test_single_values_come_and_go_beside_others(server: Knot) -> None:
    name = f"_acme-challenge.{server.zone}"
    before = await ours(server).values(name, "TXT")
    assert before == {'"somebody else\'s"'}
    await ours(server).update(server.zone, name, "TXT", add=['"ours"'])
    assert await ours(server).values(name, "TXT") == before | {'"ours"'}
    await ours(server).update(server.zone, name, "TXT", remove=['"ours"'])
    assert await ours(server).values(name, "TXT") == before


async def test_a_name_without_values_has_none(server: Knot) -> None:
    assert await ours(server).values(f"nothing.{server.zone}", "TXT") == frozenset()


@pytest.mark.parametrize("which", ["nobody", "unknown", "wrong", "weak"])
async def test_whoever_may_not_update_is_told_what_lacks(server: Knot, which: str) -> None:
    known = {
        "nobody": access(server.port, "", ""),
        "unknown": access(server.port, "other.example.test", server.secret),
        "wrong": access(server.port, KEY_NAME, server.weak_secret),
        "weak": access(server.port, "reader.example.test", server.weak_secret),
    }
    with pytest.raises(AuthFailed) as caught:
        await known[which].update(server.zone, f"www.{server.zone}", "TXT", add=['"x"'])
    assert server.secret not in str(caught.value)
    assert await ours(server).values(f"www.{server.zone}", "TXT") == frozenset()


async def test_a_zone_that_is_not_served_is_not_found(server: Knot) -> None:
    with pytest.raises(AuthFailed):
        await ours(server).update("elsewhere.test", "www.elsewhere.test", "TXT", add=['"x"'])
    with pytest.raises(NotFound):
        await access(server.port, "", "").values("www.elsewhere.test", "TXT")


async def test_what_is_no_name_and_no_value_is_refused(server: Knot) -> None:
    with pytest.raises(InvalidInput):
        await ours(server).values("a..b", "TXT")
    with pytest.raises(InvalidInput):
        await ours(server).update(server.zone, f"www.{server.zone}", "A", add=["no address"])


async def test_a_server_that_is_not_there_has_not_been_asked() -> None:
    nobody = access(NOBODYS_PORT, KEY_NAME, "c2VjcmV0")
    with pytest.raises(Unavailable):
        await nobody.values("www.example.test", "TXT")
    with pytest.raises(Unavailable):
        await nobody.update("example.test", "www.example.test", "TXT", add=['"x"'])


async def test_an_update_that_gets_another_answer_may_have_happened() -> None:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    door = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with door:
        port = door.sockets[0].getsockname()[1]
        with pytest.raises(OutcomeUnknown):
            await access(port, KEY_NAME, "c2VjcmV0").update("example.test", "www.example.test", "TXT", add=['"x"'])
        with pytest.raises(Unavailable):
            await access(port, "", "").values("www.example.test", "TXT")


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", Server("192.0.2.1", 53)),
        ("192.0.2.1:5353", Server("192.0.2.1", 5353)),
        ("2001:db8::1", Server("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", Server("2001:db8::1", 5353)),
    ],
)
def test_a_server_is_an_address_with_or_without_a_port(text: str, server: Server) -> None:
    assert Server.at(text) == server


@pytest.mark.parametrize(
    "text", ["", "ns.example.test", "ns.example.test:53", "192.0.2.1:0", "192.0.2.1:dns", "1.2.3.4:99999"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Denied):
        Server.at(text)
