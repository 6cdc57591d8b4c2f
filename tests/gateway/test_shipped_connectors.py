"""The shipped connectors through the gateway, against the imaginary world: planned, approved, done once, and again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from regie.core.capabilities import identity, message, ticket
from regie.core.capability import Capability, Record
from regie.core.definition import Definition
from regie.core.errors import InvalidInput, RegieError, Throttled, Unavailable
from regie.core.plan import Change
from regie.core.tenant import Connection, SecretRef
from regie.crashpoints import CrashPoint, arm
from regie.gateway.app import make_gateway
from regie.gateway.identify import Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.gateway_client import ApplyAnswer
from regie.store import accounts, approvals, releases, workers
from regie.store.database import Database
from regie.web.app import make_web
from regie_sandbox import chat, seed
from regie_sandbox.app import close, make_app
from regie_sandbox.rules import Rules, Window

from .conftest import alive, client_of
from .stage import BLOCKS, OPERATOR, Run, Stage, release_of, step
from .vendor import Vendor

pytestmark = pytest.mark.slow

JAN = identity.UserQuery(user="jan.janssen@example.com")
WORLD = "http://world.example"
SECRETS = {
    SecretRef(domain="identity", name="jira-token"): seed.JIRA_ACCOUNT.api_token,
    SecretRef(domain="identity", name="jira-webhook"): "webhook-secret",
    SecretRef(domain="identity", name="graph-client"): seed.REGIE_APP.client_secret,
    SecretRef(domain="identity", name="slack-bot"): chat.REGIE_APP.bot_token,
    SecretRef(domain="identity", name="slack-signing"): chat.REGIE_APP.signing_secret,
}
JIRA_TOKEN, WEBHOOK, GRAPH_SECRET, SLACK_BOT, SLACK_SIGNING = SECRETS
CONNECTIONS = {
    "jira": Connection(
        connector="jira",
        domains=("identity",),
        settings={
            "site": f"{WORLD}/jira",
            "email": seed.JIRA_ACCOUNT.email,
            "fields": {"employee": seed.EMPLOYEE_FIELD},
            "closing_transitions": ["Start progress", "Resolve"],
        },
        secrets={"api_token": JIRA_TOKEN, "webhook": WEBHOOK},
    ),
    "graph": Connection(
        connector="graph",
        domains=("identity",),
        settings={
            "address": f"{WORLD}/graph/v1.0",
            "token_url": f"{WORLD}/login/{seed.TENANT_ID}/oauth2/v2.0/token",
            "client_id": seed.REGIE_APP.client_id,
        },
        secrets={"client_secret": GRAPH_SECRET},
    ),
    "slack": Connection(
        connector="slack",
        domains=("identity",),
        settings={
            "address": f"{WORLD}/slack/api",
            "workspace": chat.TEAM,
            "app": chat.REGIE_APP.id,
            "channels": {"certificates": "C0CERTIFIC"},
            "decides": True,
        },
        secrets={"bot_token": SLACK_BOT, "signing_secret": SLACK_SIGNING},
        # What is shown here is what is told, not how slowly.
        limits={"tier-3": 5_000, "tier-4": 5_000, "channel": 100},
    ),
}
DEFINITION = Definition(
    workflow="identity.offboard_employee",
    title="Offboard",
    owner="team:implementation",
    steps=(
        step("look", "identity.list_access"),
        step("approval", "people.approve", arguments={"covers": ["disable"]}),
        step("disable", "identity.disable_account"),
        step("revoke", "identity.revoke_sessions"),
        step("leave", "identity.remove_from_group"),
        step("say", "ticket.comment"),
        step("finish", "ticket.close"),
        step("open", "ticket.open"),
        step("update", "ticket.update"),
        step("tell", "message.send"),
        step("tell_again", "message.send"),
    ),
)


RULES = Rules(
    graph_revoke_delay_seconds=0.05,
    jira_index_delay_seconds=0,
    slack_channel=Window(limit=100, seconds=1),
    slack_tier_calls_per_minute={3: 5_000, 4: 5_000},
)


class Killed(BaseException):
    """Ends everything, as SIGKILL would; nothing in the gateway may catch it."""


def kill() -> None:
    raise Killed


class Outside:
    """The imaginary world, and the hand above it."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def ticket(self) -> str:
        body = {"reporter": "piet.devries@example.com", "employee": JAN.user, "last_day": "2026-11-30"}
        answer = await self.http.post("/sandbox/tickets", json=body)
        return str(answer.json()["key"])

    async def writes(self) -> int:
        return len((await self.http.get("/sandbox/ledger")).json()["entries"])

    async def messages(self) -> list[dict[str, Any]]:
        """What stands in the chat, oldest first."""
        return list((await self.http.get("/sandbox/world")).json()["messages"])

    async def turn(self, **rules: Any) -> None:
        answer = await self.http.patch("/sandbox/rules", json=rules)
        assert answer.status_code == 200, answer.text

    async def fault(self, **fault: Any) -> None:
        answer = await self.http.post("/sandbox/faults", json=fault)
        assert answer.status_code == 201, answer.text


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[httpx2.AsyncBaseTransport]:
    app = make_app(tmp_path / "world", rules=RULES)
    yield httpx2.ASGITransport(app)
    await close(app)


