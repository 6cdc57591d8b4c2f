"""Tokens of programs: within their scope and no further, until they end; never seen again."""

from __future__ import annotations

import itertools
from typing import Any

import httpx2
import pytest

from regie.core.audit import Event
from regie.core.errors import InvalidInput
from regie.core.reach import Act, Scope
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.store import accounts, api_tokens
from regie.store.keys import RunKey
from tests.leaves import read_outside

from ..web.stage import AS_OPERATOR, OFFBOARD, OPERATOR  # noqa: TID252  as elsewhere in tests
from .conftest import People

pytestmark = pytest.mark.slow

EMPLOYEE = {"employee": "jan.janssen@example.com"}
DAY_S = 86_400.0


async def token(people: People, *acts: Act, lives_s: float = DAY_S, owner: str = "", **scope: Any) -> dict[str, str]:
    """The header of a program with a new token."""
    made = Scope(acts=frozenset(acts), **scope)
    async with people.database.transaction() as tx:
        _, shown = await api_tokens.make(tx, name="n8n", scope=made, lives_s=lives_s, by=OPERATOR, owner=owner)
    return {"Authorization": f"Bearer {shown}"}


async def start(people: People, tenant: str, workflow: str = OFFBOARD) -> RunKey:
    request = StartRequest(tenant=tenant, workflow=workflow, trigger_key=workflow, started_by=OPERATOR)
    return (await PostgresEngine(people.database).start(request)).key


async def ask(people: People, method: str, path: str, header: dict[str, str], body: Any = None) -> httpx2.Response:
    more = {"Idempotency-Key": "k"} if path == "/v1/events" else {}
    return await people.http.request(method, path, headers={**header, **more}, json=body)


def wanted(tenant: str = "acme", workflow: str = OFFBOARD) -> dict[str, Any]:
    return {"tenant": tenant, "workflow": workflow, "input": EMPLOYEE}


async def test_each_act_opens_its_routes_in_its_place_and_no_others(people: People) -> None:
    ours, theirs = await start(people, "acme"), await start(people, "umbrella")
    event = {"domain": "identity", "event": "contract.sign"}
    tries: list[tuple[Act, str, str, Any, Any]] = [
        (Act.LOOK, "GET", "/v1/runs/{}", None, None),
        (Act.LOOK, "GET", "/v1/runs/{}/audit", None, None),
        (Act.START, "POST", "/v1/runs", wanted(), wanted("umbrella")),
        (Act.TELL, "POST", "/v1/events", {"tenant": "acme", **event}, {"tenant": "umbrella", **event}),
        (Act.STEER, "POST", "/v1/runs/{}/pause", {}, {}),
    ]
    for held, (act, method, path, here, elsewhere) in itertools.product(Act, tries):
        header = await token(people, held, Act.LOOK, tenant="acme", domain="identity")
        answer = await ask(people, method, path.format(ours.run), header, here)
        allowed = act in {held, Act.LOOK}
        assert answer.is_success == allowed, (held, path, answer.text)
        if not allowed:
            assert answer.status_code == 403
            assert f"`{act}`" in answer.json()["detail"]
        refused = await ask(people, method, path.format(theirs.run), header, elsewhere)
        assert refused.status_code in {403, 404}, (held, path, refused.text)
        assert refused.headers["Content-Type"] == "application/problem+json"


async def test_hints_name_what_is_within_the_scope(people: People) -> None:
    event = {"tenant": "nobody", "domain": "identity", "event": "contract.sign"}
    tries: list[tuple[Act, str, dict[str, Any], dict[str, Any], str | None]] = [
        (Act.START, "/v1/runs", {"tenant": "acme"}, wanted(workflow="identity.nothing"), f"Known: {OFFBOARD}"),
        (Act.START, "/v1/runs", {}, wanted(workflow="identity.nothing"), f"Known: {OFFBOARD}"),
        (Act.START, "/v1/runs", {"tenant": "acme", "domain": "hr"}, wanted(workflow="hr.nothing"), None),
        (Act.START, "/v1/runs", {}, wanted("nobody"), "Known: acme, umbrella"),
        (Act.TELL, "/v1/events", {}, event, None),
    ]
    for act, path, scope, body, hint in tries:
        header = await token(people, act, **{"domain": "identity", **scope})
        answer = await ask(people, "POST", path, header, body)
        assert (answer.status_code, answer.json().get("hint")) == (422, hint), answer.text


