"""Wrong requests, webhooks, tickets and decisions in a running installation, and trouble in the outside world."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx2
import pytest

from regie.cli.story import Story
from regie.core.audit import Event
from regie.core.tenant import SecretRef
from regie.gateway.keeping import keep_secrets

from .stage import OFFBOARD, OFFICER, REPORTER, Stage, announcement

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

START = {"tenant": "example", "workflow": OFFBOARD, "input": {"employee": "jan.janssen@example.com"}}
NOBODY = "00000000-0000-0000-0000-000000000000"


def assert_problem(answer: httpx2.Response, status: int, *says: str) -> None:
    """A problem document that says what is wrong."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    for each in says:
        assert each in answer.json()["detail"] + str(answer.json().get("hint")), answer.text
    assert "Traceback" not in answer.text


# --- requests of the API ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        pytest.param({**START, "dri": True}, 422, "dri: Extra inputs are not permitted", id="api-unknown-key"),
        pytest.param({**START, "dry": "perhaps"}, 422, "dry: Input should be a valid boolean", id="api-wrong-type"),
        pytest.param({**START, "workflow": "identity.fire"}, 422, "no workflow 'identity.fire'", id="api-no-workflow"),
        pytest.param({**START, "tenant": "exampel"}, 422, "no tenant 'exampel'", id="api-no-tenant"),
        pytest.param({**START, "input": {}}, 422, "Employee (employee) is missing", id="api-input-missing"),
        pytest.param(
            {**START, "input": {"employe": "a@example.com"}}, 422, "did you mean employee?", id="api-input-misspelt"
        ),
        pytest.param({**START, "input": {"employee": 42}}, 422, "must be text", id="api-input-wrong-type"),
        pytest.param({**START, "ticket": "x" * 2_000_000}, 413, "at most 1048576 bytes", id="api-too-large"),
        pytest.param("{", 422, "Invalid JSON", id="api-no-json"),
    ],
)
async def test_a_request(stage: Stage, body: Any, status: int, says: str) -> None:
    before = await stage.mark()
    content = body if isinstance(body, str) else json.dumps(body)
    answer = await stage.api("POST", "/v1/runs", content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, status, says)
    assert await stage.mark() == before


TOLD = {"tenant": "example", "domain": "identity", "event": "contract.sign", "data": {}}


@pytest.mark.parametrize(
    ("body", "key", "says"),
    [
        pytest.param(TOLD, None, "idempotency-key: Field required", id="event-no-id"),
        pytest.param({**TOLD, "event": "signed"}, "a", "String should match pattern", id="event-wrong-name"),
        pytest.param({**TOLD, "data": {"a": "x" * 70_000}}, "b", "at most 65536 bytes", id="event-too-large"),
        pytest.param({**TOLD, "domain": "hr"}, "c", "does not have the domain hr", id="event-no-domain"),
    ],
)
async def test_an_event(stage: Stage, body: dict[str, Any], key: str | None, says: str) -> None:
    before = await stage.mark()
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    answer = await stage.api("POST", "/v1/events", content=json.dumps(body), headers=headers)
    assert_problem(answer, 422, says)
    assert await stage.mark() == before


@pytest.mark.row("event-other-data")
async def test_an_event_under_the_id_of_another_one(stage: Stage) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "one-of-a-kind"}
    first = await stage.api("POST", "/v1/events", content=json.dumps(TOLD), headers=headers)
    assert first.status_code == 202
    other = {**TOLD, "data": {"pages": 2}}
    answer = await stage.api("POST", "/v1/events", content=json.dumps(other), headers=headers)
    assert_problem(answer, 422, "was used for another event")


@pytest.mark.row("api-not-json-type")
async def test_a_body_of_another_type(stage: Stage) -> None:
    answer = await stage.api("POST", "/v1/runs", content="{}", headers={"Content-Type": "text/plain"})
    assert_problem(answer, 415, "must be application/json")


