"""The gateway's API: questions, each answered for an identified caller and a granted step or poll; signs of life.

Errors leave as problem documents (RFC 9457) with the failure in them; `gateway_client` raises them as what they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import JsonValue
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from regie import connectors as connector_folders
from regie import logs
from regie.core.capabilities.record import SERVED_HERE
from regie.core.errors import (
    AuditBroken,
    AuthFailed,
    Denied,
    FencedOut,
    InvalidInput,
    LimitReached,
    NotFound,
    OutcomeUnknown,
    RegieError,
    Terminal,
    Throttled,
    TimedOut,
    Unavailable,
    WorldMoved,
)
from regie.gateway.access import TransportFor
from regie.gateway.asking import with_approval
from regie.gateway.backends.secrets import Secrets
from regie.gateway.budgets import Budgets
from regie.gateway.connections import Connections, Serving
from regie.gateway.effects import REREADS_S, Effects, innermost
from regie.gateway.grants import Granted, Grants
from regie.gateway.identify import WEB, Caller, Callers, Unidentified
from regie.gateway.identity_provider import IdentityProvider
from regie.gateway.inbound import LARGEST_BODY, Inbox
from regie.gateway.records import Records
from regie.gateway.vault import SecretMaker
from regie.gateway_client import (
    INBOUND_PREFIX,
    PROBLEM_TYPE,
    AddressReply,
    ApplyQuestion,
    ApplyReply,
    CallQuestion,
    CallReply,
    IdentityQuestion,
    IdentityReply,
    InboundEvent,
    PlanQuestion,
    PlanReply,
    PollQuestion,
    ProbeReply,
    Problem,
    Question,
    SignInQuestion,
    SignOutQuestion,
)
from regie.kit.discovery import Found, connectors_in
from regie.store import releases
from regie.store.database import Database
from regie.store.target_locks import TargetLocks
from regie.telemetry import metrics, traces
from regie.telemetry.counting import Counted

_log = structlog.get_logger(__name__)

_STATUS: tuple[tuple[type[RegieError], int], ...] = (
    (Unidentified, 401),
    (Denied, 403),
    (InvalidInput, 422),
    (FencedOut, 409),
    (WorldMoved, 409),
    (LimitReached, 409),
    (NotFound, 404),
    (AuthFailed, 502),
    (Terminal, 502),
    (Throttled, 429),
    (TimedOut, 504),
    (Unavailable, 503),
    (OutcomeUnknown, 502),
    (AuditBroken, 500),
)
"""The first class that fits gives the status; readers decide by the failure, not by this."""


class _TooLarge(InvalidInput):
    """A body over its limit: 413."""


class _Desk:
    """Answers the questions: everything the routes need, made once."""

    def __init__(
        self,
        database: Database,
        connections: Connections,
        *,
        rereads_s: tuple[float, ...],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self.database = database
        self.connections = connections
        self.grants = Grants(database)
        self.locks = TargetLocks(database)
        self.effects = Effects(database, self.locks, rereads_s=rereads_s, pause=pause)
        self.inbox = Inbox(database, connections, self.effects)
        self.records = Records(database)

    async def call(self, caller: Caller, question: CallQuestion) -> CallReply:
        """Read through a capability."""
        if question.capability in SERVED_HERE:
            granted = await self.grants.look_up(caller, question)
            logs.bind(corr=granted.corr)
            kept = await self.records.answer(granted.grant, question.capability, question.want)
            return CallReply(output=kept.model_dump(mode="json"))
        _, serving = await self._admit(caller, question)
        output = await self.effects.call(serving, question.want)
        return CallReply(output=output.model_dump(mode="json"))

    async def poll(self, caller: Caller, question: PollQuestion) -> CallReply:
        """Read through a capability for a poll, before there is a run."""
        release = await self.grants.look_up_poll(caller, question)
        poll = question.poll
        serving = self.connections.serving(
            release, poll.tenant, poll.domain, question.capability, through=_through(question.want)
        )
        output = await self.effects.call(serving, question.want)
        return CallReply(output=output.model_dump(mode="json"))

    async def plan(self, caller: Caller, question: PlanQuestion) -> PlanReply:
        """Show what would change. Under an approval it is one of many, none of which can come again by itself."""
        granted, serving = await self._admit(caller, question, is_patient=question.covers_for is not None)
        return await self.effects.plan(granted, serving, await with_approval(self.database, granted, question))

    async def apply(self, caller: Caller, question: ApplyQuestion) -> ApplyReply:
        """Make a change."""
        step = question.step
        # By caller: who asks for a step of another domain, to be refused, keeps nobody waiting.
        async with self.effects.turn(caller.name, step.run, step.place):
            granted, serving = await self._admit(caller, question)
            # So it stays where the asker has gone, or where this meets a fault of ours.
            outcome = metrics.CUT_OFF
            try:
                want = await with_approval(self.database, granted, question)
                reply = await self.effects.apply(granted, serving, want)
            except RegieError as error:
                outcome = type(error).__name__
                raise
            else:
                outcome = reply.state
                return reply
            finally:
                metrics.EFFECTS.labels(step.tenant, step.domain, question.capability, outcome).inc()

    async def probe(self, caller: Caller, tenant: str, connection: str) -> ProbeReply:
        """Ask an outside system something harmless, through a connection of the current release."""
        if caller.name != WEB:
            raise Denied(f"{caller.name} does not try out connections.")
        async with self.database.reading() as tx:
            release = await releases.current(tx)
        await self.connections.probe(release, tenant, connection)
        return ProbeReply()

    async def _admit(self, caller: Caller, question: Question, *, is_patient: bool = False) -> tuple[Granted, Serving]:
        with metrics.timing("grant"):
            granted = await self.grants.look_up(caller, question)
        step = question.step
        logs.bind(corr=granted.corr)
        serving = self.connections.serving(
            granted.release,
            step.tenant,
            step.domain,
            question.capability,
            through=_through(question.want),
            is_patient=is_patient,
            run=step.run,
            corr=granted.corr,
        )
        return granted, serving


def _through(want: Mapping[str, JsonValue]) -> str:
    """The connection that a request names in its field `connection`, where it has one; empty when it leaves it open."""
    named = want.get("connection", "")
    return named if isinstance(named, str) else ""


async def _identified(request: Request) -> Caller:
    # It waits for nothing; but what is not a coroutine would be carried to a thread and back.
    callers: Callers = request.app.state.callers
    return callers.identify(request.headers.get("Authorization"))


Asking = Annotated[Caller, Depends(_identified)]
"""Whoever asks, by its token."""


async def _identity_provider(request: Request, caller: Asking) -> IdentityProvider:
    """Found before a question is read: who may not ask is told nothing about it."""
    if caller.name != WEB:
        raise Denied(f"{caller.name} signs nobody in.")
    provider: IdentityProvider | None = request.app.state.identity_provider
    if provider is None:
        raise Denied("There is no identity provider here.", hint="Set REGIE_OIDC_ISSUER and REGIE_OIDC_CLIENT_ID.")
    return provider


Elsewhere = Annotated[IdentityProvider, Depends(_identity_provider)]
"""Where people sign in."""


@contextmanager
def _answering(request: Request, question: Question) -> Iterator[None]:
    """Have the log and the trace say which step is answered."""
    step = question.step
    name = str(request.scope["path"]).rpartition("/")[2]
    attributes: traces.Attributes = {
        "regie.question": name,
        "regie.tenant": step.tenant,
        "regie.domain": step.domain,
        "regie.run": step.run,
        "regie.place": step.place,
        "regie.capability": question.capability,
    }
    asked_in = request.headers.get(traces.HEADER)
    logs.bind(run=step.run, tenant=step.tenant, domain=step.domain)
    with traces.span(f"answer {name}", attributes, kind="answers", parent=asked_in):
        yield


def make_gateway(
    database: Database,
    vault: SecretMaker,
    callers: Callers,
    *,
    secrets: Secrets | None = None,
    connectors: Mapping[str, Found] | None = None,
    transport_for: TransportFor | None = None,
    rereads_s: tuple[float, ...] = REREADS_S,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    metrics_token: Callable[[], str] = lambda: "",
    identity_provider: IdentityProvider | None = None,
) -> FastAPI:
    """Build the gateway.

    Args:
        database: Open; whoever opened it closes it.
        vault: Keeps what the gateway makes itself.
        secrets: Where all others are; in the vault when nothing is said.
        callers: Who may ask.
        connectors: By folder name; all that there are when nothing is said.
        transport_for: How a vendor's address is reached; over the network when nothing is said.
        rereads_s: Seconds between readings until a change must show.
        pause: Waits so many seconds.
        metrics_token: The token with which metrics are read; while it is empty nobody reads them.
        identity_provider: Whom people sign in with, if there is one.
    """
    known = connectors_in(connector_folders) if connectors is None else connectors
    connections = Connections(secrets or Secrets(vault), known, Budgets(database), database, transport_for)
    desk = _Desk(database, connections, rereads_s=rereads_s, pause=pause)

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        yield
        await desk.connections.aclose()
        await desk.locks.aclose()

    app = FastAPI(title="Regie gateway", lifespan=live, openapi_url=None, docs_url=None, redoc_url=None)
    _answer_errors(app)

    app.state.callers = callers

    @app.get("/health")
    async def health() -> dict[str, str]:
        async with database.reading():
            return {"status": "ok"}

    @app.get("/metrics")
    async def tell(request: Request) -> Response:
        if not metrics.may_read(request.headers.get("Authorization"), metrics_token()):
            raise Unidentified("Metrics are read with their own token.")
        return Response(metrics.text("gateway"), media_type=metrics.MEDIA_TYPE)

    @app.post("/v1/call")
    async def call(caller: Asking, question: CallQuestion, request: Request) -> CallReply:
        with _answering(request, question):
            return await desk.call(caller, question)

    @app.post("/v1/poll")
    async def poll(caller: Asking, question: PollQuestion) -> CallReply:
        return await desk.poll(caller, question)

    @app.post("/v1/plan")
    async def plan(caller: Asking, question: PlanQuestion, request: Request) -> PlanReply:
        with _answering(request, question):
            return await desk.plan(caller, question)

    @app.post("/v1/apply")
    async def apply(caller: Asking, question: ApplyQuestion, request: Request) -> ApplyReply:
        with _answering(request, question):
            return await desk.apply(caller, question)

    @app.post("/v1/inbound/{tenant}/{connection}")
    async def deliver(caller: Asking, tenant: str, connection: str, request: Request) -> InboundEvent:
        # Only our web may ask this, so its trace is continued.
        asked_in = request.headers.get(traces.HEADER)
        logs.bind(tenant=tenant, connection=connection)
        with traces.span("answer inbound", {"regie.question": "inbound"}, kind="answers", parent=asked_in):
            return await desk.inbox.receive(
                caller,
                tenant=tenant,
                connection=connection,
                headers=_passed_on(request),
                body=await _body(request, LARGEST_BODY),
            )

    @app.post("/v1/probe/{tenant}/{connection}")
    async def probe(caller: Asking, tenant: str, connection: str) -> ProbeReply:
        return await desk.probe(caller, tenant, connection)

    _sign_people_in(app, identity_provider)
    return app


def _sign_people_in(app: FastAPI, provider: IdentityProvider | None) -> None:
    """The questions of the web about people who sign in elsewhere."""
    app.state.identity_provider = provider

    @app.post("/v1/sign-in")
    async def sign_in(elsewhere: Elsewhere, asked: SignInQuestion) -> AddressReply:
        return await elsewhere.address(asked)

    @app.post("/v1/sign-out")
    async def sign_out(elsewhere: Elsewhere, asked: SignOutQuestion) -> AddressReply:
        return await elsewhere.end_address(asked)

    @app.post("/v1/identity")
    async def identity(elsewhere: Elsewhere, asked: IdentityQuestion) -> IdentityReply:
        return await elsewhere.identity(asked)


class _Reticent:
    """Answers for faults of our own before the server logs them: their text may hold a secret, and so may the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        # What is named for the log while this request is answered is named until its end, and no longer.
        with logs.about():
            await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  whatever it is, it must not go further
            where = innermost(error)
            _log.error("gateway:broke", kind=type(error).__name__, where=where)
            answer = _problem(Terminal(f"The gateway broke: {type(error).__name__} at {where}."), 500)
            await answer(scope, receive, send)