async def test_lists_hold_what_is_within_the_scope(people: People) -> None:
    ours, theirs = await start(people, "acme"), await start(people, "umbrella")
    scopes: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {ours.run, theirs.run}),
        ({"tenant": "acme"}, {ours.run}),
        ({"tenant": "acme", "domain": "hr"}, set()),
        ({"domain": "identity"}, {ours.run, theirs.run}),
        ({"tenant": "acme", "domain": "identity", "workflows": [OFFBOARD]}, {ours.run}),
        ({"tenant": "acme", "domain": "identity", "workflows": ["identity.other"]}, set()),
    ]
    for scope, visible in scopes:
        header = await token(people, Act.LOOK, **scope)
        listed = (await ask(people, "GET", "/v1/runs", header)).json()["items"]
        assert {run["id"] for run in listed} == visible, scope
        figures = (await ask(people, "GET", "/v1/figures", header)).json()
        assert sum(each["queued"] for each in figures["domains"]) == len(visible), scope
        tenants = {
            slug
            for each in (await ask(people, "GET", "/v1/workflows", header)).json()["items"]
            for slug in each["tenants"]
        }
        assert tenants <= ({scope["tenant"]} if "tenant" in scope else {"acme", "umbrella"}), scope
    blind = await token(people, Act.START)
    assert (await ask(people, "GET", "/v1/runs", blind)).json()["items"] == []
    assert (await ask(people, "GET", "/v1/workflows", blind)).json()["missing"] == {"act": "look"}


async def test_a_low_code_tool_starts_its_workflows_and_sees_what_it_started(people: People) -> None:
    service = await token(people, Act.START, tenant="acme", domain="identity", workflows=[OFFBOARD])
    other = await start(people, "acme")
    answer = await ask(people, "POST", "/v1/runs", service, wanted())
    assert answer.status_code == 201
    run = answer.json()["id"]
    shown = (await ask(people, "GET", f"/v1/runs/{run}", service)).json()
    assert shown["started_by"]["type"] == "program"
    assert (await ask(people, "GET", f"/v1/runs/{run}/wait?for_s=0", service)).status_code == 200
    assert (await ask(people, "GET", f"/v1/runs/{other.run}", service)).status_code == 404
    assert (await ask(people, "POST", f"/v1/runs/{run}/cancel", service, {})).status_code == 202, "its own"
    for wrong in (
        wanted(workflow="identity.something_else"),
        wanted(workflow="finance.pay_invoice"),
        wanted("umbrella"),
    ):
        refused = await ask(people, "POST", "/v1/runs", service, wrong)
        assert refused.status_code == 403
        assert refused.json()["missing"] == {
            "act": "start",
            "tenant": wrong["tenant"],
            "domain": wrong["workflow"].partition(".")[0],
            "workflow": wrong["workflow"],
        }
        assert OFFBOARD in refused.json()["hint"], "and it says what the token has"


async def test_a_token_ends_and_says_so(people: People) -> None:
    header = await token(people, Act.LOOK)
    shown = header["Authorization"].removeprefix("Bearer ")
    _, id_, secret = shown.split("_", 2)
    assert (await ask(people, "GET", "/v1/runs", header)).status_code == 200
    for wrong in (shown[:-1], shown + "x", f"regie_{id_}_", f"regie_{id_}", "regie_", f"regie_000000000000_{secret}"):
        refused = await ask(people, "GET", "/v1/runs", {"Authorization": f"Bearer {wrong}"})
        assert (refused.status_code, refused.json()["detail"]) == (401, "There is no such API token."), wrong
    async with people.database.transaction() as tx:
        kept = str(await tx.rows("select * from regie.api_token"))
        assert secret not in kept
        await tx.change("update regie.api_token set expires_at = clock_timestamp()", {})
    expired = await ask(people, "GET", "/v1/runs", header)
    assert (expired.status_code, "expired at" in expired.json()["detail"]) == (401, True)
    async with people.database.transaction() as tx:
        await api_tokens.revoke(tx, id_, by=OPERATOR)
        await api_tokens.revoke(tx, id_, by=OPERATOR)
    revoked = await ask(people, "GET", "/v1/runs", header)
    assert (revoked.status_code, revoked.json()["detail"]) == (401, "This API token was revoked.")
    async with people.database.reading() as tx:
        events = [leaf.event for leaf in await read_outside(tx, "", "")]
        leaves = str([leaf.fields for leaf in await read_outside(tx, "", "")])
        [line] = await api_tokens.list_tokens(tx)
    assert sorted(events) == [Event.TOKEN_MADE, Event.TOKEN_REVOKED]
    assert secret not in leaves
    assert line.used_at is not None


async def test_a_token_decides_nothing_and_makes_no_other(people: People) -> None:
    header = await token(people, *Act)
    made = await ask(people, "POST", "/v1/tokens", header, {"name": "x", "acts": ["look"]})
    assert (made.status_code, made.json()["detail"]) == (403, "A token makes no tokens.")
    assert (await ask(people, "GET", "/v1/tokens", header)).status_code == 403


