"""SCIM 2.0 for a provisioning service of one tenant (RFC 7644): users and groups, searched, paged, patched.

Whoever asks shows an API token with the act `provision`, of one tenant. Every answer, a refusal too, is a document of
the standard. `core/scim.py` reads what is sent, `store/provisioning.py` keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from regie.core import scim
from regie.core.audit import Actor
from regie.core.errors import InvalidInput, RegieError
from regie.core.reach import Act
from regie.core.scim import Group, ScimFault, User
from regie.store import provisioning
from regie.store.database import Database
from regie.store.provisioning import Found, Kept
from regie.web.means import Asking, Having
from regie.web.problems import OutOfReach, Told, WrongMedia, faults_of, told

MEDIA_TYPE = "application/scim+json"
READ = frozenset({MEDIA_TYPE, "application/json"})
PREFIX = "/scim/v2"
LARGEST_PAGE = 200
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"


class Stale(InvalidInput):
    """What is to be changed has changed since whoever asks has seen it."""


class ScimAnswer(JSONResponse):
    """A document of the standard."""

    media_type = MEDIA_TYPE


def refusal(answer: Told, scim_type: str = "") -> Response:
    """An error in the standard's shape (RFC 7644, 3.12)."""
    detail = " ".join(filter(None, (answer.detail, answer.hint)))
    content = {"schemas": [ERROR], "status": str(int(answer.status)), "detail": detail}
    more = {"scimType": scim_type} if scim_type else {}
    return ScimAnswer({**content, **more}, answer.status, headers=dict(answer.headers))


class ScimRoute(APIRoute):
    """One that tells errors as the standard has them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler with that around it."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except ScimFault as error:
                status = HTTPStatus.CONFLICT if error.scim_type == "uniqueness" else HTTPStatus.BAD_REQUEST
                return refusal(Told(status, "ScimFault", error.message), error.scim_type)
            except Stale as error:
                return refusal(Told(HTTPStatus.PRECONDITION_FAILED, "Stale", error.message))
            except RequestValidationError as error:
                return refusal(Told(HTTPStatus.BAD_REQUEST, "InvalidInput", f"{faults_of(error)}."), "invalidValue")
            except RegieError as error:
                return refusal(told(error))

        return handled


router = APIRouter(prefix=PREFIX, route_class=ScimRoute, default_response_class=ScimAnswer, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Service:
    """A provisioning service that has shown its token."""

    database: Database
    tenant: str
    by: Actor


async def _service(means: Having, caller: Asking) -> Service:
    tenants = {tenant for tenant, domain, _ in caller.reach.places(Act.PROVISION) if tenant and not domain}
    if caller.actor.type != "program" or len(tenants) != 1:
        raise OutOfReach(
            "This needs a token with the act `provision` in one tenant.",
            missing={"act": Act.PROVISION},
            hint="regie token make NAME --act provision --tenant TENANT",
        )
    return Service(means.database, tenants.pop(), caller.actor)


Asker = Annotated[Service, Depends(_service)]


async def _body(request: Request, _: Asker) -> Mapping[str, Any]:
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() not in READ:
        raise WrongMedia(f"The body must be {MEDIA_TYPE}.")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ScimFault("invalidSyntax", "The body is no JSON.") from None
    if not isinstance(body, dict):
        raise ScimFault("invalidSyntax", "The body must be an object.")
    return body


Body = Annotated[Mapping[str, Any], Depends(_body)]


class Asked:
    """How a list or a resource is to be shown."""

    def __init__(
        self,
        filter: Annotated[str, Query(max_length=1000)] = "",  # noqa: A002  the standard says filter
        start: Annotated[int, Query(alias="startIndex")] = 1,
        count: int = 100,
        attributes: Annotated[str, Query(max_length=2000)] = "",
        excluded: Annotated[str, Query(alias="excludedAttributes", max_length=2000)] = "",
    ) -> None:
        self.where = scim.read_filter(filter) if filter else ("", "")
        self.offset, self.limit = scim.page_of(start, count, LARGEST_PAGE)
        self.attributes = [name.strip() for name in attributes.split(",") if name.strip()]
        self.excluded = [name.strip() for name in excluded.split(",") if name.strip()]

    def one(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A resource with what was asked for."""
        return scim.shown(document, self.attributes, self.excluded)

    def page(self, found: Found[Any], document: Callable[[Kept[Any]], dict[str, Any]]) -> dict[str, Any]:
        """A list."""
        return {
            "schemas": [LIST],
            "totalResults": found.total,
            "startIndex": self.offset + 1,
            "itemsPerPage": len(found.items),
            "Resources": [self.one(document(each)) for each in found.items],
        }


