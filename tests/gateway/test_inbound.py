"""Deliveries from outside: only genuine ones come in, and every other one leaves a trace."""

import hashlib
import hmac
import json

import pytest

from regie.core.errors import Denied, InvalidInput
from regie.gateway import inbound
from regie.store import audit
from tests.leaves import read_outside

from .stage import Stage
from .vendor import WEBHOOK_CANARY

pytestmark = pytest.mark.slow

BODY = json.dumps({"ticket": "ITSM-12", "note": "Zoë"}).encode()


def signed(body: bytes, secret: str = WEBHOOK_CANARY, **more: str) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Sig": f"sha256={digest}", "X-Delivery": "d-1", "Content-Type": "application/json", **more}


async def refusals(stage: Stage) -> list[audit.Leaf]:
    async with stage.database.reading() as tx:
        outside = await read_outside(tx, "acme", "identity")
    return [leaf for leaf in outside if leaf.event == "trigger:refused"]


async def test_a_genuine_delivery_is_read(stage: Stage) -> None:
    found = await stage.web.inbound("acme", "directory", BODY, signed(BODY))

    assert found.delivery == "d-1"
    assert found.domains == ("identity",)
    assert (found.event["kind"], found.event["ticket"]) == ("ticket_created", "ITSM-12")
    assert await refusals(stage) == []


async def test_half_a_character_in_a_genuine_delivery_stops_nothing(stage: Stage) -> None:
    body = b'{"ticket": "ITSM-12 \\ud83d"}'
    found = await stage.web.inbound("acme", "directory", body, signed(body))
    assert found.event["ticket"] == "ITSM-12 \ufffd"


async def test_headers_count_whatever_their_case_and_their_bytes(stage: Stage) -> None:
    headers = {name.lower(): value for name, value in signed(BODY, **{"X-Name": "Zo\xeb"}).items()}
    assert (await stage.web.inbound("acme", "directory", BODY, headers)).delivery == "d-1"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Delivery": "d-1"},
        signed(BODY, "another secret"),
        signed(BODY + b" "),
        {**signed(BODY), "X-Sig": signed(BODY)["X-Sig"].removeprefix("sha256=")},
        {**signed(BODY), "X-Sig": signed(BODY)["X-Sig"][:-1]},
        {**signed(BODY), "X-Sig": ""},
        {name: value for name, value in signed(BODY).items() if name != "X-Delivery"},
        {**signed(BODY), "X-Delivery": "no good name\x80"},
    ],
)
async def test_what_is_not_genuine_is_refused_and_written_down(stage: Stage, headers: dict[str, str]) -> None:
    with pytest.raises(Denied):
        await stage.web.inbound("acme", "directory", BODY, headers)

    [leaf] = await refusals(stage)
    assert leaf.fields["connection"] == "directory"
    assert WEBHOOK_CANARY.encode() not in leaf.raw


async def test_a_flood_of_what_is_not_genuine_leaves_few_leaves_that_count_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        with pytest.raises(Denied):
            await stage.web.inbound("acme", "directory", BODY, {})
    [leaf] = await refusals(stage)
    assert leaf.fields["deliveries"] == 1
    monkeypatch.setattr(inbound, "REFUSAL_EVERY_S", 0.0)
    with pytest.raises(Denied):
        await stage.web.inbound("acme", "directory", BODY, {})
    assert [leaf.fields["deliveries"] for leaf in await refusals(stage)] == [20, 1]


async def test_an_altered_body_is_refused(stage: Stage) -> None:
    with pytest.raises(Denied):
        await stage.web.inbound("acme", "directory", BODY.replace(b"ITSM-12", b"ITSM-13"), signed(BODY))


@pytest.mark.parametrize("body", [b"", b"not json", b"[" * 100_000, b'{"note": "who knows"}'])
async def test_a_genuine_delivery_that_cannot_be_read_is_the_senders_fault_and_written_down(
    stage: Stage, body: bytes
) -> None:
    with pytest.raises(InvalidInput):
        await stage.web.inbound("acme", "directory", body, signed(body))

    [leaf] = await refusals(stage)
    assert (leaf.fields["reason"], leaf.fields["delivery"]) == ("unreadable", "d-1")
    assert b"who knows" not in leaf.raw


@pytest.mark.parametrize(
    ("tenant", "connection"), [("acme", "nowhere"), ("nobody", "directory"), ("../acme", "x/y?z#")]
)
async def test_a_place_that_is_not_there_takes_nothing(stage: Stage, tenant: str, connection: str) -> None:
    with pytest.raises((Denied, InvalidInput)):
        await stage.web.inbound(tenant, connection, BODY, signed(BODY))


async def test_a_worker_does_not_pass_on_deliveries(stage: Stage) -> None:
    with pytest.raises(Denied):
        await stage.client.inbound("acme", "directory", BODY, signed(BODY))


async def test_a_large_delivery_is_refused(stage: Stage) -> None:
    body = b" " * (1024 * 1024 + 1)
    with pytest.raises(InvalidInput, match="at most 1048576 bytes"):
        await stage.web.inbound("acme", "directory", body, signed(body))
