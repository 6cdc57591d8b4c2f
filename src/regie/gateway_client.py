"""How a worker, and the web for deliveries and signing in, asks the gateway; and the words both sides of that talk use.

Errors survive the trip: what the gateway raises is raised again here, as the same class of `core.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Any, Generic, Literal, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from regie.core import errors
from regie.core.capability import Capability, Record
from regie.core.errors import Failure, Refused, RegieError, Retryable, Unavailable, WorldMoved
from regie.core.plan import Planned, Receipt
from regie.telemetry import traces

TIMEOUT_S = 90.0
"""Seconds one question may take; making a change includes reading the world before and after it."""
PROBLEM_TYPE = "application/problem+json"
"""Media type of an error (RFC 9457)."""
INBOUND_PREFIX = "regie-inbound-"
"""Put before the names of a delivery's own headers when it is passed on, so that they are told from ours."""

Want = TypeVar("Want", bound=Record)
Gives = TypeVar("Gives", bound=Record)
Reply = TypeVar("Reply", bound="Said")

Key = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Said(BaseModel):
    """One message of the talk."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StepRef(Said):
    """Which step of which run asks, and the fence under which the asking worker holds the run."""

    tenant: Key
    domain: Key
    run: Key
    place: Key
    fence: int


class Question(Said):
    """What is asked for: a capability, with the JSON form of its `wants` record."""

    step: StepRef
    capability: Key
    want: dict[str, JsonValue]


class CallQuestion(Question):
    """Read through a capability."""


class PlanQuestion(Question):
    """What would change. `covers_for` is the place of the approval that the plan is made for, if one is."""

    covers_for: Key | None = None


class ApplyQuestion(Question):
    """Make the change, or ask about one that takes effect later, with the handle it was postponed under."""

    handle: JsonValue = None


class PollRef(Said):
    """Which poll asks, and the fence under which the asking worker holds it. No run has begun yet."""

    tenant: Key
    domain: Key
    workflow: Key
    start: Key
    fence: int


class PollQuestion(Said):
    """Read through a capability for a poll. Answered by `CallReply`."""

    poll: PollRef
    capability: Key
    want: dict[str, JsonValue]


class CallReply(Said):
    """The JSON form of the capability's `gives` record."""

    output: dict[str, JsonValue]


class PlanReply(Said):
    """What would change, and the JSON form of the state that would follow."""

    planned: Planned
    foreseen: dict[str, JsonValue]


class ApplyReply(Said):
    """How it went. `pending` has a handle and a time to ask again; the other two have an output."""

    state: Literal["received", "unchanged", "pending"]
    planned: Planned
    output: dict[str, JsonValue] | None = None
    receipt: Receipt = Receipt()
    handle: JsonValue = None
    again_after_s: float | None = None


class InboundEvent(Said):
    """Something an outside system told us, found genuine.

    Attributes:
        delivery: The system's own id of the delivery, the same when it delivers again.
        domains: The domains that may use the connection it came in by.
        event: What it announces, as JSON of the kit's `InboundEvent`.
    """

    delivery: str
    domains: tuple[str, ...]
    event: dict[str, JsonValue]


class ProbeReply(Said):
    """The outside system answered, and took our credentials."""

    answers: Literal[True] = True


class SignInQuestion(Said):
    """Where to send a browser to sign in, and what to recognise it by when it comes back.

    Attributes:
        verifier: Of PKCE (RFC 7636, 4.1); only its challenge goes to the provider.
    """

    redirect_uri: str = Field(max_length=500)
    state: Key
    nonce: Key
    verifier: Key


class SignOutQuestion(Said):
    """Where to send a browser to sign out at the provider, and where it comes back to."""

    back_to: str = Field(max_length=500)


class AddressReply(Said):
    """A page of the provider; empty if it has none."""

    address: str


class IdentityQuestion(Said):
    """What a browser came back with.

    Attributes:
        issuer: Who the answer says that it is from (RFC 9207), if it says so.
    """

    code: str = Field(min_length=1, max_length=8192)
    issuer: str | None = Field(default=None, max_length=500)
    redirect_uri: str = Field(max_length=500)
    nonce: Key
    verifier: Key