@pytest.mark.row("api-no-run")
async def test_a_run_that_is_not_there(stage: Stage) -> None:
    for run in (NOBODY, "ITSM-1", "../approvals"):
        assert_problem(await stage.api("GET", f"/v1/runs/{run.replace('/', '%2F')}"), 404, "There is no")
        done = await stage.cli("show", run)
        assert done.returncode == 1
        assert done.stderr.startswith("regie: There is no"), done.stderr


@pytest.mark.row("api-queue-full")
async def test_a_start_in_a_domain_whose_queue_is_full(stage: Stage) -> None:
    async with stage.full_queue("identity", {**START, "dry": True}):
        before = await stage.mark()
        answer = await stage.api("POST", "/v1/runs", json=START)
        assert await stage.mark() == before
    assert_problem(answer, 429, "takes no more for now", "regie quotas")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.row("api-stranger")
async def test_somebody_nobody_knows(stage: Stage) -> None:
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": "Basic !!"}, {"Authorization": ""}):
        answer = await stage.api("GET", "/v1/runs", headers=headers)
        assert_problem(answer, 401)
        assert "WWW-Authenticate" in answer.headers


@pytest.mark.row("figures-window")
async def test_figures_of_a_window_that_is_none(stage: Stage) -> None:
    for window in ("0", "soon", "99999999"):
        answer = await stage.api("GET", f"/v1/figures?window_s={window}")
        assert_problem(answer, 422, "window_s")


@pytest.mark.row("metrics-no-token")
async def test_metrics_for_somebody_without_their_token(stage: Stage) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": ""}):
        answer = await stage.api("GET", "/metrics", headers=headers)
        assert_problem(answer, 401, "Metrics are read with their own token.")


@pytest.mark.row("workflow-unknown")
async def test_a_workflow_that_the_command_line_does_not_know(stage: Stage, tmp_path_factory: Any) -> None:
    before = await stage.mark()
    file = tmp_path_factory.mktemp("input") / "in.yaml"
    file.write_text("employee: jan.janssen@example.com\n")
    done = await stage.cli("start", "identity.fire", "--input", str(file))
    assert done.returncode == 2
    assert "There is no workflow 'identity.fire'." in done.stderr
    assert OFFBOARD in done.stderr, "what there is, is named"
    assert await stage.mark() == before


@pytest.mark.row("steer-over")
@pytest.mark.row("steer-not-asleep")
@pytest.mark.row("rerun-nowhere")
@pytest.mark.row("rerun-under-way")
async def test_steering_a_run_as_it_cannot_be(stage: Stage) -> None:
    _, run, approval = await stage.ask("anna.visser@example.com")
    before = await stage.mark()
    says = [
        ("resume", {}, 409, "is not paused"),
        ("rerun", {"from": "close"}, 422, "is not over"),
    ]
    for act, body, status, why in says:
        assert_problem(await stage.api("POST", f"/v1/runs/{run}/{act}", json=body), status, why)
    assert (await stage.decide(approval, approval["approvers"][0], decision="refused")).status_code == 200
    assert (await stage.story.end_of(run))["status"] == "refused"
    says = [
        ("pause", {}, 409, "This run is over: refused."),
        ("resume", {}, 409, "This run is over: refused."),
        ("wake", {}, 409, "it is refused"),
        ("rerun", {"from": "clsoe"}, 422, "did you mean close?"),
    ]
    for act, body, status, why in says:
        assert_problem(await stage.api("POST", f"/v1/runs/{run}/{act}", json=body), status, why)
    for act, code, why in (("pause", 3, "is over"), ("resume", 3, "is over"), ("wake", 3, "does not sleep")):
        done = await stage.cli(act, run)
        assert (done.returncode, why in done.stderr) == (code, True), done.stderr
    done = await stage.cli("rerun", run, "--from", "clsoe")
    assert (done.returncode, "did you mean close?" in done.stderr) == (2, True), done.stderr
    assert (await stage.mark())[0] == before[0]


