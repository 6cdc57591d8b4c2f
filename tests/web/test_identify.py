from __future__ import annotations

import asyncio
import base64
import itertools

import httpx2
import pytest

from regie.core.audit import Actor
from regie.core.errors import InvalidInput, Throttled, Unavailable
from regie.store import accounts
from regie.store.database import Database
from regie.web.app import make_web
from regie.web.identify import REMEMBERED_S, Doorkeeper
from regie.web.limits import ADDRESSES_KEPT, FAILURE_EVERY_S, FAILURES_AT_ONCE, SignInThrottle
from regie.web.problems import Unidentified

from .stage import ANA, LOCAL, OLGA, OPERATOR, PASSWORD, TOKEN, FakeGateway, Stage

pytestmark = pytest.mark.slow


def basic(address: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{address}:{password}".encode()).decode()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


ROUTES = [
    ("GET", "/v1/runs"),
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs/x"),
    ("GET", "/v1/runs/x/audit"),
    ("GET", "/v1/runs/x/wait"),
    ("GET", "/v1/approvals"),
    ("GET", "/v1/approvals/x"),
    ("POST", "/v1/approvals/x/decision"),
    ("GET", "/v1/workflows"),
]
NOBODY = [
    None,
    "",
    "Bearer",
    "Bearer ",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Basic {TOKEN}",
    f"Token {TOKEN}",
    "Basic " + base64.b64encode(b"no colon").decode(),
    "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
    "Basic " + base64.b64encode(b":").decode(),
    "Basic " + base64.b64encode(b"a\x00b@example.com:x").decode(),
    "Basic %%%",
    basic("x" * 300),
    basic("nobody@example.com"),
    basic(ANA, PASSWORD + " "),
    basic(ANA, ""),
]


async def test_no_route_answers_a_stranger(http: httpx2.AsyncClient) -> None:
    for (method, path), content in itertools.product(ROUTES, (b"", b"{", b"{}")):
        answer = await http.request(method, path, content=content)
        assert answer.status_code == 401, (method, path, content)
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_wrong_credentials_are_nobodys(stage: Stage) -> None:
    for authorization in NOBODY:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = await stage.http.get("/v1/runs", headers=headers)
        assert answer.status_code == 401, authorization
        assert PASSWORD not in answer.text
        assert TOKEN not in answer.text


async def test_token_and_accounts_are_known(stage: Stage) -> None:
    for authorization in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(OLGA), basic(ANA), basic(f" {ANA.upper()}")):
        answer = await stage.http.get("/v1/runs", headers={"Authorization": authorization})
        assert answer.status_code == 200, authorization


async def test_an_empty_token_would_let_everybody_in(database: Database) -> None:
    with pytest.raises(InvalidInput):
        make_web(database, FakeGateway(), operator_token="")


async def test_an_operator_has_a_plain_name(database: Database) -> None:
    keeper = Doorkeeper(database, TOKEN, LOCAL)
    for name in ("", "Jan", "jan janssen", "x" * 65, "jan@example.com", "jan\n"):
        with pytest.raises(InvalidInput):
            await keeper.identify(f"Bearer {TOKEN}", name)


async def test_an_operator_acts_under_the_given_name(database: Database) -> None:
    caller = await Doorkeeper(database, TOKEN, LOCAL).identify(f"Bearer {TOKEN}", "jan-2.ops_x")
    assert (caller.actor, caller.address, caller.is_operator) == (Actor(type="operator", id="jan-2.ops_x"), "", True)


async def test_an_operator_of_no_given_name(database: Database) -> None:
    caller = await Doorkeeper(database, TOKEN, LOCAL).identify(f"Bearer {TOKEN}", None)
    assert caller.actor.id == "operator"


