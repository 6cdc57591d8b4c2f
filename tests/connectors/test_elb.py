"""Certificates of load balancers' listeners, at a server that imitates AWS with signatures and policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from pydantic import JsonValue

from regie.connectors.elb.connector import Elb
from regie.core.capabilities.certificate import NOTHING, DeployedState, Deployment, KeptCertificate, Target
from regie.core.errors import AuthFailed, Denied, NotFound, Refused, RegieError, Unavailable
from regie.core.plan import Change, NoChange
from tests.counterparts.aws import REGION, aws
from tests.counterparts.aws import Aws as Cloud

from .cloud import Asked, Shelf, access, listen, theirs
from .conftest import all_connectors
from .driving import MARKER, bring_about, planned, read_of, write_of

pytestmark = pytest.mark.slow

PERMISSIONS = all_connectors()["elb"].manifest.permissions
DEPLOY, SHOP = "certificate.deploy", "shop.example.test"


@dataclass
class Site:
    """A listener with a certificate that is not ours, and the targets `shop` (its default) and `listed` (its list).

    Attributes:
        first: ARN of the default certificate that it began with.
    """

    cloud: Cloud
    shelf: Shelf
    listener: str
    first: str

    @property
    def way(self) -> Asked:
        return access(self.cloud, resolve=self.shelf.resolve)

    def elb(self, way: Asked | None = None, **targets: JsonValue) -> Elb:
        known: dict[str, JsonValue] = {
            "shop": {"listener": self.listener, "server_name": SHOP},
            "listed": {"listener": self.listener, "server_name": SHOP, "listed": True},
            **targets,
        }
        settings: dict[str, JsonValue] = {"access_key": "AKIA", "region": REGION, "targets": known}
        return Elb(way or self.way, all_connectors()["elb"].manifest.effective(settings), self.shelf)

    async def find(self, target: str) -> DeployedState:
        found: DeployedState = await read_of(self.elb(), "certificate.find_deployed").read(
            Target(target=target, connection="balancers")
        )
        return found

    async def deploy(self, target: str, certificate: str) -> tuple[DeployedState, bool]:
        """What it gives, and whether something was changed."""
        want = Deployment(target=target, certificate=certificate, connection="balancers")
        state, changed = await bring_about(self.elb(), DEPLOY, want)
        assert state == await self.find(target)
        return state, changed

    def serves(self) -> tuple[str, list[str]]:
        """The default certificate of the listener, and its list."""
        elb = self.cloud.client("elbv2")
        pages = elb.get_paginator("describe_listener_certificates").paginate(ListenerArn=self.listener)
        found = [each for page in pages for each in page["Certificates"]]
        [default] = [each["CertificateArn"] for each in found if each["IsDefault"]]
        return default, [each["CertificateArn"] for each in found if not each["IsDefault"]]

    def stored(self, *names: str) -> tuple[KeptCertificate, str]:
        """A certificate of ours that ACM has."""
        kept = self.shelf.issue(*(names or (SHOP,)))
        issued = self.shelf.issued[kept.certificate]
        made = self.cloud.client("acm").import_certificate(
            Certificate=issued.chain.encode(), PrivateKey=issued.key.encode()
        )
        return kept, str(made["CertificateArn"])

    def list_too(self, *arns: str) -> None:
        """Put something into the listener's list that nobody asked us for."""
        self.cloud.client("elbv2").add_listener_certificates(
            ListenerArn=self.listener, Certificates=[{"CertificateArn": arn} for arn in arns]
        )


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with aws(PERMISSIONS) as started:
        yield started


@pytest.fixture
def site(cloud: Cloud) -> Site:
    first = theirs(cloud, SHOP)
    return Site(cloud, Shelf(), listen(cloud, first), first)


@pytest.mark.parametrize("by", ["reference", "ARN"])
async def test_a_default_certificate_is_replaced_and_the_former_comes_back(site: Site, by: str) -> None:
    other = theirs(site.cloud, "other.example.test")
    site.list_too(other)
    before = await site.find("shop")
    assert (before.certificate, before.restore) == ("", site.first)
    assert before.serial
    kept, arn = site.stored()
    asked = kept.certificate if by == "reference" else arn
    state, changed = await site.deploy("shop", asked)
    assert changed
    assert (state.serial, state.installed, state.not_after) == (kept.serial, kept.serial, kept.not_after)
    assert (state.certificate, state.restore, state.connection) == (kept.certificate, arn, "balancers")
    assert not (await site.deploy("shop", asked))[1]
    assert site.serves() == (arn, [other])
    # As the undo of a workflow does it.
    assert await site.deploy("shop", before.restore) == (before, True)
    assert site.serves() == (site.first, [other])


