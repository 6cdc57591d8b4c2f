"""The hand above the world: faults, moves, digest, ledger and reset."""

from typing import Any

import httpx2
import pytest

from regie_sandbox import seed

from .conftest import JAN, Outside

JAN_ID = seed.person_id(JAN)


async def offboard(outside: Outside, upn: str = JAN) -> None:
    """Every change an offboarding makes to a person, skipping what is already so."""
    user = (await outside.graph("GET", f"/users/{upn}?$select=id,accountEnabled")).json()
    if user["accountEnabled"]:
        await outside.graph("PATCH", f"/users/{upn}", json={"accountEnabled": False})
        await outside.graph("POST", f"/users/{upn}/revokeSignInSessions")
    path = f"/users/{upn}/memberOf/microsoft.graph.group"
    for group in (await outside.graph("GET", path)).json()["value"]:
        await outside.graph("DELETE", f"/groups/{group['id']}/members/{user['id']}/$ref")


async def test_offboarding_jan_costs_five_writes_and_then_none(outside: Outside) -> None:
    await offboard(outside)
    done, digest = await outside.ledger(), await outside.digest()
    assert (len(done), {each["about"] for each in done}) == (5, {"person"})
    assert all(each["changed"] for each in done)
    outside.clock.forward(60)
    await offboard(outside)
    assert await outside.ledger(since=done[-1]["seq"]) == []
    assert await outside.digest() == digest


async def test_the_digest_sees_people_and_neither_tickets_nor_time(outside: Outside) -> None:
    start = await outside.digest()
    outside.clock.forward(3600)
    await outside.open_ticket()
    assert await outside.digest() == start
    await outside.graph("POST", f"/users/{JAN}/revokeSignInSessions")
    revoked = await outside.digest()
    assert revoked != start
    outside.clock.forward(5)
    await outside.graph("POST", f"/users/{JAN}/revokeSignInSessions")
    assert await outside.digest() == revoked
    signed_in = (await outside.http.post(f"/sandbox/people/{JAN}/sign-in")).json()
    assert signed_in["digest"] == start


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (("disable", {}), ("enable", {})),
        (("join", {"group": "Engineering"}), ("leave", {"group": "Engineering"})),
        (("manager", {"manager": "elif.demir@example.com"}), ("manager", {"manager": "piet.devries@example.com"})),
    ],
)
async def test_people_move_by_hand_and_back(
    outside: Outside, there: tuple[str, dict[str, str]], back: tuple[str, dict[str, str]]
) -> None:
    start = await outside.digest()
    moved = (await outside.http.post(f"/sandbox/people/{JAN}/{there[0]}", json=there[1])).json()
    assert moved["changed"]
    assert moved["digest"] != start
    returned = (await outside.http.post(f"/sandbox/people/{JAN}/{back[0]}", json=back[1])).json()
    assert returned["digest"] == start
    assert await outside.ledger() == []
    assert {each["system"] for each in await outside.ledger(by_hand=True)} == {"sandbox"}


async def test_unknown_people_moves_and_groups_are_named_in_the_refusal(outside: Outside) -> None:
    for path, body in (("nobody/enable", {}), (f"{JAN}/fly", {}), (f"{JAN}/join", {"group": "Nope"})):
        answer = await outside.http.post(f"/sandbox/people/{path}", json=body)
        assert (answer.status_code, list(answer.json())) == (404, ["detail"])


async def test_somebody_new_can_be_offboarded_like_everybody_else(outside: Outside) -> None:
    new = {"upn": "noor.bakker@example.com", "given_name": "Noor", "surname": "Bakker", "manager": JAN}
    hired = (await outside.http.post("/sandbox/people", json=new | {"groups": ["VPN Users", "Engineering"]})).json()
    world = (await outside.http.get("/sandbox/world")).json()
    noor = next(person for person in world["people"] if person["id"] == hired["id"])
    assert (noor["groups"], noor["has_live_session"]) == (["VPN Users", "Engineering"], True)
    assert await outside.ledger() == []
    await offboard(outside, new["upn"])
    assert [each["changed"] for each in await outside.ledger()] == [True] * 4
    assert (await outside.http.post("/sandbox/people", json=new)).status_code == 409
    other = new | {"upn": "x@example.com", "groups": ["Nope"]}
    assert (await outside.http.post("/sandbox/people", json=other)).status_code == 404


async def test_reset_brings_the_seed_back_and_never_reuses_a_number(outside: Outside) -> None:
    start = await outside.digest()
    await offboard(outside)
    last = (await outside.ledger())[-1]["seq"]
    assert (await outside.http.post("/sandbox/reset")).json() == {"digest": start}
    assert await outside.ledger() == []
    await outside.graph("PATCH", f"/users/{JAN}", json={"accountEnabled": False})
    assert (await outside.ledger())[0]["seq"] > last


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_status_strikes_as_often_as_armed_in_the_vendors_shape(outside: Outside, status: int) -> None:
    await outside.fault(kind="status", status=status, times=2, method="PATCH", path="^/graph/", retry_after="7")
    await outside.fault(kind="status", status=status, path="^/jira/", retry_after="7")
    body = {"accountEnabled": False}
    for _ in range(2):
        answer = await outside.graph("PATCH", f"/users/{JAN}", json=body)
        assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
        assert set(answer.json()["error"]) == {"code", "message", "innerError"}
    assert (await outside.jira.get("/myself")).json().keys() == {"errorMessages", "errors"}
    assert await outside.ledger() == []
    assert (await outside.graph("PATCH", f"/users/{JAN}", json=body)).status_code == 204