# --- webhooks ---------------------------------------------------------------------------------------------------------


@pytest.mark.row("webhook-wrong-signature")
async def test_a_webhook_with_a_wrong_signature(stage: Stage) -> None:
    before, facts = await stage.mark(), await stage.outside_leaves()
    body = announcement("ITSM-1")
    for signed in (b"another body", b""):
        answer = await stage.deliver(body, signed=signed)
        assert_problem(answer, 403, "This delivery was not found genuine.")
    assert_problem(await stage.deliver(body, headers={"X-Hub-Signature": ""}), 403, "not found genuine")
    assert await stage.mark() == before
    # One of them for all that come within a minute.
    [leaf] = [leaf for leaf in await stage.outside_leaves() if leaf not in facts]
    assert leaf.fields["reason"] == "not_genuine"


@pytest.mark.row("webhook-replayed")
async def test_a_webhook_that_comes_again(stage: Stage) -> None:
    ticket, shown = await stage.open(employee="jan.janssen@example.com", request_type="Onboarding")
    before = await stage.mark()
    for identifier in ("the-same", "the-same", "another"):
        answer = await stage.deliver(
            announcement(ticket, request_type="Onboarding"), headers={"X-Atlassian-Webhook-Identifier": identifier}
        )
        assert answer.status_code == 202
        assert [(run["id"], run["is_new"]) for run in answer.json()["runs"]] == [(shown["id"], False)]
    assert await stage.mark() == before


@pytest.mark.row("webhook-too-large")
async def test_a_webhook_that_is_too_large(stage: Stage) -> None:
    before = await stage.mark()
    assert_problem(await stage.deliver(b" " * 1_048_577), 413, "at most 1048576 bytes")
    assert await stage.mark() == before


@pytest.mark.row("webhook-not-json")
async def test_a_webhook_that_is_genuine_and_no_json(stage: Stage) -> None:
    before = await stage.mark()
    for body in (b"", b"{", b"<xml/>", b"[" * 100_000):
        assert_problem(await stage.deliver(body), 422, "is genuine and holds no JSON")
        assert (await stage.outside_leaves())[0].fields["reason"] == "unreadable"
    assert await stage.mark() == before


@pytest.mark.row("webhook-unreadable")
async def test_a_webhook_about_something_that_counts_and_cannot_be_read(stage: Stage) -> None:
    before = await stage.mark()
    body = {"webhookEvent": "jira:issue_created", "issue": {"key": "ITSM-1", "fields": {"project": None}}}
    answer = await stage.deliver(json.dumps(body).encode(), headers={"X-Atlassian-Webhook-Identifier": "odd-one"})
    assert_problem(answer, 422, "look at issue.fields.project")
    leaf = (await stage.outside_leaves())[0]
    assert (leaf.fields["reason"], leaf.fields["delivery"]) == ("unreadable", "odd-one")
    assert await stage.mark() == before


@pytest.mark.row("webhook-other-shape")
async def test_a_webhook_of_a_shape_we_do_not_know(stage: Stage) -> None:
    before = await stage.mark()
    for body in (b"[]", b"null", b'{"webhookEvent": 7}', b'{"issue": {}}'):
        answer = await stage.deliver(body)
        assert (answer.status_code, answer.json()["accepted"]) == (202, False)
        assert "payload" in answer.json()["reason"]
    assert await stage.mark() == before


@pytest.mark.row("webhook-closed-nothing")
async def test_a_ticket_that_is_closed_for_nothing(stage: Stage) -> None:
    before = await stage.mark()
    done = {"name": "Done", "statusCategory": {"key": "done"}}
    body = {
        "webhookEvent": "jira:issue_updated",
        "issue": {"key": "ITSM-999", "fields": {"project": {"key": "ITSM"}, "status": done}},
        "changelog": {"items": [{"field": "status"}]},
    }
    answer = await stage.deliver(json.dumps(body).encode())
    assert (answer.status_code, answer.json()["accepted"]) == (202, False)
    assert "nothing runs for this ticket" in answer.json()["reason"]
    assert await stage.mark() == before


