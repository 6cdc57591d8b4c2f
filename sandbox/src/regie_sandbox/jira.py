"""Jira Cloud REST v3, as far as a service desk needs it: issues, comments, transitions, properties, search.

Contract: Atlassian's OpenAPI document of the platform REST v3 and the pages about rate limits and webhooks, read in
November 2026. Calls without credentials are refused throughout; the real site is readable without where its
permissions say so, and this one's do not.
"""

import base64
import hmac
import re
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from regie_sandbox import jira_search, seed
from regie_sandbox.jira_fields import NOT_A_DOCUMENT, Fields, is_document
from regie_sandbox.jira_requests import check_query, invalid_payload, listed, number, read_json, site_of, wanted_fields
from regie_sandbox.jira_shapes import FIELDS, Shapes
from regie_sandbox.ledger import Entry
from regie_sandbox.refusals import Refused, jira
from regie_sandbox.throttle import Throttle, retry_after
from regie_sandbox.tickets import STATUSES, Comment, Ticket, transitions_from
from regie_sandbox.webhooks import Webhooks
from regie_sandbox.world import World

PROPERTY_LIMIT = 32_768
COMMENTS_PAGE = 100


def _not_there() -> Refused:
    return jira(404, "Issue does not exist or you do not have permission to see it.")


class Desk:
    """Finds tickets or refuses, and turns changes into records and ledger entries, for API and portal alike.

    A route reads its request to the end before it looks up the ticket: between look-up and save nothing may wait, or
    two writers of one ticket would lose one write.
    """

    def __init__(self, world: World, webhooks: Webhooks) -> None:
        self.world = world
        self._webhooks = webhooks

    def ticket(self, id_or_key: str) -> Ticket:
        """The ticket, or 404."""
        wanted = id_or_key.upper()
        for ticket in self.world.tickets.values():
            if wanted in (ticket.key, ticket.id):
                return ticket
        raise _not_there()

    def entry(
        self, request: Request, key: str, before: dict[str, Any], after: dict[str, Any], actor: str | None = None
    ) -> Entry:
        """A ledger entry about a ticket; `actor` is named only for a hand on the control API."""
        return Entry(
            at=self.world.clock().isoformat(),
            system="jira" if actor is None else "sandbox",
            about="ticket",
            method=request.method,
            path=request.url.path,
            actor=actor or seed.JIRA_ACCOUNT.email,
            target=key,
            before=before,
            after=after,
            request_id=request.state.request_id,
        )

    def open(self, request: Request, changes: dict[str, Any], creator: str, actor: str | None = None) -> Ticket:
        """Create a ticket, note it in the ledger and announce it to the webhook."""
        number, now = self.world.next_issue_number(), self.world.clock()
        key = f"{seed.PROJECT_KEY}-{number}"
        ticket = Ticket(
            id=str(10_000 + number),
            key=key,
            project=seed.PROJECT_KEY,
            creator=creator,
            created=now,
            updated=now,
            indexed_at=now + timedelta(seconds=self.world.rules.jira_index_delay_seconds),
            **{"reporter": creator} | changes,
        )
        self.world.save(ticket, entries=[self.entry(request, key, {}, {"summary": ticket.summary}, actor)])
        self._webhooks.announce(ticket, site_of(request))
        return ticket

    def save(
        self,
        request: Request,
        ticket: Ticket,
        update: dict[str, Any],
        before: dict[str, Any],
        after: dict[str, Any],
        *,
        actor: str | None = None,
        by: str = "",
    ) -> Ticket:
        """Keep a changed ticket, and announce another status; `by` is the account that moved it, else our own."""
        changed = ticket.model_copy(update=update | {"updated": self.world.clock()})
        self.world.save(changed, entries=[self.entry(request, ticket.key, before, after, actor)])
        mover = by or seed.account_id(seed.JIRA_ACCOUNT.email)
        self._webhooks.announce_move(changed, ticket.status, site_of(request), mover)
        return changed