Shape = Annotated[Asked, Depends(Asked)]
IfMatch = Annotated[str | None, Header()]


@router.get("/Users")
async def list_users(service: Asker, shape: Shape) -> Response:
    """Users, all or those that a filter names."""
    async with service.database.reading() as tx:
        found = await provisioning.find_users(tx, service.tenant, shape.where, offset=shape.offset, limit=shape.limit)
    return ScimAnswer(shape.page(found, user_document))


@router.post("/Users")
async def add_user(service: Asker, body: Body) -> Response:
    """Bring somebody."""
    async with service.database.transaction() as tx:
        kept = await provisioning.add_user(tx, service.tenant, scim.read_user(body), by=service.by)
    return _shown(user_document(kept), kept, HTTPStatus.CREATED)


@router.get("/Users/{id_}")
async def show_user(service: Asker, id_: str, shape: Shape, if_none_match: IfMatch = None) -> Response:
    """Somebody."""
    async with service.database.reading() as tx:
        kept = await provisioning.get_user(tx, service.tenant, id_)
    return _shown(shape.one(user_document(kept)), kept, seen=if_none_match)


@router.put("/Users/{id_}")
async def put_user(service: Asker, id_: str, body: Body, if_match: IfMatch = None) -> Response:
    """Have somebody as they are told now."""
    return await _change_user(service, id_, if_match, lambda _: scim.read_user(body))


@router.patch("/Users/{id_}")
async def patch_user(service: Asker, id_: str, body: Body, if_match: IfMatch = None) -> Response:
    """Change some of it."""
    return await _change_user(service, id_, if_match, lambda user: scim.patch_user(user, body))


@router.delete("/Users/{id_}")
async def remove_user(service: Asker, id_: str, if_match: IfMatch = None) -> Response:
    """Forget somebody: sessions and tokens end with it."""
    async with service.database.transaction() as tx:
        await provisioning.take_turns(tx, service.tenant)
        _require_fresh(await provisioning.get_user(tx, service.tenant, id_), if_match)
        await provisioning.remove_user(tx, service.tenant, id_, by=service.by)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get("/Groups")
async def list_groups(service: Asker, shape: Shape) -> Response:
    """Groups, all or those that a filter names."""
    async with service.database.reading() as tx:
        found = await provisioning.find_groups(tx, service.tenant, shape.where, offset=shape.offset, limit=shape.limit)
    return ScimAnswer(shape.page(found, group_document))


@router.post("/Groups")
async def add_group(service: Asker, body: Body) -> Response:
    """Bring a group."""
    async with service.database.transaction() as tx:
        kept = await provisioning.add_group(tx, service.tenant, scim.read_group(body), by=service.by)
    return _shown(group_document(kept), kept, HTTPStatus.CREATED)


@router.get("/Groups/{id_}")
async def show_group(service: Asker, id_: str, shape: Shape, if_none_match: IfMatch = None) -> Response:
    """A group."""
    async with service.database.reading() as tx:
        kept = await provisioning.get_group(tx, service.tenant, id_)
    return _shown(shape.one(group_document(kept)), kept, seen=if_none_match)


@router.put("/Groups/{id_}")
async def put_group(service: Asker, id_: str, body: Body, if_match: IfMatch = None) -> Response:
    """Have a group as it is told now."""
    return await _change_group(service, id_, if_match, lambda _: scim.read_group(body))


@router.patch("/Groups/{id_}")
async def patch_group(service: Asker, id_: str, body: Body, if_match: IfMatch = None) -> Response:
    """Change some of it: members come and go."""
    return await _change_group(service, id_, if_match, lambda group: scim.patch_group(group, body))