async def test_failed_sign_ins_are_slowed_down_for_that_address_only(stage: Stage) -> None:
    async def sign_in(address: str, password: str) -> httpx2.Response:
        return await stage.http.get("/v1/approvals", headers={"Authorization": basic(address, password)})

    wrong = await asyncio.gather(*(sign_in(ANA, f"wrong {number}") for number in range(FAILURES_AT_ONCE + 5)))
    statuses = sorted(answer.status_code for answer in wrong)
    assert statuses == [401] * FAILURES_AT_ONCE + [429] * 5
    right = await sign_in(ANA.upper(), PASSWORD)
    assert right.status_code == 429
    assert 0 < int(right.headers["Retry-After"]) <= FAILURE_EVERY_S
    assert (await sign_in(OLGA, PASSWORD)).status_code == 200


async def test_who_is_signed_in_is_not_locked_out_by_others(stage: Stage) -> None:
    right = {"Authorization": basic(ANA)}
    assert (await stage.http.get("/v1/approvals", headers=right)).status_code == 200
    for number in range(FAILURES_AT_ONCE + 1):
        await stage.http.get("/v1/approvals", headers={"Authorization": basic(ANA, f"wrong {number}")})
    assert (await stage.http.get("/v1/approvals", headers=right)).status_code == 200


async def test_a_right_password_is_remembered_for_a_minute(stage: Stage) -> None:
    clock = Clock()
    keeper = Doorkeeper(stage.database, TOKEN, LOCAL, clock=clock)
    await keeper.identify(basic(ANA), None)
    async with stage.database.transaction() as tx:
        # No password fits any more: who comes in does so from memory.
        await tx.change(
            "update regie.account set password_hash = left(password_hash, -4) where address = %(a)s", {"a": ANA}
        )
    clock.now += REMEMBERED_S - 1
    assert (await keeper.identify(basic(ANA), None)).address == ANA
    with pytest.raises(Unidentified):
        await keeper.identify(basic(ANA, "another"), None)
    clock.now += 1
    with pytest.raises(Unidentified):
        await keeper.identify(basic(ANA), None)


async def test_who_is_deactivated_or_removed_is_nobody_from_then_on(stage: Stage) -> None:
    keeper = Doorkeeper(stage.database, TOKEN, LOCAL)
    for away in ("deactivated", "removed"):
        async with stage.database.transaction() as tx:
            await accounts.set_active(tx, ANA, is_active=True, by=OPERATOR)
        assert (await keeper.identify(basic(ANA), None)).address == ANA
        async with stage.database.transaction() as tx:
            if away == "removed":
                await accounts.remove(tx, ANA, by=OPERATOR)
            else:
                await accounts.set_active(tx, ANA, is_active=False, by=OPERATOR)
        with pytest.raises(Unidentified):
            await keeper.identify(basic(ANA), None)


async def test_a_database_that_is_away_is_no_failed_sign_in(stage: Stage) -> None:
    keeper = Doorkeeper(stage.database, TOKEN, LOCAL)
    await stage.database.close()
    for _ in range(FAILURES_AT_ONCE + 3):
        with pytest.raises(Unavailable):
            await keeper.identify(basic(ANA), None)


def test_the_throttle_lets_go_with_time() -> None:
    clock = Clock()
    throttle = SignInThrottle(clock)
    for _ in range(FAILURES_AT_ONCE):
        throttle.take("a")
    with pytest.raises(Throttled) as refused:
        throttle.take("a")
    assert refused.value.after_s == pytest.approx(FAILURE_EVERY_S)
    clock.now += FAILURE_EVERY_S / 2
    with pytest.raises(Throttled) as refused:
        throttle.take("a")
    assert refused.value.after_s == pytest.approx(FAILURE_EVERY_S / 2)
    clock.now += FAILURE_EVERY_S / 2
    throttle.take("a")
    with pytest.raises(Throttled):
        throttle.take("a")
    throttle.give_back("a")
    throttle.take("a")


def test_the_throttle_remembers_a_bounded_number_of_addresses() -> None:
    throttle = SignInThrottle(Clock())
    for number in range(ADDRESSES_KEPT + 50):
        throttle.take(f"address-{number}")
    assert len(throttle._used) == ADDRESSES_KEPT