def _sign_in(request: Request) -> None:
    scheme, _, code = request.headers.get("authorization", "").partition(" ")
    expected = base64.b64encode(f"{seed.JIRA_ACCOUNT.email}:{seed.JIRA_ACCOUNT.api_token}".encode()).decode()
    if scheme.lower() != "basic" or not hmac.compare_digest(code.strip().encode(), expected.encode()):
        headers = {"WWW-Authenticate": 'Basic realm="protected-area"'}
        if scheme:
            headers["X-Seraph-LoginReason"] = "AUTHENTICATED_FAILED"
        raise jira(401, "Client must be authenticated to access this resource.", headers=headers)


READING, WRITING = "read:jira-work", "write:jira-work"
_READ_BY_POST = re.compile(r"/search/jql$")


def _need_scope(world: World, request: Request) -> None:
    """Refuse a token that has scopes and not the one for this; the classic scopes, as each operation's page names them.

    The real gateway answers for Jira then, in a form of its own, and at another address than the site's.
    """
    is_reading = request.method == "GET" or _READ_BY_POST.search(request.url.path)
    scopes = world.rules.jira_scopes
    if scopes is not None and (READING if is_reading else WRITING) not in scopes:
        raise Refused(401, {"code": 401, "message": "Unauthorized; scope does not match"})


def _guard(world: World, desk: Desk, throttle: Throttle) -> Any:
    def guard(request: Request) -> None:
        """Sign-in, then the burst limit of this endpoint and method, then the limit of writes to one issue."""
        _sign_in(request)
        _need_scope(world, request)
        now = world.clock()
        template = request.scope["route"].path
        burst = world.rules.burst(request.method)
        wait = throttle.take(f"jira/{request.method}/{template}", [burst], now)
        limit, reason = burst.limit, "jira-burst-based"
        key = request.path_params.get("key")
        if wait is None and key and request.method != "GET":
            issue = desk.ticket(key).id
            wait = throttle.take(f"jira/issue/{issue}", world.rules.jira_issue_writes, now)
            limit, reason = world.rules.jira_issue_writes[0].limit, "jira-per-issue-on-write"
        if wait is not None:
            after = retry_after(wait)
            headers = {
                "Retry-After": after,
                "RateLimit-Reason": reason,
                "X-RateLimit-Limit": str(limit),
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": (now + timedelta(seconds=int(after))).strftime("%Y-%m-%dT%H:%MZ"),
            }
            raise jira(429, "Rate limit exceeded.", headers=headers)

    return Depends(guard)


def routes(world: World, throttle: Throttle, desk: Desk) -> APIRouter:
    """Every imitated path below `/jira/rest/api/3`."""
    router = APIRouter(prefix="/jira/rest/api/3", dependencies=[_guard(world, desk, throttle)])
    _site_routes(router, world)
    _issue_routes(router, desk)
    _comment_routes(router, desk)
    _transition_routes(router, desk)
    _property_routes(router, desk)
    jira_search.add_routes(router, world)
    return router


def _site_routes(router: APIRouter, world: World) -> None:
    @router.get("/myself")
    async def myself(request: Request) -> dict[str, Any] | None:
        return Shapes(world, site_of(request)).user(seed.account_id(seed.JIRA_ACCOUNT.email))

    @router.get("/field")
    async def fields(request: Request) -> list[dict[str, Any]]:
        shapes = Shapes(world, site_of(request))
        return [shapes.field(name) for name in FIELDS]


