"""Records at a real name server, with the key that counts and with others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dns.tsig
import pytest
from pydantic import JsonValue

from regie.connectors.dns.connector import Dns
from regie.core.capabilities.dns import RecordType, RecordValue
from regie.core.errors import AuthFailed, Denied, InvalidInput, NotFound, Refused, Unavailable
from regie.core.plan import Change, NoChange, Pending, Receipt
from regie.kit.access import Calls
from regie.kit.dns import Dns as Access
from regie.kit.dns import Server
from regie_sandbox.servers.knot import ALGORITHM, KEY_NAME, Knot, knot
from tests.counterparts.here import HERE, NOBODYS_PORT

from .conftest import all_connectors
from .driving import MARKER, bring_about, planned, write_of

pytestmark = pytest.mark.slow

SET, REMOVE = "dns.set_record", "dns.remove_record"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    folder: Path = tmp_path_factory.mktemp("knot")
    with knot(folder) as started:
        yield started


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    """Another server of the same zone, which hears of nothing by itself."""
    folder: Path = tmp_path_factory.mktemp("other")
    with knot(folder) as started:
        yield started


def connector(
    port: int, secret: str, *, key_name: str = KEY_NAME, servers: tuple[str, ...] = (), zones: tuple[str, ...] = ()
) -> Dns:
    async def key() -> dns.tsig.Key:
        return dns.tsig.Key(key_name, secret, ALGORITHM)

    given: dict[str, JsonValue] = {"servers": list(servers), "zones": list(zones or ("example.test",))}
    access = Access(Server("127.0.0.1", port), key, Calls("Knot"), HERE)
    return Dns(access, all_connectors()["dns"].manifest.effective(given))


def ours(server: Knot) -> Dns:
    return connector(server.port, server.secret)


def record(name: str, value: str, kind: RecordType = "TXT") -> RecordValue:
    return RecordValue(name=f"{name}.example.test", kind=kind, value=value)


async def test_values_of_one_name_come_and_go_one_by_one(server: Knot) -> None:
    name = "_acme-challenge.example.test"
    first, second = record("_acme-challenge", "first"), record("_acme-challenge", "second")
    for want in (first, second):
        state, changed = await bring_about(ours(server), SET, want)
        assert changed
        assert state.present
    assert server.txt(name) == {"somebody else's", "first", "second"}
    state, changed = await bring_about(ours(server), REMOVE, first)
    assert changed
    assert not state.present
    assert server.txt(name) == {"somebody else's", "second"}
    await bring_about(ours(server), REMOVE, second)
    assert server.txt(name) == {"somebody else's"}


async def test_a_repeat_changes_nothing(server: Knot) -> None:
    want = record("again", "value")
    assert (await bring_about(ours(server), SET, want))[1]
    assert not (await bring_about(ours(server), SET, want))[1]
    assert (await bring_about(ours(server), REMOVE, want))[1]
    assert not (await bring_about(ours(server), REMOVE, want))[1]


async def test_what_is_applied_twice_is_there_once(server: Knot) -> None:
    """As after a crash in which nobody heard that it had been done."""
    want = record("twice", "value")
    write = write_of(ours(server), SET)
    change = write.plan(want, await write.observe(want, MARKER))
    assert isinstance(change, Change)
    for _ in range(2):
        assert await write.apply(want, change, MARKER) == Receipt()
    assert server.txt("twice.example.test") == {"value"}


async def test_two_at_once_lose_nothing(server: Knot) -> None:
    wants = [record("crowd", f"value {number}") for number in range(10)]
    await asyncio.gather(*(bring_about(ours(server), SET, want) for want in wants))
    assert server.txt("crowd.example.test") == {want.value for want in wants}


@pytest.mark.parametrize(
    "value",
    ['a "quoted" \\ value; with = signs', "x" * 255, "y" * 600, "exämple ☃", "", " spaces  kept ", "tab\tand\x00nul"],
)
async def test_any_text_can_be_a_value(server: Knot, value: str) -> None:
    want = record("text", value)
    assert (await bring_about(ours(server), SET, want))[1]
    assert not (await bring_about(ours(server), SET, want))[1]
    assert (await bring_about(ours(server), REMOVE, want))[1]


async def test_a_text_in_other_pieces_is_the_same_value(server: Knot) -> None:
    access = ours(server).access
    assert isinstance(access, Access)
    await access.update("example.test", "pieces.example.test", "TXT", add=['"ab" "cd"'])
    want = record("pieces", "abcd")
    assert not (await bring_about(ours(server), SET, want))[1]
    assert (await bring_about(ours(server), REMOVE, want))[1]
    assert await access.values("pieces.example.test", "TXT") == frozenset()


@pytest.mark.parametrize(
    ("kind", "value"), [("A", "192.0.2.7"), ("AAAA", "2001:DB8:0:0::7"), ("CNAME", "Elsewhere.example.test")]
)
async def test_other_kinds_of_records(server: Knot, kind: RecordType, value: str) -> None:
    want = record(f"kind-{kind.lower()}", value, kind)
    assert (await bring_about(ours(server), SET, want))[1]
    assert not (await bring_about(ours(server), SET, want))[1]
    assert (await bring_about(ours(server), REMOVE, want))[1]


async def test_an_alias_is_neither_replaced_nor_given_records(server: Knot) -> None:
    alias = record("alias", "elsewhere.example.test", "CNAME")
    await bring_about(ours(server), SET, alias)
    with pytest.raises(Refused) as replaced:
        await planned(ours(server), SET, record("alias", "another.example.test", "CNAME"))
    with pytest.raises(Refused) as beside:
        await bring_about(ours(server), SET, record("alias", "text"))
    assert "elsewhere.example.test" in str(replaced.value)
    assert "elsewhere.example.test" in str(beside.value)
    assert not (await bring_about(ours(server), SET, alias))[1]


async def test_nothing_is_set_before_every_server_has_it(server: Knot, other: Knot) -> None:
    both = connector(server.port, server.secret, servers=(f"127.0.0.1:{other.port}",))
    want = record("everywhere", "value")
    for capability, follows in ((SET, "add"), (REMOVE, "remove")):
        write = write_of(both, capability)
        change = write.plan(want, await write.observe(want, MARKER))
        assert isinstance(change, Change)
        waits = [await write.apply(want, change, MARKER)]
        for _ in range(8):
            assert isinstance(waits[-1], Pending)
            waits.append(await write.resume(want, waits[-1].handle))
        times = [each.again_after_s for each in waits if isinstance(each, Pending)]
        assert times == sorted(times)
        assert times[-1] == 60
        access = ours(other).access
        assert isinstance(access, Access)
        add, remove = (['"value"'], []) if follows == "add" else ([], ['"value"'])
        await access.update("example.test", want.name, "TXT", add=add, remove=remove)
        assert isinstance(waits[-1], Pending)
        assert await write.resume(want, waits[-1].handle) == Receipt()
        assert isinstance(await planned(both, capability, want), NoChange)


@pytest.mark.parametrize("which", ["unknown", "wrong", "weak"])
async def test_another_key_changes_nothing_and_is_told(server: Knot, which: str) -> None:
    known = {
        "unknown": connector(server.port, server.secret, key_name="other.example.test"),
        "wrong": connector(server.port, server.weak_secret),
        "weak": connector(server.port, server.weak_secret, key_name="reader.example.test"),
    }
    with pytest.raises(AuthFailed) as caught:
        await bring_about(known[which], SET, record("key", "value"))
    assert server.secret not in str(caught.value)
    assert server.txt("key.example.test") == set()


async def test_a_name_outside_the_zones_is_refused_before_anything_is_asked() -> None:
    nobody = connector(NOBODYS_PORT, "c2VjcmV0", zones=("example.test", "example.org"))
    for name in ("www.example.com", "www.myexample.test", "test"):
        with pytest.raises(Denied) as caught:
            await planned(nobody, SET, RecordValue(name=name, value="value"))
        assert "example.test, example.org" in str(caught.value)


async def test_a_zone_that_the_server_does_not_have_is_told(server: Knot) -> None:
    elsewhere = connector(server.port, server.secret, zones=("elsewhere.test",))
    with pytest.raises((AuthFailed, NotFound)):
        await planned(elsewhere, SET, RecordValue(name="www.elsewhere.test", value="value"))


async def test_a_server_that_is_down_is_tried_again_later(server: Knot) -> None:
    want = record("down", "value")
    with pytest.raises(Unavailable):
        await planned(connector(NOBODYS_PORT, server.secret), SET, want)
    with pytest.raises(Unavailable):
        await planned(connector(server.port, server.secret, servers=(f"127.0.0.1:{NOBODYS_PORT}",)), REMOVE, want)


@pytest.mark.parametrize(
    "want",
    [record("bad", "no address", "A"), record("bad..name", "x"), record("bad", "x" * 70_000)],
    ids=["address", "name", "length"],
)
async def test_what_no_record_can_be_is_refused(server: Knot, want: RecordValue) -> None:
    with pytest.raises(InvalidInput):
        await planned(ours(server), SET, want)


async def test_a_server_by_name_is_refused(server: Knot) -> None:
    by_name = connector(server.port, server.secret, servers=("ns.example.test",))
    with pytest.raises(Denied):
        await planned(by_name, REMOVE, record("named", "x"))
