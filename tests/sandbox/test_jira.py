"""The imitation of Jira Cloud: what it answers, refuses, limits and shows late."""

import asyncio
import json
from typing import Any

import pytest

from regie_sandbox import seed

from .conftest import JAN, Outside

pytestmark = pytest.mark.slow

NEW: dict[str, Any] = {"project": {"key": "ITSM"}, "issuetype": {"name": "Task"}, "summary": "A task"}


def document(text: str) -> dict[str, Any]:
    return {
        "type": "doc",
        "version": 1,
        "content": [{"type": "paragraph", "content": [{"type": "text", "text": text}]}],
    }


async def create(outside: Outside, **fields: Any) -> str:
    answer = await outside.jira.post("/issue", json={"fields": NEW | fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


@pytest.mark.parametrize("auth", [None, (seed.JIRA_ACCOUNT.email, "wrong"), ("else@example.com", "x")])
async def test_without_the_right_token_it_is_401_in_jiras_shape(outside: Outside, auth: tuple[str, str] | None) -> None:
    answer = await outside.http.get("/jira/rest/api/3/myself", auth=auth)
    assert (answer.status_code, set(answer.json())) == (401, {"errorMessages", "errors"})
    assert ("X-Seraph-LoginReason" in answer.headers) == (auth is not None)


async def test_myself_is_the_service_account(outside: Outside) -> None:
    assert (await outside.jira.get("/myself")).json()["emailAddress"] == seed.JIRA_ACCOUNT.email


async def test_a_portal_request_carries_request_type_employee_and_last_day(outside: Outside) -> None:
    key = await outside.open_ticket()
    fields = {each["name"]: each["id"] for each in (await outside.jira.get("/field")).json()}
    answer = (await outside.jira.get(f"/issue/{key}", params={"expand": "names"})).json()
    assert answer["fields"][fields["Employee"]] == JAN
    assert answer["fields"][fields["Last day"]] == "2026-11-30"
    assert answer["names"][fields["Employee"]] == "Employee"
    request = answer["fields"][fields["Request Type"]]
    assert (request["requestType"]["name"], request["currentStatus"]["status"]) == ("Offboarding", "Open")
    assert answer["fields"]["reporter"]["emailAddress"] == "piet.devries@example.com"


async def test_somebody_who_hides_their_address_has_none_in_reads_and_webhooks(outside: Outside) -> None:
    piet = "piet.devries@example.com"
    await outside.rules(jira_hidden_addresses=[piet])
    key = await outside.open_ticket(reporter=piet)
    reporter = (await outside.jira.get(f"/issue/{key}")).json()["fields"]["reporter"]
    assert (reporter["displayName"], reporter["emailAddress"]) == ("Piet de Vries", None)
    [delivery] = (await outside.http.get(f"/sandbox/tickets/{key}/webhooks")).json()
    assert json.loads(delivery["body"])["user"]["emailAddress"] is None
    assert (await outside.jira.get("/myself")).json()["emailAddress"] == seed.JIRA_ACCOUNT.email


async def test_a_read_gives_only_the_fields_it_asks_for(outside: Outside) -> None:
    key = await create(outside)
    answer = (await outside.jira.get(f"/issue/{key}", params={"fields": "status,customfield_10101"})).json()
    assert set(answer["fields"]) == {"status", "customfield_10101"}
    without = (await outside.jira.get(f"/issue/{key}", params={"fields": "*all,-comment"})).json()
    assert "comment" not in without["fields"]
    assert (await outside.jira.get(f"/issue/{key}", params={"field": "status"})).status_code == 400


async def test_an_unknown_issue_is_404_in_jiras_shape(outside: Outside) -> None:
    answer = await outside.jira.get("/issue/ITSM-404")
    assert answer.status_code == 404
    assert answer.json() == {
        "errorMessages": ["Issue does not exist or you do not have permission to see it."],
        "errors": {},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "plain text"),
        ("description", {"type": "doc", "version": 2, "content": []}),
        ("description", {"type": "doc", "version": 1, "content": [{"type": "text", "text": "loose"}]}),
        ("summary", document("not a line")),
        ("summary", ""),
        ("labels", ["two words"]),
        ("nonsense", 1),
        ("status", {"name": "Done"}),
        ("assignee", "jan"),
        ("assignee", {"accountid": seed.account_id(JAN)}),
        ("assignee", {"accountId": JAN}),
        ("customfield_10101", document("not a line")),
        ("customfield_10102", "30-11-2026"),
        ("customfield_10102", "20261130"),
        ("project", {"key": "NOPE"}),
        ("issuetype", {"name": "Nope"}),
        ("priority", {"name": "Nope"}),
    ],
)
async def test_create_refuses_a_wrong_field_by_its_name(outside: Outside, field: str, value: Any) -> None:
    answer = await outside.jira.post("/issue", json={"fields": NEW | {field: value}})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert await outside.ledger() == []