@pytest.mark.parametrize("by", ["reference", "ARN"])
async def test_in_a_list_the_former_goes_when_the_new_one_is_there(site: Site, by: str) -> None:
    former, other = theirs(site.cloud, SHOP), theirs(site.cloud, "other.example.test")
    site.list_too(other, former)
    before = await site.find("listed")
    assert before.restore == former
    kept, arn = site.stored()
    asked = kept.certificate if by == "reference" else arn
    assert (await site.deploy("listed", asked))[0].restore == arn
    assert not (await site.deploy("listed", asked))[1]
    assert site.serves() == (site.first, [other, arn])
    assert await site.deploy("listed", before.restore) == (before, True)
    assert site.serves() == (site.first, [other, former])


async def test_where_nothing_was_in_the_list_nothing_comes_back(site: Site) -> None:
    before = await site.find("listed")
    assert (before.serial, before.restore) == ("", NOTHING)
    kept, arn = site.stored("*.example.test")
    await site.deploy("listed", kept.certificate)
    assert site.serves() == (site.first, [arn])
    assert await site.deploy("listed", before.restore) == (before, True)
    assert not (await site.deploy("listed", NOTHING))[1]
    assert site.serves() == (site.first, [])


async def test_an_attempt_that_was_cut_off_is_finished_as_the_same_change(site: Site) -> None:
    former = theirs(site.cloud, SHOP)
    site.list_too(former)
    kept, arn = site.stored()
    want = Deployment(target="listed", certificate=kept.certificate)
    approved = await planned(site.elb(), DEPLOY, want)
    assert isinstance(approved, Change)

    def dies() -> None:
        raise Unavailable("the gateway dies")

    way = site.way
    way.instead["RemoveListenerCertificates"] = dies
    with pytest.raises(Unavailable):
        await write_of(site.elb(way), DEPLOY).apply(want, approved, MARKER)
    assert site.serves() == (site.first, [former, arn])
    assert (await site.find("listed")).restore in {former, arn}
    assert await planned(site.elb(), DEPLOY, want) == approved
    await site.deploy("listed", kept.certificate)
    assert site.serves() == (site.first, [arn])


