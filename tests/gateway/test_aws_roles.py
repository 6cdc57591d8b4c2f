"""A customer's role in AWS: what is asked of STS for each run and capability, and for how long it is used."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.errors import AuthFailed, Denied, Unavailable
from regie.gateway.aws_credentials import EARLY_S, MOST_SESSIONS, ROLE_S, Acting, AwsClients, AwsPlace, session_policy
from regie.gateway.vault import SecretText
from regie.kit.access import Calls
from regie.kit.aws import Aws
from regie.kit.keys import Material
from tests.counterparts.here import HERE

from .places import CLOSED, Clock

ROLE = "arn:aws:iam::123456789012:role/regie"
JAN = Acting("example-north", "certificates", "01980000-run", "ITSM-12")
LIST = ("acm:ListCertificates",)
GIVEN = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>s{number}</SecretAccessKey><SessionToken>t{number}</SessionToken>
<Expiration>2036-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""
REFUSED = """<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"""


@dataclass
class Cloud:
    """STS and ACM, as far as a role goes: what they were asked, and with which key.

    Attributes:
        asked: The parameters of each AssumeRole.
        used: The access keys of the other calls, in order.
        accepts: The only access key that AssumeRole is taken from; any when empty.
        spent: Access keys that are not taken any more.
    """

    address: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    fails: list[tuple[int, str]] = field(default_factory=list)
    spent: set[str] = field(default_factory=set)

    def answer(self, body: str, headers: dict[str, str]) -> tuple[int, str]:
        key = headers["authorization"].partition("Credential=")[2].partition("/")[0]
        if "x-amz-target" in headers:
            self.used.append(key)
            if key in self.spent:
                return 400, json.dumps({"__type": "ExpiredTokenException"})
            return 200, json.dumps({"CertificateSummaryList": []})
        self.asked.append({name: value for name, [value] in parse_qs(body).items()})
        if self.fails:
            status, code = self.fails.pop(0)
            return status, REFUSED.format(code=code)
        return 200, GIVEN.format(number=len(self.asked))


@contextmanager
def served(cloud: Cloud) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, text = cloud.answer(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    cloud.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Customer:
    """A connection under a role."""

    def __init__(self, endpoint: str, external_id: str = "example-4711") -> None:
        self.clock = Clock()
        self.remembered, self.newest = "old", "old"
        self.clients = AwsClients(
            AwsPlace("eu-west-1", "AKIA", endpoint=endpoint, role=ROLE, external_id=external_id),
            self.secret,
            HERE,
            clock=self.clock,
        )

    async def secret(self, refused: SecretText | None = None) -> SecretText:
        if refused is not None:
            self.remembered = self.newest
        return SecretText(self.remembered)

    async def list(self, acting: Acting = JAN, needs: tuple[str, ...] = LIST) -> None:
        async def client(service: str, permissions: tuple[str, ...] = (), refused: Any = None) -> Any:
            return await self.clients.client(service, permissions, refused, acting=acting)

        await Aws(client, Calls("AWS"), no_material, needs).call("acm", "ListCertificates")


async def no_material(_: Material) -> bytes:
    raise AssertionError


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    with served(made):
        yield made


@pytest.fixture
async def customer(cloud: Cloud) -> AsyncIterator[Customer]:
    made = Customer(cloud.address)
    yield made
    await made.clients.aclose()


async def test_a_session_is_for_one_run_and_may_do_what_the_capability_declares(
    customer: Customer, cloud: Cloud
) -> None:
    await customer.list()
    [asked] = cloud.asked
    assert json.loads(asked.pop("Policy")) == {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["acm:ListCertificates"], "Resource": "*"}],
    }
    assert asked == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "ITSM-12",
        "SourceIdentity": "ITSM-12",
        "ExternalId": "example-4711",
        "DurationSeconds": "900",
        "Tags.member.1.Key": "tenant",
        "Tags.member.1.Value": "example-north",
        "Tags.member.2.Key": "domain",
        "Tags.member.2.Value": "certificates",
        "Tags.member.3.Key": "run",
        "Tags.member.3.Value": "01980000-run",
        "TransitiveTagKeys.member.1": "tenant",
        "TransitiveTagKeys.member.2": "domain",
        "TransitiveTagKeys.member.3": "run",
    }
    assert cloud.used == ["ASIA1"]


async def test_it_is_used_again_until_shortly_before_it_ends(customer: Customer, cloud: Cloud) -> None:
    await asyncio.gather(*(customer.list() for _ in range(5)))
    customer.clock.now += ROLE_S - EARLY_S - 1
    await customer.list()
    assert len(cloud.asked) == 1
    customer.clock.now += 1
    await customer.list()
    assert len(cloud.asked) == 2
    assert cloud.used[-1] == "ASIA2"


async def test_nobody_else_gets_it(customer: Customer, cloud: Cloud) -> None:
    await customer.list()
    for acting in (
        Acting("example-north", "certificates", "another-run", "ITSM-13"),
        Acting("example-north", "other", "01980000-run", "ITSM-12"),
        Acting("example-south", "certificates", "01980000-run", "ITSM-12"),
    ):
        await customer.list(acting)
    await customer.list(needs=("acm:DeleteCertificate",))
    assert cloud.used == [f"ASIA{number}" for number in range(1, 6)]
    assert json.loads(cloud.asked[-1]["Policy"])["Statement"][0]["Action"] == ["acm:DeleteCertificate"]


async def test_without_an_external_id_no_role_is_taken_on(cloud: Cloud) -> None:
    customer = Customer(cloud.address, external_id="")
    with pytest.raises(Denied):
        await customer.list()
    assert cloud.asked == []


async def test_a_customers_connection_never_acts_as_the_machine(cloud: Cloud) -> None:
    clients = AwsClients(AwsPlace("eu-west-1", "", endpoint=cloud.address), Customer(cloud.address).secret, HERE)
    with pytest.raises(Denied):
        await clients.client("acm")


@pytest.mark.parametrize(
    ("status", "kind"), [(403, AuthFailed), (400, AuthFailed), (429, Unavailable), (500, Unavailable)]
)
async def test_what_sts_says_is_told_apart(
    customer: Customer, cloud: Cloud, status: int, kind: type[Exception]
) -> None:
    cloud.fails += [(status, "No")]
    with pytest.raises(kind):
        await customer.list()


async def test_nobody_there() -> None:
    customer = Customer(CLOSED)
    with pytest.raises(Unavailable):
        await customer.list()
    await customer.clients.aclose()


async def test_a_newer_key_is_tried_at_once_where_the_old_one_is_not_accepted(customer: Customer, cloud: Cloud) -> None:
    customer.newest = "new"
    cloud.fails += [(403, "SignatureDoesNotMatch")]
    await customer.list()
    assert len(cloud.asked) == 2
    cloud.fails += [(403, "AccessDenied")]
    with pytest.raises(AuthFailed):
        await customer.list(Acting("example-north", "certificates", "other", "ITSM-13"))
    assert len(cloud.asked) == 3, "there is no newer key"


async def test_a_session_that_ended_early_is_taken_on_anew_once(customer: Customer, cloud: Cloud) -> None:
    await customer.list()
    cloud.spent.add("ASIA1")
    await customer.list()
    assert cloud.used == ["ASIA1", "ASIA1", "ASIA2"]
    cloud.spent |= {"ASIA2", "ASIA3"}
    with pytest.raises(AuthFailed):
        await customer.list()
    assert cloud.used[3:] == ["ASIA2", "ASIA3"]


async def test_sessions_are_bounded(customer: Customer) -> None:
    customer.clients._place = AwsPlace("eu-west-1", "AKIA", role=ROLE, external_id="x")
    for number in range(MOST_SESSIONS + 20):
        customer.clients._session((Acting("t", "d", str(number)), LIST))
    assert len(customer.clients._sessions) == MOST_SESSIONS


@given(corr=st.text(max_size=200), run=st.text(max_size=40))
def test_any_correlation_id_makes_a_name_that_aws_takes(corr: str, run: str) -> None:
    name = Acting("t", "d", run, corr).name
    # API reference, AssumeRole: RoleSessionName and SourceIdentity.
    assert re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", name)
    assert not name.startswith("aws:")


def test_what_needs_nothing_may_do_nothing() -> None:
    assert json.loads(session_policy(()))["Statement"][0]["Action"] == ["sts:GetCallerIdentity"]
