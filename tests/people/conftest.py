"""People who sign in: the certified provider, a gateway that knows it, a web that asks the gateway, a browser."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from regie.core.starts import FormStart
from regie.core.tenant import GroupRole, SecretRef
from regie.gateway.app import make_gateway
from regie.gateway.identify import WEB, Callers
from regie.gateway.identity_provider import IdentityProvider, ProviderSettings
from regie.gateway.vault import INSTALLATION, VaultFile
from regie.gateway_client import GatewayClient
from regie.store import releases
from regie.store.database import Database
from regie.web.app import make_web
from regie.web.identify import ANSWER_AT, WaysIn

from ..counterparts.identity_provider import SECRET, Client, serving, sign_in_at  # noqa: TID252  as elsewhere in tests
from ..web.stage import OFFBOARD, OPERATOR, TOKEN, make_release  # noqa: TID252  as elsewhere in tests

ORIGIN = "https://web"
ANSWER = f"{ORIGIN}{ANSWER_AT}"
REGIE = Client("regie", ANSWER, {"post_logout_redirect_uris": [f"{ORIGIN}/sign-in"]})
STRANGER = Client("stranger", "https://stranger.example.com/back")
PEOPLE: dict[str, dict[str, object]] = {
    "zoe": {"email": "Zoe.Unal@example.com", "name": "Zoë Ünal-Ødegård", "groups": ["soc"], "amr": ["pwd", "otp"]},
    "wang": {"email": "wang@example.com", "name": "王小明", "groups": ["owners"]},
    "vera": {"email": "vera@example.com", "name": "Vera", "groups": ["watchers", "signers"]},
    "lone": {"email": "lone@example.com", "name": "Lone", "groups": []},
    "mallory": {"email": "zoe.unal@example.com", "name": "Zoë", "groups": ["owners"]},
    "unsure": {"email": "wang@example.com", "email_verified": "false", "groups": ["owners"]},
    "unverified": {"email": "wang@example.com", "email_verified": False, "groups": ["owners"]},
}
SECRET_AT = SecretRef(domain="installation", name="oidc-client")


@dataclass
class Clocks:
    """The machine's clock, as far as tokens are compared with it."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s  # noqa: TID251  tokens carry times of the wall clock


class Swapped(httpx2.AsyncBaseTransport):
    """The network; what the token endpoint says can be replaced."""

    def __init__(self) -> None:
        self.token: str | None = None
        self._network = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._network.handle_async_request(request)
        if self.token is None or not request.url.path.endswith("/token"):
            return answer
        await answer.aread()
        return httpx2.Response(200, json={**answer.json(), "id_token": self.token})

    async def aclose(self) -> None:
        await self._network.aclose()


@dataclass
class People:
    """Hands to act with."""

    database: Database
    http: httpx2.AsyncClient
    issuer: str
    clock: Clocks
    way: Swapped
    app: FastAPI
    vault: VaultFile

    async def leave(self, then: str = "/runs") -> str:
        """Begin to sign in; where the browser is sent."""
        answer = await self.http.get("/sign-in/provider", params={"next": then})
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    async def come_back(self, person: str, then: str = "/runs") -> str:
        """The address that a browser is sent back to."""
        return await sign_in_at(await self.leave(then), person, back_at=ANSWER)

    async def sign_in(self, person: str, then: str = "/runs") -> httpx2.Response:
        return await self.http.get(await self.come_back(person, then))


async def open_forms(people: People) -> None:
    """Everyone may start the workflow with a form, at each customer."""
    async with people.database.transaction() as tx:
        release = await releases.current(tx)
        offboard = release.definitions[OFFBOARD].model_copy(update={"start": (FormStart(who="everyone"),)})
        definitions = {**release.definitions, OFFBOARD: offboard}
        await releases.put(tx, release.model_copy(update={"definitions": definitions}), by=OPERATOR)


async def customers_whose_forms_one_sees(people: People) -> set[str]:
    """Whoever has signed in sees forms of these; of the others there are none, in the list or by their address."""
    listed = (await people.http.get("/forms")).text
    seen = set()
    for tenant in ("acme", "umbrella"):
        address = f"/forms/{tenant}/{OFFBOARD}"
        answer = await people.http.get(address)
        assert answer.status_code == (200 if address in listed else 404)
        seen |= {tenant} if address in listed else set()
    return seen


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("provider"), [REGIE, STRANGER], PEOPLE) as issuer:
        yield issuer


def provider_at(issuer: str, vault: VaultFile, clock: Clocks, way: Swapped) -> IdentityProvider:
    return IdentityProvider(
        ProviderSettings(issuer=issuer, client_id="regie", scopes=("openid", "email", "profile", "groups")),
        partial(vault.get, INSTALLATION, SECRET_AT),
        transport=way,
        now=clock,
    )


@pytest.fixture
async def people(database: Database, web_database: Database, issuer: str, tmp_path: Path) -> AsyncIterator[People]:
    release = make_release()
    acme = release.tenants["acme"].model_copy(
        update={
            "groups": {
                "soc": (GroupRole(role="operator", domains=("identity",)),),
                "soc-of-hr": (GroupRole(role="operator", domains=("hr",)),),
                "watchers": (GroupRole(role="viewer"),),
                "signers": (GroupRole(role="security-officer"),),
            }
        }
    )
    release = release.model_copy(update={"tenants": {**release.tenants, "acme": acme}})
    async with database.transaction() as tx:
        await releases.put(tx, release, by=OPERATOR)
    vault = VaultFile.create(tmp_path / "vault")
    vault.put(INSTALLATION, SECRET_AT, SECRET)
    clock, way = Clocks(), Swapped()
    token = secrets.token_urlsafe(32)
    gateway = make_gateway(
        database,
        vault,
        Callers(lambda: {WEB: token}),
        connectors={},
        identity_provider=provider_at(issuer, vault, clock, way),
    )
    async with (
        gateway.router.lifespan_context(gateway),
        GatewayClient("http://gateway", token, transport=httpx2.ASGITransport(gateway)) as client,
    ):
        app = make_web(
            web_database, client, operator_token=TOKEN, ways_in=WaysIn(answer_address=ANSWER, operator_group="owners")
        )
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=ORIGIN) as http:
            yield People(database, http, issuer, clock, way, app, vault)
    await way.aclose()