def prove(cloud: Cloud, arn: str) -> None:
    """Put into the zone of the name what Amazon wants to see there."""
    found = cloud.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    proof = found["DomainValidationOptions"][0]["ResourceRecord"]
    record = {
        "Name": proof["Name"],
        "Type": proof["Type"],
        "TTL": 60,
        "ResourceRecords": [{"Value": proof["Value"]}],
    }
    zone = cloud.client("route53").create_hosted_zone(Name=SHOP, CallerReference=arn)["HostedZone"]["Id"]
    changes = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    cloud.client("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch=changes)


async def test_what_amazon_issued_is_served_too_once_it_is_issued(site: Site) -> None:
    acm = site.cloud.client("acm")
    arn = acm.request_certificate(DomainName=SHOP, ValidationMethod="DNS")["CertificateArn"]
    with pytest.raises(Refused, match="is pending") as caught:
        await planned(site.elb(), DEPLOY, Deployment(target="shop", certificate=arn))
    assert caught.value.code == "not-issued"
    prove(site.cloud, arn)
    assert (await site.deploy("shop", arn))[0].restore == arn


async def test_a_plan_shows_serials_of_what_is_kept_and_names_of_what_is_stored(site: Site) -> None:
    kept, arn = site.stored()
    before = await site.find("shop")
    for asked, field, was, then in (
        (kept.certificate, "serial of shop", before.serial, kept.serial),
        (arn, "certificate of shop", site.first, arn),
    ):
        change = await planned(site.elb(), DEPLOY, Deployment(target="shop", certificate=asked))
        assert isinstance(change, Change)
        assert change.title == f"{SHOP} at the load balancer web"
        assert [(each.field, each.before, each.after) for each in change.fields] == [(field, was, then)]


async def test_a_dry_run_plans_what_is_not_in_the_store_yet(site: Site) -> None:
    kept = site.shelf.issue(SHOP)
    for asked, serial in ((kept.certificate, kept.serial), ("planned", "")):
        write, want = write_of(site.elb(), DEPLOY), Deployment(target="shop", certificate=asked)
        seen = await write.observe(want, MARKER)
        change = write.plan(want, seen)
        assert isinstance(change, Change)
        foreseen = write.foreseen(change, seen)
        state = write.gives(want, foreseen)
        assert (state.serial, state.installed, state.restore) == (serial, serial, asked)
        assert isinstance(write.plan(want, foreseen), NoChange)
    with pytest.raises(Refused, match=f"ACM does not have the certificate {kept.serial}") as caught:
        await site.deploy("shop", kept.certificate)
    assert caught.value.code == "not-stored"
    assert site.serves() == (site.first, [])


Asking = Callable[[Site], tuple[str, str]]
REFUSED: dict[str, tuple[Asking, type[RegieError], str]] = {
    "another name": (lambda site: ("shop", site.stored("example.test")[1]), Refused, f"is not for {SHOP}"),
    "another name, kept": (
        lambda site: ("shop", site.stored("a.shop.example.test")[0].certificate),
        Refused,
        f"is not for {SHOP}",
    ),
    "nothing as default": (lambda _: ("shop", NOTHING), Refused, "cannot be without"),
    "what was before Regie": (lambda _: ("shop", ""), NotFound, "nobody keeps what"),
    "a stranger": (lambda _: ("shop", "secret://certificates/certificate-99"), NotFound, "no certificate is kept"),
    "one that is gone": (lambda site: ("shop", gone(site)), NotFound, "ACM has no certificate"),
    "no target": (lambda site: ("mail", site.first), NotFound, "no target 'mail'"),
    "no listener": (lambda site: ("elsewhere", site.first), NotFound, "there is no listener"),
    "no TLS": (lambda site: ("plain", site.first), NotFound, "has no certificate"),
    "a list without a name": (lambda site: ("nameless", site.first), Denied, "cannot be used"),
    "no ARN": (lambda site: ("wrong", site.first), Denied, "cannot be used"),
}


def gone(site: Site) -> str:
    arn = theirs(site.cloud, SHOP)
    site.cloud.client("acm").delete_certificate(CertificateArn=arn)
    return arn


@pytest.mark.parametrize("why", REFUSED)
async def test_what_cannot_be_is_refused_and_nothing_is_changed(site: Site, why: str) -> None:
    elb = site.cloud.client("elbv2")
    balancer = elb.describe_listeners(ListenerArns=[site.listener])["Listeners"][0]["LoadBalancerArn"]
    plain = elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}],
    )["Listeners"][0]["ListenerArn"]
    asking, kind, said = REFUSED[why]
    target, certificate = asking(site)
    connector = site.elb(
        plain={"listener": plain},
        elsewhere={"listener": f"{site.listener[:-4]}0000"},
        nameless={"listener": site.listener, "listed": True},
        wrong={"listener": "web"},
    )
    with pytest.raises(kind, match=said):
        await planned(connector, DEPLOY, Deployment(target=target, certificate=certificate))
    assert site.serves() == (site.first, [])


async def test_several_for_the_same_name_are_left_to_people(site: Site) -> None:
    several = [theirs(site.cloud, SHOP), theirs(site.cloud, "*.example.test")]
    site.list_too(*several)
    with pytest.raises(Refused, match="2 certificates of the listener's list are for") as caught:
        await planned(site.elb(), DEPLOY, Deployment(target="listed", certificate=site.stored()[1]))
    assert caught.value.code == "several"
    assert caught.value.hint is not None
    assert all(arn in caught.value.hint for arn in several)


async def test_no_key_passes_through(site: Site) -> None:
    kept, _ = site.stored()
    write, want = (
        write_of(site.elb(access(site.cloud)), DEPLOY),
        Deployment(target="shop", certificate=kept.certificate),
    )
    seen = await write.observe(want, MARKER)
    change = write.plan(want, seen)
    assert isinstance(change, Change)
    # The access of this connection cannot fill in a key: it would fail the test.
    receipt = await write.apply(want, change, MARKER)
    assert "PRIVATE" not in repr((seen, change, receipt))


@pytest.mark.parametrize("lacks", PERMISSIONS)
async def test_a_permission_that_lacks_is_named(site: Site, lacks: str) -> None:
    site.list_too(theirs(site.cloud, SHOP))
    keys = site.cloud.who_may([each for each in PERMISSIONS if each != lacks])
    weak = site.elb(access(site.cloud, keys=keys))

    async def use_it() -> None:
        for target in ("shop", "listed"):
            kept, _ = site.stored()
            await bring_about(weak, DEPLOY, Deployment(target=target, certificate=kept.certificate))

    with pytest.raises(AuthFailed) as caught:
        await use_it()
    assert lacks in str(caught.value)