async def test_garbage_is_not_json(outside: Outside) -> None:
    await outside.fault(kind="garbage", path="/myself")
    with pytest.raises(ValueError, match="Expecting value"):
        (await outside.jira.get("/myself")).json()


@pytest.mark.parametrize(("kind", "writes"), [("cut", 0), ("cut-after", 1), ("timeout-after", 1)])
async def test_a_lost_connection_before_and_after_the_effect(outside: Outside, kind: str, writes: int) -> None:
    await outside.fault(kind=kind, method="PATCH", seconds=0)
    with pytest.raises(httpx2.TransportError):
        await outside.graph("PATCH", f"/users/{JAN}", json={"accountEnabled": False})
    assert len(await outside.ledger()) == writes


async def test_a_status_after_the_effect_hides_what_was_done(outside: Outside) -> None:
    await outside.fault(kind="status-after", method="PATCH", status=503, retry_after="7")
    answer = await outside.graph("PATCH", f"/users/{JAN}", json={"accountEnabled": False})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.json()["error"]["code"] == "serviceNotAvailable"
    assert [each["changed"] for each in await outside.ledger()] == [True]


async def test_a_delay_only_delays(outside: Outside) -> None:
    await outside.fault(kind="delay", seconds=0.01, path="/myself")
    assert (await outside.jira.get("/myself")).status_code == 200
    assert (await outside.http.get("/sandbox/faults")).json() == []


async def test_faults_can_be_taken_back_and_must_make_sense(outside: Outside) -> None:
    await outside.fault(kind="cut", times=9)
    assert (await outside.http.delete("/sandbox/faults")).status_code == 204
    assert (await outside.jira.get("/myself")).status_code == 200
    for wrong in ({"kind": "explode"}, {"kind": "cut", "path": "("}, {"kind": "cut", "times": 0}):
        assert (await outside.http.post("/sandbox/faults", json=wrong)).status_code == 422


async def test_the_served_credentials_open_every_door(outside: Outside) -> None:
    served = (await outside.http.get("/sandbox/credentials")).json()
    auth = (served["jira"]["email"], served["jira"]["api_token"])
    assert (await outside.http.get("/jira/rest/api/3/myself", auth=auth)).status_code == 200
    app = served["graph"]
    form = {name: app[name] for name in ("client_id", "client_secret")}
    form |= {"grant_type": "client_credentials", "scope": "https://graph.microsoft.com/.default"}
    answer = await outside.http.post(f"/login/{app['tenant_id']}/oauth2/v2.0/token", data=form)
    assert answer.status_code == 200


async def test_paths_nobody_imitates_are_refused_in_the_vendors_shape(outside: Outside) -> None:
    assert "error" in (await outside.http.get("/graph/v1.0/me")).json()
    assert "errorMessages" in (await outside.http.get("/jira/rest/api/3/nothing")).json()


async def test_the_seed_has_the_people_the_stories_need(outside: Outside) -> None:
    people = {each["upn"]: each for each in (await outside.http.get("/sandbox/world")).json()["people"]}
    assert len(people) == 12
    assert people[JAN]["groups"] == ["Sales Team", "CRM Users", "VPN Users"]
    assert not people["karel.novak@example.com"]["account_enabled"]
    assert people["sofia.almeida@example.com"]["manager_id"] is None
    assert any("Security Officer" in each["job_title"] for each in people.values())
    assert people["zoe.dubois@example.com"]["display_name"] == "Zoë Dubois"


async def test_the_service_desk_changes_a_ticket_meanwhile(outside: Outside) -> None:
    key = await outside.open_ticket()
    change = {"status": "Done", "employee": "zoe.dubois@example.com"}
    assert (await outside.http.patch(f"/sandbox/tickets/{key}", json=change)).status_code == 204
    fields = (await outside.jira.get(f"/issue/{key}")).json()["fields"]
    assert fields["status"]["statusCategory"]["key"] == "done"
    assert (fields["customfield_10101"], fields["customfield_10102"]) == (change["employee"], "2026-11-30")
    assert await outside.ledger() == []
    assert (await outside.http.patch(f"/sandbox/tickets/{key}", json={"status": "Lost"})).status_code == 422


async def test_rules_that_make_no_sense_are_refused(outside: Outside) -> None:
    refused: list[Any] = [{"nonsense": 1}, {"graph_writes": {"limit": 0, "seconds": 1}}, []]
    for wrong in refused:
        assert (await outside.http.patch("/sandbox/rules", json=wrong)).status_code == 422


async def test_a_group_that_is_deleted_is_gone_for_everybody(outside: Outside) -> None:
    found = next(each for each in (await outside.http.get("/sandbox/world")).json()["groups"] if each["members"])
    assert (await outside.http.delete(f"/sandbox/groups/{found['id']}")).status_code == 204
    world = (await outside.http.get("/sandbox/world")).json()
    assert found["id"] not in {each["id"] for each in world["groups"]}
    assert not any(found["display_name"] in person["groups"] for person in world["people"])
    assert (await outside.http.delete(f"/sandbox/groups/{found['id']}")).status_code == 404
    by_hand = (await outside.http.get("/sandbox/ledger", params={"by_hand": True})).json()["entries"]
    assert by_hand[-1]["target"] == found["display_name"]
