"""Many endpoints at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.capabilities.tls import Endpoint, Inspection
from regie.kit.reaching import Dialler
from regie.kit.tls.asking import Answers, GuardedFetch, Revocation
from regie.kit.tls.certificates import parse, parse_file
from regie.kit.tls.handshake import Limits
from regie.kit.tls.judging import summed_up
from regie.kit.tls.scanning import Bounds, Line, Scanner
from regie.kit.tls.trust import Roots
from regie_sandbox.authority import BORN, Wanted, issue
from regie_sandbox.tls_farm import until_the_end
from tests.counterparts.tls import context, farm, serving

from .servers import LOOPBACK, client

NOW = BORN + timedelta(days=100)
ROOT = issue(Wanted("Root", is_authority=True))
LEAF = issue(Wanted("leaf", ("*.example.test", "127.0.0.1")), ROOT)
LIMITS = Limits(connect_s=5, handshake_s=5)


def scanner(limits: Limits = LIMITS) -> Scanner:
    return Scanner(client(limits), Roots([parse(ROOT.der)]), lambda: NOW, None)


def endpoint(port: int, host: str = "127.0.0.1", name: str = "www.example.test") -> Endpoint:
    return Endpoint(host=host, port=port, server_name=name)


async def scanned(endpoints: Iterable[Endpoint], bounds: Bounds) -> list[Inspection]:
    return [each async for each in scanner().scan(endpoints, bounds)]


def words(inspected: Inspection) -> str:
    return " ".join(summed_up(inspected).findings)


async def test_one_endpoint(tmp_path: Path) -> None:
    async with serving(context(tmp_path, LEAF)) as port:
        inspected = await scanner().inspect(endpoint(port))
        assert words(await scanner().inspect(Endpoint(host="127.0.0.1", port=port))) == ""
        assert words(await scanner().inspect(endpoint(port, name="www.example.com"))) == "name_mismatch"
    assert (inspected.reached, inspected.findings, inspected.protocol) == (True, [], "TLSv1.3")
    assert inspected.serial == f"{LEAF.certificate.serial_number:x}"


@pytest.mark.parametrize("host", ["not a name", "a..b", "\u2066"])
async def test_what_is_no_name_is_a_finding(host: str) -> None:
    assert words(await scanner().inspect(Endpoint(host=host))) == "unreachable:name"


async def test_where_a_connection_may_not_go_is_a_finding() -> None:
    assert words(await scanner().inspect(Endpoint(host="169.254.169.254"))) == "unreachable:not_allowed"


@pytest.mark.slow
async def test_hanging_endpoints_delay_nobody(tmp_path: Path) -> None:
    async with serving(None) as silent, serving(context(tmp_path, LEAF)) as port:
        hanging, healthy = [endpoint(silent)] * 3, [endpoint(port) for _ in range(30)]
        order = [words(each) async for each in scanner().scan([*hanging, *healthy], Bounds(endpoints=8))]
    assert order == [""] * 30 + ["unreachable:timeout"] * 3


@pytest.mark.slow
async def test_a_silent_host_is_not_asked_for_each_of_its_names(tmp_path: Path) -> None:
    async with serving(None) as silent, serving(context(tmp_path, LEAF)) as port:
        names = [endpoint(silent, name=f"s{number}.example.test") for number in range(60)]
        bounds = Bounds(endpoints=16, per_host=4, silent_after=4)
        scan = scanner(Limits(connect_s=3, handshake_s=3)).scan([*names, endpoint(port)], bounds)
        counted = Counter([words(each) async for each in scan])
    # Those that were begun before it was known as silent are waited for.
    assert 4 <= counted["unreachable:timeout"] <= 4 + 3
    assert counted.total() == 61
    assert set(counted) == {"unreachable:timeout", "not_inspected:silent", ""}


async def test_when_time_is_over_the_others_are_told_as_not_inspected() -> None:
    async with serving(None) as silent:
        names = [endpoint(silent, name=f"s{number}.example.test") for number in range(20)]
        counted = Counter(words(each) for each in await scanned(names, Bounds(endpoints=2, seconds=0.3)))
    assert counted == {"not_inspected:deadline": 20}


async def test_endpoints_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterable[Endpoint]:
        nonlocal taken
        while True:
            taken += 1
            yield endpoint(port)

    async with serving(context(tmp_path, LEAF)) as port:
        scan = scanner().scan(endless(), Bounds(endpoints=4, ahead=20))
        for _ in range(50):
            assert (await anext(scan)).reached
        await scan.aclose()  # type: ignore[attr-defined]  # an async generator
    assert taken <= 50 + 20 + 4


async def test_a_host_gets_no_more_than_its_share_at_a_time(tmp_path: Path) -> None:
    open_now = most = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await until_the_end(reader, writer)
        open_now -= 1

    async with serving(context(tmp_path, LEAF), count) as port:
        assert len(await scanned([endpoint(port)] * 40, Bounds(endpoints=40, per_host=3))) == 40
    assert most <= 3 + 1  # one may be over here and not yet there


@given(
    st.lists(st.sampled_from("abcde"), max_size=60),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(4, 30),
    st.randoms(use_true_random=False),
)
def test_every_endpoint_comes_out_once_and_no_host_gets_more_than_its_share(
    hosts: list[str], per_host: int, places: int, ahead: int, chance: object
) -> None:
    wanted = [Endpoint(host=host, port=number + 1) for number, host in enumerate(hosts)]
    line = Line(wanted, Bounds(per_host=per_host, ahead=ahead))
    in_hands: list[Endpoint] = []
    came: list[Endpoint] = []
    while True:
        while len(in_hands) < places and (following := line.take()) is not None:
            in_hands.append(following)
            came.append(following)
        assert max(Counter(each.host for each in in_hands).values(), default=0) <= per_host
        if not in_hands:
            break
        in_hands.remove(over := chance.choice(in_hands))  # type: ignore[attr-defined]  # a Random
        line.give_back(over, True)
    assert sorted(came, key=lambda each: each.port) == wanted


EXPECTED = {
    "healthy": "",
    "hangs": "unreachable:timeout",
    "refuses": "unreachable:refused",
    "speaks_http": "no_tls",
    "cuts": "unreachable:closed",
    "expired": "expired",
    "wrong_name": "name_mismatch",
    "self_signed": "self_signed",
    "incomplete": "chain_incomplete revocation_unknown:no_issuer",
    "revoked": "revoked:keyCompromise",
    "smtp": "",
    "imap": "",
    "pop3": "",
    "smtp_without": "starttls_not_offered",
}


@pytest.mark.slow
async def test_a_farm_of_endpoints_each_in_its_own_trouble(tmp_path: Path) -> None:
    dialler, now = Dialler(LOOPBACK), datetime.now(UTC)  # noqa: TID251  the farm lives now
    async with farm(tmp_path, 600) as told:
        roots = Roots(parse_file((tmp_path / "roots.pem").read_bytes()))
        behaviour = {(each["host"], each["port"]): str(each["behaviour"]) for each in told}
        asked = [Endpoint.model_validate({k: v for k, v in each.items() if k != "behaviour"}) for each in told]
        looking = Scanner(client(LIMITS), roots, lambda: now, Revocation(GuardedFetch(dialler), Answers(lambda: now)))
        # Those that hang take a place each. With many more places a handshake could take seconds on a busy machine.
        found = [each async for each in looking.scan(asked, Bounds(endpoints=32))]
    wrong = [(kind, words(each)) for each in found if words(each) != EXPECTED[kind := behaviour[each.host, each.port]]]
    assert wrong == []
    assert len(found) == 600