async def test_create_names_every_wrong_field_at_once(outside: Outside) -> None:
    answer = await outside.jira.post("/issue", json={"fields": {"nonsense": 1}})
    assert set(answer.json()["errors"]) == {"project", "issuetype", "summary", "nonsense"}
    assert (await outside.jira.post("/issue", json={"field": NEW})).status_code == 400
    assert (await outside.jira.post("/issue", content="{}")).status_code == 415


async def test_create_keeps_fields_and_properties(outside: Outside) -> None:
    fields = {"labels": ["regie-1"], "assignee": {"accountId": seed.account_id(JAN)}, "description": document("Hi")}
    body = {"fields": NEW | fields, "properties": [{"key": "mark", "value": {"run": "1"}}]}
    answer = (await outside.jira.post("/issue", json=body)).json()
    assert set(answer) == {"id", "key", "self"}
    found = (await outside.jira.get(f"/issue/{answer['id']}", params={"properties": "mark"})).json()
    assert found["fields"]["labels"] == ["regie-1"]
    assert found["fields"]["assignee"]["displayName"] == "Jan Janssen"
    assert found["properties"] == {"mark": {"run": "1"}}


async def test_an_edit_changes_fields_but_moves_no_issue(outside: Outside) -> None:
    key = await create(outside)
    assert (await outside.jira.put(f"/issue/{key}", json={"fields": {"summary": "Other"}})).status_code == 204
    labels = {"update": {"labels": [{"add": "a"}, {"add": "b"}, {"remove": "a"}]}}
    assert (await outside.jira.put(f"/issue/{key}", json=labels)).status_code == 204
    assert (await outside.jira.put(f"/issue/{key}", json={"fields": {"status": "Done"}})).status_code == 400
    assert (await outside.jira.put(f"/issue/{key}", json={})).status_code == 400
    fields = (await outside.jira.get(f"/issue/{key}")).json()["fields"]
    assert (fields["summary"], fields["labels"], fields["status"]["name"]) == ("Other", ["b"], "Open")


@pytest.mark.parametrize("body", ["text", {"body": "text"}, {}, {"body": document("x"), "author": "me"}])
async def test_a_comment_that_is_no_document_is_refused(outside: Outside, body: Any) -> None:
    key = await create(outside)
    assert (await outside.jira.post(f"/issue/{key}/comment", json=body)).status_code == 400


async def test_comments_come_in_pages_in_either_order(outside: Outside) -> None:
    key = await create(outside)
    ids = []
    for text in "abc":
        answer = await outside.jira.post(f"/issue/{key}/comment", json={"body": document(text)})
        assert answer.status_code == 201
        ids.append(answer.json()["id"])
        outside.clock.forward(1)
    page = (await outside.jira.get(f"/issue/{key}/comment", params={"startAt": 1, "maxResults": 1})).json()
    assert (page["startAt"], page["maxResults"], page["total"]) == (1, 1, 3)
    assert [each["id"] for each in page["comments"]] == ids[1:2]
    newest = (await outside.jira.get(f"/issue/{key}/comment", params={"orderBy": "-created"})).json()
    assert [each["id"] for each in newest["comments"]] == ids[::-1]
    assert newest["comments"][0]["body"] == document("c")


async def test_an_internal_comment_is_not_public_and_keeps_its_properties(outside: Outside) -> None:
    key = await create(outside)
    internal = {"key": "sd.public.comment", "value": {"internal": True}}
    answer = await outside.jira.post(f"/issue/{key}/comment", json={"body": document("x"), "properties": [internal]})
    assert answer.json()["jsdPublic"] is False
    found = await outside.jira.get(f"/comment/{answer.json()['id']}/properties/sd.public.comment")
    assert found.json()["value"] == {"internal": True}


