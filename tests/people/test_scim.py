"""A provisioning service brings people and takes them away, at once and for its tenant only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from regie.core.audit import Event
from regie.core.reach import Act, Scope
from regie.core.scim import GROUP, PATCH, USER
from regie.store import accounts, api_tokens
from tests.leaves import read_outside

from ..web.stage import OPERATOR  # noqa: TID252  as elsewhere in tests
from .conftest import People, customers_whose_forms_one_sees, open_forms

pytestmark = pytest.mark.slow

ZOE = "zoe.unal@example.com"
Ask = Callable[..., Awaitable[httpx2.Response]]


async def service(people: People, *acts: Act, **scope: Any) -> Ask:
    """A service with a token: asks with a method, a path and a body."""
    made = Scope(acts=frozenset(acts or {Act.PROVISION}), **(scope or {"tenant": "acme"}))
    async with people.database.transaction() as tx:
        _, token = await api_tokens.make(tx, name="entra", scope=made, lives_s=3600, by=OPERATOR)

    async def ask(method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        given = {"Authorization": f"Bearer {token}", "Content-Type": "application/scim+json", **headers}
        content = None if body is None else json.dumps(body)
        # Services keep no cookies, and the browser of the stage is another one.
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(people.app), base_url="https://web") as client:
            return await client.request(method, f"/scim/v2{path}", content=content, headers=given)

    return ask


def user(name: str = ZOE, **more: Any) -> dict[str, Any]:
    return {"schemas": [USER], "userName": name, "displayName": "Zoë Ünal-Ødegård", "active": True, **more}


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(operations)}


async def test_somebody_comes_works_and_leaves_at_once(people: People) -> None:
    ask = await service(people)
    made = await ask("POST", "/Users", user(externalId="e-1"))
    assert (made.status_code, made.headers["Content-Type"]) == (201, "application/scim+json")
    id_ = made.json()["id"]
    assert made.headers["Location"].endswith(f"/scim/v2/Users/{id_}")
    group = await ask("POST", "/Groups", {"schemas": [GROUP], "displayName": "watchers", "members": [{"value": id_}]})
    assert group.status_code == 201, group.text
    assert (await ask("GET", f"/Users/{id_}")).json()["groups"][0]["display"] == "watchers"

    await people.sign_in("zoe")
    assert (await people.http.get("/workflows")).status_code == 200
    tokens = await people.http.get("/tokens")
    csrf = tokens.text.split('name="csrf" value="')[1].split('"')[0]
    fields = {"csrf": csrf, "name": "n8n", "tenant": "acme", "domain": "identity", "act_look": "on", "days": "1"}
    shown = (await people.http.post("/tokens", data=fields, headers={"Origin": "https://web"})).text
    token = shown.split('<pre tabindex="0">')[1].split("<")[0]
    hers = {"Authorization": f"Bearer {token}"}
    assert (await people.http.get("/v1/runs", headers=hers)).status_code == 200

    gone = await ask("PATCH", f"/Users/{id_}", patch({"op": "Replace", "path": "active", "value": "False"}))
    assert (gone.status_code, gone.json()["active"]) == (200, False)
    assert (await people.http.get("/workflows")).status_code == 303, "her session is over"
    assert (await people.http.get("/v1/runs", headers=hers)).status_code == 401, "and so is her token"
    assert "deactivated" in (await people.sign_in("zoe")).text

    back = await ask("PATCH", f"/Users/{id_}", patch({"op": "replace", "value": {"active": True}}))
    assert back.json()["active"] is True
    await people.sign_in("zoe")
    assert (await people.http.get("/workflows")).status_code == 200
    assert (await ask("DELETE", f"/Users/{id_}")).status_code == 204
    assert (await people.http.get("/workflows")).status_code == 303
    assert (await people.http.get("/v1/runs", headers=hers)).status_code == 401
    assert (await ask("GET", f"/Users/{id_}")).status_code == 404
    assert (await ask("GET", f"/Groups/{group.json()['id']}")).json()["members"] == []
    async with people.database.reading() as tx:
        leaves = await read_outside(tx, "", "")
    in_order: list[tuple[Event, Any]] = [(leaf.event, leaf.fields) for leaf in reversed(leaves)]
    by_service = [event for event, told in in_order if told["actor"]["type"] == "program"]
    assert by_service == [
        Event.ACCOUNT_ADDED,
        Event.GROUP_CHANGED,
        Event.ACCOUNT_DEACTIVATED,
        Event.ACCOUNT_ACTIVATED,
        Event.ACCOUNT_REMOVED,
    ]


async def test_groups_give_roles_in_their_tenant_only(people: People) -> None:
    ask, theirs = await service(people), await service(people, tenant="umbrella")
    id_ = (await ask("POST", "/Users", user("new@example.com"))).json()["id"]
    assert (await theirs("GET", f"/Users/{id_}")).status_code == 404
    assert (await theirs("DELETE", f"/Users/{id_}")).status_code == 404
    assert (await theirs("GET", "/Users")).json()["totalResults"] == 0
    foreign = await theirs("POST", "/Groups", {"displayName": "soc", "members": [{"value": id_}]})
    assert (foreign.status_code, foreign.json()["scimType"]) == (400, "invalidValue")
    taken = await theirs("POST", "/Users", user("new@example.com"))
    assert (taken.status_code, taken.json()["scimType"]) == (409, "uniqueness"), "the account is another tenant's"
    for name, members in (("soc", [id_]), ("owners", [id_])):
        made = await ask("POST", "/Groups", {"displayName": name, "members": [{"value": each} for each in members]})
        assert made.status_code == 201
    async with people.database.reading() as tx:
        account = await accounts.get(tx, "new@example.com")
        assert account is not None
        caller = await people.app.state.means.doorkeeper.caller_of(tx, account)
    assert caller.may(Act.STEER, "acme", "identity")
    assert not caller.may(Act.STEER, "acme", "hr")
    assert not caller.may(Act.LOOK, "umbrella", "identity")
    assert not caller.is_operator, "no service makes operators of the installation"


async def test_whom_a_directory_has_brought_belongs_to_its_tenant_without_any_group(people: People) -> None:
    await open_forms(people)
    umbrellas = await service(people, tenant="umbrella")
    id_ = (await umbrellas("POST", "/Users", user("lone@example.com"))).json()["id"]
    assert (await umbrellas("POST", "/Users", user())).status_code == 201
    await people.sign_in("lone")
    assert await customers_whose_forms_one_sees(people) == {"umbrella"}
    assert (await umbrellas("DELETE", f"/Users/{id_}")).status_code == 204
    await people.sign_in("lone")
    assert await customers_whose_forms_one_sees(people) == set()
    await people.sign_in("zoe")
    assert await customers_whose_forms_one_sees(people) == {"acme", "umbrella"}, "one by a group, one by its directory"


async def test_who_came_another_way_is_not_the_services(people: People) -> None:
    ask = await service(people)
    await people.sign_in("wang")
    refused = await ask("POST", "/Users", user("WANG@example.com"))
    assert (refused.status_code, refused.json()["scimType"]) == (409, "uniqueness")
    mine = (await ask("POST", "/Users", user("mine@example.com"))).json()["id"]
    stolen = await ask(
        "PATCH", f"/Users/{mine}", patch({"op": "replace", "path": "userName", "value": "wang@example.com"})
    )
    assert stolen.status_code == 409
    again = await ask("POST", "/Users", user("MINE@example.com"))
    assert again.status_code == 409


async def test_lists_are_searched_and_paged(people: People) -> None:
    ask = await service(people)
    for number in range(5):
        made = await ask("POST", "/Users", user(f"p{number}@example.com", externalId=f"e-{number}"))
        assert made.status_code == 201
    seen = []
    for start in (1, 3, 5, 7):
        page = (await ask("GET", f"/Users?startIndex={start}&count=2")).json()
        assert (page["totalResults"], page["startIndex"]) == (5, start)
        assert page["itemsPerPage"] == len(page["Resources"])
        seen += [each["userName"] for each in page["Resources"]]
    assert seen == [f"p{number}@example.com" for number in range(5)]
    assert (await ask("GET", "/Users?startIndex=-3&count=-1")).json()["Resources"] == []
    one = (await ask("GET", "/Users?count=1")).json()["Resources"][0]
    for query in ('userName eq "P0@example.com"', 'externalId eq "e-0"', f'id eq "{one["id"]}"'):
        found = (await ask("GET", f"/Users?filter={query}")).json()
        assert [each["id"] for each in found["Resources"]] == [one["id"]], query
    assert (await ask("GET", '/Users?filter=userName eq "nobody"')).json()["totalResults"] == 0
    wrong = await ask("GET", '/Users?filter=userName co "p"')
    assert (wrong.status_code, wrong.json()["scimType"]) == (400, "invalidFilter")
    await ask("POST", "/Groups", {"displayName": "SOC", "members": [{"value": one["id"]}]})
    [bare] = (await ask("GET", '/Groups?excludedAttributes=members&filter=displayName eq "soc"')).json()["Resources"]
    assert "members" not in bare
    assert (await ask("GET", f"/Users/{one['id']}?attributes=userName")).json().keys() == {"schemas", "id", "userName"}


async def test_versions_keep_two_from_changing_at_once(people: People) -> None:
    ask = await service(people)
    made = await ask("POST", "/Users", user())
    id_, first = made.json()["id"], made.headers["ETag"]
    assert (await ask("GET", f"/Users/{id_}", **{"If-None-Match": first})).status_code == 304
    body = user(displayName="Zoë")
    assert (await ask("PUT", f"/Users/{id_}", body, **{"If-Match": first})).status_code == 200
    stale = await ask("PUT", f"/Users/{id_}", user(), **{"If-Match": first})
    assert (stale.status_code, stale.json()["status"]) == (412, "412")
    same = await ask("PUT", f"/Users/{id_}", body)
    assert same.headers["ETag"] == (await ask("GET", f"/Users/{id_}")).headers["ETag"], "nothing differs"
    answers = await asyncio.gather(*(ask("POST", "/Users", user("twice@example.com")) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    ids = [(await ask("POST", "/Users", user(f"m{n}@example.com"))).json()["id"] for n in range(4)]
    group = (await ask("POST", "/Groups", {"displayName": "SOC"})).json()["id"]
    add = [patch({"op": "Add", "path": "members", "value": [{"value": each}]}) for each in ids]
    assert {(await answer).status_code for answer in [ask("PATCH", f"/Groups/{group}", each) for each in add]} == {200}
    assert len((await ask("GET", f"/Groups/{group}")).json()["members"]) == 4


async def test_a_new_address_is_the_accounts_and_keeps_it(people: People) -> None:
    ask = await service(people)
    id_ = (await ask("POST", "/Users", user("maiden@example.com"))).json()["id"]
    moved = await ask("PATCH", f"/Users/{id_}", patch({"op": "Replace", "path": "userName", "value": ZOE}))
    assert moved.json()["emails"][0]["value"] == ZOE
    async with people.database.reading() as tx:
        assert await accounts.get(tx, "maiden@example.com") is None
        assert await accounts.get(tx, ZOE) is not None


async def test_who_has_signed_in_is_made_nobody_else(people: People) -> None:
    ask = await service(people)
    id_ = (await ask("POST", "/Users", user())).json()["id"]
    await people.sign_in("zoe")
    boss = patch({"op": "replace", "path": "userName", "value": "boss@example.com"})
    told = await ask("PATCH", f"/Users/{id_}", boss)
    assert (told.status_code, told.json()["userName"]) == (200, "boss@example.com")
    async with people.database.reading() as tx:
        assert await accounts.get(tx, "boss@example.com") is None
        assert await accounts.get(tx, ZOE) is not None
    assert (await people.http.get("/workflows")).status_code == 200, "her session is hers"


async def test_who_was_deactivated_here_stays_out_whatever_is_told_again(people: People) -> None:
    ask = await service(people)
    id_ = (await ask("POST", "/Users", user())).json()["id"]
    async with people.database.transaction() as tx:
        await accounts.set_active(tx, ZOE, is_active=False, by=OPERATOR)
    for path, told in (
        ("PUT", user(displayName="Zoë")),
        ("PATCH", patch({"op": "replace", "value": {"active": True}})),
    ):
        answer = await ask(path, f"/Users/{id_}", told)
        assert (answer.status_code, answer.json()["active"]) == (200, False), path
    assert "deactivated" in (await people.sign_in("zoe")).text
    for active in ("False", "True"):
        await ask("PATCH", f"/Users/{id_}", patch({"op": "Replace", "path": "active", "value": active}))
    await people.sign_in("zoe")
    assert (await people.http.get("/workflows")).status_code == 200


async def test_refusals_have_the_standards_shape(people: People) -> None:
    ask = await service(people)
    wrong: list[tuple[str, str, Any, int]] = [
        ("GET", "/Users/1", None, 404),
        ("GET", "/Groups/1", None, 404),
        ("POST", "/Users", {"userName": ""}, 400),
        ("POST", "/Users", [], 400),
        ("PATCH", "/Users/1", {}, 404),
        ("GET", "/Users?count=many", None, 400),
        ("GET", "/Schemas/none", None, 404),
    ]
    for method, path, body, status in wrong:
        answer = await ask(method, path, body)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["Content-Type"] == "application/scim+json"
        assert answer.json()["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert answer.json()["status"] == str(status)
    assert (await ask("POST", "/Users", user(), **{"Content-Type": "text/plain"})).status_code == 415
    for scope in ({"tenant": "acme", "domain": "identity"}, {"domain": "identity"}, {"tenant": "acme"}):
        acts = (Act.PROVISION,) if scope != {"tenant": "acme"} else (Act.LOOK, Act.START)
        refused = await (await service(people, *acts, **scope))("GET", "/Users")
        assert (refused.status_code, "provision" in refused.json()["detail"]) == (403, True), scope
    nobody = await people.http.get("/scim/v2/Users")
    assert (nobody.status_code, nobody.headers["Content-Type"]) == (401, "application/scim+json")


async def test_services_find_out_what_there_is(people: People) -> None:
    ask = await service(people)
    config = (await ask("GET", "/ServiceProviderConfig")).json()
    assert config["patch"]["supported"]
    assert not config["bulk"]["supported"]
    types = (await ask("GET", "/ResourceTypes")).json()["Resources"]
    assert {each["endpoint"] for each in types} == {"/Users", "/Groups"}
    for each in types:
        schema = (await ask("GET", f"/Schemas/{each['schema']}")).json()
        assert schema["id"] == each["schema"]
        assert (await ask("GET", f"/ResourceTypes/{each['id']}")).json() == each
