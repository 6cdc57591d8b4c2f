"""The site's webhook: its payload, signature, identifier and retries."""

import hashlib
import hmac
import json

import httpx2
import pytest

from .conftest import JAN, Outside


async def test_a_new_request_is_announced_with_a_signature_over_the_raw_body(outside: Outside) -> None:
    key = await outside.open_ticket(employee="łukasz.nowak@example.com")
    await outside.app.state.webhooks.settled()
    (request,) = outside.listener.requests
    expected = hmac.new(b"webhook-secret", request.content, hashlib.sha256).hexdigest()
    assert request.headers["X-Hub-Signature"] == f"sha256={expected}"
    assert "X-Atlassian-Webhook-Retry" not in request.headers
    payload = json.loads(request.content)
    assert (payload["webhookEvent"], payload["issue_event_type_name"]) == ("jira:issue_created", "issue_created")
    assert payload["issue"]["key"] == key
    assert payload["issue"]["fields"]["customfield_10101"] == "łukasz.nowak@example.com"
    assert payload["user"]["emailAddress"] == "piet.devries@example.com"
    assert isinstance(payload["timestamp"], int)


async def test_it_is_sent_again_with_the_same_identifier_until_taken(outside: Outside) -> None:
    outside.listener.answers = [503, 429, 0, 200]
    key = await outside.open_ticket()
    await outside.app.state.webhooks.settled()
    requests = outside.listener.requests
    assert [each.headers.get("X-Atlassian-Webhook-Retry") for each in requests] == [None, "1", "2", "3"]
    assert len({each.headers["X-Atlassian-Webhook-Identifier"] for each in requests}) == 1
    assert len({(each.content, each.headers["X-Hub-Signature"]) for each in requests}) == 1
    (delivery,) = (await outside.http.get(f"/sandbox/tickets/{key}/webhooks")).json()
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 4)


@pytest.mark.parametrize(("answers", "attempts", "state"), [([400], 1, "refused"), ([500] * 9, 6, "given up")])
async def test_it_is_not_sent_for_ever(outside: Outside, answers: list[int], attempts: int, state: str) -> None:
    outside.listener.answers = answers
    key = await outside.open_ticket()
    await outside.app.state.webhooks.settled()
    (delivery,) = (await outside.http.get(f"/sandbox/tickets/{key}/webhooks")).json()
    assert (delivery["attempts"], delivery["state"]) == (attempts, state)


async def test_a_hand_can_deliver_it_again(outside: Outside) -> None:
    key = await outside.open_ticket()
    await outside.app.state.webhooks.settled()
    outside.listener.answers = [409]
    answer = (await outside.http.post(f"/sandbox/tickets/{key}/redeliver")).json()
    first, second = outside.listener.requests
    assert (answer["last_status"], second.headers["X-Atlassian-Webhook-Retry"]) == (409, "1")
    assert first.content == second.content
    assert (
        first.headers["X-Atlassian-Webhook-Identifier"]
        == second.headers["X-Atlassian-Webhook-Identifier"]
        == answer["identifier"]
    )


async def test_no_listener_no_webhook_and_no_secret_no_signature(outside: Outside) -> None:
    await outside.http.put("/sandbox/webhook", json={"url": None})
    key = await outside.open_ticket()
    assert (await outside.http.post(f"/sandbox/tickets/{key}/redeliver")).status_code == 409
    await outside.http.put("/sandbox/webhook", json={"url": "http://127.0.0.1:9/x"})
    await outside.open_ticket()
    await outside.app.state.webhooks.settled()
    (request,) = outside.listener.requests
    assert isinstance(request, httpx2.Request)
    assert "X-Hub-Signature" not in request.headers


async def test_the_portal_knows_its_customers(outside: Outside) -> None:
    body = {"reporter": "nobody@example.com", "employee": JAN}
    assert (await outside.http.post("/sandbox/tickets", json=body)).status_code == 404


async def test_a_move_is_announced_with_its_changelog_and_who_moved_it(outside: Outside) -> None:
    key = await outside.open_ticket()
    moved = await outside.http.patch(f"/sandbox/tickets/{key}", json={"status": "Canceled", "by": JAN})
    assert moved.status_code == 204
    await outside.http.patch(f"/sandbox/tickets/{key}", json={"summary": "Not the status"})
    await outside.app.state.webhooks.settled()
    payloads = [json.loads(request.content) for request in outside.listener.requests]
    assert [each["webhookEvent"] for each in payloads] == ["jira:issue_created", "jira:issue_updated"]
    told = payloads[1]
    [item] = told["changelog"]["items"]
    assert item == {
        "field": "status",
        "fieldtype": "jira",
        "fieldId": "status",
        "from": "10000",
        "fromString": "Open",
        "to": "10003",
        "toString": "Canceled",
    }
    assert told["issue"]["fields"]["status"]["statusCategory"]["key"] == "done"
    assert told["user"]["emailAddress"] == JAN
    assert told["timestamp"] >= payloads[0]["timestamp"]


async def test_a_move_by_the_service_account_is_announced_as_its_own(outside: Outside) -> None:
    key = await outside.open_ticket()
    answer = await outside.jira.post(f"/issue/{key}/transitions", json={"transition": {"id": "31"}})
    assert answer.status_code == 204
    await outside.app.state.webhooks.settled()
    told = json.loads(outside.listener.requests[-1].content)
    assert (told["webhookEvent"], told["user"]["displayName"]) == ("jira:issue_updated", "Regie")
