from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from regie import connectors
from regie.core.audit import Event
from regie.core.errors import AuthFailed, RegieError, Throttled, Unavailable
from regie.core.tenant import Connection, SecretRef
from regie.gateway.app import make_gateway
from regie.gateway.identify import WEB, Callers
from regie.gateway.vault import VaultFile
from regie.gateway_client import GatewayClient
from regie.kit.discovery import connectors_in
from regie.store import releases, run_lists, runs
from regie.store.audit import Leaf
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.sealer import Sealer
from regie.web.app import make_web
from tests.leaves import read_outside

from .stage import LOCAL, OFFBOARD, OPERATOR, TOKEN, FakeGateway, Stage, make_release, ticket_created

pytestmark = pytest.mark.slow

GOOD = {"X-Hub-Signature": "good"}


async def deliver(stage: Stage, event: dict[str, Any], where: str = "acme/jira", **headers: str) -> httpx2.Response:
    return await stage.http.post(f"/v1/inbound/{where}", json=event, headers={**GOOD, **headers})


async def refusals(stage: Stage, domain: str) -> list[Leaf]:
    async with stage.database.reading() as tx:
        leaves = await read_outside(tx, "acme", domain)
    return [leaf for leaf in leaves if leaf.event is Event.TRIGGER_REFUSED]


async def test_a_new_ticket_starts_every_workflow_that_waits_for_it(stage: Stage) -> None:
    answer = await deliver(stage, ticket_created())
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["accepted"] is True
    assert [(run["workflow"], run["is_new"]) for run in accepted["runs"]] == [("hr.leave", True), (OFFBOARD, True)]
    async with stage.database.reading() as tx:
        stored = {row.key.run: row for row in await run_lists.list_runs(tx)}
    assert stored.keys() == {run["id"] for run in accepted["runs"]}
    for row in stored.values():
        assert (row.key.tenant, row.ticket, row.started_by.type, row.started_by.id) == (
            "acme",
            "ITSM-1",
            "ticket_system",
            "jira",
        )


async def test_what_was_sent_reaches_the_gateway_unchanged(stage: Stage) -> None:
    body = b' {"kind": "ignored",\t"reason": "\xc3\xa9\\u00e9"} \n'
    sent_headers = [(b"X-Hub-Signature", b"good"), (b"X-Vendor", "café".encode())]
    answer = await stage.http.post("/v1/inbound/acme/jira?x=1", content=body, headers=sent_headers)
    assert answer.json() == {"accepted": False, "reason": "éé"}
    [(tenant, connection, sent, headers)] = stage.gateway.seen
    assert (tenant, connection, sent) == ("acme", "jira", body)
    assert headers["x-vendor"].encode("latin-1") == "café".encode()


async def test_the_same_ticket_never_starts_twice_even_under_another_delivery(stage: Stage) -> None:
    first = (await deliver(stage, ticket_created(), **{"X-Delivery": "d-1"})).json()["runs"]
    for delivery in ("d-1", "d-2"):
        again = (await deliver(stage, ticket_created(), **{"X-Delivery": delivery})).json()["runs"]
        assert [run["id"] for run in again] == [run["id"] for run in first]
        assert not any(run["is_new"] for run in again)
    assert await stage.count_runs() == 2
    other = (await deliver(stage, ticket_created("ITSM-2"))).json()["runs"]
    assert all(run["is_new"] for run in other)


async def test_identical_deliveries_at_once_start_one_run(stage: Stage) -> None:
    answers = await asyncio.gather(*(deliver(stage, ticket_created(), "umbrella/jira") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    started = [run for answer in answers for run in answer.json()["runs"]]
    assert len({run["id"] for run in started}) == 1
    assert sum(run["is_new"] for run in started) == 1
    assert await stage.count_runs() == 1


async def test_tenants_do_not_share_triggers(stage: Stage) -> None:
    await deliver(stage, ticket_created(), "umbrella/jira")
    answer = await deliver(stage, ticket_created())
    assert all(run["is_new"] for run in answer.json()["runs"])


async def test_only_domains_that_may_use_the_connection_are_started(stage: Stage) -> None:
    stage.gateway.domains = ("identity",)
    answer = await deliver(stage, ticket_created(), "acme/narrow")
    assert [run["workflow"] for run in answer.json()["runs"]] == [OFFBOARD]


@pytest.mark.parametrize(
    ("where", "more"),
    [
        ("acme/jira", {"project": "OTHER"}),
        ("acme/jira", {"request_type": "offboarding"}),
        ("acme/jira", {"request_type": ""}),
        ("acme/jira", {"request_type": "Invoice"}),
        ("acme/other", {}),
    ],
    ids=["other project", "other case", "no request type", "a domain the tenant lacks", "other connector"],
)
async def test_a_ticket_nothing_waits_for_is_refused_and_noted(stage: Stage, where: str, more: dict[str, str]) -> None:
    answer = await deliver(stage, ticket_created(**more), where)
    assert answer.status_code == 202
    assert answer.json() == {"accepted": False, "reason": "no workflow starts with this kind of ticket"}
    assert await stage.count_runs() == 0
    for domain in ("identity", "hr"):
        [leaf] = await refusals(stage, domain)
        assert leaf.fields["reason"] == "no_workflow"
        assert str(leaf.fields["trigger"]).endswith(":jira:issue_created:ITSM-1")
        assert "run" not in leaf.fields


async def test_what_the_connector_ignores_leaves_nothing(stage: Stage) -> None:
    answer = await deliver(stage, {"kind": "ignored", "event": "jira:issue_updated", "reason": "only new issues"})
    assert (answer.status_code, answer.json()) == (202, {"accepted": False, "reason": "only new issues"})
    assert await refusals(stage, "identity") == []
    assert await stage.count_runs() == 0


async def test_a_forged_delivery_is_refused_without_saying_why(stage: Stage) -> None:
    answer = await deliver(stage, ticket_created(), **{"X-Hub-Signature": "forged"})
    assert answer.status_code == 403
    assert answer.json()["detail"] == "This delivery was not found genuine."
    assert await stage.count_runs() == 0


async def test_unknown_tenant_and_unknown_connection_look_alike(stage: Stage) -> None:
    answers = [
        await deliver(stage, ticket_created(), where)
        for where in ("nobody/jira", "acme/nothing", "ACME/jira", "%2e%2e/jira", "acme/jira%00")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert stage.gateway.seen == []


async def test_a_genuine_delivery_that_cannot_be_read_is_the_senders_fault(stage: Stage) -> None:
    answer = await stage.http.post("/v1/inbound/acme/jira", content=b"{", headers=GOOD)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (Unavailable("The gateway does not answer."), 503, "5"),
        (Throttled("Slow down.", after_s=6.2), 429, "7"),
        (AuthFailed("The secret is not in the vault: secret://identity/webhook"), 503, "60"),
        (RegieError("The gateway answers only callers with a token."), 503, "60"),
    ],
)
async def test_what_is_not_the_senders_fault_is_delivered_again(
    stage: Stage, error: RegieError, status: int, after: str
) -> None:
    stage.gateway.error = error
    answer = await deliver(stage, ticket_created())
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, after)
    assert "secret://" not in answer.text
    assert await stage.count_runs() == 0


