"""What SCIM can do here, for services that ask before they begin (RFC 7644, 4; RFC 7643, 5 to 7)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from regie.core import scim
from regie.core.errors import NotFound
from regie.web.scim import LARGEST_PAGE, LIST, PREFIX, Asker, ScimAnswer, ScimRoute

router = APIRouter(prefix=PREFIX, route_class=ScimRoute, include_in_schema=False)

_CONFIG = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
_TYPE = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Schema"


def _attribute(name: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    usual = {
        "multiValued": False,
        "required": False,
        "caseExact": False,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "none",
    }
    return {"name": name, "type": kind, **usual, **more}


_USER = [
    _attribute("userName", required=True, uniqueness="server"),
    _attribute("externalId", caseExact=True),
    _attribute("displayName"),
    _attribute(
        "name", "complex", subAttributes=[_attribute(each) for each in ("formatted", "familyName", "givenName")]
    ),
    _attribute("active", "boolean"),
    _attribute(
        "emails",
        "complex",
        multiValued=True,
        subAttributes=[_attribute("value"), _attribute("type"), _attribute("primary", "boolean")],
    ),
    _attribute(
        "groups",
        "complex",
        multiValued=True,
        mutability="readOnly",
        subAttributes=[_attribute("value", mutability="readOnly"), _attribute("display", mutability="readOnly")],
    ),
]
_GROUP = [
    _attribute("displayName", required=True, uniqueness="server"),
    _attribute("externalId", caseExact=True),
    _attribute("members", "complex", multiValued=True, subAttributes=[_attribute("value", mutability="immutable")]),
]


def _meta(kind: str, path: str) -> dict[str, str]:
    return {"resourceType": kind, "location": f"{PREFIX}/{path}"}


SERVICE = {
    "schemas": [_CONFIG],
    "patch": {"supported": True},
    "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
    "filter": {"supported": True, "maxResults": LARGEST_PAGE},
    "changePassword": {"supported": False},
    "sort": {"supported": False},
    "etag": {"supported": True},
    "authenticationSchemes": [
        {"type": "oauthbearertoken", "name": "API token", "description": "With the act `provision`, of one tenant."}
    ],
    "meta": _meta("ServiceProviderConfig", "ServiceProviderConfig"),
}
TYPES = [
    {
        "schemas": [_TYPE],
        "id": name,
        "name": name,
        "endpoint": f"/{name}s",
        "schema": schema,
        "meta": _meta("ResourceType", f"ResourceTypes/{name}"),
    }
    for name, schema in (("User", scim.USER), ("Group", scim.GROUP))
]
SCHEMAS = [
    {
        "schemas": [_SCHEMA],
        "id": schema,
        "name": name,
        "attributes": attributes,
        "meta": _meta("Schema", f"Schemas/{schema}"),
    }
    for name, schema, attributes in (("User", scim.USER, _USER), ("Group", scim.GROUP, _GROUP))
]


@router.get("/ServiceProviderConfig")
async def show_service(_: Asker) -> Response:
    """What is supported."""
    return ScimAnswer(SERVICE)


@router.get("/ResourceTypes")
async def list_types(_: Asker) -> Response:
    """Users and groups."""
    return ScimAnswer(_list(TYPES))


@router.get("/ResourceTypes/{name}")
async def show_type(_: Asker, name: str) -> Response:
    """One of them."""
    return ScimAnswer(_one(TYPES, name))


@router.get("/Schemas")
async def list_schemas(_: Asker) -> Response:
    """Which attributes are kept."""
    return ScimAnswer(_list(SCHEMAS))


@router.get("/Schemas/{name}")
async def show_schema(_: Asker, name: str) -> Response:
    """Those of one schema."""
    return ScimAnswer(_one(SCHEMAS, name))


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schemas": [LIST],
        "totalResults": len(items),
        "startIndex": 1,
        "itemsPerPage": len(items),
        "Resources": items,
    }


def _one(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for item in items:
        if item["id"].lower() == name.lower():
            return item
    raise NotFound("There is no such document.")
