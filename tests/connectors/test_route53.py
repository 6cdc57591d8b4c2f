"""Records in hosted zones, at a server that imitates Route 53 with signatures and policies."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import JsonValue

from regie.connectors.route53.connector import Route53
from regie.core.capabilities.dns import RecordType, RecordValue
from regie.core.errors import AuthFailed, Denied, InvalidInput, Refused, Unavailable
from regie.core.plan import Change, Pending, Receipt
from tests.counterparts.aws import Aws as Cloud
from tests.counterparts.aws import aws

from .cloud import Asked, access
from .conftest import all_connectors
from .driving import MARKER, bring_about, planned, write_of

pytestmark = pytest.mark.slow

SET, REMOVE = "dns.set_record", "dns.remove_record"
PERMISSIONS = all_connectors()["route53"].manifest.permissions
_numbers = itertools.count()


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with aws(PERMISSIONS, pending=2) as started:
        yield started


@pytest.fixture
def zone(cloud: Cloud) -> str:
    """A public zone of its own for each test; its name."""
    name = f"test-{next(_numbers)}.example"
    make(cloud, name)
    return name


def make(cloud: Cloud, name: str, *, private: bool = False) -> str:
    more: dict[str, Any] = {}
    if private:
        more = {
            "HostedZoneConfig": {"PrivateZone": True, "Comment": ""},
            "VPC": {"VPCRegion": "eu-west-1", "VPCId": "vpc-1a2b3c4d"},
        }
    made = cloud.client("route53").create_hosted_zone(Name=name, CallerReference=f"{next(_numbers)}", **more)
    return str(made["HostedZone"]["Id"]).removeprefix("/hostedzone/")


def connector(way: Asked, **settings: JsonValue) -> Route53:
    return Route53(way, all_connectors()["route53"].manifest.effective({"access_key": "AKIA", **settings}))


def id_of(cloud: Cloud, zone: str) -> str:
    pages = cloud.client("route53").get_paginator("list_hosted_zones").paginate()
    return next(str(each["Id"]) for page in pages for each in page["HostedZones"] if each["Name"] == f"{zone}.")


def there(cloud: Cloud, zone: str, name: str, kind: str = "TXT") -> dict[str, Any] | None:
    found = cloud.client("route53").list_resource_record_sets(HostedZoneId=id_of(cloud, zone))["ResourceRecordSets"]
    return next((each for each in found if (each["Name"], each["Type"]) == (f"{name}.", kind)), None)


def texts(cloud: Cloud, zone: str, name: str) -> list[str]:
    found = there(cloud, zone, name)
    return [each["Value"] for each in found["ResourceRecords"]] if found else []


def put(cloud: Cloud, zone: str, name: str, *values: str, action: str = "UPSERT", **more: Any) -> None:
    records = {"Name": name, "Type": "TXT", "TTL": 300, "ResourceRecords": [{"Value": each} for each in values]}
    cloud.client("route53").change_resource_record_sets(
        HostedZoneId=id_of(cloud, zone),
        ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": {**records, **more}}]},
    )


async def test_values_come_and_go_beside_those_of_others(cloud: Cloud, zone: str) -> None:
    name = f"_acme-challenge.{zone}"
    put(cloud, zone, name, '"somebody else\'s"')
    ours = connector(access(cloud))
    first, second = (RecordValue(name=name, value=value) for value in ("first", "second"))
    for want in (first, second):
        state, changed = await bring_about(ours, SET, want)
        assert changed
        assert state.present
    assert texts(cloud, zone, name) == ['"somebody else\'s"', '"first"', '"second"']
    assert (there(cloud, zone, name) or {})["TTL"] == 300
    for want in (first, second):
        state, changed = await bring_about(ours, REMOVE, want)
        assert changed
        assert not state.present
    assert texts(cloud, zone, name) == ['"somebody else\'s"']


async def test_a_record_set_comes_with_its_first_value_and_goes_with_its_last(cloud: Cloud, zone: str) -> None:
    ours = connector(access(cloud), ttl_s=30)
    want = RecordValue(name=f"_Acme-Challenge.{zone}", value="only")
    assert (await bring_about(ours, SET, want))[1]
    assert (there(cloud, zone, f"_acme-challenge.{zone}") or {})["TTL"] == 30
    assert not (await bring_about(ours, SET, want))[1]
    assert (await bring_about(ours, REMOVE, want))[1]
    assert there(cloud, zone, f"_acme-challenge.{zone}") is None
    assert not (await bring_about(ours, REMOVE, want))[1]


async def test_a_change_is_pending_until_every_server_has_it(cloud: Cloud, zone: str) -> None:
    way = access(cloud)
    write = write_of(connector(way), SET)
    want = RecordValue(name=f"slow.{zone}", value="value")
    change = write.plan(want, await write.observe(want, MARKER))
    assert isinstance(change, Change)
    states = [await write.apply(want, change, MARKER)]
    while isinstance(states[-1], Pending):
        states.append(await write.resume(want, states[-1].handle))
    assert [type(each) for each in states] == [Pending, Pending, Receipt]
    assert isinstance(states[-1], Receipt)
    assert states[-1].remote_id.startswith("/change/C")
    assert states[-1].request_id
    assert way.operations.count("ChangeResourceRecordSets") == 1


@pytest.mark.parametrize("meanwhile", ["changed", "made", "taken away"])
async def test_who_changes_the_same_name_at_the_same_moment_loses_nothing(
    cloud: Cloud, zone: str, meanwhile: str
) -> None:
    name = f"busy.{zone}"
    if meanwhile != "made":
        put(cloud, zone, name, '"theirs"')
    way = access(cloud)
    ours = connector(way)
    want = RecordValue(name=name, value="ours")
    write = write_of(ours, SET)
    change = write.plan(want, await write.observe(want, MARKER))
    assert isinstance(change, Change)

    def interfere() -> None:
        if meanwhile == "taken away":
            put(cloud, zone, name, '"theirs"', action="DELETE")
        else:
            put(cloud, zone, name, '"theirs"', '"new"')

    way.instead["ChangeResourceRecordSets"] = interfere
    with pytest.raises(Unavailable):
        await write.apply(want, change, MARKER)
    left = [] if meanwhile == "taken away" else ['"theirs"', '"new"']
    assert texts(cloud, zone, name) == left
    assert (await bring_about(ours, SET, want))[1]
    assert texts(cloud, zone, name) == [*left, '"ours"']


@pytest.mark.parametrize("value", ['a "quoted" \\ value', "y" * 600, "exämple ☃", ""])
async def test_any_text_can_be_a_value(cloud: Cloud, zone: str, value: str) -> None:
    ours = connector(access(cloud))
    want = RecordValue(name=f"text.{zone}", value=value)
    assert (await bring_about(ours, SET, want))[1]
    assert not (await bring_about(ours, SET, want))[1]
    assert all(each.isascii() for each in texts(cloud, zone, want.name))
    assert (await bring_about(ours, REMOVE, want))[1]


@pytest.mark.parametrize(("kind", "value"), [("A", "192.0.2.7"), ("AAAA", "2001:DB8::7"), ("CNAME", "Target.example")])
async def test_other_kinds_and_wildcards(cloud: Cloud, zone: str, kind: RecordType, value: str) -> None:
    ours = connector(access(cloud))
    want = RecordValue(name=f"*.{zone}", kind=kind, value=value)
    assert (await bring_about(ours, SET, want))[1]
    assert not (await bring_about(ours, SET, want))[1]
    assert (await bring_about(ours, REMOVE, want))[1]


async def test_an_alias_is_not_replaced(cloud: Cloud, zone: str) -> None:
    ours = connector(access(cloud))
    await bring_about(ours, SET, RecordValue(name=f"alias.{zone}", kind="CNAME", value="one.example"))
    with pytest.raises(Refused) as caught:
        await bring_about(ours, SET, RecordValue(name=f"alias.{zone}", kind="CNAME", value="two.example"))
    assert "one.example" in str(caught.value)


async def test_a_routing_policy_is_left_alone(cloud: Cloud, zone: str) -> None:
    put(cloud, zone, f"weighted.{zone}", '"a"', SetIdentifier="blue", Weight=10)
    for capability in (SET, REMOVE):
        with pytest.raises(Refused):
            await planned(connector(access(cloud)), capability, RecordValue(name=f"weighted.{zone}", value="a"))


async def test_the_longest_zone_is_found_on_any_page(cloud: Cloud, zone: str) -> None:
    for number in range(101):
        make(cloud, f"page-{number}.{zone}")
    make(cloud, f"deep.{zone}")
    way = access(cloud)
    await bring_about(connector(way), SET, RecordValue(name=f"www.deep.{zone}", value="x"))
    assert texts(cloud, f"deep.{zone}", f"www.deep.{zone}") == ['"x"']
    assert way.operations[:3] == ["ListHostedZones", "ListHostedZones", "ListResourceRecordSets"]


async def test_a_private_zone_counts_only_when_it_is_named(cloud: Cloud, zone: str) -> None:
    own = make(cloud, f"inside.{zone}", private=True)
    want = RecordValue(name=f"www.inside.{zone}", value="x")
    await bring_about(connector(access(cloud)), SET, want)
    assert texts(cloud, zone, want.name) == ['"x"']
    await bring_about(connector(access(cloud), hosted_zones=[own]), SET, want)
    assert texts(cloud, f"inside.{zone}", want.name) == ['"x"']


async def test_two_zones_of_one_name_are_told_apart_by_their_id(cloud: Cloud, zone: str) -> None:
    second = make(cloud, zone)
    want = RecordValue(name=f"twice.{zone}", value="x")
    with pytest.raises(Denied) as caught:
        await planned(connector(access(cloud)), SET, want)
    assert second in str(caught.value)
    assert isinstance(await planned(connector(access(cloud), hosted_zones=[second]), SET, want), Change)


async def test_a_name_outside_the_zones_is_refused(cloud: Cloud, zone: str) -> None:
    way = access(cloud)
    with pytest.raises(Denied):
        await planned(connector(way), SET, RecordValue(name="www.nobodys.test", value="x"))
    with pytest.raises(Denied):
        await planned(connector(way, hosted_zones=["Z0"]), SET, RecordValue(name=f"www.{zone}", value="x"))
    assert set(way.operations) == {"ListHostedZones"}


async def test_what_no_record_can_be_is_refused(cloud: Cloud, zone: str) -> None:
    with pytest.raises(InvalidInput):
        await bring_about(connector(access(cloud)), SET, RecordValue(name=f"a.{zone}", kind="A", value="x"))


@pytest.mark.parametrize("lacks", PERMISSIONS)
async def test_a_permission_that_lacks_is_named(lacks: str) -> None:
    with aws([each for each in PERMISSIONS if each != lacks], pending=1) as weak:
        make(weak, "example.test")
        with pytest.raises(AuthFailed) as caught:
            await bring_about(connector(access(weak)), SET, RecordValue(name="a.example.test", value="x"))
        assert lacks in str(caught.value)
        assert weak.secret_key not in str(caught.value)


async def test_a_wrong_key_is_told(cloud: Cloud, zone: str) -> None:
    way = access(cloud, keys=(cloud.access_key, "wrong"))
    with pytest.raises(AuthFailed):
        await planned(connector(way), SET, RecordValue(name=f"a.{zone}", value="x"))
