"""The imitation of Microsoft Graph and its token endpoint: what it answers, refuses and throttles."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from regie_sandbox import seed

from .conftest import JAN, Outside

pytestmark = pytest.mark.slow

JAN_ID = seed.person_id(JAN)
SALES = seed.object_id("groups", "Sales Team")
TOKEN_PATH = f"/login/{seed.TENANT_ID}/oauth2/v2.0/token"
GOOD_FORM = {
    "grant_type": "client_credentials",
    "client_id": seed.REGIE_APP.client_id,
    "client_secret": seed.REGIE_APP.client_secret,
    "scope": "https://graph.microsoft.com/.default",
}


@pytest.mark.parametrize(
    ("change", "status", "error", "number"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": ""}, 401, "invalid_client", 7000218),
        ({"client_id": "nobody"}, 400, "unauthorized_client", 700016),
        ({"scope": "User.Read.All"}, 400, "invalid_scope", 1002012),
        ({"scope": "https://elsewhere.example/.default"}, 400, "invalid_resource", 500011),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
    ],
)
async def test_the_token_endpoint_refuses_as_entra_does(
    outside: Outside, change: dict[str, str], status: int, error: str, number: int
) -> None:
    answer = await outside.http.post(TOKEN_PATH, data=GOOD_FORM | change)
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")


async def test_credentials_in_json_or_for_another_tenant_are_refused(outside: Outside) -> None:
    assert (await outside.http.post(TOKEN_PATH, json=GOOD_FORM)).status_code == 400
    elsewhere = await outside.http.post("/login/elsewhere/oauth2/v2.0/token", data=GOOD_FORM)
    assert elsewhere.json()["error_codes"] == [90002]


async def test_a_token_ends_after_its_lifetime(outside: Outside) -> None:
    answer = (await outside.http.post(TOKEN_PATH, data=GOOD_FORM)).json()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3599)
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    outside.clock.forward(3598)
    assert (await outside.http.get(f"/graph/v1.0/users/{JAN}", headers=headers)).status_code == 200
    outside.clock.forward(1)
    late = await outside.http.get(f"/graph/v1.0/users/{JAN}", headers=headers)
    assert (late.status_code, late.json()["error"]["code"]) == (401, "InvalidAuthenticationToken")


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer a.b.c", "Basic eDp5"])
async def test_no_token_or_a_forged_one_is_401(outside: Outside, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    answer = await outside.http.get(f"/graph/v1.0/users/{JAN}", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["innerError"]["request-id"] == answer.headers["request-id"]


async def test_the_app_that_may_only_read_users_is_kept_to_that(outside: Outside) -> None:
    headers = {"Authorization": f"Bearer {await outside.token(seed.READER_APP)}"}
    assert (await outside.http.get(f"/graph/v1.0/users/{JAN}", headers=headers)).status_code == 200
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"/users/{JAN_ID}?$select=signInActivity", None),
        ("GET", f"/users/{JAN}/memberOf", None),
        ("GET", f"/groups/{SALES}", None),
        ("PATCH", f"/users/{JAN}", {"accountEnabled": False}),
        ("POST", f"/users/{JAN}/revokeSignInSessions", None),
        ("POST", f"/groups/{SALES}/members/$ref", {"@odata.id": f"https://graph.microsoft.com/v1.0/users/{JAN_ID}"}),
        ("DELETE", f"/groups/{SALES}/members/{JAN_ID}/$ref", None),
    ]
    for method, path, body in calls:
        answer = await outside.http.request(method, f"/graph/v1.0{path}", headers=headers, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "Authorization_RequestDenied"), path
    assert await outside.ledger() == []


async def test_a_user_has_the_default_properties_unless_others_are_selected(outside: Outside) -> None:
    plain = (await outside.graph("GET", f"/users/{JAN}")).json()
    assert plain["displayName"] == "Jan Janssen"
    assert "accountEnabled" not in plain
    chosen = (await outside.graph("GET", f"/users/{JAN_ID}?$select=id,accountEnabled")).json()
    assert {name: value for name, value in chosen.items() if name[0] != "@"} == {"id": JAN_ID, "accountEnabled": True}
    unknown = await outside.graph("GET", f"/users/{JAN}?$select=accountEnable")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "BadRequest")


async def test_nobody_is_a_404(outside: Outside) -> None:
    answer = await outside.graph("GET", "/users/nobody@example.com", headers={"client-request-id": "mine"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "Request_ResourceNotFound")
    assert answer.headers["client-request-id"] == answer.json()["error"]["innerError"]["client-request-id"] == "mine"


async def test_sign_in_activity_is_found_by_object_id_only(outside: Outside) -> None:
    by_name = await outside.graph("GET", f"/users/{JAN}?$select=signInActivity")
    assert by_name.status_code == 400
    by_id = await outside.graph("GET", f"/users/{JAN_ID}?$select=signInActivity")
    assert by_id.json()["signInActivity"]["lastSignInDateTime"].startswith("2026-11-21T")


async def test_the_manager_or_404(outside: Outside) -> None:
    manager = await outside.graph("GET", f"/users/{JAN}/manager?$select=userPrincipalName")
    assert manager.json()["userPrincipalName"] == "piet.devries@example.com"
    nobody = await outside.graph("GET", "/users/sofia.almeida@example.com/manager")
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (404, "Request_ResourceNotFound")


async def test_memberships_come_in_pages_behind_links_nobody_can_guess(outside: Outside) -> None:
    path: str | None = f"/users/{seed.PAGED_PERSON}/memberOf/microsoft.graph.group?$top=100&$select=id,displayName"
    sizes, names = [], set()
    links = []
    while path:
        page = (await outside.graph("GET", path)).json()
        sizes.append(len(page["value"]))
        names |= {each["displayName"] for each in page["value"]}
        link = page.get("@odata.nextLink")
        links += [link] if link else []
        path = link.partition("/graph/v1.0")[2] if link else None
    assert sizes == [100, 100, 33]
    assert len(names) == seed.PAGED_GROUPS + 3
    token = dict(parse_qsl(urlsplit(links[0]).query))["$skiptoken"]
    for spoilt in (token[:-4] + "AAAA", "100"):
        answer = await outside.graph(
            "GET", f"/users/{seed.PAGED_PERSON}/memberOf/microsoft.graph.group?$top=100&$skiptoken={spoilt}"
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "Directory_ExpiredPageToken")


async def test_a_page_loses_nothing_when_an_earlier_membership_goes(outside: Outside) -> None:
    path = f"/users/{JAN}/memberOf?$top=1&$select=id"
    first = (await outside.graph("GET", path)).json()
    await outside.graph("DELETE", f"/groups/{first['value'][0]['id']}/members/{JAN_ID}/$ref")
    link = first["@odata.nextLink"].partition("/graph/v1.0")[2]
    second = (await outside.graph("GET", link)).json()
    third = (await outside.graph("GET", second["@odata.nextLink"].partition("/graph/v1.0")[2])).json()
    assert len({page["value"][0]["id"] for page in (first, second, third)}) == 3
    assert "@odata.nextLink" not in third


@pytest.mark.parametrize("top", ["0", "1000", "many", "-1"])
async def test_a_page_size_out_of_bounds_is_refused(outside: Outside, top: str) -> None:
    assert (await outside.graph("GET", f"/users/{JAN}/memberOf?$top={top}")).status_code == 400


async def test_memberships_include_directory_roles_unless_cast_away(outside: Outside) -> None:
    path = "/users/ingrid.larsen@example.com/memberOf"
    every = (await outside.graph("GET", path)).json()["value"]
    assert {each["@odata.type"] for each in every} == {"#microsoft.graph.group", "#microsoft.graph.directoryRole"}
    groups = (await outside.graph("GET", f"{path}/microsoft.graph.group")).json()["value"]
    assert [each["displayName"] for each in groups] == ["Tier 0 Administrators"]


@pytest.mark.parametrize(
    "body",
    [{"accountEnable": False}, {"accountEnabled": "false"}, {"accountEnabled": None}, {"id": "x"}, {}, [], "text"],
)
async def test_a_patch_with_anything_but_known_properties_of_the_right_type_is_400(outside: Outside, body: Any) -> None:
    assert (await outside.graph("PATCH", f"/users/{JAN}", json=body)).status_code == 400
    assert await outside.ledger() == []


async def test_disabling_is_written_down_even_when_it_changes_nothing(outside: Outside) -> None:
    for _ in range(2):
        assert (await outside.graph("PATCH", f"/users/{JAN}", json={"accountEnabled": False})).status_code == 204
    first, second = await outside.ledger()
    assert (first["before"], first["after"]) == ({"accountEnabled": True}, {"accountEnabled": False})
    assert (first["changed"], second["changed"]) == (True, False)
    assert (first["system"], first["about"], first["target"], first["actor"]) == (
        "graph",
        "person",
        JAN,
        "Regie identity",
    )


async def test_what_the_permission_does_not_cover_is_denied(outside: Outside) -> None:
    assert (await outside.graph("PATCH", f"/users/{JAN}", json={"jobTitle": "Boss"})).status_code == 403
    administrator = await outside.graph("PATCH", "/users/ingrid.larsen@example.com", json={"accountEnabled": False})
    assert administrator.status_code == 403


async def test_a_revocation_shows_late_and_its_code_varies(outside: Outside) -> None:
    path = f"/users/{JAN}?$select=signInSessionsValidFromDateTime"

    async def valid_from() -> str:
        return str((await outside.graph("GET", path)).json()["signInSessionsValidFromDateTime"])

    before = await valid_from()
    answer = await outside.graph("POST", f"/users/{JAN}/revokeSignInSessions")
    assert (answer.status_code, answer.json()["value"]) == (200, True)
    assert await valid_from() == before
    outside.clock.forward(0.5)
    assert await valid_from() == "2026-11-21T12:00:00Z"
    assert (await outside.graph("POST", f"/users/{JAN}/revokeSignInSessions")).status_code == 204


async def test_members_are_added_and_removed_once(outside: Outside) -> None:
    member, collection = f"/groups/{SALES}/members/{JAN_ID}/$ref", f"/groups/{SALES}/members/$ref"
    link = {"@odata.id": f"https://graph.microsoft.com/v1.0/directoryObjects/{JAN_ID}"}
    assert (await outside.graph("POST", collection, json=link)).status_code == 400
    assert (await outside.graph("DELETE", member)).status_code == 204
    assert (await outside.graph("DELETE", member)).status_code == 404
    assert (await outside.graph("POST", collection, json={"@odata.id": "jan"})).status_code == 400
    assert (await outside.graph("POST", collection, json=link)).status_code == 204
    removed, added = await outside.ledger()
    assert (removed["before"]["member"], removed["after"]["member"], added["after"]["member"]) == (True, False, True)


async def test_dynamic_and_role_assignable_groups_refuse_changes(outside: Outside) -> None:
    dynamic, tier = (seed.object_id("groups", name) for name in ("All of Engineering", "Tier 0 Administrators"))
    anna, ingrid = seed.person_id(seed.PAGED_PERSON), seed.person_id("ingrid.larsen@example.com")
    shown = (await outside.graph("GET", f"/groups/{dynamic}")).json()
    assert shown["groupTypes"] == ["DynamicMembership"]
    assert (await outside.graph("DELETE", f"/groups/{dynamic}/members/{anna}/$ref")).status_code == 400
    assert (await outside.graph("DELETE", f"/groups/{tier}/members/{ingrid}/$ref")).status_code == 403


async def test_forgetting_the_ref_never_deletes_a_person(outside: Outside) -> None:
    assert (await outside.graph("DELETE", f"/groups/{SALES}/members/{JAN_ID}")).status_code == 403
    assert (await outside.graph("GET", f"/users/{JAN}")).status_code == 200


async def test_resource_units_run_out_and_come_back(outside: Outside) -> None:
    await outside.rules(graph_resource_units={"limit": 5, "seconds": 10})
    costs = []
    for _ in range(5):
        answer = await outside.graph("GET", f"/users/{JAN}?$select=id")
        costs.append(answer.headers["x-ms-resource-unit"])
    assert costs == ["1"] * 5
    assert float(answer.headers["x-ms-throttle-limit-percentage"]) == 1.0
    outside.clock.forward(4)
    refused = await outside.graph("GET", f"/users/{JAN}")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "6")
    outside.clock.forward(6)
    assert (await outside.graph("GET", f"/users/{JAN}")).status_code == 200


async def test_writes_have_a_budget_of_their_own(outside: Outside) -> None:
    await outside.rules(graph_writes={"limit": 1, "seconds": 150})
    body = {"accountEnabled": False}
    assert (await outside.graph("PATCH", f"/users/{JAN}", json=body)).status_code == 204
    assert (await outside.graph("PATCH", f"/users/{JAN}", json=body)).status_code == 429
    assert (await outside.graph("GET", f"/users/{JAN}")).status_code == 200
    assert len(await outside.ledger()) == 1


async def test_a_page_token_opens_no_other_list(outside: Outside) -> None:
    page = (await outside.graph("GET", f"/users/{seed.PAGED_PERSON}/memberOf?$top=1")).json()
    token = dict(parse_qsl(urlsplit(page["@odata.nextLink"]).query))["$skiptoken"]
    answer = await outside.graph("GET", f"/users/{JAN}/memberOf?$top=1&$skiptoken={token}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "Directory_ExpiredPageToken")