@pytest.fixture
async def outside(world: httpx2.AsyncBaseTransport) -> AsyncIterator[Outside]:
    async with httpx2.AsyncClient(transport=world, base_url=WORLD) as http:
        yield Outside(http)


@pytest.fixture
async def stage(
    database: Database, tmp_path: Path, tokens: dict[str, str], world: httpx2.AsyncBaseTransport
) -> AsyncIterator[Stage]:
    vault = VaultFile.create(tmp_path / "vault")
    for reference, value in SECRETS.items():
        vault.put("acme", reference, value)
        vault.put("globex", reference, value)
    more = {name: (name,) for name in ("ticket.close", "ticket.update", "message.send")}
    release = release_of(CONNECTIONS, DEFINITION, {**BLOCKS, **more})
    async with database.transaction() as tx:
        await releases.put(tx, release, by=OPERATOR)
    gateway = make_gateway(
        database, vault, Callers(lambda: tokens), transport_for=lambda address: world, rereads_s=(0.05, 0.1)
    )
    async with (
        alive(gateway),
        client_of(gateway, tokens[worker_of("identity")]) as client,
        client_of(gateway, tokens["web"]) as web,
        workers.registered(database, name="test", domains=["identity"]) as worker,
    ):
        yield Stage(database, client, Vendor(), worker.id, client, web)


async def settle(
    stage: Stage, run: Run, place: str, capability: Capability[Any, Any], want: Record
) -> ApplyAnswer[Any]:
    """Ask until it is not pending any more, as an engine does."""
    answer = await stage.client.apply(run.at(place), capability, want)
    async with asyncio.timeout(20):
        while answer.state == "pending":
            await asyncio.sleep(0.05)
            answer = await stage.client.apply(run.at(place), capability, want, answer.handle)
    return answer


async def offboard(stage: Stage, key: str) -> list[str]:
    """All of it for one ticket; how each step went."""
    run = await stage.start(ticket=key)
    access = await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)
    planned = (await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)).planned
    run = await stage.ask(run, [("disable", planned)])
    went: list[str] = [(await settle(stage, run, "disable", identity.DISABLE_ACCOUNT, JAN)).state]
    went.append((await settle(stage, run, "revoke", identity.REVOKE_SESSIONS, JAN)).state)
    if access.groups:
        membership = identity.Membership(user=JAN.user, group=access.groups[0].id)
        went.append((await settle(stage, run, "leave", identity.REMOVE_FROM_GROUP, membership)).state)
    said = ticket.Comment(ticket=key, text="Done.")
    went.append((await settle(stage, run, "say", ticket.COMMENT, said)).state)
    went.append((await settle(stage, run, "finish", ticket.CLOSE, ticket.Closing(ticket=key))).state)
    assert set(await run.leaves()) <= {"effect:intended", "effect:received", "effect:unchanged"}
    return went


async def test_a_person_is_offboarded_and_the_same_ticket_again_changes_nothing(stage: Stage, outside: Outside) -> None:
    key = await outside.ticket()

    assert await offboard(stage, key) == ["received"] * 5
    written = await outside.writes()
    again = await offboard(stage, key)

    # The second run takes the person out of one more group; everything else is as wanted.
    assert again == ["unchanged", "unchanged", "received", "unchanged", "unchanged"]
    assert await outside.writes() == written + 1