async def test_an_issue_moves_only_along_the_workflow(outside: Outside) -> None:
    key = await create(outside)
    path = f"/issue/{key}/transitions"

    async def offered() -> dict[str, tuple[str, str]]:
        found = (await outside.jira.get(path)).json()["transitions"]
        return {each["to"]["name"]: (each["id"], each["to"]["statusCategory"]["key"]) for each in found}

    assert await offered() == {"In Progress": ("11", "indeterminate"), "Canceled": ("31", "done")}
    assert (await outside.jira.post(path, json={"transition": {"id": 11}})).status_code == 400
    assert (await outside.jira.post(path, json={"transition": {"id": "21"}})).status_code == 400
    for number in ("11", "21", "41"):
        assert (await outside.jira.post(path, json={"transition": {"id": number}})).status_code == 204
    assert set(await offered()) == {"In Progress", "Canceled"}
    moves = [(each["before"], each["after"]) for each in (await outside.ledger())[1:]]
    assert moves[-1] == ({"status": "Done"}, {"status": "Open"})


async def test_a_conflict_can_be_provoked(outside: Outside) -> None:
    key = await create(outside)
    await outside.fault(kind="status", status=409, method="POST", path="/transitions$")
    body = {"transition": {"id": "11"}}
    assert (await outside.jira.post(f"/issue/{key}/transitions", json=body)).status_code == 409
    assert (await outside.jira.post(f"/issue/{key}/transitions", json=body)).status_code == 204


async def test_properties_are_new_then_changed_and_not_too_long(outside: Outside) -> None:
    path = f"/issue/{await create(outside)}/properties/regie"
    assert (await outside.jira.get(path)).status_code == 404
    assert (await outside.jira.put(path, json={"run": 1})).status_code == 201
    assert (await outside.jira.put(path, json={"run": 2})).status_code == 200
    assert (await outside.jira.get(path)).json() == {"key": "regie", "value": {"run": 2}}
    assert (await outside.jira.put(path, json="x" * 32_768)).status_code == 400


async def test_search_learns_of_a_new_issue_late(outside: Outside) -> None:
    body = {"jql": "project = ITSM AND labels = regie-1", "fields": ["summary"]}
    key = await create(outside, labels=["regie-1"])
    number = int((await outside.jira.get(f"/issue/{key}")).json()["id"])
    assert (await outside.jira.post("/search/jql", json=body)).json()["issues"] == []
    known = (await outside.jira.post("/search/jql", json=body | {"reconcileIssues": [number]})).json()
    assert [each["key"] for each in known["issues"]] == [key]
    outside.clock.forward(2)
    found = (await outside.jira.post("/search/jql", json=body)).json()
    assert [(each["key"], each["fields"]) for each in found["issues"]] == [(key, {"summary": "A task"})]
    assert found["isLast"] is True


async def test_search_pages_by_token_and_gives_ids_only_without_fields(outside: Outside) -> None:
    keys = [await create(outside) for _ in range(5)]
    outside.clock.forward(2)
    query: dict[str, Any] = {"jql": "project = ITSM ORDER BY key ASC", "maxResults": 2}
    pages = []
    while True:
        page = (await outside.jira.get("/search/jql", params=query)).json()
        pages.append([each["id"] for each in page["issues"]])
        assert all(set(each) == {"id"} for each in page["issues"])
        assert "total" not in page
        if page["isLast"]:
            break
        query["nextPageToken"] = page["nextPageToken"]
    assert [len(each) for each in pages] == [2, 2, 1]
    assert len({number for each in pages for number in each}) == len(keys)
    assert (await outside.jira.get("/search/jql", params=query | {"nextPageToken": "2"})).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"jql": "project = ITSM", "startAt": 0},
        {"jql": ""},
        {"jql": "ORDER BY created"},
        {"jql": "nonsense = 1"},
        {"jql": "project == ITSM"},
        {"jql": "project > ITSM"},
        {"jql": "project = ITSM ORDER BY colour"},
        {"jql": "project = ITSM", "reconcileIssues": list(range(51))},
    ],
)
async def test_search_refuses_what_the_vendor_refuses(outside: Outside, body: dict[str, Any]) -> None:
    assert (await outside.jira.post("/search/jql", json=body)).status_code == 400