def _issue_routes(router: APIRouter, desk: Desk) -> None:
    world = desk.world

    @router.post("/issue", status_code=201)
    async def create(request: Request) -> dict[str, Any]:
        check_query(request.query_params, {"updateHistory"})
        body = await read_json(request, {"fields", "properties", "update", "historyMetadata", "transition"})
        changes = Fields(world).for_create(body.get("fields"))
        changes["properties"] = _properties(body.get("properties", []))
        if body.get("update") or body.get("transition"):
            raise invalid_payload()
        ticket = desk.open(request, changes, seed.account_id(seed.JIRA_ACCOUNT.email))
        return Shapes(world, site_of(request)).created(ticket)

    @router.get("/issue/{key}")
    async def read(key: str, request: Request) -> dict[str, Any]:
        query = request.query_params
        check_query(query, {"fields", "fieldsByKeys", "expand", "properties", "updateHistory", "failFast"})
        ticket = desk.ticket(key)
        wanted = wanted_fields(listed(query.get("fields")), default_all=True)
        answer = Shapes(world, site_of(request)).issue(ticket, wanted)
        if "names" in listed(query.get("expand")):
            answer["names"] = {name: FIELDS[name][0] for name in answer["fields"]}
        asked = listed(query.get("properties"))
        if asked:
            answer["properties"] = {
                name: value for name, value in ticket.properties.items() if name in asked or "*all" in asked
            }
        return answer

    @router.put("/issue/{key}", status_code=204)
    async def edit(key: str, request: Request) -> Response:
        check_query(
            request.query_params,
            {"notifyUsers", "overrideScreenSecurity", "overrideEditableFlag", "returnIssue", "expand"},
        )
        body = await read_json(request, {"fields", "update", "properties", "historyMetadata"})
        ticket = desk.ticket(key)
        changes = Fields(world).for_edit(body.get("fields", {}))
        if "update" in body:
            changes |= _label_changes(ticket, body["update"], changes)
        if "properties" in body:
            changes["properties"] = ticket.properties | _properties(body["properties"])
        if not changes:
            raise jira(400, "one of 'fields' or 'update' required")
        before = {name: getattr(ticket, name) for name in changes}
        desk.save(request, ticket, changes, before, changes)
        return Response(status_code=204)


