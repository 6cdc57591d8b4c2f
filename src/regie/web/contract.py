"""The API as an OpenAPI document, made from its routes: for low-code tools that read one, and for the tests.

What the routes read by themselves (bodies, who asks) FastAPI cannot know, so it is added here.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute

from regie.web.means import Asking, BodyOf, Having
from regie.web.problems import MEDIA_TYPE, Problem

PREFIX = "/v1/"
AUTHORIZATION = "authorization"
REFUSALS = (400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 502, 503)
"""Every status a problem document comes with."""
TOKEN, PASSWORD = "token", "password"

router = APIRouter()


@router.get("/v1/openapi.json", include_in_schema=False)
async def show(means: Having, _: Asking) -> dict[str, Any]:
    """The document, for whoever may ask anything at all."""
    return means.contract()


def document_of(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI document of the routes of the API."""
    of_api = [
        route
        for route in routes
        if isinstance(route, APIRoute) and route.path.startswith(PREFIX) and route.include_in_schema
    ]
    document = get_openapi(title="Regie", version="1", routes=of_api, separate_input_output_schemas=False)
    parts = document["components"]
    parts["schemas"] = {
        name: schema
        for name, schema in parts["schemas"].items()
        if name not in {"HTTPValidationError", "ValidationError"}
    }
    parts["schemas"]["Problem"] = _schema(Problem, parts["schemas"])
    parts["securitySchemes"] = {
        TOKEN: {"type": "http", "scheme": "bearer", "description": "An API token, or the operator's."},
        PASSWORD: {"type": "http", "scheme": "basic", "description": "A local account, where there are any."},
    }
    for route in of_api:
        for method in sorted(route.methods or ()):
            _complete(document["paths"][route.path_format][method.lower()], route, parts["schemas"])
    return document


def _complete(operation: dict[str, Any], route: APIRoute, schemas: dict[str, Any]) -> None:
    """Add to an operation what its route does by itself."""
    refused = {"description": "A problem document (RFC 9457)", "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}}
    del operation["responses"]["422"]
    operation["responses"] |= {
        str(status): {**refused, "description": HTTPStatus(status).phrase} for status in REFUSALS
    }
    known = [each for each in operation.get("parameters", []) if each["name"].lower() == AUTHORIZATION]
    operation["parameters"] = [each for each in operation.get("parameters", []) if each not in known]
    operation["security"] = [{TOKEN: []}, {PASSWORD: []}] if known else []
    model = next(
        (each.call.model for each in route.dependant.dependencies if isinstance(each.call, BodyOf)),
        None,
    )
    if model is not None:
        schemas[model.__name__] = _schema(model, schemas)
        content = {"application/json": {"schema": _ref(model.__name__)}}
        operation["requestBody"] = {"required": True, "content": content}


def _schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of a record; what it is made of goes beside the others."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    return schema


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
