"""An imaginary vendor for the gateway's tests, with a connector for it: every class of repeating, every failure."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import httpx2
from pydantic import JsonValue

from regie.core.capabilities import identity, ticket
from regie.core.effect import Repeat
from regie.core.plan import Change, NoChange, Pending, Receipt
from regie.kit.connector import Connector, Read, Seen, Write, provides
from regie.kit.discovery import Found
from regie.kit.inbound import InboundEvent, SignedBody, announced_as
from regie.kit.manifest import ClientCredentials, Manifest, Quality, Setting
from regie.kit.session import Wild

Answer = Callable[[httpx2.Request, Callable[[], httpx2.Response]], httpx2.Response]
"""What the vendor does with a write: given the request and the deed, which a fault may leave out."""

CANARY = "canary-2b7e151628aed2a6"
TOKEN_CANARY = "canary-token-abf7158809cf4f3c"
WEBHOOK_CANARY = "canary-webhook-762e7160f38b4da5"


class Vendor:
    """The outside world: accounts, comments, revocations, memberships."""

    def __init__(self) -> None:
        self.enabled = {"jan@example.com": True, "eva@example.com": True}
        self.comments: list[dict[str, Any]] = []
        self.members: set[str] = set()
        self.groups: list[str] = []
        self.joining: dict[str, int] = {}
        self.polls_until_joined = 2
        self.writes: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.faults: list[Answer] = []
        self.read_faults: list[Callable[[httpx2.Request], httpx2.Response]] = []
        self.stale_reads = 0
        self.hidden_reads = 0
        self.at_once = 0
        self.door = asyncio.Event()
        self.door.set()
        self.tokens_issued = 0
        self.on_read: Callable[[httpx2.Request], Awaitable[None]] | None = None
        self.after_write: Callable[[], object] = lambda: None

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(0)
        if request.url.path == "/token":
            self.tokens_issued += 1
            assert CANARY in request.content.decode()
            return httpx2.Response(200, json={"access_token": TOKEN_CANARY, "expires_in": 3600})
        if request.headers["Authorization"] != f"Bearer {TOKEN_CANARY}":
            return httpx2.Response(401)
        if request.method == "GET":
            self.reads[request.url.path] += 1
            hook, self.on_read = self.on_read, None
            if hook:
                await hook(request)
            return self.read_faults.pop(0)(request) if self.read_faults else self._read(request.url.path)
        self.at_once += 1
        try:
            await self.door.wait()
            answer = self.faults.pop(0) if self.faults else _as_asked
            return answer(request, lambda: self._write(request))
        finally:
            self.at_once -= 1

    def _read(self, path: str) -> httpx2.Response:
        _, kind, name = path.split("/")
        match kind:
            case "users" if name in self.enabled:
                stale = self.stale_reads > 0
                self.stale_reads -= stale
                groups = {"groups": self.groups} if self.groups else {}
                return httpx2.Response(200, json={"user": name, "enabled": self.enabled[name] or stale, **groups})
            case "comments":
                hidden = self.hidden_reads > 0
                self.hidden_reads -= hidden
                return httpx2.Response(
                    200, json=[each for each in self.comments if each["ticket"] == name and not hidden]
                )
            case "members":
                left = self.joining.get(name, 0)
                if left:
                    self.joining[name] = left - 1
                    if left == 1:
                        self.members.add(name)
                return httpx2.Response(200, json={"member": name in self.members})
        return httpx2.Response(404)

    def _write(self, request: httpx2.Request) -> httpx2.Response:
        _, kind, name = request.url.path.split("/")
        self.writes[f"{kind}/{name}"] += 1
        body: dict[str, Any] = json.loads(request.content) if request.content else {}
        match kind:
            case "users":
                self.enabled[name] = body["enabled"]
            case "comments":
                self.comments.append({**body, "ticket": name})
            case "members":
                self.joining[name] = self.polls_until_joined
        self.after_write()
        return httpx2.Response(200, json={}, headers={"request-id": f"req-{sum(self.writes.values())}"})


def _as_asked(request: httpx2.Request, deed: Callable[[], httpx2.Response]) -> httpx2.Response:
    return deed()


def answers(status: int, **headers: str) -> Answer:
    """The vendor says no, and does nothing."""
    return lambda request, deed: httpx2.Response(status, json={"error": {"code": "No"}}, headers=headers)


def dies_before(request: httpx2.Request, deed: Callable[[], httpx2.Response]) -> httpx2.Response:
    """The vendor's answer never comes, and nothing was done."""
    raise httpx2.ReadTimeout(f"nothing came {CANARY}", request=request)