async def test_without_a_release_it_is_delivered_again(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/inbound/acme/jira", json=ticket_created(), headers=GOOD)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


async def test_without_a_database_it_is_delivered_again(stage: Stage, web_database: Database) -> None:
    await web_database.close()
    answer = await deliver(stage, ticket_created())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_body_that_is_packed_or_too_large_is_not_read(stage: Stage) -> None:
    where = "/v1/inbound/acme/jira"
    packed = await stage.http.post(where, content=gzip.compress(b"{}"), headers={**GOOD, "Content-Encoding": "gzip"})
    assert packed.status_code == 415
    large = await stage.http.post(where, content=b"x" * (1024 * 1024 + 1), headers=GOOD)
    assert large.status_code == 413
    assert stage.gateway.seen == []
    fitting = await stage.http.post(where, content=b"x" * (1024 * 1024), headers=GOOD)
    assert fitting.status_code == 422
    assert len(stage.gateway.seen[0][2]) == 1024 * 1024


async def test_a_ticket_that_cannot_be_stored_is_refused(stage: Stage) -> None:
    answer = await deliver(stage, ticket_created("ITSM-\u0000"))
    assert answer.status_code == 422
    assert await stage.count_runs() == 0


async def test_a_jira_webhook_through_the_real_gateway(database: Database, sealer: Sealer, tmp_path: Path) -> None:
    secret, token = "geheim", "web-token"
    jira = Connection.model_validate(
        {
            "connector": "jira",
            "domains": ["identity"],
            "settings": {"site": "https://example.atlassian.net", "email": "regie@example.com"},
            "secrets": {"api_token": "secret://identity/jira", "webhook": "secret://identity/hook"},
        }
    )
    release = make_release()
    acme = release.tenants["acme"].model_copy(update={"connections": {"jira": jira}})
    release = release.model_copy(update={"tenants": {"acme": acme}})
    async with database.transaction() as tx:
        await releases.put(tx, release, by=OPERATOR)
    vault = VaultFile.create(tmp_path / "vault")
    vault.put("acme", SecretRef(domain="identity", name="hook"), secret)
    real = make_gateway(database, vault, Callers(lambda: {WEB: token}), connectors=connectors_in(connectors))
    gateway = GatewayClient("http://gateway", token, transport=httpx2.ASGITransport(real))
    web = make_web(database, gateway, operator_token=TOKEN, ways_in=LOCAL)
    issue = {
        "key": "ITSM-7",
        "fields": {
            "summary": "Offboard Zoë 王",
            "project": {"key": "ITSM"},
            "status": {"name": "Open", "statusCategory": {"key": "new"}},
            "customfield_10010": {"requestType": {"name": "Offboarding"}},
        },
    }
    body = json.dumps({"webhookEvent": "jira:issue_created", "issue": issue}, ensure_ascii=False).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature": signature, "X-Atlassian-Webhook-Identifier": "1-2-3"}
    async with gateway, httpx2.AsyncClient(transport=httpx2.ASGITransport(web), base_url="http://web") as http:
        forged = await http.post("/v1/inbound/acme/jira", content=body + b" ", headers=headers)
        assert forged.status_code == 403
        answer = await http.post("/v1/inbound/acme/jira", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
        [run] = answer.json()["runs"]
        assert (await http.get("/health")).json() == {"status": "ok", "database": True, "gateway": True}
    async with database.reading() as tx:
        row = await runs.get(tx, RunKey("acme", "identity", run["id"]))
    assert row is not None
    assert row.ticket == "ITSM-7"


async def test_the_health_of_database_and_gateway(stage: Stage, web_database: Database, gateway: FakeGateway) -> None:
    assert (await stage.http.get("/health")).json() == {"status": "ok", "database": True, "gateway": True}
    gateway.error = Unavailable("The gateway does not answer.")
    answer = await stage.http.get("/health")
    assert answer.status_code == 503
    assert {"database": True, "gateway": False}.items() <= answer.json().items()
    await web_database.close()
    answer = await stage.http.get("/health")
    assert {"database": False, "gateway": False, "kind": "Unavailable"}.items() <= answer.json().items()