@router.delete("/Groups/{id_}")
async def remove_group(service: Asker, id_: str, if_match: IfMatch = None) -> Response:
    """Forget a group; its members stay."""
    async with service.database.transaction() as tx:
        await provisioning.take_turns(tx, service.tenant)
        _require_fresh(await provisioning.get_group(tx, service.tenant, id_), if_match)
        await provisioning.remove_group(tx, service.tenant, id_, by=service.by)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _change_user(service: Service, id_: str, if_match: str | None, change: Callable[[User], User]) -> Response:
    async with service.database.transaction() as tx:
        await provisioning.take_turns(tx, service.tenant)
        before = await provisioning.get_user(tx, service.tenant, id_)
        _require_fresh(before, if_match)
        kept = await provisioning.put_user(tx, service.tenant, before, change(before.content), by=service.by)
    return _shown(user_document(kept), kept)


async def _change_group(service: Service, id_: str, if_match: str | None, change: Callable[[Group], Group]) -> Response:
    async with service.database.transaction() as tx:
        await provisioning.take_turns(tx, service.tenant)
        before = await provisioning.get_group(tx, service.tenant, id_)
        _require_fresh(before, if_match)
        kept = await provisioning.put_group(tx, service.tenant, before, change(before.content), by=service.by)
    return _shown(group_document(kept), kept)


def user_document(kept: Kept[User]) -> dict[str, Any]:
    """Somebody as the standard has it."""
    user = kept.content
    name = {"formatted": user.formatted_name, "familyName": user.family_name, "givenName": user.given_name}
    document = {
        "schemas": [scim.USER],
        "id": kept.id,
        "externalId": user.external_id,
        "userName": user.user_name,
        "displayName": user.display_name,
        "name": {key: value for key, value in name.items() if value},
        "active": user.active,
        "emails": [{"value": scim.address_of(user), "type": "work", "primary": True}],
        "groups": [{"value": id_, "display": called, "$ref": f"{PREFIX}/Groups/{id_}"} for id_, called in kept.groups],
        "meta": _meta("User", kept),
    }
    return {key: value for key, value in document.items() if value not in ("", {}, [])}


def group_document(kept: Kept[Group]) -> dict[str, Any]:
    """A group as the standard has it."""
    group = kept.content
    document = {
        "schemas": [scim.GROUP],
        "id": kept.id,
        "externalId": group.external_id,
        "displayName": group.display_name,
        "members": [{"value": id_, "$ref": f"{PREFIX}/Users/{id_}"} for id_ in sorted(group.members)],
        "meta": _meta("Group", kept),
    }
    return {key: value for key, value in document.items() if value or key == "members"}


def _meta(kind: str, kept: Kept[Any]) -> dict[str, str]:
    return {
        "resourceType": kind,
        "created": kept.made_at.isoformat(),
        "lastModified": kept.changed_at.isoformat(),
        "version": _tag(kept),
        "location": f"{PREFIX}/{kind}s/{kept.id}",
    }


def _tag(kept: Kept[Any]) -> str:
    return f'W/"{kept.version}"'


def _shown(
    document: dict[str, Any], kept: Kept[Any], status: HTTPStatus = HTTPStatus.OK, seen: str | None = None
) -> Response:
    headers = {"ETag": _tag(kept), "Location": str(kept_location(document, kept))}
    if seen is not None and _tag(kept) in {each.strip() for each in seen.split(",")}:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return ScimAnswer(document, status, headers=headers)


def kept_location(document: Mapping[str, Any], kept: Kept[Any]) -> str:
    """Where a resource is found."""
    kind = "User" if scim.USER in document["schemas"] else "Group"
    return f"{PREFIX}/{kind}s/{kept.id}"


def _require_fresh(kept: Kept[Any], if_match: str | None) -> None:
    if if_match is not None and if_match.strip() != "*" and _tag(kept) not in {x.strip() for x in if_match.split(",")}:
        raise Stale("It has changed meanwhile: read it again, then change it.")