@pytest.mark.row("webhook-packed")
async def test_a_webhook_that_is_packed(stage: Stage) -> None:
    packed = gzip.compress(announcement("ITSM-1"))
    assert_problem(
        await stage.deliver(packed, headers={"Content-Encoding": "gzip"}), 415, "Packed bodies are not read."
    )


@pytest.mark.row("webhook-nowhere")
async def test_a_webhook_for_a_tenant_or_a_connection_that_is_not_there(stage: Stage) -> None:
    facts = await stage.outside_leaves()
    answers = [await stage.deliver(announcement("ITSM-1"), where=where) for where in ("exampel/jira", "example/teams")]
    for answer in answers:
        assert_problem(answer, 404, "There is no such place to deliver to.")
    assert answers[0].text == answers[1].text, "nobody learns which tenants there are"
    assert await stage.outside_leaves() == facts


@pytest.mark.row("request-type-unknown")
async def test_a_request_type_that_starts_nothing(stage: Stage) -> None:
    before = await stage.mark()
    ticket = await stage.story.sandbox.open_ticket(
        {"reporter": REPORTER, "request_type": "Get IT help", "summary": "My mouse is broken"}
    )
    answer = await stage.deliver(announcement(ticket, request_type="Get IT help"))
    assert answer.status_code == 202
    assert answer.json() == {"accepted": False, "reason": "no workflow starts with this kind of ticket"}
    assert (await stage.mark()).runs == before.runs
    assert (await stage.comments(ticket)) == "[]", "a ticket that is not ours is left alone"
    leaf = (await stage.outside_leaves())[0]
    assert leaf.event is Event.TRIGGER_REFUSED
    assert leaf.fields["reason"] == "no_workflow"


async def quiet_ticket(stage: Stage, **more: Any) -> str:
    """A ticket that no webhook has told of."""
    await stage.sandbox.put("/sandbox/webhook", json={"url": None})
    try:
        return await stage.story.sandbox.open_ticket({"reporter": REPORTER, **more})
    finally:
        secret = (stage.settings.keys / "sandbox-webhook.secret").read_text()
        url = f"{stage.web}/v1/inbound/example/jira"
        await stage.sandbox.put("/sandbox/webhook", json={"url": url, "secret": secret})


@pytest.mark.row("request-type-untold")
async def test_a_webhook_that_does_not_tell_the_request_type(stage: Stage) -> None:
    """Jira sites can leave the field out: then the ticket itself is asked."""
    ticket = await quiet_ticket(stage, employee="jan.janssen@example.com", request_type="Onboarding")
    body = announcement(ticket, request_type=None)
    async with stage.trouble(kind="status", status=503, path=f"^/jira/.*{ticket}", times=1):
        away = await stage.deliver(body)
        assert_problem(away, 503)
        assert int(away.headers["Retry-After"]) > 0, "Jira delivers again"
    answer = await stage.deliver(body)
    assert answer.status_code == 202
    [run] = answer.json()["runs"]
    assert run["workflow"] == "identity.look_up"
    assert (await stage.story.end_of(run["id"]))["status"] == "done"
    gone = await stage.deliver(announcement("ITSM-99999", request_type=None))
    assert gone.json() == {"accepted": False, "reason": "no workflow starts with this kind of ticket"}