def dies_after(request: httpx2.Request, deed: Callable[[], httpx2.Response]) -> httpx2.Response:
    """The vendor's answer never comes, and the deed was done."""
    deed()
    raise httpx2.ReadTimeout(f"nothing came {CANARY}", request=request)


def busy_after(request: httpx2.Request, deed: Callable[[], httpx2.Response]) -> httpx2.Response:
    """The vendor asks for time, and the deed was done."""
    deed()
    return httpx2.Response(503, headers={"retry-after": "7"})


class _Switch(Write[identity.UserQuery, identity.AccountState]):
    repeat = Repeat.OBSERVABLE
    on: ClassVar[bool]

    async def observe(self, want: identity.UserQuery, marker: str) -> Seen:
        answer = await self.session.get(f"/users/{want.user}")
        assert isinstance(answer.json, dict)
        return answer.json

    def plan(self, want: identity.UserQuery, seen: Seen) -> NoChange | Change:
        if seen["enabled"] is self.on:
            return self.no_change(f"user:{want.user}", f"{want.user} is as wanted")
        return self.change(f"user:{want.user}", want.user, ("enabled", seen["enabled"], self.on))

    async def apply(self, want: identity.UserQuery, change: Change, marker: str) -> Receipt | Pending:
        answer = await self.session.patch(f"/users/{want.user}", json={"enabled": self.on})
        return Receipt(request_id=answer.request_id)

    def gives(self, want: identity.UserQuery, seen: Seen) -> identity.AccountState:
        return identity.AccountState(user=want.user, enabled=bool(seen["enabled"]))


class _Blind(Write[identity.UserQuery, identity.SessionState]):
    """Something that shows nowhere: only the receipt tells."""

    async def observe(self, want: identity.UserQuery, marker: str) -> Seen:
        return {"sessions": "live"}

    def plan(self, want: identity.UserQuery, seen: Seen) -> NoChange | Change:
        if seen["sessions"] == "revoked":
            return self.no_change(f"user:{want.user}", "revoked")
        return self.change(f"user:{want.user}", want.user, ("sessions", "live", "revoked"))

    async def apply(self, want: identity.UserQuery, change: Change, marker: str) -> Receipt | Pending:
        answer = await self.session.post(f"/blind/{want.user}")
        return Receipt(request_id=answer.request_id)

    async def confirm(self, want: identity.UserQuery, receipt: Receipt, marker: str) -> Seen:
        return {"sessions": "revoked"}

    def gives(self, want: identity.UserQuery, seen: Seen) -> identity.SessionState:
        return identity.SessionState(user=want.user, sessions=str(seen["sessions"]))


class _Made(Wild):
    ticket: str


