"""AWS as an access, against moto with its authentication armed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from regie.core.errors import AuthFailed, InvalidInput, NotFound, OutcomeUnknown, Refused, Terminal, Unavailable
from regie.kit.access import Calls
from regie.kit.aws import Aws
from regie.kit.keys import Material, Part, Resolve
from regie_sandbox.servers.authority import Authority
from tests.counterparts.aws import REGION
from tests.counterparts.aws import Aws as Cloud
from tests.counterparts.aws import aws as started
from tests.counterparts.here import NOBODYS_PORT

pytestmark = pytest.mark.slow

SITE = Authority().issue(["www.example.test"])
NONE = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with started(["acm:ListCertificates", "acm:ImportCertificate", "acm:GetCertificate"]) as running:
        yield running


async def resolve(material: Material) -> bytes:
    return (SITE.key if material.part is Part.PRIVATE_KEY else SITE.chain).encode()


def access(endpoint: str, access_key: str, secret_key: str, filled_by: Resolve = resolve) -> Aws:
    made: dict[str, Any] = {}

    async def client_for(service: str, permissions: tuple[str, ...] = (), refused: Any = None) -> Any:
        if service in made:
            return made[service]
        session = boto3.Session(access_key, secret_key, region_name=REGION)
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=10)
        made[service] = session.client(service, endpoint_url=endpoint, config=config)
        return made[service]

    return Aws(client_for, Calls("AWS"), filled_by, ("acm:Something",))


def ours(cloud: Cloud) -> Aws:
    return access(cloud.endpoint, cloud.access_key, cloud.secret_key)


async def test_what_is_passed_on_unread_arrives(cloud: Cloud) -> None:
    reference = "secret://certificates/certificate-1"
    given = await ours(cloud).call(
        "acm",
        "ImportCertificate",
        Certificate=Material(reference, Part.CERTIFICATE),
        PrivateKey=Material(reference, Part.PRIVATE_KEY),
    )
    found = await ours(cloud).call("acm", "GetCertificate", CertificateArn=given["CertificateArn"])
    assert str(found["Certificate"]).strip() == SITE.chain.strip()
    assert "ResponseMetadata" not in found


async def test_what_is_not_allowed_names_the_permission(cloud: Cloud) -> None:
    with pytest.raises(AuthFailed) as caught:
        await ours(cloud).call("acm", "DeleteCertificate", CertificateArn=NONE)
    assert "acm:Something" in str(caught.value)


async def test_a_wrong_secret_is_told_apart_from_an_outage(cloud: Cloud) -> None:
    with pytest.raises(AuthFailed):
        await access(cloud.endpoint, cloud.access_key, "wrong").call("acm", "ListCertificates")


async def test_what_is_not_there_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(NotFound):
        await ours(cloud).call("acm", "GetCertificate", CertificateArn=NONE)


async def test_what_cannot_be_asked_is_not_sent(cloud: Cloud) -> None:
    with pytest.raises(InvalidInput):
        await ours(cloud).call("acm", "GetCertificate", CertificateArn=7)
    with pytest.raises(Terminal):
        await ours(cloud).call("acm", "InventCertificate")


async def test_nobody_there_has_not_been_asked() -> None:
    nobody = access(f"http://127.0.0.1:{NOBODYS_PORT}", "AKIA", "secret")
    with pytest.raises(Unavailable):
        await nobody.call("acm", "ListCertificates")
    with pytest.raises(Unavailable):
        await nobody.call("acm", "ImportCertificate", Certificate=b"x", PrivateKey=b"y")


async def test_a_write_that_the_vendor_refuses_is_refused(cloud: Cloud) -> None:
    with pytest.raises((Refused, OutcomeUnknown)):
        await ours(cloud).call("acm", "ImportCertificate", Certificate=b"no certificate", PrivateKey=b"no key")


class Pages(Aws):
    """Lists that page in every way."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append(arguments)
        return self.answers[len(self.asked) - 1]


async def read(pages: Pages, follow: dict[str, str], *, most_pages: int = 9) -> list[Any]:
    found = pages.entries("acm", "List", of="Entries", follow=follow, most_pages=most_pages, MaxItems=2)
    return [each["n"] async for each in found]


async def test_a_list_is_read_to_its_end() -> None:
    first = {"Entries": [{"n": 1}, {"n": 2}], "NextName": "c", "NextType": "TXT"}
    pages = Pages([first, {"Entries": [], "NextName": "d"}, {"Entries": [{"n": 3}], "NextName": ""}])
    assert await read(pages, {"Name": "NextName", "Type": "NextType"}) == [1, 2, 3]
    assert pages.asked == [
        {"MaxItems": 2},
        {"MaxItems": 2, "Name": "c", "Type": "TXT"},
        {"MaxItems": 2, "Name": "d"},
    ]


async def test_a_list_without_an_end_is_not_taken_for_a_whole_one() -> None:
    circle = [{"Entries": [], "Next": each} for each in "abab"]
    with pytest.raises(Terminal):
        await read(Pages(circle), {"Token": "Next"})
    endless = [{"Entries": [{"n": 1}], "Next": str(each)} for each in range(5)]
    with pytest.raises(Terminal):
        await read(Pages(endless), {"Token": "Next"}, most_pages=5)


async def test_a_part_that_a_certificate_does_not_have_is_left_out(cloud: Cloud) -> None:
    async def parts(material: Material) -> bytes:
        return b"" if material.part is Part.INTERMEDIATES else await resolve(material)

    reference = "secret://certificates/certificate-1"
    given = await access(cloud.endpoint, cloud.access_key, cloud.secret_key, parts).call(
        "acm",
        "ImportCertificate",
        Certificate=Material(reference, Part.CERTIFICATE),
        CertificateChain=Material(reference, Part.INTERMEDIATES),
        PrivateKey=Material(reference, Part.PRIVATE_KEY),
    )
    assert given["CertificateArn"]