# --- tickets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("employee", "says"),
    [
        pytest.param(None, "Employee (employee) is missing", id="ticket-names-nobody"),
        pytest.param(
            "jan.janssen@example.com and zoe.dubois@example.com",
            "Employee (employee) names more than one address",
            id="ticket-names-two",
        ),
        pytest.param("Jan Janssen", "must be one e-mail address such as", id="ticket-malformed-address"),
        pytest.param("jan.janse@example.com", "There is no account jan.janse@example.com", id="ticket-unknown-person"),
    ],
)
async def test_a_ticket(stage: Stage, employee: str | None, says: str) -> None:
    world = await stage.story.sandbox.digest()
    ticket, shown = await stage.open(employee=employee)
    assert shown["status"] == "failed"
    assert says in shown["outcome"]["failure"]["message"]
    said = await stage.comments(ticket)
    assert says in said
    assert "Nothing was changed." in said
    assert (await stage.story.sandbox.ticket(ticket))["status"] == "Open"
    assert await stage.story.sandbox.digest() == world
    assert shown["approvals"] == []


@pytest.mark.row("ticket-hides-reporter")
async def test_a_ticket_of_somebody_who_hides_their_address(stage: Stage) -> None:
    world = await stage.story.sandbox.digest()
    async with stage.hiding(REPORTER):
        ticket, shown = await stage.open(employee="jan.janssen@example.com")
    assert shown["status"] == "failed"
    said = await stage.comments(ticket)
    assert "nobody can make sure that somebody else says yes" in said
    assert "Nothing was changed." in said
    assert shown["approvals"] == []
    assert await stage.story.sandbox.digest() == world


@pytest.mark.row("person-already-disabled")
async def test_somebody_who_is_switched_off_already(stage: Stage) -> None:
    ticket, run, approval = await stage.ask("karel.novak@example.com")
    assert (await stage.decide(approval, approval["approvers"][0])).status_code == 200
    shown = await stage.story.end_of(run)
    assert shown["status"] == "done"
    assert "is already switched off" in await stage.comments(ticket)
    _, writes = await stage.story.sandbox.ledger()
    assert not [each for each in writes if each["target"] == "karel.novak@example.com"]


@pytest.mark.row("group-vanished")
async def test_a_group_that_vanishes_between_plan_and_change(stage: Stage) -> None:
    ticket, run, approval = await stage.ask("nguyen.thao@example.com")
    assert "Service Desk" in str(approval["plan"])
    (await stage.sandbox.delete("/sandbox/groups/Service Desk")).raise_for_status()
    assert (await stage.decide(approval, approval["approvers"][0])).status_code == 200
    assert (await stage.story.end_of(run))["status"] == "done"
    assert "already not a member" in await stage.comments(ticket)


@pytest.mark.row("group-refuses")
async def test_a_group_that_refuses_changes_of_its_members(stage: Stage) -> None:
    person = "lukasz.nowak@example.com"
    joining = {"group": "Tier 0 Administrators"}
    (await stage.sandbox.post(f"/sandbox/people/{person}/join", json=joining)).raise_for_status()
    ticket, run, approval = await stage.ask(person)
    assert (await stage.decide(approval, approval["approvers"][0])).status_code == 200
    shown = await stage.story.end_of(run)
    assert shown["status"] == "failed"
    assert shown["outcome"]["failure"]["message"].startswith("Offboarding stopped: ")
    said = await stage.comments(ticket)
    assert "answered 403" in said
    assert "enabled true -> false" in said, "what was done before it stopped is told"
    states = {effect["state"] for effect in shown["effects"]}
    assert states <= {"received", "unchanged", "failed"}, "nothing is left in doubt"


# --- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.row("approval-own-request")
async def test_an_approver_who_asked_for_it(stage: Stage) -> None:
    _, run, approval = await stage.ask("zoe.dubois@example.com", reporter="piet.devries@example.com")
    assert "piet.devries@example.com" not in approval["approvers"]
    answer = await stage.decide(approval, "piet.devries@example.com")
    assert_problem(answer, 403, "asked for this run and cannot approve it")
    assert (await stage.story.operator.get(f"/v1/runs/{run}"))["outcome"] is None
    assert (await stage.decide(approval, OFFICER, decision="refused")).status_code == 200
    await stage.story.end_of(run)