@pytest.mark.parametrize(
    ("jql", "finds"),
    [
        ('labels in ("a", b) AND status != Done', 2),
        ("labels not in (a)", 1),
        ('"Employee" ~ "jan.janssen@example.com"', 1),
        ("cf[10101] ~ jan.janssen@example.com and project = itsm", 1),
        ("statusCategory = Done", 0),
        ('issue.property[regie].run = "7"', 1),
        ('created >= "2026-11-21 12:00"', 2),
        ('created < "2026-11-21"', 0),
        ("key = ITSM-2", 1),
        ('summary ~ "and that"', 1),
    ],
)
async def test_search_understands_the_part_of_jql_it_promises(outside: Outside, jql: str, finds: int) -> None:
    first = await create(outside, labels=["a"], summary="This and that", customfield_10101=JAN)
    await create(outside, labels=["b"])
    await outside.jira.put(f"/issue/{first}/properties/regie", json={"run": 7})
    outside.clock.forward(2)
    found = (await outside.jira.post("/search/jql", json={"jql": jql})).json()
    assert len(found["issues"]) == finds


async def test_one_issue_takes_twenty_writes_in_two_seconds(outside: Outside) -> None:
    key, other = await create(outside), await create(outside)
    for number in range(20):
        assert (await outside.jira.put(f"/issue/{key}/properties/p", json=number)).status_code in {200, 201}
    refused = await outside.jira.post(f"/issue/{key}/comment", json={"body": document("x")})
    assert refused.status_code == 429
    assert (refused.headers["RateLimit-Reason"], refused.headers["Retry-After"]) == ("jira-per-issue-on-write", "2")
    assert (await outside.jira.get(f"/issue/{key}")).status_code == 200
    assert (await outside.jira.put(f"/issue/{other}/properties/p", json=1)).status_code == 201
    outside.clock.forward(2)
    assert (await outside.jira.post(f"/issue/{key}/comment", json={"body": document("x")})).status_code == 201


async def test_one_issue_takes_a_hundred_writes_in_thirty_seconds(outside: Outside) -> None:
    key = await create(outside)
    for number in range(100):
        assert (await outside.jira.put(f"/issue/{key}/properties/p", json=number)).status_code in {200, 201}
        outside.clock.forward(0.125)
    refused = await outside.jira.put(f"/issue/{key}/properties/p", json=1)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "18")


async def test_bursts_are_limited_per_endpoint_and_method(outside: Outside) -> None:
    await outside.rules(jira_burst_per_second={"GET": 2, "POST": 2, "PUT": 2, "DELETE": 2})
    for _ in range(2):
        assert (await outside.jira.get("/myself")).status_code == 200
    refused = await outside.jira.get("/myself")
    assert (refused.status_code, refused.headers["RateLimit-Reason"]) == (429, "jira-burst-based")
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert (await outside.jira.get("/field")).status_code == 200
    outside.clock.forward(1)
    assert (await outside.jira.get("/myself")).status_code == 200


async def test_writers_at_the_same_time_lose_nothing(outside: Outside) -> None:
    key = await create(outside)
    calls = [outside.jira.post(f"/issue/{key}/comment", json={"body": document(str(each))}) for each in range(15)]
    answers = await asyncio.gather(*calls)
    assert {each.status_code for each in answers} == {201}
    page = (await outside.jira.get(f"/issue/{key}/comment")).json()
    assert {each["id"] for each in page["comments"]} == {each.json()["id"] for each in answers}
    assert page["total"] == 15


async def test_a_search_page_skips_nothing_when_an_earlier_issue_no_longer_matches(outside: Outside) -> None:
    keys = [await create(outside, labels=["a"]) for _ in range(5)]
    outside.clock.forward(2)
    body: dict[str, Any] = {"jql": "labels = a ORDER BY key ASC", "maxResults": 2, "fields": ["summary"]}
    first = (await outside.jira.post("/search/jql", json=body)).json()
    await outside.jira.put(f"/issue/{keys[0]}", json={"fields": {"labels": []}})
    second = (await outside.jira.post("/search/jql", json=body | {"nextPageToken": first["nextPageToken"]})).json()
    assert [each["key"] for each in second["issues"]] == keys[2:4]