@pytest.mark.parametrize("kind", ["cut", "cut-after", "status", "status-after", "garbage"])
async def test_a_connection_cut_in_a_write_neither_loses_nor_doubles_it(
    stage: Stage, outside: Outside, kind: str
) -> None:
    key = await outside.ticket()
    run = await stage.start(ticket=key)
    said = ticket.Comment(ticket=key, text="Hello")
    before = await outside.writes()
    await outside.fault(kind=kind, method="POST", path="comment", status=500)

    try:
        answer = await stage.client.apply(run.at("say"), ticket.COMMENT, said)
    except Unavailable:
        answer = await stage.client.apply((await stage.pass_on(run)).at("say"), ticket.COMMENT, said)

    assert answer.state == "received"
    assert await outside.writes() == before + 1


async def test_a_throttled_write_is_tried_later_and_done_once(stage: Stage, outside: Outside) -> None:
    run = await stage.start(dry=True)
    planned = (await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)).planned
    assert isinstance(planned, Change)
    assert planned.in_words() == "Jan Janssen (jan.janssen@example.com): enabled true -> false"
    run = await stage.ask(await stage.start(), [("disable", planned)])
    await outside.fault(kind="status", status=429, method="PATCH", path="/graph/v1.0/users", retry_after="1")
    before = await outside.writes()

    with pytest.raises(Throttled) as caught:
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    assert caught.value.after_s == 1
    async with asyncio.timeout(10):
        while True:
            try:
                answer = await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
                break
            except Throttled as error:
                await asyncio.sleep(error.after_s or 0)

    assert answer.state == "received"
    assert await outside.writes() == before + 1


EXPIRES = message.NewMessage(to="certificates", text="www expires in 7 days", key="www 2026")
TICKET = ticket.NewTicket(queue="ITSM", title="www expires", text="In 30 days.", priority="Low", key="www 2026")


@pytest.mark.parametrize(
    ("place", "capability", "want"),
    [("tell", message.SEND, EXPIRES), ("open", ticket.OPEN, TICKET)],
    ids=["message.send", "ticket.open"],
)
async def test_five_runs_about_one_thing_make_one_object(
    stage: Stage, outside: Outside, place: str, capability: Capability[Any, Any], want: Record
) -> None:
    went, outputs = [], []
    for _ in range(5):
        before = await outside.writes()
        answer = await settle(stage, await stage.start(), place, capability, want)
        went.append((answer.state, await outside.writes() - before))
        outputs.append(answer.output)
    assert went == [("received", 1), *[("unchanged", 0)] * 4]
    assert len({each.model_dump_json() for each in outputs if each is not None}) == 1


async def test_without_a_key_each_run_tells_once_and_a_repeat_of_its_step_never_again(
    stage: Stage, outside: Outside
) -> None:
    want = message.NewMessage(to="certificates", text="Hello")
    for _ in range(2):
        run = await stage.start()
        for _ in range(3):
            assert (await settle(stage, run, "tell", message.SEND, want)).state == "received"
    assert len(await outside.messages()) == 2


async def test_what_has_a_key_is_kept_current(stage: Stage, outside: Outside) -> None:
    first = await settle(stage, await stage.start(), "tell", message.SEND, EXPIRES)
    later = EXPIRES.model_copy(update={"text": "www has expired", "link": "https://regie.example.com/runs/7"})
    second = await settle(stage, await stage.start(), "tell", message.SEND, later)
    assert (second.state, second.output) == ("received", first.output)
    [found] = await outside.messages()
    assert found["text"] == "www has expired\n<https://regie.example.com/runs/7>"

    opened = await settle(stage, await stage.start(), "open", ticket.OPEN, TICKET)
    assert opened.output is not None
    new = ticket.TicketUpdate(ticket=opened.output.ticket, title="www expires soon", text="In 7 days.", priority="High")
    for state in ("received", "unchanged"):
        assert (await settle(stage, await stage.start(), "update", ticket.UPDATE, new)).state == state
    tickets = (await outside.http.get("/sandbox/world")).json()["tickets"]
    assert [(each["summary"], each["priority"]) for each in tickets] == [("www expires soon", "High")]


