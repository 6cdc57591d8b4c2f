"""Asking authorities over HTTP: from where it is allowed, so much, and no more often than needed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.server_name import as_address
from regie.kit.reaching import Dialler, LookUp
from regie.kit.tls.asking import LARGEST_OCSP, SILENT, Answers, GuardedFetch, NotFetched, Revocation
from regie.kit.tls.certificates import parse
from regie.kit.tls.trust import Path, Roots
from regie_sandbox.authority import BORN, Issued, Wanted, issue, ocsp_answer, revoked_list
from regie_sandbox.revoking import Responder, responding

from .servers import LOOPBACK

NOW = BORN + timedelta(days=100)
ROOT = issue(Wanted("Root", is_authority=True))
REVOKED = ocsp.OCSPCertStatus.REVOKED


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def responder() -> AsyncIterator[Responder]:
    async with responding() as found:
        yield found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def revocation(clock: Clock) -> AsyncIterator[Revocation]:
    found = Revocation(GuardedFetch(Dialler(LOOPBACK)), Answers(clock))
    yield found
    await found.aclose()


def leaf(responder: Responder, *, by_ocsp: bool = False, by_list: bool = False, issuer: Issued = ROOT) -> Issued:
    at = responder.address
    return issue(Wanted("leaf", ocsp=f"{at}/ocsp" * by_ocsp, crl=f"{at}/crl" * by_list), issuer)


def path(*chain: Issued) -> Path:
    return Roots([parse(ROOT.der)]).path([parse(each.der) for each in chain], NOW)


async def told(revocation: Revocation, *chain: Issued, staple: bytes = b"") -> list[str]:
    found = await revocation.findings(path(*chain), staple)
    return [f"{each.code}:{each.cause}/{each.certificate}" for each in found]


async def test_a_responder_is_asked_once_while_its_answer_holds(
    revocation: Revocation, responder: Responder, clock: Clock
) -> None:
    one = leaf(responder, by_ocsp=True, by_list=True)
    responder.answers["/ocsp"] = lambda _: ocsp_answer(one, now=clock.now, holds_for=timedelta(hours=8))
    assert await told(revocation, one) == []
    clock.now += timedelta(hours=7)
    assert await told(revocation, one) == []
    assert responder.asked == ["/ocsp"]
    clock.now += timedelta(hours=2)
    responder.answers["/ocsp"] = lambda _: ocsp_answer(one, now=clock.now, status=REVOKED)
    assert await told(revocation, one) == ["revoked:/0"]
    assert responder.asked == ["/ocsp", "/ocsp"]


async def test_a_list_is_fetched_once_for_all_that_it_is_about(
    revocation: Revocation, responder: Responder, clock: Clock
) -> None:
    many = [leaf(responder, by_list=True) for _ in range(20)]
    responder.answers["/crl"] = lambda _: revoked_list(ROOT, many[3:4], now=clock.now)
    found = await asyncio.gather(*(told(revocation, each) for each in many))
    assert [bool(each) for each in found] == [number == 3 for number in range(20)]
    assert found[3] == ["revoked:keyCompromise/0"]
    assert responder.asked == ["/crl"]


async def test_a_staple_spares_the_question(revocation: Revocation, responder: Responder) -> None:
    good, bad, old = (leaf(responder, by_ocsp=True) for _ in range(3))
    assert await told(revocation, good, staple=ocsp_answer(good, now=NOW)) == []
    assert await told(revocation, bad, staple=ocsp_answer(bad, now=NOW, status=REVOKED)) == ["revoked:/0"]
    assert responder.asked == []
    responder.answers["/ocsp"] = lambda _: ocsp_answer(old, now=NOW)
    assert await told(revocation, old, staple=ocsp_answer(old, now=BORN)) == []
    assert responder.asked == ["/ocsp"]


async def test_the_list_is_asked_when_the_responder_fails(revocation: Revocation, responder: Responder) -> None:
    one = leaf(responder, by_ocsp=True, by_list=True)
    responder.answers = {"/ocsp": lambda _: b"what?", "/crl": lambda _: revoked_list(ROOT, [one], now=NOW)}
    assert await told(revocation, one) == ["revoked:keyCompromise/0"]


async def test_authorities_in_the_chain_are_asked_about_too(revocation: Revocation, responder: Responder) -> None:
    middle = issue(Wanted("Middle", is_authority=True, crl=f"{responder.address}/root.crl"), ROOT)
    responder.answers["/root.crl"] = lambda _: revoked_list(ROOT, [middle], now=NOW)
    responder.answers["/crl"] = lambda _: revoked_list(middle, [], now=NOW)
    assert await told(revocation, leaf(responder, by_list=True, issuer=middle), middle) == ["revoked:keyCompromise/1"]


async def test_what_cannot_be_found_out(revocation: Revocation, responder: Responder) -> None:
    assert await told(revocation, leaf(responder)) == ["revocation_unknown:not_offered/0"]
    assert await told(revocation, leaf(responder, by_ocsp=True)) == ["revocation_unknown:unreadable/0"]
    stranger = issue(Wanted("Stranger", is_authority=True))
    assert await told(revocation, leaf(responder, issuer=stranger)) == ["revocation_unknown:no_issuer/0"]
    responder.status = "503 Busy"
    assert await told(revocation, leaf(responder, by_list=True)) == ["revocation_unknown:http_503/0"]


async def test_short_lives_and_those_who_signed_themselves_are_not_asked_about(
    revocation: Revocation, responder: Responder
) -> None:
    short = issue(Wanted("short", lifetime=timedelta(days=6), ocsp=f"{responder.address}/ocsp"), ROOT)
    assert await told(revocation, short) == []
    assert await told(revocation, issue(Wanted("alone"))) == []
    assert responder.asked == []


async def test_a_silent_authority_is_left_alone_for_a_while(responder: Responder, clock: Clock) -> None:
    class Silent:
        asked = 0

        async def __call__(self, address: str, question: bytes | None, largest: int) -> bytes:
            self.asked += 1
            await asyncio.sleep(0.01)
            raise NotFetched("timeout")

        async def aclose(self) -> None:
            pass

    fetch = Silent()
    revocation = Revocation(fetch, Answers(clock))
    many = [leaf(responder, by_ocsp=True) for _ in range(50)]
    found = await asyncio.gather(*(told(revocation, each) for each in many))
    assert {each for one in found for each in one} == {"revocation_unknown:timeout/0"}
    assert fetch.asked <= 4
    before = fetch.asked
    clock.now += SILENT
    await told(revocation, many[0])
    assert fetch.asked == before + 1


async def fetched(responder: Responder, path: str = "/", look_up: LookUp | None = None, host: str = "") -> str:
    address = responder.address.replace("127.0.0.1", host) if host else responder.address
    try:
        await GuardedFetch(Dialler(LOOPBACK, look_up=look_up))(f"{address}{path}", None, LARGEST_OCSP)
    except NotFetched as error:
        return error.cause
    return ""


async def test_only_so_much_is_read(responder: Responder) -> None:
    responder.answers = {"/fits": lambda _: b" " * LARGEST_OCSP, "/large": lambda _: b" " * (LARGEST_OCSP + 1)}
    assert await fetched(responder, "/fits") == ""
    assert await fetched(responder, "/large") == "too_large"


async def test_no_redirect_is_followed(responder: Responder) -> None:
    responder.status, responder.headers = "302 Found", [f"Location: {responder.address}/elsewhere"]
    assert await fetched(responder) == "http_302"
    assert responder.asked == ["/"]


async def test_the_address_that_was_looked_at_is_the_one_that_is_asked(responder: Responder) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def changing(host: str) -> list[str]:
        return answers.pop(0)

    assert await fetched(responder, look_up=changing, host="ocsp.example.test") == ""
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("http://169.254.169.254/latest/meta-data", "not_allowed"),
        ("http://10.1.2.3/ocsp", "not_allowed"),
        ("http://[::1]/ocsp", "not_allowed"),
        ("http://[::ffff:10.0.0.1]/ocsp", "not_allowed"),
        ("http://[64:ff9b::10.0.0.1]/ocsp", "not_allowed"),
        ("http://0.0.0.0/ocsp", "not_allowed"),
        ("http://private.example.test/ocsp", "not_allowed"),
        ("https://127.0.0.1/ocsp", "address"),
        ("ftp://127.0.0.1/ocsp", "address"),
        ("http://", "address"),
        ("http://a b/", "address"),
        ("http://[::1", "address"),
        ("http://127.0.0.1:99999/", "address"),
    ],
)
async def test_where_may_not_be_asked(address: str, cause: str) -> None:
    async def private(host: str) -> list[str]:
        return ["192.168.1.1", "fd00::1"]

    with pytest.raises(NotFetched) as caught:
        await GuardedFetch(Dialler(LOOPBACK, look_up=private))(address, None, LARGEST_OCSP)
    assert caught.value.cause == cause


@settings(deadline=None)  # each example makes a client
@given(st.text(max_size=60).map(lambda text: f"http://{text}"))
async def test_any_address_is_asked_or_refused(address: str) -> None:
    async def nobody(host: str) -> list[str]:
        raise OSError

    fetch = GuardedFetch(Dialler(look_up=nobody))
    with contextlib.suppress(NotFetched):
        await fetch(address, None, LARGEST_OCSP)
    await fetch.aclose()


@given(st.ip_addresses(v=4))
def test_an_address_in_another_form_is_the_same_address(address: object) -> None:
    plain, mapped = as_address(str(address)), as_address(f"::ffff:{address}")
    assert plain is not None
    assert mapped is not None
    for dialler in (Dialler(), Dialler(LOOPBACK)):
        assert dialler.may_reach(plain) == dialler.may_reach(mapped)
