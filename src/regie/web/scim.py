"""SCIM 2.0 for a provisioning service of one tenant (RFC 7644): users and groups, searched, paged, patched.

Whoever asks shows an API token with the act `provision`, of one tenant. Every answer, a refusal too, is a document of
the standard. `core/scim.py` reads what is sent, `store/provisioning.py` keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Generic

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
from regie.store.database import Database, Transaction
from regie.store.provisioning import Content, Found, Kept
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


@dataclass(frozen=True, slots=True)
class Kind(Generic[Content]):
    """Users, or groups: what is kept of them, and how it is read and told."""

    name: str
    read: Callable[[Mapping[str, Any]], Content]
    patch: Callable[[Content, Mapping[str, Any]], Content]
    document: Callable[[Kept[Content]], dict[str, Any]]
    find: Callable[..., Awaitable[Found[Content]]]
    get: Callable[[Transaction, str, str], Awaitable[Kept[Content]]]
    add: Callable[..., Awaitable[Kept[Content]]]
    put: Callable[..., Awaitable[Kept[Content]]]
    remove: Callable[..., Awaitable[None]]

    def shown(
        self,
        kept: Kept[Content],
        shape: Asked | None = None,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        seen: str | None = None,
    ) -> Response:
        """One of them as an answer; `seen` are the versions that whoever asks has."""
        headers = {"ETag": _tag(kept), "Location": f"{PREFIX}/{self.name}s/{kept.id}"}
        if _is_among(kept, seen):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        document = self.document(kept)
        return ScimAnswer(shape.one(document) if shape else document, status, headers=headers)

    async def change(
        self, service: Service, id_: str, if_match: str | None, changed: Callable[[Content], Content]
    ) -> Response:
        """Change one, unless it is not as whoever asks has seen it."""
        async with service.database.transaction() as tx:
            before = await self.fresh(tx, service, id_, if_match)
            kept = await self.put(tx, service.tenant, before, changed(before.content), by=service.by)
        return self.shown(kept)

    async def fresh(self, tx: Transaction, service: Service, id_: str, if_match: str | None) -> Kept[Content]:
        """One that nobody else changes meanwhile.

        Raises:
            Stale: It has changed since whoever asks has seen it.
        """
        await provisioning.take_turns(tx, service.tenant)
        kept = await self.get(tx, service.tenant, id_)
        if if_match is not None and not _is_among(kept, if_match):
            raise Stale("It has changed meanwhile: read it again, then change it.")
        return kept


def _is_among(kept: Kept[Any], tags: str | None) -> bool:
    """Whether the version is one of those in a header (RFC 9110, 13.1)."""
    given = {each.strip() for each in (tags or "").split(",")}
    return _tag(kept) in given or "*" in given


def _serve(kind: Kind[Any]) -> None:
    """Make the routes of users, or of groups."""
    every, one = f"/{kind.name}s", f"/{kind.name}s/{{id_}}"

    @router.get(every)
    async def list_all(service: Asker, shape: Shape) -> Response:
        async with service.database.reading() as tx:
            found = await kind.find(tx, service.tenant, shape.where, offset=shape.offset, limit=shape.limit)
        return ScimAnswer(shape.page(found, kind.document))

    @router.post(every)
    async def add(service: Asker, body: Body) -> Response:
        async with service.database.transaction() as tx:
            kept = await kind.add(tx, service.tenant, kind.read(body), by=service.by)
        return kind.shown(kept, status=HTTPStatus.CREATED)

    @router.get(one)
    async def show(service: Asker, id_: str, shape: Shape, if_none_match: IfMatch = None) -> Response:
        async with service.database.reading() as tx:
            return kind.shown(await kind.get(tx, service.tenant, id_), shape, seen=if_none_match)

    @router.put(one)
    async def put(service: Asker, id_: str, body: Body, if_match: IfMatch = None) -> Response:
        return await kind.change(service, id_, if_match, lambda _: kind.read(body))

    @router.patch(one)
    async def patch(service: Asker, id_: str, body: Body, if_match: IfMatch = None) -> Response:
        return await kind.change(service, id_, if_match, lambda before: kind.patch(before, body))

    @router.delete(one)
    async def remove(service: Asker, id_: str, if_match: IfMatch = None) -> Response:
        async with service.database.transaction() as tx:
            await kind.fresh(tx, service, id_, if_match)
            await kind.remove(tx, service.tenant, id_, by=service.by)
        return Response(status_code=HTTPStatus.NO_CONTENT)


_serve(
    Kind(
        "User",
        scim.read_user,
        scim.patch_user,
        user_document,
        provisioning.find_users,
        provisioning.get_user,
        provisioning.add_user,
        provisioning.put_user,
        provisioning.remove_user,
    )
)
_serve(
    Kind(
        "Group",
        scim.read_group,
        scim.patch_group,
        group_document,
        provisioning.find_groups,
        provisioning.get_group,
        provisioning.add_group,
        provisioning.put_group,
        provisioning.remove_group,
    )
)
