"""What can go wrong at an authority, a name or a target, and how it ends: the old certificate is served still."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import httpx2
import pytest

from regie.core.run import RunState
from regie.core.status import RunStatus
from regie.core.tenant import SecretRef
from regie.store import approvals
from regie.store.database import Database
from regie_sandbox.servers.authority import Authority
from regie_sandbox.servers.pebble import pebble
from tests.counterparts.between import Between, problem

from .conftest import Outside
from .stage import OWNER, Stage, World, opened

pytestmark = pytest.mark.slow

PROOFS = Path(".well-known") / "acme-challenge"


@pytest.fixture
async def between(outside: Outside) -> AsyncIterator[Between]:
    made = Between(outside.pebble.trust)
    yield made
    await made.shut()


@pytest.fixture
async def stage(database: Database, tmp_path: Path, world: World, between: Between) -> AsyncIterator[Stage]:
    world.entries["elsewhere"] = {**world.entry("new.example.test"), "prove_through": "wrong-folder"}
    world.entries["unresolved"] = world.entry("unresolved.example.test")
    world.entries["wildcard"] = world.entry("*.example.test")
    world.entries["nonsense"] = world.entry("no name.example.test")
    world.entries["two"] = world.entry("two.example.test", targets=("one", "other"))
    (tmp_path / "wrong" / PROOFS).mkdir(parents=True)
    world.connections["wrong-folder"] = {
        "connector": "webroot",
        "domains": ["certificates"],
        "settings": {"folder": str(tmp_path / "wrong")},
    }
    async with opened(database, tmp_path, world, transport_for=lambda _: between) as made:
        yield made


async def serve_one(stage: Stage) -> str:
    """Have a first certificate in place."""
    state = await stage.renew("site")
    assert state.status is RunStatus.DONE, state.failure
    return stage.serial()


def assert_failed(state: RunState, kind: str, *words: str) -> None:
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert state.failure.kind == kind, state.failure
    for word in words:
        assert word in state.failure.message


async def test_a_proof_that_is_not_found_ends_the_run_and_is_taken_away(stage: Stage, tmp_path: Path) -> None:
    assert_failed(await stage.renew("elsewhere"), "Refused", "new.example.test", "unauthorized")
    assert list((tmp_path / "wrong" / PROOFS).iterdir()) == []
    assert stage.serial() == ""


async def test_a_name_that_does_not_resolve_ends_the_run(stage: Stage, outside: Outside) -> None:
    outside.names.fail_name("unresolved.example.test")
    assert_failed(await stage.renew("unresolved"), "Refused", "unresolved.example.test")
    assert list((outside.server.webroot / PROOFS).iterdir()) == []


@pytest.mark.parametrize("entry", ["wildcard", "nonsense"])
async def test_what_no_authority_would_take_is_said_at_once(stage: Stage, entry: str) -> None:
    assert_failed(await stage.renew(entry), "InvalidInput")


async def test_an_authority_that_asks_for_time_is_asked_again_then(stage: Stage, between: Between) -> None:
    serial = await serve_one(stage)
    between.refuse("POST", "/order-plz", problem(429, "rateLimited", Retry_After="1"))
    between.refuse("POST", "/finalize-order/", problem(503, "serverInternal", Retry_After="1"))
    state = await stage.renew("site", serial)
    assert state.status is RunStatus.DONE, state.failure
    assert between.count("POST", "/order-plz") == 2
    assert stage.serial() != serial


async def test_an_authority_out_of_order_is_waited_for(stage: Stage, between: Between) -> None:
    for part in ("/order-plz", "/finalize-order/", "/my-order/", "/authZ/", "/certZ/"):
        between.refuse("POST", part, problem(500, "serverInternal"), times=2)
    state = await stage.renew("site")
    assert state.status is RunStatus.DONE, state.failure
    assert stage.deployments() == 1


async def test_an_authority_that_turns_down_half_of_its_own_nonces_gives_a_certificate(
    database: Database, tmp_path: Path, world: World, outside: Outside
) -> None:
    (tmp_path / "pebble").mkdir()
    with pebble(
        tmp_path / "pebble", dns_port=outside.names.dns_port, http_port=outside.server.http_port, bad_nonces_percent=50
    ) as picky:
        world.directory, world.trust = picky.directory, picky.trust
        async with opened(database, tmp_path, world) as stage:
            for _ in range(3):
                state = await stage.renew("site", stage.serial())
                assert state.status is RunStatus.DONE, state.failure


async def test_a_wrong_chain_is_not_put_in_place(stage: Stage, between: Between) -> None:
    serial = await serve_one(stage)
    other = Authority().issue(["shop.example.test", "www.shop.example.test"])

    def another(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        return httpx2.Response(200, headers=response.headers, content=other.chain.encode(), request=request)

    between.spoil("POST", "/certZ/", another, times=100)
    assert_failed(await stage.renew("site", serial), "NotVerified", "another key")
    assert stage.serial() == serial
    assert stage.deployments() == 1


async def test_an_authority_that_has_lost_the_account_is_told_who_we_are(
    database: Database, tmp_path: Path, world: World, outside: Outside
) -> None:
    """Two Pebbles, one after the other at the same address: the second knows nobody."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for each in folders:
        each.mkdir()
    dns_port, http_port = outside.names.dns_port, outside.server.http_port
    async with AsyncExitStack() as later:
        with pebble(folders[0], dns_port=dns_port, http_port=http_port) as first:
            world.directory, world.trust = first.directory, first.trust
            between = Between(first.trust)
            later.push_async_callback(between.shut)
            stage = await later.enter_async_context(opened(database, tmp_path, world, transport_for=lambda _: between))
            serial = await serve_one(stage)
        port = httpx2.URL(first.directory).port
        with pebble(folders[1], dns_port=dns_port, http_port=http_port, port=port, authority=first.authority) as second:
            assert second.directory == first.directory
            state = await stage.renew("site", serial)
            assert state.status is RunStatus.DONE, state.failure
            assert second.status(stage.serial()) == "Valid"
        await later.aclose()


