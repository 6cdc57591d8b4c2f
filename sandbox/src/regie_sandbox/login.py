"""The Entra token endpoint: client credentials in, a bearer token out. Graph reads the token with `claims`."""

import base64
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from regie_sandbox import seed
from regie_sandbox.refusals import entra, graph
from regie_sandbox.world import World

GRAPH_SCOPE = "https://graph.microsoft.com/.default"


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def seal(key: bytes, content: dict[str, Any]) -> str:
    """Pack content into a token that only this world can make: a JWT signed with HMAC-SHA256."""
    parts = [_encode(json.dumps(each).encode()) for each in ({"alg": "HS256", "typ": "JWT"}, content)]
    signature = hmac.new(key, ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _encode(signature)])


def unseal(key: bytes, token: str) -> dict[str, Any] | None:
    """The content of a token that `seal` made with the same key, or None for anything else."""
    try:
        head, body, signature = token.split(".")
        expected = hmac.new(key, f"{head}.{body}".encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(_decode(signature), expected):
            return None
        content = json.loads(_decode(body))
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def claims(world: World, authorization: str | None) -> dict[str, Any]:
    """The claims of a request's bearer token.

    Raises:
        Refused: 401 in Graph's shape when the token is missing, forged, not for Graph or expired.
    """
    scheme, _, token = (authorization or "").partition(" ")
    headers = {"WWW-Authenticate": 'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common"'}
    if scheme.lower() != "bearer" or not token:
        raise graph(401, "InvalidAuthenticationToken", "Access token is empty.", headers)
    content = unseal(world.signing_key, token)
    if content is None or content.get("aud") != "https://graph.microsoft.com":
        raise graph(401, "InvalidAuthenticationToken", "Access token validation failure.", headers)
    if content["exp"] <= world.clock().timestamp():
        message = "Lifetime validation failed, the token is expired."
        raise graph(401, "InvalidAuthenticationToken", message, headers)
    return content


def _registration(form: dict[str, str], timestamp: str) -> seed.Registration:
    client_id = form.get("client_id", "")
    if form.get("grant_type") != "client_credentials":
        message = "The app requested an unsupported grant type."
        raise entra(400, "unsupported_grant_type", 70003, message, timestamp)
    found = next((each for each in seed.REGISTRATIONS if each.client_id == client_id), None)
    if found is None:
        message = f"Application with identifier '{client_id}' was not found in the directory."
        raise entra(400, "unauthorized_client", 700016, message, timestamp)
    if not form.get("client_secret"):
        message = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
        raise entra(401, "invalid_client", 7000218, message, timestamp)
    if not hmac.compare_digest(form["client_secret"].encode(), found.client_secret.encode()):
        message = f"Invalid client secret provided for app '{client_id}'."
        raise entra(401, "invalid_client", 7000215, message, timestamp)
    scope = form.get("scope", "")
    if scope != GRAPH_SCOPE:
        if not scope.endswith("/.default"):
            message = f"The provided value for scope {scope} is not valid: client credentials need a resource/.default."
            raise entra(400, "invalid_scope", 1002012, message, timestamp)
        message = f"The resource principal named {scope.removesuffix('/.default')} was not found in the tenant."
        raise entra(400, "invalid_resource", 500011, message, timestamp)
    return found


def routes(world: World) -> APIRouter:
    """The token endpoint of the one tenant there is."""
    router = APIRouter(prefix="/login")

    @router.post("/{tenant}/oauth2/v2.0/token")
    async def token(tenant: str, request: Request) -> JSONResponse:
        now: datetime = world.clock()
        timestamp = now.strftime("%Y-%m-%d %H:%M:%SZ")
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if content_type != "application/x-www-form-urlencoded":
            message = "The request body must be form encoded and contain the parameter: 'grant_type'."
            raise entra(400, "invalid_request", 900144, message, timestamp)
        if tenant not in {seed.TENANT_ID, seed.DOMAIN}:
            raise entra(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.", timestamp)
        body = (await request.body()).decode("utf-8", "replace")
        form = {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()}
        found = _registration(form, timestamp)
        lifetime = world.rules.token_lifetime_seconds
        content = {
            "aud": "https://graph.microsoft.com",
            "iss": f"https://sts.windows.net/{seed.TENANT_ID}/",
            "iat": int(now.timestamp()),
            "exp": int(now.timestamp()) + lifetime,
            "appid": found.client_id,
            "app_displayname": found.name,
            "tid": seed.TENANT_ID,
            "roles": list(found.roles if world.rules.graph_roles is None else world.rules.graph_roles),
        }
        answer = {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime}
        answer["access_token"] = seal(world.signing_key, content)
        return JSONResponse(answer, headers={"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"})

    return router
