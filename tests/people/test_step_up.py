"""What takes something away is approved with an authenticator, or with a second factor shown just now."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import cbor2
import httpx2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from regie.core import canonical
from regie.core.audit import Event
from regie.core.plan import PlannedStep
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.store import accounts, approvals, audit, authenticators, erasing, releases, sessions
from regie.store.accounts import Identity
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.sessions import SignedInBy
from regie.web.app import make_web
from regie.web.identify import WaysIn
from regie.web.pages.visitor import COOKIE, csrf_of
from tests.leaves import read_outside

from ..counterparts.authenticator import PRESENT, SoftAuthenticator, read  # noqa: TID252  as elsewhere in tests
from ..web.stage import (  # noqa: TID252  as elsewhere in tests
    OFFBOARD,
    OPERATOR,
    PLAN,
    RIK,
    TOKEN,
    FakeGateway,
    Stage,
    make_release,
)

pytestmark = pytest.mark.slow

ORIGIN, HOST = "https://regie.example.com", "regie.example.com"
ZOE, BEN = "zoë.ünal@example.com", "ben@example.com"
WITH_A_KEY = hashlib.sha256(HOST.encode()).digest() + b"\x45" + bytes(4 + 16) + b"\x00\x01A"
"""Authenticator data (WebAuthn, 6.1) of a person who was verified, up to where the public key stands."""
FRESH = SignedInBy(amr=("pwd", "otp"), mfa_age_s=5.0)


@dataclass
class Desk:
    """Somebody at a browser, with an authenticator."""

    stage: Stage
    http: httpx2.AsyncClient
    address: str
    token: str
    device: SoftAuthenticator

    async def post(self, path: str, **fields: str) -> httpx2.Response:
        self.http.cookies.clear()
        self.http.cookies.set(COOKIE, self.token)
        return await self.http.post(
            path, data={"csrf": csrf_of(self.token), **fields}, headers={"Origin": "https://web"}
        )

    async def open(self, path: str) -> httpx2.Response:
        self.http.cookies.clear()
        self.http.cookies.set(COOKIE, self.token)
        return await self.http.get(path)

    async def add(self, name: str = "Schlüssel 王") -> httpx2.Response:
        asked = await self.post("/authenticators/challenge")
        assert asked.status_code == 200, asked.text
        return await self.post("/authenticators", name=name, signed=json.dumps(self.device.make(asked.json())))

    async def ask(self, approval: str) -> dict[str, Any]:
        asked = await self.post(f"/approvals/{approval}/challenge")
        assert asked.status_code == 200, asked.text
        found: dict[str, Any] = asked.json()
        return found

    async def decide(
        self, approval: str, signed: dict[str, str] | None = None, decision: str = "approved"
    ) -> httpx2.Response:
        async with self.stage.database.reading() as tx:
            found = await approvals.find(tx, approval)
        assert found is not None
        more = {"signed": json.dumps(signed)} if signed else {}
        path = f"/approvals/{approval}/decision"
        return await self.post(path, decision=decision, plan_sha256=found.plan_sha256, **more)


@dataclass
class Office:
    """A stage whose people come from an identity provider."""

    stage: Stage
    http: httpx2.AsyncClient

    async def desk(self, address: str = ZOE, how: SignedInBy | None = None) -> Desk:
        async with self.stage.database.transaction() as tx:
            who = Identity(issuer="https://idp.example.com", subject=address, address=address, display_name=address)
            await accounts.welcome(tx, who)
            token = await sessions.begin(tx, address, by="identity_provider", how=how or FRESH)
        return Desk(self.stage, self.http, address, token, SoftAuthenticator(ORIGIN, HOST))

    async def ask(self, *, trigger: str = "t", plan: tuple[PlannedStep, ...] = PLAN) -> tuple[RunKey, str]:
        """A run that asks everybody here about a plan."""
        request = StartRequest(tenant="acme", workflow=OFFBOARD, trigger_key=trigger, started_by=OPERATOR)
        key = (await PostgresEngine(self.stage.database).start(request)).key
        return key, await self.stage.ask(key, ZOE, BEN, requester=RIK, plan=plan)

    async def standing(self, approval: str) -> str:
        async with self.stage.database.reading() as tx:
            found = await approvals.find(tx, approval)
        assert found is not None
        return found.status

    async def denials(self, key: RunKey) -> list[Any]:
        async with self.stage.database.reading() as tx:
            leaves = await audit.read(tx, key)
        return [leaf.fields["reason"] for leaf in leaves if leaf.event is Event.REQUEST_DENIED]


@pytest.fixture
async def office(database: Database, web_database: Database) -> AsyncIterator[Office]:
    async with database.transaction() as tx:
        await releases.put(tx, make_release(), by=OPERATOR)
    gateway = FakeGateway()
    app = make_web(web_database, gateway, operator_token=TOKEN, ways_in=WaysIn(origin=ORIGIN))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="https://web") as http:
        yield Office(Stage(database, gateway, http), http)


async def test_a_yes_is_signed_and_anybody_can_check_it_later(office: Office) -> None:
    key, approval = await office.ask()
    unsure = await office.desk(how=SignedInBy(amr=("pwd",)))
    before = (await unsure.open(f"/approvals/{approval}")).text
    assert "You cannot approve this yet" in before
    assert "second factor" in before
    zoe = await office.desk()
    added_now = await zoe.add()
    assert added_now.status_code == 303, added_now.text
    assert "Schlüssel 王" in (await zoe.open("/authenticators")).text
    assert "Approve with your authenticator" in (await zoe.open(f"/approvals/{approval}")).text
    without = await zoe.decide(approval)
    assert (without.status_code, await office.standing(approval)) == (403, "open")
    assert "your yes needs your authenticator" in without.text
    assert (await zoe.decide(approval, zoe.device.sign(await zoe.ask(approval)))).status_code == 303
    assert await office.standing(approval) == "approved"

    header = {"Authorization": f"Bearer {TOKEN}"}
    kept = (await office.http.get(f"/v1/approvals/{approval}/assertion", headers=header)).json()
    async with office.stage.database.reading() as tx:
        [leaf] = [each for each in await audit.read(tx, key) if each.event is Event.APPROVAL_GRANTED]
        [added] = [each for each in await read_outside(tx, "", "") if each.event is Event.AUTHENTICATOR_ADDED]
    told: Any = leaf.fields
    adding: Any = added.fields
    assert told["assertion_sha256"] == canonical.digest(kept)
    why = (await office.http.get(f"/v1/runs/{key.run}/why", headers=header)).json()
    assert [each["assertion_sha256"] for each in why["approvals"]] == [told["assertion_sha256"]]
    assert told["approval"]["plan_sha256"] == kept["agreement"]["plan_sha256"]
    # Whoever checks it needs SHA-256, JSON and the signature scheme, and nothing of ours.
    said = json.dumps(
        {"purpose": "regie approval 1", **kept["agreement"]}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    client_data = read(kept["client_data"])
    assert read(json.loads(client_data)["challenge"]) == hashlib.sha256(said.encode()).digest()
    point = cbor2.loads(read(kept["public_key"]))
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(point[-2], "big"), int.from_bytes(point[-3], "big"), ec.SECP256R1()
    )
    signed = read(kept["authenticator_data"]) + hashlib.sha256(client_data).digest()
    numbers.public_key().verify(read(kept["signature"]), signed, ec.ECDSA(hashes.SHA256()))
    assert adding["actor"]["id"] == ZOE
    assert adding["authenticator"]["public_key_sha256"] == hashlib.sha256(read(kept["public_key"])).hexdigest()


async def test_who_is_erased_is_not_named_by_what_they_signed(office: Office) -> None:
    zoe = await office.desk()
    await zoe.add()
    key, approval = await office.ask()
    assert (await zoe.decide(approval, zoe.device.sign(await zoe.ask(approval)))).status_code == 303
    header = {"Authorization": f"Bearer {TOKEN}"}
    assert (await office.http.get(f"/v1/approvals/{approval}/assertion", headers=header)).status_code == 200
    async with office.stage.database.transaction() as tx:
        await tx.change(
            """update regie.run set status = 'done', ended_at = clock_timestamp(), ready_at = null, owner = null
               where id = %(run)s""",
            {"run": key.run},
        )
        assert await erasing.erase(tx, ZOE, OPERATOR) != []
    assert (await office.http.get(f"/v1/approvals/{approval}/assertion", headers=header)).status_code == 404
    async with office.stage.database.reading() as tx:
        assert await tx.rows("select from regie.assertion") == []
        leaves = await audit.read(tx, key)
    assert [each.fields["assertion_sha256"] for each in leaves if each.event is Event.APPROVAL_GRANTED]


async def test_what_does_not_hold_is_refused_in_plain_words_and_noted(office: Office) -> None:
    zoe, ben = await office.desk(), await office.desk(BEN)
    await zoe.add()
    await ben.add()
    key, approval = await office.ask()
    _, other = await office.ask(trigger="other", plan=PLAN[:1] * 2)
    tampered = zoe.device.sign(await zoe.ask(approval))
    tampered["signature"] = base64.urlsafe_b64encode(read(tampered["signature"])[:-1] + b"\0").rstrip(b"=").decode()
    stranger = SoftAuthenticator(ORIGIN, HOST)
    wrong: list[tuple[dict[str, str], str, str]] = [
        (zoe.device.sign(await zoe.ask(approval), origin="https://evil.example.com"), "another site", "other_site"),
        (zoe.device.sign(await zoe.ask(other)), "Nobody asked", "not_asked"),
        (zoe.device.sign(await zoe.ask(approval), flags=PRESENT), "make sure that it was you", "nobody_verified"),
        (ben.device.sign(await ben.ask(approval)), "Nobody asked", "not_asked"),
        (ben.device.sign(await zoe.ask(approval)), "not one of yours", "strange_authenticator"),
        (stranger.sign(await zoe.ask(approval)), "not one of yours", "strange_authenticator"),
        (tampered, "cannot be used", "not_genuine"),
        ({**zoe.device.sign(await zoe.ask(approval)), "client_data": "e30"}, "Nobody asked", "not_asked"),
    ]
    for signed, words, _ in wrong:
        answer = await zoe.decide(approval, signed)
        assert (answer.status_code, await office.standing(approval)) == (409, "open"), answer.text
        assert words in answer.text
    assert await office.denials(key) == [reason for *_, reason in wrong]
    unreadable = await zoe.decide(approval, {"id": "ä"})
    assert (unreadable.status_code, await office.standing(approval)) == (422, "open")


async def test_a_signature_counts_once_and_a_count_never_goes_back(office: Office) -> None:
    zoe = await office.desk()
    await zoe.add()
    key, first = await office.ask()
    _, second = await office.ask(trigger="second")
    signed = zoe.device.sign(await zoe.ask(first))
    # It does not count for the other decision, and being shown there does not use it up.
    assert (await zoe.decide(second, signed)).status_code == 409
    assert (await zoe.decide(first, signed)).status_code == 303
    again = await zoe.decide(first, signed)
    assert (again.status_code, "already decided" in again.text) == (409, True)
    zoe.device.count -= 2
    copied = await zoe.decide(second, zoe.device.sign(await zoe.ask(second)))
    assert (copied.status_code, "may be a copy" in copied.text) == (409, True)
    zoe.device.count += 5
    replayed = zoe.device.sign(await zoe.ask(second))
    async with office.stage.database.transaction() as tx:
        assert await authenticators.take(
            tx, read(json.loads(read(replayed["client_data"]))["challenge"]), address=ZOE, approval=second
        )
    assert "used already" in (await zoe.decide(second, replayed)).text
    assert (await zoe.decide(second, zoe.device.sign(await zoe.ask(second)))).status_code == 303
    assert await office.denials(key) == []


async def test_an_authenticator_that_does_not_count_is_taken(office: Office) -> None:
    zoe = await office.desk()
    zoe.device.counts = False
    await zoe.add()
    for trigger in ("a", "b"):
        _, approval = await office.ask(trigger=trigger)
        assert (await zoe.decide(approval, zoe.device.sign(await zoe.ask(approval)))).status_code == 303


async def test_without_one_the_age_of_the_second_factor_decides(office: Office) -> None:
    key, approval = await office.ask()
    for how in (SignedInBy(amr=("pwd",)), SignedInBy(amr=("pwd", "otp"), mfa_age_s=901.0)):
        late = await office.desk(how=how)
        answer = await late.decide(approval)
        assert (answer.status_code, await office.standing(approval)) == (403, "open")
        assert "within the last 15 minutes" in answer.text
    assert await office.denials(key) == ["high_risk_needs_a_second_factor"] * 2
    fresh = await office.desk(how=FRESH)
    assert (await fresh.decide(approval)).status_code == 303


async def test_adding_one_needs_what_it_will_stand_for(office: Office) -> None:
    for how in (SignedInBy(amr=("pwd",)), SignedInBy(amr=("pwd", "otp"), mfa_age_s=601.0)):
        zoe = await office.desk(how=how)
        refused = await zoe.post("/authenticators/challenge")
        assert (refused.status_code, "second factor" in refused.text) == (403, True)
        sure = await office.desk(how=FRESH)
        asked = (await sure.post("/authenticators/challenge")).json()
        made = json.dumps(zoe.device.make(asked))
        assert (await zoe.post("/authenticators", name="x", signed=made)).status_code == 422
        assert "Sign out, and sign in with it" in (await zoe.open("/authenticators")).text
    async with office.stage.database.reading() as tx:
        assert await authenticators.of(tx, ZOE) == []


async def test_once_somebody_has_one_a_second_factor_is_not_enough(office: Office) -> None:
    zoe = await office.desk(how=FRESH)
    await zoe.add()
    _, approval = await office.ask()
    assert (await zoe.decide(approval)).status_code == 403
    assert (await zoe.decide(approval, decision="refused")).status_code == 303, "a no needs nothing"


async def test_what_takes_nothing_away_needs_nothing(office: Office) -> None:
    zoe = await office.desk(how=SignedInBy(amr=("pwd",)))
    harmless = PLAN[0].model_copy(
        update={"planned": PLAN[0].planned.model_copy(update={"capability": "identity.enable_account"})}
    )
    _, approval = await office.ask(plan=(harmless, PLAN[1]))
    assert (await zoe.decide(approval)).status_code == 303
    unknown = PLAN[0].model_copy(update={"planned": PLAN[0].planned.model_copy(update={"capability": "moon.blow_up"})})
    _, approval = await office.ask(trigger="unknown", plan=(unknown,))
    assert (await zoe.decide(approval)).status_code == 403, "what nobody knows counts as the worst"


async def test_authenticators_are_changed_only_by_who_has_just_signed_in(office: Office) -> None:
    zoe, ben = await office.desk(), await office.desk(BEN)
    await zoe.add()
    assert (await zoe.add()).status_code == 422, "it is there already"
    async with office.stage.database.reading() as tx:
        [mine] = await authenticators.of(tx, ZOE)
    assert (await ben.post(f"/authenticators/{mine.id}/remove")).status_code == 404
    asked = (await ben.post("/authenticators/challenge")).json()
    stolen = json.dumps(zoe.device.make(asked))
    assert (await zoe.post("/authenticators", name="x", signed=stolen)).status_code == 422, "asked of somebody else"
    deep = base64.urlsafe_b64encode(b"[" * 7_000 + b"]" * 7_000).decode()
    for wrong in ("", "{}", "x", json.dumps({"id": "AAAA", "client_data": deep, "attestation": "AAAA"})):
        assert (await zoe.post("/authenticators", name="x", signed=wrong)).status_code == 422
    asked = (await zoe.post("/authenticators/challenge")).json()
    made = SoftAuthenticator(ORIGIN, HOST).make(asked)
    attestation = {"fmt": "none", "attStmt": {}, "authData": WITH_A_KEY + cbor2.dumps([1])}
    no_key = {**made, "attestation": base64.urlsafe_b64encode(cbor2.dumps(attestation)).decode()}
    assert (await zoe.post("/authenticators", name="x", signed=json.dumps(no_key))).status_code == 422
    elsewhere = SoftAuthenticator("https://evil.example.com", HOST).make(
        (await zoe.post("/authenticators/challenge")).json()
    )
    assert (await zoe.post("/authenticators", name="x", signed=json.dumps(elsewhere))).status_code == 422
    async with office.stage.database.transaction() as tx:
        await tx.change("update regie.session set created_at = clock_timestamp() - interval '11 minutes'", {})
    assert (await zoe.post(f"/authenticators/{mine.id}/remove")).status_code == 403
    assert (await zoe.post("/authenticators/challenge")).status_code == 403
    assert "Sign out and in again" in (await zoe.open("/authenticators")).text
    again = await office.desk(how=SignedInBy(amr=("pwd",)))
    assert (await again.post(f"/authenticators/{mine.id}/remove")).status_code == 303
    async with office.stage.database.reading() as tx:
        events = [leaf.event for leaf in await read_outside(tx, "", "")]
    assert events.count(Event.AUTHENTICATOR_ADDED) == events.count(Event.AUTHENTICATOR_REMOVED) == 1