class IdentityReply(Said):
    """Whom the identity provider vouches for.

    Attributes:
        amr: How they have shown who they are (RFC 8176).
        mfa_age_s: Seconds since they have shown more than one factor; none when they have not, or nobody knows.
    """

    issuer: str
    subject: str
    address: str
    display_name: str
    groups: tuple[str, ...]
    amr: tuple[str, ...]
    mfa_age_s: float | None


class Problem(BaseModel):
    """An error on its way to the asker (RFC 9457), with the whole failure in it."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    failure: Failure
    parts: dict[str, str | int] = {}
    """What the class carries besides: both states of a moved world, the vendor's status and code of a refusal."""

    @classmethod
    def of(cls, error: RegieError, status: int) -> Self:
        """Describe an error; one of a room's own classes as the class of the vocabulary that it refines."""
        kind = next((each.__name__ for each in type(error).__mro__ if each in _KINDS.values()), RegieError.__name__)
        parts: dict[str, str | int] = {}
        if isinstance(error, WorldMoved):
            parts = {"approved": error.approved, "found": error.found}
        elif isinstance(error, Refused):
            parts = {"status": error.status, "code": error.code}
        return cls(
            type=f"urn:regie:error:{kind}",
            title=kind,
            status=status,
            detail=error.message,
            failure=Failure.of(error).model_copy(update={"kind": kind}),
            parts=parts,
        )

    def error(self) -> RegieError:
        """The error that was described; of a class this side does not know, a plain `RegieError`."""
        failure, parts = self.failure, self.parts
        kind = _KINDS.get(failure.kind, RegieError)
        if kind is WorldMoved:
            approved, found = str(parts.get("approved", "")), str(parts.get("found", ""))
            message = failure.message.removesuffix(f" Approved: {approved}. Needed now: {found}.")
            return WorldMoved(message, approved=approved, found=found, hint=failure.hint)
        if kind is Refused:
            status, code = int(parts.get("status", 0)), str(parts.get("code", ""))
            return Refused(failure.message, status=status, code=code, hint=failure.hint)
        if issubclass(kind, Retryable):
            return kind(failure.message, after_s=failure.after_s, hint=failure.hint)
        return kind(failure.message, hint=failure.hint)


_KINDS: dict[str, type[RegieError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RegieError) and kind is not errors.DefinitionError
}


@dataclass(frozen=True, slots=True)
class PlanAnswer(Generic[Gives]):
    """What a write would do, and the state that would follow."""

    planned: Planned
    foreseen: Gives


@dataclass(frozen=True, slots=True)
class ApplyAnswer(Generic[Gives]):
    """How a write went.

    Attributes:
        state: `received` (done and read back), `unchanged` (nothing was needed) or `pending` (takes effect later).
        output: The state afterwards; none while pending.
        handle, again_after_s: While pending: what to ask again with, and in how many seconds.
    """

    state: Literal["received", "unchanged", "pending"]
    planned: Planned
    output: Gives | None
    receipt: Receipt
    handle: JsonValue
    again_after_s: float | None