async def test_another_customer_with_the_same_key_gets_its_own(stage: Stage, outside: Outside) -> None:
    for tenant in ("acme", "globex"):
        answer = await settle(stage, await stage.start(tenant=tenant), "tell", message.SEND, EXPIRES)
        assert answer.state == "received"
    assert len(await outside.messages()) == 2


@pytest.mark.parametrize("at_once", [1, 4])
async def test_runs_that_meet_while_search_is_late_still_open_one_ticket(
    stage: Stage, outside: Outside, at_once: int
) -> None:
    """Jira shows a new issue to search seconds after it was made; who asks meanwhile waits and looks again."""
    await outside.turn(jira_index_delay_seconds=1.5)
    runs = [await stage.start() for _ in range(at_once + 1)]
    first = await settle(stage, runs[0], "open", ticket.OPEN, TICKET)
    others = await asyncio.gather(*(settle(stage, run, "open", ticket.OPEN, TICKET) for run in runs[1:]))
    assert [each.state for each in others] == ["unchanged"] * at_once
    assert {each.output.ticket for each in (first, *others) if each.output} == {"ITSM-1"}
    assert await outside.writes() == 1


TO_A_PERSON = message.NewMessage(to="zoe.dubois@example.com", text="Hello")


@pytest.mark.parametrize("point", [CrashPoint.AFTER_INTENT, CrashPoint.AFTER_EFFECT, CrashPoint.BEFORE_RECEIPT])
@pytest.mark.parametrize("is_passed_on", [False, True])
async def test_a_message_is_sent_once_wherever_the_gateway_dies(
    stage: Stage, outside: Outside, point: CrashPoint, *, is_passed_on: bool
) -> None:
    run = await stage.start()
    arm(point, end=kill)
    with pytest.raises(Killed):
        await stage.client.apply(run.at("tell"), message.SEND, EXPIRES)
    if is_passed_on:
        run = await stage.pass_on(run)
    assert (await settle(stage, run, "tell", message.SEND, EXPIRES)).state == "received"
    assert await outside.writes() == 1


@pytest.mark.parametrize("kind", ["cut", "cut-after"])
@pytest.mark.parametrize("want", [EXPIRES, TO_A_PERSON], ids=["with-a-key", "to-a-person"])
async def test_a_message_that_is_cut_off_is_neither_lost_nor_doubled(
    stage: Stage, outside: Outside, kind: str, want: Record
) -> None:
    await outside.turn(slack_history_delay_seconds=0.1)
    run = await stage.start()
    await outside.fault(kind=kind, method="POST", path="chat.postMessage", status=500)
    try:
        answer = await settle(stage, run, "tell", message.SEND, want)
    except Unavailable:
        answer = await settle(stage, await stage.pass_on(run), "tell", message.SEND, want)
    assert answer.state == "received"
    assert await outside.writes() == 1


async def test_a_ticket_with_a_key_whose_answer_was_lost_is_found_again(stage: Stage, outside: Outside) -> None:
    await outside.turn(jira_index_delay_seconds=0.3)
    await outside.fault(kind="cut-after", method="POST", path="api/3/issue$")
    answer = await settle(stage, await stage.start(), "open", ticket.OPEN, TICKET)
    assert answer.state == "received"
    assert await outside.writes() == 1


async def test_the_secrets_of_a_chat_are_nowhere_in_what_it_answers(stage: Stage, outside: Outside) -> None:
    vault = chat.REGIE_APP.bot_token
    await outside.fault(kind="status", method="POST", path="chat.postMessage", status=403)
    with pytest.raises(RegieError) as caught:
        await settle(stage, await stage.start(), "tell", message.SEND, EXPIRES)
    assert vault not in str(caught.value)
    assert await outside.messages() == []


OFFICER = "ingrid.larsen@example.com"


