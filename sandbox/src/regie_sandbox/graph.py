"""Microsoft Graph v1.0, as far as an offboarding needs it: users, manager, memberships, sessions.

Who may do what follows the application permissions in the token; a change goes into the world and its ledger in one
transaction. Contract: learn.microsoft.com/graph/api, read in November 2026.
"""

import json
import re
import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from regie_sandbox import graph_shapes as shapes
from regie_sandbox.ledger import Entry
from regie_sandbox.login import claims, seal, unseal
from regie_sandbox.people import Group, Person, Revocation
from regie_sandbox.refusals import graph, graph_denied, graph_not_found
from regie_sandbox.throttle import Throttle, retry_after
from regie_sandbox.world import World

CONTEXT = "https://graph.microsoft.com/v1.0/$metadata#"

READ_USERS = {"User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"}
WRITE_USERS = {"User.ReadWrite.All", "Directory.ReadWrite.All"}
READ_GROUPS = {"GroupMember.Read.All", "GroupMember.ReadWrite.All", "Group.Read.All", "Directory.Read.All"}
WRITE_MEMBERS = {"GroupMember.ReadWrite.All", "Group.ReadWrite.All", "Directory.ReadWrite.All"}
REVOKE = {"User.RevokeSessions.All", *WRITE_USERS}

# Resource units of a path; everything else costs one. learn.microsoft.com/graph/throttling-limits
COSTS = ((re.compile(r"/groups/[^/]+/members$"), 3), (re.compile(r"/users$"), 2))

_TEXT_PROPERTIES = {
    "department": "department",
    "displayName": "display_name",
    "givenName": "given_name",
    "jobTitle": "job_title",
    "mobilePhone": "mobile_phone",
    "officeLocation": "office_location",
    "surname": "surname",
    "usageLocation": "usage_location",
}
_ATTRIBUTES = {"accountEnabled": "account_enabled", **_TEXT_PROPERTIES}
_MAY_BE_EMPTY = {"mobilePhone", "officeLocation"}
_READ_ONLY = {"id", "createdDateTime", "signInActivity", "signInSessionsValidFromDateTime", "userType"}


def _need(roles: set[str], any_of: set[str]) -> None:
    if not roles & any_of:
        raise graph_denied()


def _cost(request: Request) -> int:
    cost = next((units for pattern, units in COSTS if pattern.search(request.url.path)), 1)
    names = {name.removeprefix("$") for name in request.query_params}
    top = request.query_params.get("$top") or request.query_params.get("top") or ""
    cost -= ("select" in names) + (top.isdigit() and int(top) < 20)
    return max(1, cost + ("expand" in names))


class Caller:
    """The app behind a request: its name for the ledger and its permissions. Made once per request, after throttling.

    Raises:
        Refused: 401 without a valid token, 429 when the app has used up its budget in this tenant.
    """

    def __init__(self, world: World, throttle: Throttle, request: Request) -> None:
        content = claims(world, request.headers.get("authorization"))
        self.name: str = content["app_displayname"]
        self.roles: set[str] = set(content["roles"])
        key = f"graph/{content['appid']}/{content['tid']}"
        units, now = _cost(request), world.clock()
        wait = throttle.take(key, [world.rules.graph_resource_units], now, units)
        limit = "ReadWrite"
        if wait is None and request.method != "GET":
            wait, limit = throttle.take(f"{key}/writes", [world.rules.graph_writes], now), "Write"
        if wait is not None:
            headers = {
                "Retry-After": retry_after(wait),
                "x-ms-throttle-scope": f"Tenant_Application/{limit}/{content['appid']}/{content['tid']}",
            }
            raise graph(429, "TooManyRequests", "Too many requests.", headers)
        request.state.headers["x-ms-resource-unit"] = str(units)
        share = throttle.share(key, world.rules.graph_resource_units, now)
        if share > 0.8:
            request.state.headers["x-ms-throttle-limit-percentage"] = f"{share:.2f}"