async def test_people_make_tokens_within_their_reach_on_the_page(people: People) -> None:
    await people.sign_in("zoe")
    shown = (await people.http.get("/tokens")).text
    csrf = shown.split('name="csrf" value="')[1].split('"')[0]

    async def make(**fields: str) -> httpx2.Response:
        return await people.http.post("/tokens", data={"csrf": csrf, **fields}, headers={"Origin": "https://web"})

    good = {"name": "n8n von Zoë", "tenant": "acme", "domain": "identity", "act_start": "on", "days": "30"}
    made = (await make(**good, workflows=OFFBOARD)).text
    secret = made.split('<pre tabindex="0">')[1].split("<")[0]
    again = (await people.http.get("/tokens")).text
    assert "n8n von Zoë" in again
    assert secret not in again, "it is shown once"
    header = {"Authorization": f"Bearer {secret}"}
    assert (await ask(people, "POST", "/v1/runs", header, wanted())).status_code == 201

    for wrong, why in (
        ({**good, "tenant": "umbrella"}, "goes beyond that"),
        ({**good, "tenant": "", "domain": ""}, "goes beyond that"),
        ({**good, "domain": "hr"}, "goes beyond that"),
        ({**good, "days": "400"}, "days"),
        ({**good, "days": "soon"}, "days"),
        ({**good, "name": " "}, "1 to 100 characters"),
        ({key: text for key, text in good.items() if key != "act_start"}, "acts"),
        ({**good, "workflows": "finance.pay_invoice"}, "no workflow of the domain"),
        ({**good, "workflows": "identity.nothing"}, "no workflow"),
    ):
        refused = await make(**wrong)
        assert refused.status_code == 422, (wrong, refused.text)
        assert why in refused.text, wrong
        if wrong.get("workflows") == "identity.nothing":
            assert "finance" not in refused.text, "workflows of other domains are not named"

    id_ = secret.split("_")[1]
    async with people.database.transaction() as tx:
        await tx.change("update regie.account set groups = '{}'", {})
    poorer = await ask(people, "POST", "/v1/runs", header, wanted())
    assert poorer.status_code == 403, "a token never does more than its maker may now"
    async with people.database.transaction() as tx:
        await tx.change("update regie.account set groups = '{soc}'", {})
    revoked = await people.http.post(f"/tokens/{id_}/revoke", data={"csrf": csrf}, headers={"Origin": "https://web"})
    assert revoked.status_code == 303
    assert (await ask(people, "POST", "/v1/runs", header, wanted())).status_code == 401


async def test_tokens_of_others_are_not_theirs_to_see_or_revoke(people: People) -> None:
    await people.sign_in("zoe")
    people.http.cookies.clear()
    header = await token(people, Act.LOOK, owner="zoe.unal@example.com", tenant="acme", domain="identity")
    id_ = header["Authorization"].split("_")[1]
    await people.sign_in("vera")
    shown = (await people.http.get("/tokens")).text
    assert id_ not in shown
    csrf = shown.split('name="csrf" value="')[1].split('"')[0]
    refused = await people.http.post(f"/tokens/{id_}/revoke", data={"csrf": csrf}, headers={"Origin": "https://web"})
    assert refused.status_code == 404
    assert (await ask(people, "GET", "/v1/runs", header)).status_code == 200
    async with people.database.transaction() as tx:
        await accounts.set_active(tx, "zoe.unal@example.com", is_active=False, by=OPERATOR)
    gone = await ask(people, "GET", "/v1/runs", header)
    assert (gone.status_code, "deactivated" in gone.json()["detail"]) == (401, True)


async def test_the_operator_makes_lists_and_revokes_over_the_api(people: People) -> None:
    body = {"name": "scanner", "tenant": "acme", "domain": "identity", "acts": ["look", "tell"], "days": 1}
    made = await ask(people, "POST", "/v1/tokens", AS_OPERATOR, body)
    assert made.status_code == 201
    line = made.json()["made"]
    assert (line["acts"], line["stands"], line["owner"]) == (["look", "tell"], "valid", "")
    assert [each["id"] for each in (await ask(people, "GET", "/v1/tokens", AS_OPERATOR)).json()["items"]] == [
        line["id"]
    ]
    plain = {**AS_OPERATOR, "Content-Type": "text/plain"}
    from_a_foreign_page = await people.http.post(f"/v1/tokens/{line['id']}/revoke", content="{}", headers=plain)
    assert from_a_foreign_page.status_code == 415
    revoked = await ask(people, "POST", f"/v1/tokens/{line['id']}/revoke", AS_OPERATOR, {})
    assert revoked.json()["stands"] == "revoked"
    assert (await ask(people, "POST", "/v1/tokens/nothing/revoke", AS_OPERATOR, {})).status_code == 404
    for wrong in (
        {**body, "tenant": "nobody"},
        {**body, "domain": "finance"},
        {**body, "acts": []},
        {**body, "acts": ["approve"]},
        {**body, "workflows": ["identity.a"], "acts": ["tell"]},
        {**body, "days": 0},
        {**body, "more": 1},
    ):
        assert (await ask(people, "POST", "/v1/tokens", AS_OPERATOR, wrong)).status_code == 422, wrong


@pytest.mark.parametrize("lives_s", [0, 59, 367 * DAY_S])
async def test_a_token_ends_within_a_year(people: People, lives_s: float) -> None:
    with pytest.raises(InvalidInput):
        await token(people, Act.LOOK, lives_s=lives_s)