class GatewayClient:
    """Asks one gateway. Every method raises what the gateway raised, and `Unavailable` when it does not answer.

    Asking again after `Unavailable` is safe: the gateway knows each attempt by its run and place.

    Args:
        token: Of the asking worker's domain.
        transport: How the gateway is reached; tests hand in the gateway itself.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self._http = httpx2.AsyncClient(
            base_url=base_url,
            transport=transport,
            timeout=timeout,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, ref: StepRef, capability: Capability[Any, Gives], want: Record) -> Gives:
        """Read through a capability."""
        question = CallQuestion(step=ref, capability=capability.name, want=want.model_dump(mode="json"))
        reply = await self._ask("/v1/call", question, CallReply)
        return capability.gives.model_validate(reply.output)

    async def poll(self, ref: PollRef, capability: Capability[Any, Gives], want: Record) -> Gives:
        """Read through a capability for a poll."""
        question = PollQuestion(poll=ref, capability=capability.name, want=want.model_dump(mode="json"))
        reply = await self._ask("/v1/poll", question, CallReply)
        return capability.gives.model_validate(reply.output)

    async def plan(
        self, ref: StepRef, capability: Capability[Any, Gives], want: Record, *, covers_for: str | None = None
    ) -> PlanAnswer[Gives]:
        """What a write would change. Nothing is written. For dry runs, and for steps under an approval."""
        question = PlanQuestion(
            step=ref, capability=capability.name, want=want.model_dump(mode="json"), covers_for=covers_for
        )
        reply = await self._ask("/v1/plan", question, PlanReply)
        return PlanAnswer(reply.planned, capability.gives.model_validate(reply.foreseen))

    async def apply(
        self, ref: StepRef, capability: Capability[Any, Gives], want: Record, handle: JsonValue = None
    ) -> ApplyAnswer[Gives]:
        """Make at most one change. Repeatable: what was done is answered again, not done again."""
        question = ApplyQuestion(step=ref, capability=capability.name, want=want.model_dump(mode="json"), handle=handle)
        reply = await self._ask("/v1/apply", question, ApplyReply)
        return ApplyAnswer(
            state=reply.state,
            planned=reply.planned,
            output=None if reply.output is None else capability.gives.model_validate(reply.output),
            receipt=reply.receipt,
            handle=reply.handle,
            again_after_s=reply.again_after_s,
        )

    async def inbound(self, tenant: str, connection: str, body: bytes, headers: dict[str, str]) -> InboundEvent:
        """Have a delivery checked and read. `headers` and `body` are exactly what the outside system sent."""
        passed = [(f"{INBOUND_PREFIX}{name}".encode(), value.encode("latin-1")) for name, value in headers.items()]
        path = f"/v1/inbound/{quote(tenant, safe='')}/{quote(connection, safe='')}"
        request = self._http.build_request("POST", path, content=body, headers=passed)
        return await self._send(request, InboundEvent)

    async def probe(self, tenant: str, connection: str) -> None:
        """Have an outside system asked something harmless. Returns when it answered; changes nothing."""
        path = f"/v1/probe/{quote(tenant, safe='')}/{quote(connection, safe='')}"
        await self._send(self._http.build_request("POST", path), ProbeReply)

    async def sign_in(self, asked: SignInQuestion) -> AddressReply:
        """Where a browser is sent to sign in with the identity provider."""
        return await self._ask("/v1/sign-in", asked, AddressReply)

    async def sign_out(self, asked: SignOutQuestion) -> AddressReply:
        """Where a browser is sent to sign out there."""
        return await self._ask("/v1/sign-out", asked, AddressReply)

    async def identity(self, asked: IdentityQuestion) -> IdentityReply:
        """Who has signed in there."""
        return await self._ask("/v1/identity", asked, IdentityReply)

    async def _ask(self, path: str, question: Said, reply: type[Reply]) -> Reply:
        content = question.model_dump_json()
        request = self._http.build_request("POST", path, content=content, headers={"Content-Type": "application/json"})
        return await self._send(request, reply)

    async def _send(self, request: httpx2.Request, reply: type[Reply]) -> Reply:
        question = request.url.path.split("/")[2]
        with traces.span(f"gateway {question}", {"regie.question": question}, kind="asks"):
            if traceparent := traces.current():
                request.headers[traces.HEADER] = traceparent
            return await self._exchange(request, reply)

    async def _exchange(self, request: httpx2.Request, reply: type[Reply]) -> Reply:
        try:
            response = await self._http.send(request)
        except httpx2.TransportError as error:
            raise Unavailable(f"The gateway does not answer ({type(error).__name__}).") from error
        try:
            if response.is_success:
                return reply.model_validate_json(response.content)
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            # Without its cause, which would carry the answer into tracebacks.
            raise Unavailable(
                f"The gateway answers {response.status_code} with something else than an answer."
            ) from None
        raise problem.error()