async def _json(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        message = "Write requests (excluding DELETE) must contain the Content-Type header declaration."
        raise graph(400, "Request_BadRequest", message)
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise graph(400, "BadRequest", "Unable to read JSON request payload.") from None
    if not isinstance(body, dict):
        raise graph(400, "BadRequest", "Unable to read JSON request payload.")
    return body


class Directory:
    """Finds objects or refuses, and turns changes into records and ledger entries."""

    def __init__(self, world: World) -> None:
        self.world = world

    def person(self, id_or_upn: str) -> Person:
        """The person, or 404."""
        found = self.world.person(id_or_upn)
        if found is None:
            raise graph_not_found(id_or_upn)
        return found

    def group(self, group_id: str) -> Group:
        """The group, or 404."""
        found = self.world.groups.get(group_id.casefold())
        if found is None:
            raise graph_not_found(group_id)
        return found

    def save(
        self,
        request: Request,
        caller: Caller,
        person: Person,
        record: Person | Group,
        *,
        before: dict[str, Any],
        after: dict[str, Any],
    ) -> None:
        """Keep a changed record; `before` and `after` are the fields the request named."""
        entry = Entry(
            at=self.world.clock().isoformat(),
            system="graph",
            about="person",
            method=request.method,
            path=request.url.path,
            actor=caller.name,
            target=person.upn,
            before=before,
            after=after,
            request_id=request.state.request_id,
        )
        self.world.save(record, entries=[entry])

    def set_membership(
        self, request: Request, caller: Caller, group: Group, person: Person, *, is_member: bool
    ) -> None:
        """Add or remove one member.

        Raises:
            Refused: 400 for a dynamic group, 403 for a role-assignable one; 400 when already in, 404 when not in.
        """
        if group.membership_rule is not None:
            message = "Insufficient privileges or unsupported: the members of a dynamic group follow its rule."
            raise graph(400, "Request_BadRequest", message)
        if group.role_assignable and "RoleManagement.ReadWrite.Directory" not in caller.roles:
            raise graph_denied()
        was_member = person.id in group.members
        if is_member and was_member:
            message = "One or more added object references already exist for the following modified properties: "
            raise graph(400, "Request_BadRequest", f"{message}'members'.")
        if not is_member and not was_member:
            raise graph_not_found(person.id)
        others = tuple(each for each in group.members if each != person.id)
        changed = group.model_copy(update={"members": (*others, person.id) if is_member else others})
        named = {"group": group.display_name, "group_id": group.id}
        before, after = named | {"member": was_member}, named | {"member": is_member}
        self.save(request, caller, person, changed, before=before, after=after)


def _changes(body: dict[str, Any]) -> dict[str, Any]:
    """The attributes a PATCH of a user sets.

    Raises:
        Refused: 400 for unknown or read-only properties and for values of the wrong type.
    """
    updates: dict[str, Any] = {}
    for name, value in body.items():
        if name in _READ_ONLY:
            raise graph(400, "Request_BadRequest", f"Property '{name}' is read-only and cannot be set.")
        if name == "accountEnabled":
            if not isinstance(value, bool):
                message = "Cannot convert the value of 'accountEnabled' to the expected type 'Edm.Boolean'."
                raise graph(400, "Request_BadRequest", message)
            updates["account_enabled"] = value
        elif name in _TEXT_PROPERTIES:
            if not isinstance(value, str) and not (value is None and name in _MAY_BE_EMPTY):
                message = f"Invalid value specified for property '{name}' of resource 'User'."
                raise graph(400, "Request_BadRequest", message)
            updates[_TEXT_PROPERTIES[name]] = value
        else:
            message = f"The property '{name}' does not exist on type 'microsoft.graph.user'."
            raise graph(400, "Request_BadRequest", message)
    if not updates:
        raise graph(400, "Request_BadRequest", "No property to update was specified.")
    return updates


def _may_update(caller: Caller, person: Person, updates: dict[str, Any]) -> None:
    only_enables = set(updates) == {"account_enabled"}
    narrow = {"User.EnableDisableAccount.All", "User.Read.All"}
    if not caller.roles & WRITE_USERS and not (only_enables and narrow <= caller.roles):
        raise graph_denied()
    # A holder of a directory role can only be disabled by an app that holds a directory role itself; ours never do.
    if person.directory_roles and "account_enabled" in updates:
        raise graph_denied()


def routes(world: World, throttle: Throttle) -> APIRouter:
    """Every imitated path below `/graph/v1.0`."""
    router = APIRouter(prefix="/graph/v1.0")
    directory = Directory(world)

    def caller(request: Request) -> Caller:
        return Caller(world, throttle, request)

    _user_routes(router, directory, Depends(caller))
    _membership_routes(router, directory, Depends(caller))
    return router


def _selected_by(caller: Caller, text: str | None) -> list[str] | None:
    names = shapes.user_selection(text)
    if names and shapes.SIGN_IN_ACTIVITY in names:
        _need(caller.roles, {"AuditLog.Read.All"})
    return names


def _user_routes(router: APIRouter, directory: Directory, app: Any) -> None:
    world = directory.world

    @router.get("/users/{key}")
    async def get_user(key: str, request: Request, caller: Caller = app) -> dict[str, Any]:
        _need(caller.roles, READ_USERS)
        chosen = shapes.options(request.query_params, {"select"}).get("select")
        names = _selected_by(caller, chosen)
        if names and shapes.SIGN_IN_ACTIVITY in names and not _is_guid(key):
            # The sign-in data lives in another store, which knows people by object id only.
            raise graph(400, "400", "Get By Key only supports UserId and the key has to be a valid Guid")
        person = directory.person(key)
        context = f"{CONTEXT}users({chosen})/$entity" if chosen else f"{CONTEXT}users/$entity"
        return {"@odata.context": context, **shapes.user(person, names, world.clock())}

    @router.patch("/users/{key}", status_code=204)
    async def patch_user(key: str, request: Request, caller: Caller = app) -> Response:
        updates = _changes(await _json(request))
        person = directory.person(key)
        _may_update(caller, person, updates)
        changed = person.model_copy(update=updates)
        named = {name: attribute for name, attribute in _ATTRIBUTES.items() if attribute in updates}
        before, after = ({name: getattr(each, named[name]) for name in named} for each in (person, changed))
        directory.save(request, caller, person, changed, before=before, after=after)
        return Response(status_code=204)

    @router.get("/users/{key}/manager")
    async def get_manager(key: str, request: Request, caller: Caller = app) -> dict[str, Any]:
        _need(caller.roles, READ_USERS)
        names = _selected_by(caller, shapes.options(request.query_params, {"select"}).get("select"))
        manager_id = directory.person(key).manager_id
        if manager_id is None:
            raise graph_not_found("manager")
        shown = shapes.user(world.people[manager_id], names, world.clock())
        return {
            "@odata.context": f"{CONTEXT}directoryObjects/$entity",
            "@odata.type": "#microsoft.graph.user",
            **shown,
        }

    @router.post("/users/{key}/revokeSignInSessions")
    async def revoke_sessions(key: str, request: Request, caller: Caller = app) -> Response:
        _need(caller.roles, REVOKE)
        person = directory.person(key)
        now = world.clock()
        visible = now + timedelta(seconds=world.rules.graph_revoke_delay_seconds)
        changed = person.model_copy(
            update={"revocations": (*person.revocations, Revocation(at=now, visible_at=visible))}
        )
        valid_from = "signInSessionsValidFromDateTime"
        before, after = {valid_from: person.sessions_valid_from_at(visible).isoformat()}, {valid_from: now.isoformat()}
        directory.save(request, caller, person, changed, before=before, after=after)
        # A known issue of the vendor: the code is not always 200. Every second revocation of a person shows it.
        if len(person.revocations) % 2:
            return Response(status_code=204)
        return JSONResponse({"@odata.context": f"{CONTEXT}Edm.Boolean", "value": True})


def _is_guid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _membership_routes(router: APIRouter, directory: Directory, app: Any) -> None:
    world = directory.world

    @router.get("/users/{key}/memberOf")
    async def member_of(key: str, request: Request, caller: Caller = app) -> dict[str, Any]:
        _need(caller.roles, READ_GROUPS)
        person = directory.person(key)
        given = shapes.options(request.query_params, {"select", "top", "skiptoken"})
        names = shapes.group_selection(given.get("select"))
        entries = [
            {"@odata.type": "#microsoft.graph.group", **shapes.group(each, names), "_order": each.id}
            for each in world.groups_of(person.id)
        ]
        for name in person.directory_roles:
            role = shapes.directory_role(name, names)
            entries.append({"@odata.type": "#microsoft.graph.directoryRole", **role, "_order": f"~{name}"})
        return _page(world, request, entries, given, "directoryObjects")

    @router.get("/users/{key}/memberOf/microsoft.graph.group")
    async def member_of_groups(key: str, request: Request, caller: Caller = app) -> dict[str, Any]:
        _need(caller.roles, READ_GROUPS)
        person = directory.person(key)
        given = shapes.options(request.query_params, {"select", "top", "skiptoken"})
        names = shapes.group_selection(given.get("select"))
        entries = [shapes.group(each, names) | {"_order": each.id} for each in world.groups_of(person.id)]
        return _page(world, request, entries, given, "groups")

    @router.get("/groups/{group_id}")
    async def get_group(group_id: str, request: Request, caller: Caller = app) -> dict[str, Any]:
        _need(caller.roles, READ_GROUPS)
        names = shapes.group_selection(shapes.options(request.query_params, {"select"}).get("select"))
        return {"@odata.context": f"{CONTEXT}groups/$entity", **shapes.group(directory.group(group_id), names)}

    @router.post("/groups/{group_id}/members/$ref", status_code=204)
    async def add_member(group_id: str, request: Request, caller: Caller = app) -> Response:
        _need(caller.roles, WRITE_MEMBERS)
        body = await _json(request)
        link = re.fullmatch(r"https?://[^/]+/.*(directoryObjects|users)/([^/]+)", str(body.get("@odata.id", "")))
        if set(body) != {"@odata.id"} or link is None:
            raise graph(400, "Request_BadRequest", "Invalid URL format specified in @odata.id for reference.")
        group, person = directory.group(group_id), directory.person(link[2])
        directory.set_membership(request, caller, group, person, is_member=True)
        return Response(status_code=204)

    @router.delete("/groups/{group_id}/members/{member_id}/$ref", status_code=204)
    async def remove_member(group_id: str, member_id: str, request: Request, caller: Caller = app) -> Response:
        _need(caller.roles, WRITE_MEMBERS)
        group = directory.group(group_id)
        person = world.people.get(member_id.casefold())
        if person is None:
            raise graph_not_found(member_id)
        directory.set_membership(request, caller, group, person, is_member=False)
        return Response(status_code=204)

    # Without /$ref the vendor deletes the person, not the membership. No app of this world may.
    @router.delete("/groups/{group_id}/members/{member_id}", dependencies=[app])
    async def delete_the_person(group_id: str, member_id: str) -> Response:
        directory.group(group_id)
        directory.person(member_id)
        raise graph_denied()


def _page(
    world: World, request: Request, entries: list[dict[str, Any]], given: dict[str, str], context: str
) -> dict[str, Any]:
    """One page, in the order of the ids, so that entries which go away between pages cannot hide others."""
    size = shapes.page_size(given.get("top"))
    bound_to = [request.url.path, given.get("select"), size]
    last = ""
    if "skiptoken" in given:
        content = unseal(world.signing_key, given["skiptoken"])
        if content is None or content.get("for") != bound_to:
            message = "The specified page token value has expired and can no longer be included in your request."
            raise graph(400, "Directory_ExpiredPageToken", message)
        last = content["after"]
    ahead = sorted((each for each in entries if each["_order"] > last), key=lambda each: str(each["_order"]))
    page, rest = ahead[:size], ahead[size:]
    answer: dict[str, Any] = {"@odata.context": f"{CONTEXT}{context}"}
    if rest:
        token = seal(world.signing_key, {"for": bound_to, "after": page[-1]["_order"]})
        query = {f"${name}": value for name, value in given.items() if name != "skiptoken"} | {"$skiptoken": token}
        answer["@odata.nextLink"] = f"{request.base_url}{request.url.path.lstrip('/')}?{urlencode(query, safe='$,')}"
    answer["value"] = [{name: value for name, value in each.items() if name != "_order"} for each in page]
    return answer