class Toy(Connector):
    """Speaks to the imaginary vendor."""

    @provides(identity.LIST_ACCESS, permissions=["read"])
    class ListAccess(Read[identity.UserQuery, identity.Access]):
        """Reads."""

        async def read(self, want: identity.UserQuery) -> identity.Access:
            answer = await self.session.get(f"/users/{want.user}")
            assert isinstance(answer.json, dict)
            names = answer.json.get("groups", [])
            assert isinstance(names, list)
            groups = [identity.Group(id=str(name), name=f"Group {name}") for name in names]
            return identity.Access(
                id=want.user, user=want.user, display_name="Jan", enabled=bool(answer.json["enabled"]), groups=groups
            )

    @provides(identity.FIND_MANAGER, permissions=["read"])
    class FindManager(Read[identity.UserQuery, identity.Manager]):
        """Breaks, with a secret in its error."""

        async def read(self, want: identity.UserQuery) -> identity.Manager:
            raise KeyError(CANARY)

    @provides(identity.DISABLE_ACCOUNT, permissions=["write"])
    class Disable(_Switch):
        """By state."""

        on = False

    @provides(identity.ENABLE_ACCOUNT, permissions=["write"])
    class Enable(_Switch):
        """By state."""

        on = True

    @provides(identity.REVOKE_SESSIONS, permissions=["write"])
    class Revoke(_Blind):
        """Once."""

        repeat = Repeat.ONCE

    @provides(ticket.OPEN, permissions=["write"])
    class Remind(Write[ticket.NewTicket, ticket.TicketState]):
        """Harmless, and shows nowhere."""

        repeat = Repeat.HARMLESS

        async def observe(self, want: ticket.NewTicket, marker: str) -> Seen:
            return {"status": ""}

        def plan(self, want: ticket.NewTicket, seen: Seen) -> NoChange | Change:
            if seen["status"] == "open":
                return self.no_change(f"queue:{want.queue}", "it is there")
            return self.change(f"queue:{want.queue}", want.title, ("status", seen["status"], "open"))

        async def apply(self, want: ticket.NewTicket, change: Change, marker: str) -> Receipt | Pending:
            return Receipt(request_id=(await self.session.post(f"/blind/{want.queue}")).request_id)

        async def confirm(self, want: ticket.NewTicket, receipt: Receipt, marker: str) -> Seen:
            return {"status": "open"}

        def gives(self, want: ticket.NewTicket, seen: Seen) -> ticket.TicketState:
            return ticket.TicketState(ticket="", status=str(seen["status"]), is_done=False)

    @provides(ticket.COMMENT, permissions=["write"])
    class Comment(Write[ticket.Comment, ticket.CommentState]):
        """By marker, in an index that lags."""

        repeat = Repeat.MARKER
        settle_s = 3.0

        async def observe(self, want: ticket.Comment, marker: str) -> Seen:
            answer = await self.session.get(f"/comments/{want.ticket}")
            assert isinstance(answer.json, list)
            return {"found": any(isinstance(each, dict) and each["marker"] == marker for each in answer.json)}

        def plan(self, want: ticket.Comment, seen: Seen) -> NoChange | Change:
            if seen["found"]:
                return self.no_change(f"ticket:{want.ticket}", "it stands there")
            return self.change(f"ticket:{want.ticket}", want.ticket, ("found", False, True))

        async def apply(self, want: ticket.Comment, change: Change, marker: str) -> Receipt | Pending:
            body: dict[str, JsonValue] = {"text": want.text, "marker": marker}
            return Receipt(request_id=(await self.session.post(f"/comments/{want.ticket}", json=body)).request_id)

        def gives(self, want: ticket.Comment, seen: Seen) -> ticket.CommentState:
            return ticket.CommentState(ticket=want.ticket, comment="1" if seen["found"] else "")

    @provides(identity.ADD_TO_GROUP, permissions=["write"])
    class Join(Write[identity.Membership, identity.MembershipState]):
        """Takes effect later."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: identity.Membership, marker: str) -> Seen:
            answer = await self.session.get(f"/members/{want.user}")
            assert isinstance(answer.json, dict)
            return answer.json

        def plan(self, want: identity.Membership, seen: Seen) -> NoChange | Change:
            target = f"group:{want.group}/user:{want.user}"
            if seen["member"]:
                return self.no_change(target, "a member")
            return self.change(target, want.user, ("member", False, True))

        async def apply(self, want: identity.Membership, change: Change, marker: str) -> Receipt | Pending:
            answer = await self.session.post(f"/members/{want.user}")
            return Pending(handle={"job": 7}, again_after_s=5.0, receipt=Receipt(request_id=answer.request_id))

        async def resume(self, want: identity.Membership, handle: JsonValue) -> Receipt | Pending:
            assert handle == {"job": 7}
            if (await self.observe(want, ""))["member"]:
                return Receipt(request_id="job-7")
            return Pending(handle=handle, again_after_s=5.0)

        def gives(self, want: identity.Membership, seen: Seen) -> identity.MembershipState:
            return identity.MembershipState(user=want.user, group=want.group, member=bool(seen["member"]))

    @classmethod
    def inbound(cls, settings: Any, payload: JsonValue) -> InboundEvent:
        return InboundEvent(kind="ticket_created", event="made", ticket=announced_as(payload, _Made).ticket)


MANIFEST = Manifest(
    name="toy",
    title="Toy",
    docs="https://docs.example.com/",
    owner="team:implementation",
    quality=Quality(level="bronze", rules={}),
    address="address",
    authentication=ClientCredentials(
        kind="client_credentials",
        token_url="token_url",
        client_id="client_id",
        client_secret="client_secret",
        scope="all",
    ),
    settings={
        "address": Setting(about="where", example="https://api.example.com"),
        "token_url": Setting(about="where", example="https://login.example.com/token"),
        "client_id": Setting(about="who", required=False, default="app", example="app"),
    },
    secrets={"client_secret": "of the app", "webhook": "of the webhook"},
    permissions=("read", "write"),
    limits=(),
    inbound=SignedBody(
        signature="hmac-sha256", header="X-Sig", prefix="sha256=", delivery_header="X-Delivery", secret="webhook"
    ),
)

FOUND = Found("toy", Toy, MANIFEST)
