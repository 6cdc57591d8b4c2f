"""The hand above the world: credentials, faults, rules, the ledger, and moving people and tickets by hand.

Tests, the demonstration and `regie prove` call it below `/sandbox`. What a hand changes is in the ledger too, with
`sandbox` as its system, and is left out of the listing unless asked for.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from regie_sandbox import seed
from regie_sandbox.faults import Fault, Faults
from regie_sandbox.jira import Desk
from regie_sandbox.jira_requests import site_of
from regie_sandbox.jira_shapes import Shapes
from regie_sandbox.ledger import Entry
from regie_sandbox.people import Group, Person
from regie_sandbox.refusals import Refused
from regie_sandbox.rules import Rules
from regie_sandbox.throttle import Throttle
from regie_sandbox.tickets import STATUSES, Delivery
from regie_sandbox.webhooks import Webhooks
from regie_sandbox.world import World


class NewTicket(BaseModel):
    """What a customer fills in on the portal; `reporter` is the address of the person who asks.

    Any request type is one that this desk offers: who tries a workflow has made theirs, as a Jira administrator would.
    """

    model_config = ConfigDict(extra="forbid")

    reporter: str
    employee: str | None = None
    last_day: date | None = None
    request_type: str = Field(default="Offboarding", min_length=1, max_length=80)
    summary: str | None = None


class TicketChange(BaseModel):
    """What somebody at the service desk changes on a ticket meanwhile; only what is named changes.

    `by` is the address of whoever does so, else it is whoever asked.
    """

    model_config = ConfigDict(extra="forbid")

    by: str | None = None
    status: Literal["Open", "In Progress", "Done", "Canceled"] | None = None
    employee: str | None = None
    last_day: date | None = None
    summary: str | None = None


class Registration(BaseModel):
    """Where the site sends its webhooks; no address means nowhere."""

    model_config = ConfigDict(extra="forbid")

    url: str | None
    secret: str | None = None


class Move(BaseModel):
    """The argument of a move by hand: a group's name or id, or a manager's userPrincipalName."""

    model_config = ConfigDict(extra="forbid")

    group: str | None = None
    manager: str | None = None


class NewPerson(BaseModel):
    """Somebody who starts to work here: an account that has signed in an hour ago, in groups by name or id."""

    model_config = ConfigDict(extra="forbid")

    upn: str
    given_name: str
    surname: str
    manager: str | None = None
    groups: tuple[str, ...] = ()


def _refuse(status: int, detail: str) -> Refused:
    return Refused(status, {"detail": detail})


def _person(world: World, name: str) -> Person:
    found = world.person(name)
    if found is None:
        raise _refuse(404, f"Nobody in this world is called {name}; GET /sandbox/world lists everybody.")
    return found


def _group(world: World, name: str | None) -> Group:
    found = next((each for each in world.groups.values() if name in (each.id, each.display_name)), None)
    if found is None:
        raise _refuse(404, f"No group is called {name}; GET /sandbox/world lists every group.")
    return found


def routes(world: World, desk: Desk, webhooks: Webhooks, faults: Faults, throttle: Throttle) -> APIRouter:
    """Every path below `/sandbox`."""
    router = APIRouter(prefix="/sandbox")
    _world_routes(router, world, faults, throttle)
    _dial_routes(router, world, faults)
    _ticket_routes(router, desk, webhooks)
    _people_routes(router, world)
    return router


def _world_routes(router: APIRouter, world: World, faults: Faults, throttle: Throttle) -> None:
    @router.get("/credentials")
    async def credentials() -> dict[str, Any]:
        return seed.credentials()

    @router.get("/world")
    async def whole_world() -> dict[str, Any]:
        return {
            "people": [
                each.model_dump(mode="json")
                | {
                    "groups": [group.display_name for group in world.groups_of(each.id)],
                    "has_live_session": each.has_live_session,
                }
                for each in world.people.values()
            ],
            "groups": [each.model_dump(mode="json") for each in world.groups.values()],
            "tickets": [each.model_dump(mode="json") for each in world.tickets.values()],
            "messages": [each.model_dump(mode="json") for each in world.messages.values()],
        }

    @router.get("/world/digest")
    async def digest() -> dict[str, str]:
        return {"digest": world.people_digest()}

    @router.get("/ledger")
    async def ledger(since: int = 0, by_hand: bool = False) -> dict[str, Any]:  # noqa: FBT001,FBT002 - a query flag
        entries = world.ledger(since)
        last = entries[-1]["seq"] if entries else since
        return {"last": last, "entries": [each for each in entries if by_hand or each["system"] != "sandbox"]}

    @router.get("/throttled")
    async def throttled() -> dict[str, Any]:
        return {"refused": dict(throttle.refused)}

    @router.post("/reset")
    async def reset() -> dict[str, str]:
        world.reset()
        faults.armed.clear()
        throttle.forget()
        return {"digest": world.people_digest()}


def _dial_routes(router: APIRouter, world: World, faults: Faults) -> None:
    @router.get("/rules")
    async def rules() -> Rules:
        return world.rules

    @router.patch("/rules")
    async def turn(request: Request) -> Rules:
        try:
            world.rules = Rules.model_validate(world.rules.model_dump() | await request.json())
        except (ValueError, TypeError) as wrong:
            raise _refuse(422, str(wrong)) from wrong
        return world.rules

    @router.get("/faults")
    async def armed() -> list[Fault]:
        return faults.armed

    @router.post("/faults", status_code=201)
    async def arm(fault: Fault) -> Fault:
        faults.armed.append(fault)
        return fault

    @router.delete("/faults", status_code=204)
    async def disarm() -> None:
        faults.armed.clear()

    @router.put("/webhook", status_code=204)
    async def register(registration: Registration) -> None:
        world.set_webhook(registration.url, registration.secret)


def _ticket_routes(router: APIRouter, desk: Desk, webhooks: Webhooks) -> None:
    world = desk.world

    @router.post("/tickets", status_code=201)
    async def open_ticket(new: NewTicket, request: Request) -> dict[str, Any]:
        reporter = seed.account_id(_person(world, new.reporter).upn)
        subject = f": {new.employee}" if new.employee else ""
        changes = {
            "issue_type": "Service Request",
            "summary": new.summary or f"{new.request_type}{subject}",
            "request_type": new.request_type,
            "employee": new.employee,
            "last_day": new.last_day.isoformat() if new.last_day else None,
        }
        ticket = desk.open(request, changes, reporter, actor=new.reporter)
        sent = [each.identifier for each in webhooks.deliveries_of(ticket.key)]
        return Shapes(world, site_of(request)).created(ticket) | {"webhooks": sent}

    @router.patch("/tickets/{key}", status_code=204)
    async def change_ticket(key: str, change: TicketChange, request: Request) -> None:
        update = change.model_dump(mode="json", exclude_none=True, exclude={"by"})
        ticket = desk.ticket(key)
        by = ticket.reporter if change.by is None else seed.account_id(_person(world, change.by).upn)
        before = {name: getattr(ticket, name) for name in update}
        if change.status is not None:
            is_done = STATUSES[change.status].category == "done"
            update |= {"resolved": world.clock() if is_done else None}
        desk.save(request, ticket, update, before, {name: update[name] for name in before}, actor="hand", by=by)

    @router.get("/tickets/{key}/webhooks")
    async def deliveries(key: str) -> list[Delivery]:
        return webhooks.deliveries_of(desk.ticket(key).key)

    @router.post("/tickets/{key}/redeliver")
    async def redeliver(key: str) -> JSONResponse:
        known = webhooks.deliveries_of(desk.ticket(key).key)
        if not known:
            raise _refuse(409, f"No webhook was sent about {key}; register one with PUT /sandbox/webhook first.")
        # What announced it, not what became of it since.
        again = await webhooks.redeliver(known[0])
        return JSONResponse(again.model_dump(exclude={"body"}))


def _enable(_: World, person: Person, __: Move) -> Person:
    return person.model_copy(update={"account_enabled": True})


def _disable(_: World, person: Person, __: Move) -> Person:
    return person.model_copy(update={"account_enabled": False})


def _sign_in(world: World, person: Person, _: Move) -> Person:
    # Past the second of the last revocation, for a session that begins in it would count as revoked; else now, since a
    # sign-in of the future would stand against a revocation that follows at once.
    revoked = max([person.sessions_valid_from, *(each.at for each in person.revocations)])
    return person.model_copy(
        update={"last_sign_in": max(world.clock(), revoked.replace(microsecond=0) + timedelta(seconds=1))}
    )


def _set_manager(world: World, person: Person, move: Move) -> Person:
    manager = _person(world, move.manager).id if move.manager else None
    return person.model_copy(update={"manager_id": manager})


def _join(world: World, person: Person, move: Move) -> Group:
    group = _group(world, move.group)
    return group.model_copy(update={"members": tuple(dict.fromkeys((*group.members, person.id)))})


def _leave(world: World, person: Person, move: Move) -> Group:
    group = _group(world, move.group)
    return group.model_copy(update={"members": tuple(each for each in group.members if each != person.id)})


_MOVES: dict[str, Callable[[World, Person, Move], Person | Group]] = {
    "enable": _enable,
    "disable": _disable,
    "sign-in": _sign_in,
    "manager": _set_manager,
    "join": _join,
    "leave": _leave,
}


def _hired(world: World, new: NewPerson) -> Person:
    if world.person(new.upn) is not None:
        raise _refuse(409, f"{new.upn} works here already.")
    now = world.clock()
    return Person(
        id=seed.person_id(new.upn),
        upn=new.upn,
        display_name=f"{new.given_name} {new.surname}",
        given_name=new.given_name,
        surname=new.surname,
        job_title="Trainee",
        department="Operations",
        manager_id=_person(world, new.manager).id if new.manager else None,
        created=now - timedelta(days=1),
        sessions_valid_from=now - timedelta(days=1),
        last_sign_in=now - timedelta(hours=1),
    )


def _people_routes(router: APIRouter, world: World) -> None:
    @router.post("/people", status_code=201)
    async def hire(new: NewPerson, request: Request) -> dict[str, Any]:
        person = _hired(world, new)
        joined = {group.id: group for group in (_group(world, name) for name in new.groups)}
        groups = [group.model_copy(update={"members": (*group.members, person.id)}) for group in joined.values()]
        entry = Entry(
            at=world.clock().isoformat(),
            system="sandbox",
            about="person",
            method=request.method,
            path=request.url.path,
            actor="hand",
            target=person.upn,
            before={},
            after={"upn": person.upn, "groups": [group.display_name for group in groups]},
            request_id=request.state.request_id,
        )
        world.save(person, *groups, entries=[entry])
        return {"id": person.id, "groups": [group.id for group in groups]}

    @router.post("/people/{upn}/{move_name}")
    async def move(upn: str, move_name: str, request: Request, argument: Move | None = None) -> dict[str, Any]:
        if move_name not in _MOVES:
            raise _refuse(404, f"No such move; there are: {', '.join(_MOVES)}.")
        person = _person(world, upn)
        new = _MOVES[move_name](world, person, argument or Move())
        old: Person | Group = world.groups[new.id] if isinstance(new, Group) else person
        before, after = (each.model_dump(mode="json") for each in (old, new))
        named = [name for name in before if before[name] != after[name]]
        entry = Entry(
            at=world.clock().isoformat(),
            system="sandbox",
            about="person",
            method=request.method,
            path=request.url.path,
            actor="hand",
            target=person.upn,
            before={name: before[name] for name in named},
            after={name: after[name] for name in named},
            request_id=request.state.request_id,
        )
        world.save(new, entries=[entry])
        return {"changed": entry.changed, "digest": world.people_digest()}

    @router.delete("/groups/{name}", status_code=204)
    async def delete_group(name: str, request: Request) -> None:
        group = _group(world, name)
        entry = Entry(
            at=world.clock().isoformat(),
            system="sandbox",
            about="person",
            method=request.method,
            path=request.url.path,
            actor="hand",
            target=group.display_name,
            before={"members": list(group.members)},
            after={},
            request_id=request.state.request_id,
        )
        world.remove_group(group, entry)