@pytest.mark.row("approval-not-asked")
async def test_somebody_who_was_not_asked(stage: Stage) -> None:
    _, run, approval = await stage.ask("zoe.dubois@example.com")
    assert_problem(await stage.decide(approval, "mehmet.yildiz@example.com"), 404, "There is no such approval.")
    token = {"decision": "approved", "plan_sha256": approval["plan_sha256"]}
    answer = await stage.api("POST", f"/v1/approvals/{approval['id']}/decision", json=token)
    assert_problem(answer, 403, "The operator's token cannot decide.")
    assert (await stage.decide(approval, approval["approvers"][0], decision="refused")).status_code == 200
    await stage.story.end_of(run)


@pytest.mark.row("approval-other-plan")
@pytest.mark.row("approval-twice")
async def test_another_plan_and_a_second_decision(stage: Stage) -> None:
    world = await stage.story.sandbox.digest()
    _, run, approval = await stage.ask("zoe.dubois@example.com")
    person = approval["approvers"][0]
    other = await stage.decide(approval, person, plan_sha256="0" * 64)
    assert_problem(other, 409, "The plan is another one than you saw.", "Look at it again, then decide.")
    assert (await stage.decide(approval, person, decision="refused")).status_code == 200
    await stage.story.end_of(run)
    again = await stage.decide(approval, person)
    assert_problem(again, 409, f"{person} has already decided this: refused")
    done = await stage.cli("approve", approval["id"], "--as", person, "--yes")
    assert done.returncode == 3
    assert "has already decided this" in done.stderr
    assert (await stage.story.operator.get(f"/v1/runs/{run}"))["status"] == "refused"
    assert await stage.story.sandbox.digest() == world


@pytest.mark.row("approval-too-late")
async def test_a_decision_after_the_time_is_over(stage: Stage) -> None:
    short = {"manager_answers_within": "1s", "officer_answers_within": "1s"}
    async with stage.tenant(settings={"identity": short}):
        # Not looked at while it is open: that may be over before anybody has looked.
        ticket, shown = await stage.open(employee="zoe.dubois@example.com")
    assert shown["status"] == "refused"
    [approval] = shown["approvals"]
    answer = await stage.decide(approval, approval["approvers"][0])
    assert_problem(answer, 409, "Nobody decided in time")
    assert "nobody who was asked has answered in time" in await stage.comments(ticket)


@pytest.mark.row("password-missing")
async def test_a_decision_without_a_password(stage: Stage) -> None:
    done = await stage.cli("approve", NOBODY, "--as", "nobody@example.com")
    assert done.returncode == 2
    assert "The password of nobody@example.com is needed." in done.stderr
    assert "REGIE_PASSWORD" in done.stderr


# --- vendors in trouble -----------------------------------------------------------------------------------------------


async def looked_up(stage: Stage) -> tuple[dict[str, Any], str]:
    """A run of the workflow that soon gives up; what is shown of it and what was said on its ticket."""
    world = await stage.story.sandbox.digest()
    ticket, shown = await stage.open(employee="jan.janssen@example.com", request_type="Onboarding")
    assert await stage.story.sandbox.digest() == world
    assert shown["effects"] == [] or {each["capability"] for each in shown["effects"]} == {"ticket.comment"}
    return shown, await stage.comments(ticket)


@pytest.mark.row("graph-down")
async def test_graph_stays_down(stage: Stage) -> None:
    async with stage.trouble(kind="status", status=503, path="^/graph/", times=100):
        shown, said = await looked_up(stage)
    assert (shown["status"], shown["outcome"]["failure"]["kind"]) == ("failed", "Unavailable")
    [step] = [each for each in shown["steps"] if each["place"] == "access"]
    assert step["attempt"] == 2
    assert "answered 503" in said
    assert "Nothing was changed." in said


@pytest.mark.row("graph-throttles")
async def test_graph_throttles_beyond_patience(stage: Stage) -> None:
    async with stage.trouble(kind="status", status=429, retry_after="1", path="^/graph/", times=100):
        shown, said = await looked_up(stage)
    assert (shown["status"], shown["outcome"]["failure"]["kind"]) == ("failed", "Throttled")
    assert "Nothing was changed." in said