def _passed_on(request: Request) -> dict[str, str]:
    """The delivery's own headers, as the outside system sent them."""
    return {
        name.removeprefix(INBOUND_PREFIX): value
        for name, value in request.headers.items()
        if name.startswith(INBOUND_PREFIX)
    }


async def _body(request: Request, most: int) -> bytes:
    """The body, counted while it comes in.

    Raises:
        InvalidInput: It is larger than allowed.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise _TooLarge(f"A delivery has at most {most} bytes.")
    return bytes(body)


def _answer_errors(app: FastAPI) -> None:
    """Turn every error into a problem document."""

    @app.exception_handler(RegieError)
    async def explained(_: Request, error: RegieError) -> Response:
        return _problem(error)

    @app.exception_handler(RequestValidationError)
    async def misunderstood(_: Request, error: RequestValidationError) -> Response:
        # Only where it is wrong, not what was sent: that may be anything.
        places = sorted({".".join(map(str, fault["loc"])) for fault in error.errors()})
        return _problem(InvalidInput(f"The gateway does not understand the question: look at {', '.join(places)}."))

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        return _problem(InvalidInput("The gateway has no such question."), error.status_code)

    app.add_middleware(_Reticent)
    app.add_middleware(Counted)


def _problem(error: RegieError, status: int | None = None) -> Response:
    if status is None:
        status = (
            413 if isinstance(error, _TooLarge) else next((s for kind, s in _STATUS if isinstance(error, kind)), 500)
        )
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    problem = Problem.of(error, status)
    # Messages are ours and hold no secret. Should one have got in, it stays here.
    return Response(logs.hidden(problem.model_dump_json()), status, headers=headers, media_type=PROBLEM_TYPE)