async def test_when_one_target_does_not_take_it_all_get_the_former_one_back(stage: Stage) -> None:
    state = await stage.renew("two")
    assert state.status is RunStatus.DONE, state.failure
    former = stage.serial("one")
    assert former == stage.serial("other")
    broken = stage.world.shelf / "other.broken"
    broken.touch()
    assert_failed(await stage.renew("two", former), "Refused", "shelf")
    assert stage.serial("one") == stage.serial("other") == former
    assert stage.deployments("one") == 3
    broken.unlink()
    state = await stage.renew("two", former)
    assert state.status is RunStatus.DONE, state.failure
    assert stage.serial("one") == stage.serial("other") != former


@pytest.mark.parametrize("decision", ["approved", "refused"])
async def test_a_tenant_that_asks_for_it_says_yes_before_anything_is_put_in_place(
    database: Database, tmp_path: Path, world: World, decision: Literal["approved", "refused"]
) -> None:
    world.settings["ask_before_deploying"] = True
    async with opened(database, tmp_path, world) as stage:
        key = await stage.start("site")
        await stage.until(key, lambda state: "approval" in state.steps and state.status is RunStatus.WAITING)
        async with database.transaction() as tx:
            [asked] = await approvals.of_run(tx, key)
            assert stage.serial() == ""
            [planned] = asked.plan
            assert planned.planned.target == "target:site"
            await approvals.decide(tx, key, asked.id, person=OWNER, decision=decision)
        state = await stage.until(key, lambda state: state.status.is_final)
        assert state.status is (RunStatus.DONE if decision == "approved" else RunStatus.REFUSED), state.failure
        assert (stage.serial() != "") is (decision == "approved")


async def test_neither_key_nor_account_is_anywhere_but_in_the_vault(
    stage: Stage, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await stage.start("site")
    state = await stage.until(key, lambda state: state.status.is_final)
    kept = [reference for _, reference in stage.vault.names()]
    assert len(kept) == 2
    secret = []
    for reference in kept:
        parsed = SecretRef.parse(reference)
        assert isinstance(parsed, SecretRef)
        pem = (await stage.vault.get("acme", parsed)).reveal()
        secret += [pem.splitlines()[1], pem.splitlines()[2]]
    rows = []
    async with database.reading() as tx:
        tables = await tx.rows(
            "select format('select row_to_json(t)::text as row from %I.%I t', table_schema, table_name) as all_of_it "
            "from information_schema.tables where table_schema in ('regie', 'audit')"
        )
        for each in tables:
            rows += [str(row["row"]) for row in await tx.rows(each["all_of_it"])]
    everything = json.dumps(rows) + state.model_dump_json() + capsys.readouterr().out
    assert len(rows) > 10
    # Bytes are shown as hexadecimal.
    assert not [each for each in secret if each in everything or each.encode().hex() in everything]
