"""Certificates at a server that imitates ACM with signatures and policies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import JsonValue

from regie.connectors.acm.connector import Acm
from regie.core.capabilities.certificate import (
    Certificate,
    CertificateList,
    CertificateQuery,
    Importing,
    Inventory,
    Source,
)
from regie.core.errors import AuthFailed, NotFound, Refused
from regie.core.plan import Change, Receipt
from tests.counterparts.aws import REGION, aws
from tests.counterparts.aws import Aws as Cloud

from .cloud import AUTHORITY, Asked, Shelf, access, listen, theirs
from .conftest import all_connectors
from .driving import MARKER, bring_about, planned, read_of, write_of

pytestmark = pytest.mark.slow

PERMISSIONS = all_connectors()["acm"].manifest.permissions
NONE = f"arn:aws:acm:{REGION}:123456789012:certificate/00000000-0000-0000-0000-000000000000"
IMPORT = "certificate.import"


@pytest.fixture(scope="module")
def started() -> Iterator[Cloud]:
    with aws(PERMISSIONS) as cloud:
        yield cloud


@pytest.fixture
def cloud(started: Cloud) -> Cloud:
    """An account without certificates."""
    for arn in arns(started):
        started.client("acm").delete_certificate(CertificateArn=arn)
    return started


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def connector(way: Asked, shelf: Shelf) -> Acm:
    settings: dict[str, JsonValue] = {"access_key": "AKIA", "region": REGION}
    return Acm(way, all_connectors()["acm"].manifest.effective(settings), shelf)


def ours(cloud: Cloud, shelf: Shelf) -> Acm:
    return connector(access(cloud, resolve=shelf.resolve), shelf)


def arns(cloud: Cloud) -> list[str]:
    kinds = {"keyTypes": ["EC_prime256v1", "RSA_2048"]}
    pages = cloud.client("acm").get_paginator("list_certificates").paginate(Includes=kinds)
    return [each["CertificateArn"] for page in pages for each in page["CertificateSummaryList"]]


async def every(acm: Acm) -> tuple[list[Certificate], int]:
    """All that is listed, and on how many pages."""
    found: list[Certificate] = []
    cursor, pages = "", 0
    while cursor or not pages:
        page: Inventory = await read_of(acm, "certificate.list").read(Source(cursor=cursor))
        assert [each.id for each in page.certificates] == sorted(each.id for each in page.certificates)
        found += page.certificates
        cursor, pages = page.cursor, pages + 1
    return found, pages


async def test_a_list_is_read_page_by_page_with_keys_of_every_kind(cloud: Cloud, shelf: Shelf) -> None:
    made = {theirs(cloud, f"host-{number}.example.test") for number in range(45)}
    found, pages = await every(ours(cloud, shelf))
    assert pages == 3
    listed = await read_of(ours(cloud, shelf), "certificate.list_pages").read(CertificateList())
    assert (listed.certificates, len(listed.cursors)) == (45, 3)
    [last] = [await read_of(ours(cloud, shelf), "certificate.list").read(Source(cursor=listed.cursors[-1]))]
    assert (len(last.certificates), last.cursor) == (5, "")
    assert {each.id for each in found} == made
    assert {each.key for each in found} == {"ec-p256"}
    assert all(each.serial and each.not_after and each.state == "imported" for each in found)


async def test_an_empty_account_has_an_empty_list(cloud: Cloud, shelf: Shelf) -> None:
    assert await every(ours(cloud, shelf)) == ([], 1)


async def test_a_certificate_is_told_in_our_words(cloud: Cloud, shelf: Shelf) -> None:
    kept = shelf.issue("WWW.example.test", "*.example.test")
    given, _ = await bring_about(ours(cloud, shelf), IMPORT, Importing(certificate=kept.certificate))
    found = await read_of(ours(cloud, shelf), "certificate.find").read(CertificateQuery(certificate=given.id))
    assert found == given
    assert found.names == ["*.example.test", "www.example.test"]
    assert (found.serial, found.issuer, found.key) == (kept.serial, "Authority of a test", "ec-p256")
    assert (found.not_before, found.not_after) == (kept.not_before, kept.not_after)
    assert (found.state, found.renewed_by, found.used_by, found.is_used) == ("imported", "regie", [], False)
    other = await read_of(ours(cloud, shelf), "certificate.find").read(
        CertificateQuery(certificate=theirs(cloud, "a.example.test"))
    )
    assert other.renewed_by == "nobody"


async def test_what_uses_a_certificate_is_told(cloud: Cloud, shelf: Shelf) -> None:
    arn = theirs(cloud, "used.example.test")
    listener = listen(cloud, arn)
    found = await read_of(ours(cloud, shelf), "certificate.find").read(CertificateQuery(certificate=arn))
    assert (found.used_by, found.is_used) == ([listener], True)


async def test_what_amazon_has_issued_is_told_from_what_it_will_not_renew(cloud: Cloud, shelf: Shelf) -> None:
    made = cloud.client("acm").request_certificate(DomainName="own.example.test", ValidationMethod="DNS")
    found = await read_of(ours(cloud, shelf), "certificate.find").read(
        CertificateQuery(certificate=made["CertificateArn"])
    )
    assert found.state == "pending"
    # The counterpart says of every certificate that it is not eligible.
    assert found.renewed_by == "nobody"
    with pytest.raises(Refused) as caught:
        await planned(
            ours(cloud, shelf),
            IMPORT,
            Importing(certificate=shelf.issue("own.example.test").certificate, replaces=made["CertificateArn"]),
        )
    assert "was not imported" in str(caught.value)


async def test_in_the_place_of_another_the_name_stays_and_undo_brings_the_former_back(
    cloud: Cloud, shelf: Shelf
) -> None:
    former, renewed = shelf.issue("shop.example.test"), shelf.issue("shop.example.test")
    first, _ = await bring_about(ours(cloud, shelf), IMPORT, Importing(certificate=former.certificate))
    for kept in (renewed, former):
        want = Importing(certificate=kept.certificate, replaces=first.id)
        given, changed = await bring_about(ours(cloud, shelf), IMPORT, want)
        assert changed
        assert (given.id, given.serial) == (first.id, kept.serial)
        assert not (await bring_about(ours(cloud, shelf), IMPORT, want))[1]
    assert arns(cloud) == [first.id]


async def test_what_is_there_already_is_not_imported_again(cloud: Cloud, shelf: Shelf) -> None:
    for number in range(3):
        theirs(cloud, f"host-{number}.example.test")
    kept = shelf.issue("new.example.test")
    want = Importing(certificate=kept.certificate)
    write = write_of(ours(cloud, shelf), IMPORT)
    change = write.plan(want, await write.observe(want, MARKER))
    assert isinstance(change, Change)
    receipt = await write.apply(want, change, MARKER)
    assert isinstance(receipt, Receipt)
    # As after a crash in which nobody heard of the receipt.
    given, changed = await bring_about(ours(cloud, shelf), IMPORT, want)
    assert not changed
    assert given.id == receipt.remote_id
    assert len(arns(cloud)) == 4


async def test_only_what_may_be_the_same_is_looked_up(cloud: Cloud, shelf: Shelf) -> None:
    for number in range(3):
        theirs(cloud, f"host-{number}.example.test")
    own = AUTHORITY.issue(["later.example.test"], age=timedelta(hours=1))
    shelf.issued["secret://certificates/certificate-9"] = own
    way = access(cloud, resolve=shelf.resolve)
    await planned(connector(way, shelf), IMPORT, Importing(certificate="secret://certificates/certificate-9"))
    assert way.operations == ["ListCertificates"]


async def test_a_key_goes_nowhere_but_to_the_vendor(cloud: Cloud, shelf: Shelf) -> None:
    kept = shelf.issue("secret.example.test")
    write = write_of(ours(cloud, shelf), IMPORT)
    want = Importing(certificate=kept.certificate)
    seen = await write.observe(want, MARKER)
    change = write.plan(want, seen)
    assert isinstance(change, Change)
    receipt = await write.apply(want, change, MARKER)
    assert isinstance(receipt, Receipt)
    given = write.gives(want, await write.confirm(want, receipt, MARKER))
    told = repr((seen, change, receipt, given))
    for line in shelf.issued[kept.certificate].key.splitlines():
        assert line not in told


async def test_what_is_not_there_is_told(cloud: Cloud, shelf: Shelf) -> None:
    find = read_of(ours(cloud, shelf), "certificate.find")
    instead = Importing(certificate=shelf.issue("a.example.test").certificate, replaces=NONE)
    for asking in (find.read(CertificateQuery(certificate=NONE)), planned(ours(cloud, shelf), IMPORT, instead)):
        with pytest.raises(NotFound) as caught:
            await asking
        assert NONE in str(caught.value)


async def test_what_is_not_kept_is_not_imported(cloud: Cloud, shelf: Shelf) -> None:
    with pytest.raises(NotFound):
        await planned(ours(cloud, shelf), IMPORT, Importing(certificate="secret://certificates/certificate-7"))


@pytest.mark.parametrize("lacks", PERMISSIONS)
async def test_a_permission_that_lacks_is_named(cloud: Cloud, shelf: Shelf, lacks: str) -> None:
    keys = cloud.who_may([each for each in PERMISSIONS if each != lacks])
    weak = connector(access(cloud, resolve=shelf.resolve, keys=keys), shelf)
    theirs(cloud, "a.example.test")
    kept = shelf.issue("a.example.test")

    async def use_it() -> None:
        await every(weak)
        await bring_about(weak, IMPORT, Importing(certificate=kept.certificate))

    with pytest.raises(AuthFailed) as caught:
        await use_it()
    assert lacks in str(caught.value)