class Chat:
    """The imaginary chat in front of a real web: what people press goes out signed, and is brought in by hand."""

    def __init__(self, stage: Stage, outside: Outside) -> None:
        self.stage, self.outside = stage, outside
        self.web = httpx2.ASGITransport(make_web(stage.database, stage.web, operator_token="not-used"))

    async def press(self, who: str, action: str = "regie_approve") -> dict[str, Any]:
        """Press a button of the newest message; the request as Slack sends it."""
        # Nobody listens there: what goes out is taken from the answer, and brought to the web by hand.
        await self.outside.http.put("/sandbox/slack/interactivity", json={"url": "http://127.0.0.1:9/"})
        newest = (await self.outside.messages())[-1]["id"]
        given = {"who": who, "message": newest, "action": action}
        answer = await self.outside.http.post("/sandbox/slack/press", json=given)
        assert answer.status_code == 200, answer.text
        sent: dict[str, Any] = answer.json()["sent"]
        return sent

    async def deliver(self, sent: dict[str, Any], **headers: str) -> int:
        async with httpx2.AsyncClient(transport=self.web, base_url="http://web") as http:
            answer = await http.post(
                "/v1/inbound/acme/slack", content=sent["body"].encode(), headers={**sent["headers"], **headers}
            )
        return answer.status_code

    async def decided(self, run: Run) -> tuple[str, str | None]:
        async with self.stage.database.reading() as tx:
            [found] = await approvals.of_run(tx, run.key)
        return found.status, found.decided_by


@pytest.fixture
async def chat_room(stage: Stage, outside: Outside) -> Chat:
    async with stage.database.transaction() as tx:
        await accounts.add(
            tx, address=OFFICER, display_name="Ingrid Larsen", password="long enough", roles=(), by=OPERATOR
        )
    return Chat(stage, outside)


async def asked_in_chat(stage: Stage) -> Run:
    """A run that waits for the officer, who is told so with buttons."""
    run = await stage.start()
    planned = (await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN, covers_for="approval")).planned
    run = await stage.ask(run, [("disable", planned)], decision=None, approvers=(OFFICER,))
    want = message.NewMessage(to=OFFICER, text="Switch Jan off?", key="ask", approval="approval")
    assert (await settle(stage, run, "tell", message.SEND, want)).state == "received"
    return run


@pytest.mark.parametrize(("action", "status"), [("regie_approve", "approved"), ("regie_refuse", "refused")])
async def test_an_approver_decides_with_a_button(
    stage: Stage, outside: Outside, chat_room: Chat, action: str, status: str
) -> None:
    run = await asked_in_chat(stage)
    sent = await chat_room.press(OFFICER, action)
    assert await chat_room.deliver(sent) == 200
    assert await chat_room.decided(run) == (status, OFFICER)
    # The same bytes once more, and what somebody would make of them.
    assert await chat_room.deliver(sent) == 200
    assert await chat_room.deliver({**sent, "body": sent["body"].replace("regie_", "regiE_")}) == 403
    assert await chat_room.deliver(sent, **{"X-Slack-Request-Timestamp": "1531420618"}) == 403
    assert await chat_room.decided(run) == (status, OFFICER)

    # The run goes on and says so: the buttons are gone.
    done = message.NewMessage(to=OFFICER, text="Decided.", key="ask")
    assert (await settle(stage, run, "tell_again", message.SEND, done)).state == "received"
    assert [each["blocks"] for each in await outside.messages()] == [[]]
    # A repeat of the step that asked still means what it meant.
    again = message.NewMessage(to=OFFICER, text="Switch Jan off?", key="ask", approval="approval")
    assert (await settle(stage, await stage.pass_on(run), "tell", message.SEND, again)).state == "received"
    assert len(await outside.messages()) == 1


@pytest.mark.parametrize("who", ["stranger", "zoe.dubois@example.com", chat.GUEST, chat.UNCONFIRMED])
async def test_nobody_else_decides_with_a_button(stage: Stage, outside: Outside, chat_room: Chat, who: str) -> None:
    """The stranger is of another workspace, and says there to have the officer's address."""
    run = await asked_in_chat(stage)
    assert await chat_room.deliver(await chat_room.press(who)) == 200
    assert await chat_room.decided(run) == ("open", None)


async def test_a_message_asks_for_an_approval_that_is_there(stage: Stage, outside: Outside) -> None:
    want = message.NewMessage(to="certificates", text="Yes?", approval="approval")
    run = await stage.start()
    with pytest.raises(Unavailable, match="Nobody has been asked"):
        await stage.client.apply(run.at("tell"), message.SEND, want)
    with pytest.raises(InvalidInput, match="no approval 'disable'"):
        await stage.client.apply(run.at("tell"), message.SEND, want.model_copy(update={"approval": "disable"}))
    assert await outside.messages() == []