def _label_changes(ticket: Ticket, update: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """`update: {"labels": [{"add": ...}, {"remove": ...}]}`, the one list of operations this site's screen offers."""
    if not isinstance(update, dict) or set(update) - {"labels"} or "labels" in changes:
        raise invalid_payload()
    labels = list(ticket.labels)
    for operation in update.get("labels", []):
        match operation:
            case {"add": str(label), **rest} if not rest and label and " " not in label:
                labels.append(label)
            case {"remove": str(label), **rest} if not rest:
                labels = [each for each in labels if each != label]
            case _:
                raise jira(400, errors={"labels": "data was not a valid operation"})
    return {"labels": tuple(dict.fromkeys(labels))}


def _properties(given: Any) -> dict[str, Any]:
    if not isinstance(given, list):
        raise invalid_payload()
    found: dict[str, Any] = {}
    for each in given:
        if not isinstance(each, dict) or set(each) != {"key", "value"} or not isinstance(each["key"], str):
            raise invalid_payload()
        found[each["key"]] = each["value"]
    return found


def _comment_routes(router: APIRouter, desk: Desk) -> None:
    world = desk.world

    @router.get("/issue/{key}/comment")
    async def comments(key: str, request: Request) -> dict[str, Any]:
        query = request.query_params
        check_query(query, {"startAt", "maxResults", "orderBy", "expand"})
        ticket = desk.ticket(key)
        start = number(query.get("startAt"), 0, at_most=10**9)
        size = number(query.get("maxResults"), COMMENTS_PAGE, at_most=COMMENTS_PAGE)
        order = query.get("orderBy", "created")
        if order not in {"created", "+created", " created", "-created"}:
            raise jira(400, f"Cannot order comments by '{order}'.")
        found = list(reversed(ticket.comments)) if order == "-created" else list(ticket.comments)
        shapes = Shapes(world, site_of(request))
        return {
            "startAt": start,
            "maxResults": size,
            "total": len(found),
            "comments": [shapes.comment(ticket, each) for each in found[start : start + size]],
        }

    @router.post("/issue/{key}/comment", status_code=201)
    async def comment(key: str, request: Request) -> dict[str, Any]:
        check_query(request.query_params, {"expand"})
        body = await read_json(request, {"body", "properties", "visibility"})
        ticket = desk.ticket(key)
        if "body" not in body:
            raise jira(400, errors={"comment": "Comment body can not be empty!"})
        if not is_document(body["body"]):
            raise jira(400, errors={"comment": NOT_A_DOCUMENT})
        properties = _properties(body.get("properties", []))
        internal = properties.get("sd.public.comment") == {"internal": True}
        number = 10_000 + 1 + sum(len(each.comments) for each in world.tickets.values())
        new = Comment(
            id=str(number),
            author=seed.account_id(seed.JIRA_ACCOUNT.email),
            body=body["body"],
            created=world.clock(),
            public=not internal,
            properties=properties,
        )
        changed = desk.save(
            request, ticket, {"comments": (*ticket.comments, new)}, {}, {"comment": new.id, "body": new.body}
        )
        return Shapes(world, site_of(request)).comment(changed, new)

    @router.get("/comment/{comment_id}/properties/{name}")
    async def comment_property(comment_id: str, name: str) -> dict[str, Any]:
        for ticket in world.tickets.values():
            for each in ticket.comments:
                if each.id == comment_id and name in each.properties:
                    return {"key": name, "value": each.properties[name]}
        raise jira(404, f"The comment property {name} was not found.")


def _transition_routes(router: APIRouter, desk: Desk) -> None:
    world = desk.world

    @router.get("/issue/{key}/transitions")
    async def offered(key: str, request: Request) -> dict[str, Any]:
        query = request.query_params
        check_query(
            query,
            {
                "expand",
                "transitionId",
                "skipRemoteOnlyCondition",
                "includeUnavailableTransitions",
                "sortByOpsBarAndStatus",
            },
        )
        found = transitions_from(desk.ticket(key).status)
        shapes, only = Shapes(world, site_of(request)), query.get("transitionId")
        return {
            "expand": "transitions",
            "transitions": [shapes.transition(each) for each in found if only in {None, each.id}],
        }

    @router.post("/issue/{key}/transitions", status_code=204)
    async def move(key: str, request: Request) -> Response:
        check_query(request.query_params, set())
        body = await read_json(request, {"transition", "fields", "update", "historyMetadata", "properties"})
        ticket = desk.ticket(key)
        wanted = body.get("transition")
        if not isinstance(wanted, dict) or not isinstance(wanted.get("id"), str):
            raise jira(400, "The transition identifier must be a string, as the list of transitions gives it.")
        found = next((each for each in transitions_from(ticket.status) if each.id == wanted["id"]), None)
        if found is None:
            raise jira(400, f"Transition id '{wanted['id']}' is not valid for this issue.")
        if body.get("fields") or body.get("update"):
            field = next(iter({**(body.get("fields") or {}), **(body.get("update") or {})}))
            raise jira(400, errors={field: f"Field '{field}' cannot be set. It is not on the appropriate screen."})
        is_done = STATUSES[found.target].category == "done"
        update = {"status": found.target, "resolved": world.clock() if is_done else None}
        desk.save(request, ticket, update, {"status": ticket.status}, {"status": found.target})
        return Response(status_code=204)


def _property_routes(router: APIRouter, desk: Desk) -> None:
    @router.get("/issue/{key}/properties")
    async def list_properties(key: str, request: Request) -> dict[str, Any]:
        ticket = desk.ticket(key)
        root = f"{site_of(request)}/rest/api/3/issue/{ticket.id}/properties"
        return {"keys": [{"self": f"{root}/{name}", "key": name} for name in ticket.properties]}

    @router.get("/issue/{key}/properties/{name}")
    async def get_property(key: str, name: str) -> dict[str, Any]:
        ticket = desk.ticket(key)
        if name not in ticket.properties:
            raise jira(404, f"The property {name} does not exist.")
        return {"key": name, "value": ticket.properties[name]}

    @router.put("/issue/{key}/properties/{name}")
    async def put_property(key: str, name: str, request: Request) -> Response:
        value = await read_json(request)
        if len(await request.body()) > PROPERTY_LIMIT or not 0 < len(name) <= 255:
            raise jira(400, f"The property value must not exceed {PROPERTY_LIMIT} characters.")
        ticket = desk.ticket(key)
        before = {name: ticket.properties[name]} if name in ticket.properties else {}
        desk.save(request, ticket, {"properties": ticket.properties | {name: value}}, before, {name: value})
        return JSONResponse(None, 200 if before else 201)

    @router.delete("/issue/{key}/properties/{name}", status_code=204)
    async def delete_property(key: str, name: str, request: Request) -> Response:
        ticket = desk.ticket(key)
        if name not in ticket.properties:
            raise jira(404, f"The property {name} does not exist.")
        rest = {other: value for other, value in ticket.properties.items() if other != name}
        desk.save(request, ticket, {"properties": rest}, {name: ticket.properties[name]}, {})
        return Response(status_code=204)