@pytest.mark.row("jira-down-a-while")
async def test_jira_is_down_for_a_while(stage: Stage) -> None:
    async with stage.trouble(kind="status", status=503, path="^/jira/rest/api/3/issue/", times=2):
        shown, _ = await looked_up(stage)
    assert shown["status"] == "done"
    [step] = [each for each in shown["steps"] if each["place"] == "start"]
    assert step["attempt"] == 3


@pytest.mark.row("graph-forbidden")
async def test_graph_lacks_a_permission(stage: Stage) -> None:
    reader = (await stage.sandbox.get("/sandbox/credentials")).json()["graph_reader"]
    put(stage, "graph-reader", reader["client_secret"])
    async with stage.tenant(
        connections__graph__settings__client_id=reader["client_id"],
        connections__graph__secrets__client_secret="secret://identity/graph-reader",
    ):
        shown, said = await looked_up(stage)
    failure = shown["outcome"]["failure"]
    assert (shown["status"], failure["kind"]) == ("failed", "AuthFailed")
    assert "GroupMember.Read.All" in failure["hint"], "the operator is told which permission lacks"
    assert "answered 403" in said


@pytest.mark.row("secret-wrong")
async def test_a_secret_that_is_wrong_or_has_expired(stage: Stage) -> None:
    put(stage, "graph-old", "expired")
    async with stage.tenant(connections__graph__secrets__client_secret="secret://identity/graph-old"):
        shown, said = await looked_up(stage)
    failure = shown["outcome"]["failure"]
    assert (shown["status"], failure["kind"]) == ("failed", "AuthFailed")
    assert "Check the connection's client id, secret and scope." in failure["hint"]
    assert "expired" not in json.dumps(shown) + said


@pytest.mark.row("secret-missing")
async def test_a_secret_that_nobody_has_put(stage: Stage) -> None:
    async with stage.tenant(connections__graph__secrets__client_secret="secret://identity/graph-new"):
        shown, said = await looked_up(stage)
        done = await stage.cli("doctor")
    failure = shown["outcome"]["failure"]
    assert (shown["status"], failure["kind"]) == ("failed", "AuthFailed")
    assert failure["hint"] == "Put it: regie secret put --tenant example secret://identity/graph-new"
    assert "There is no secret" in said
    assert done.returncode == 1
    assert "regie secret put --tenant example secret://identity/graph-new" in done.stdout


@pytest.mark.row("webhook-secret-missing")
async def test_a_webhook_whose_secret_nobody_has_put(stage: Stage) -> None:
    before = await stage.mark()
    async with stage.tenant(connections__jira__secrets__webhook="secret://identity/hook-new"):
        answer = await stage.deliver(announcement("ITSM-1"))
    assert_problem(answer, 503, "This delivery cannot be checked now.")
    assert "secret" not in answer.text
    assert answer.headers["Retry-After"] == "60"
    assert await stage.mark() == before


def put(stage: Stage, name: str, value: str) -> None:
    keep_secrets(stage.settings.vault_file, "example", {SecretRef(domain="identity", name=name): value})


# --- afterwards -------------------------------------------------------------------------------------------------------


async def test_after_all_of_this_nothing_is_left_half_done(stage: Stage) -> None:
    """Runs last: no run is stuck, no approval open, every chain of the audit log is whole."""
    story: Story = stage.story
    rows = await story.operator.every("/v1/runs", 10_000)
    assert len(rows) > 15
    assert {row["status"] for row in rows} <= {"done", "refused", "failed"}
    assert await story.operator.every("/v1/approvals", 1000, status="open") == []
    logs = await asyncio.gather(*(story.operator.get(f"/v1/runs/{row['id']}/audit") for row in rows))
    assert [log["faults"] for log in logs if log["faults"]] == []
    assert (await stage.cli("doctor")).returncode == 0
