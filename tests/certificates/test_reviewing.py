"""What a look at endpoints comes to, day after day: the inventory, renewals, reminders, what is settled.

The records are kept in memory here, by the rules of the gateway's: the days that pass are the test's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import pytest
from pydantic import JsonValue

from regie.core.capabilities import certificate, record, tls
from regie.core.capability import Capability, Record
from regie.core.errors import Denied, InvalidInput
from regie.domains.certificates.reviewing import Ownership, Review, review
from regie.domains.certificates.stages import Stage

Want = TypeVar("Want", bound=Record)
Gives = TypeVar("Gives", bound=Record)

BORN = datetime(2026, 1, 1, tzinfo=UTC)
MANAGED: dict[str, JsonValue] = {"shop": {"names": ["shop.example.com", "*.shop.example.com"], "authority": "acme"}}
OWNERS = [Ownership(names=["*.example.com"], owners=["web@example.com", "head@example.com"], channel="web-team")]


@dataclass
class Days:
    """A context whose clock the test sets.

    Attributes:
        step: Names the step that asks; a repeat has the same name.
        window: What the authority says of every certificate.
    """

    now: datetime = BORN
    step: str = "day 0"
    window: certificate.RenewalWindow | Exception = field(
        default_factory=lambda: certificate.RenewalWindow(offered=False)
    )
    kept: dict[tuple[str, str], record.KeptRecord] = field(default_factory=dict)
    formers: dict[tuple[str, str], tuple[str, record.KeptRecord | None]] = field(default_factory=dict)

    async def call(self, capability: Capability[Want, Gives], want: Want) -> Gives:
        answer: Any
        match want:
            case record.Putting():
                answer = record.PutRecords(at=self.now, records=[self._put(want.kind, each) for each in want.records])
            case record.RecordQuery():
                found = [self.kept[want.kind, key] for key in want.keys if (want.kind, key) in self.kept]
                answer = record.FoundRecords(at=self.now, records=found)
            case certificate.RenewalQuery():
                if isinstance(self.window, Exception):
                    raise self.window
                answer = self.window
            case _:
                raise AssertionError(capability.name)
        assert isinstance(answer, capability.gives)
        return answer

    async def change(self, capability: Capability[Want, Gives], want: Want) -> Gives:
        raise AssertionError(f"{capability.name} changes something: {want}")

    def _put(self, kind: str, new: record.NewRecord) -> record.PutRecord:
        place = kind, new.key
        by, former = self.formers.get(place, ("", None))
        if by != self.step:
            former = self.kept.get(place)
        self.formers[place] = self.step, former
        first_at = former.first_at if former else self.now
        self.kept[place] = record.KeptRecord(**new.model_dump(), first_at=first_at, put_at=self.now)
        return record.PutRecord(key=new.key, former=former)

    async def look(
        self, day: float, *places: tls.Summary | certificate.Certificate, again: bool = False, **more: Any
    ) -> Review:
        """Review what is presented and stored on a day."""
        self.now = BORN + timedelta(days=day)
        if not again:
            self.step = f"day {day}"
        assert review.function is not None
        given = {"managed": MANAGED, "owners": OWNERS, **more}
        endpoints = [each for each in places if isinstance(each, tls.Summary)]
        certificates = [each for each in places if isinstance(each, certificate.Certificate)]
        found = await review.function(self, endpoints=endpoints, certificates=certificates, connection="store", **given)
        assert isinstance(found, Review)
        return found

    def endpoint(self, key: str) -> record.KeptRecord:
        return self.kept["certificate", key]


def shows(
    host: str = "shop.example.com", serial: str = "a1", *, born: float = 0, lives: float = 90, name: str = ""
) -> tls.Summary:
    """What an endpoint presents."""
    return tls.Summary(
        host=host,
        port=443,
        server_name=name or host,
        reached=True,
        serial=serial,
        authority_key="ab",
        issuer="Example Issuing CA",
        not_before=BORN + timedelta(days=born),
        not_after=BORN + timedelta(days=born + lives),
    )


def silent(host: str = "shop.example.com") -> tls.Summary:
    return tls.Summary(
        host=host, port=443, server_name=host, reached=False, findings=["unreachable:timeout"], severity="high"
    )


def holds(
    name: str = "shop.example.com",
    serial: str = "a1",
    *,
    place: str = "arn:1",
    born: float = 0,
    lives: float = 90,
    **more: Any,
) -> certificate.Certificate:
    """What a store holds."""
    return certificate.Certificate(
        id=place,
        names=[name],
        serial=serial,
        issuer="Issuing CA",
        # Another zone, as vendors' libraries give it: it is the same moment.
        not_before=(BORN + timedelta(days=born)).astimezone(timezone(timedelta(hours=2))),
        not_after=(BORN + timedelta(days=born + lives)).astimezone(timezone(timedelta(hours=2))),
        **more,
    )


async def test_a_name_that_is_new_appears_with_its_owner_and_who_renews_it() -> None:
    days = Days()
    found = await days.look(1, shows(), shows("hand.example.com"), shows("alien.example.org"))
    assert found.fresh == ["shop.example.com:443", "hand.example.com:443", "alien.example.org:443"]
    told = [days.endpoint(key).value for key in found.fresh]
    assert [(each["owner"], each["renewed_by"]) for each in told] == [
        ("web@example.com", "regie"),
        ("web@example.com", "nobody"),
        ("", "nobody"),
    ]
    assert (await days.look(2, shows())).fresh == []


async def test_what_cannot_be_reached_keeps_what_was_known_and_its_stage_goes_on() -> None:
    days = Days()
    await days.look(1, shows("hand.example.com", lives=398))
    found = await days.look(370, silent("hand.example.com"), silent("never.example.com"))
    assert found.unreachable == ["hand.example.com:443", "never.example.com:443"]
    kept = days.endpoint("hand.example.com:443")
    assert (kept.state, kept.value["serial"], kept.value["findings"]) == ("overdue", "a1", ["unreachable:timeout"])
    assert kept.value["last_seen"] == (BORN + timedelta(days=1)).isoformat()
    assert [each.name for each in found.attention] == ["hand.example.com"]
    assert days.endpoint("never.example.com:443").state == "unseen"


async def test_a_renewal_begins_once_and_again_when_it_has_failed() -> None:
    days = Days()
    assert (await days.look(59, shows())).renew == []
    [begun] = (await days.look(61, shows())).renew
    assert (begun.certificate, begun.serial) == ("shop", "a1")
    assert (await days.look(61.5, shows())).renew == []
    days.kept["renewal", begun.key] = days.kept["renewal", begun.key].model_copy(update={"state": "failed"})
    assert [each.serial for each in (await days.look(62, shows())).renew] == ["a1"]
    assert (await days.look(62.1, shows("www.shop.example.com"))).renew == [], "it is the same certificate"


async def test_a_renewal_that_says_nothing_for_a_week_is_begun_again() -> None:
    days = Days()
    await days.look(61, shows())
    assert [(await days.look(day, shows())).renew for day in (64, 67.9)] == [[], []]
    assert len((await days.look(68, shows())).renew) == 1


async def test_a_step_that_is_repeated_comes_to_the_same() -> None:
    days = Days()
    await days.look(1, shows("hand.example.com", lives=60))
    await days.look(58, shows("hand.example.com", lives=60))
    presented = shows("hand.example.com", "b2", born=58), shows(lives=80), shows("new.example.com")
    first = await days.look(59, *presented)
    assert first.fresh
    assert first.renew
    assert first.settled
    assert await days.look(59, *presented, again=True) == first


async def test_the_authoritys_window_decides_where_there_is_one() -> None:
    days = Days(window=_window(5, 6))
    assert (await days.look(4, shows())).renew == []
    assert len((await days.look(6, shows())).renew) == 1
    for silence in (_window(5, 6, offered=False), Denied("No connection serves it.")):
        assert (await Days(window=silence).look(6, shows())).renew == []


def _window(start: float, end: float, *, offered: bool = True) -> certificate.RenewalWindow:
    at, until = (BORN + timedelta(days=day) for day in (start, end))
    return certificate.RenewalWindow(offered=offered, start=at if offered else None, end=until if offered else None)


async def test_people_hear_of_it_one_after_the_other_and_the_chat_when_it_is_urgent() -> None:
    days = Days()
    hand = shows("hand.example.com", lives=398)
    assert (await days.look(367, hand)).attention == []
    heard = [(await days.look(day, hand)).attention[0] for day in (368, 384, 391, 399)]
    assert [each.stage for each in heard] == [Stage.OVERDUE, Stage.OVERDUE, Stage.URGENT, Stage.EXPIRED]
    assert [len(each.told) for each in heard] == [1, 2, 2, 2]
    assert [each.channel for each in heard] == ["", "", "web-team", "web-team"]
    assert {each.key for each in heard} == {"certificate a1 2027-02-03T00:00:00+00:00"}
    assert heard[2].left == "7 days"


async def test_one_certificate_at_many_endpoints_has_one_ticket_with_one_name() -> None:
    days = Days()
    hosts = [shows(f"{name}.example.com", lives=60) for name in ("b", "a")]
    [first] = (await days.look(55, *hosts)).attention
    [second] = (await days.look(56, *reversed(hosts))).attention
    assert first.name == second.name == "b.example.com"


async def test_it_is_settled_when_the_endpoint_that_people_were_told_of_presents_another_serial() -> None:
    days = Days()
    first, other = (f"{name}.example.com" for name in "ab")
    await days.look(55, shows(first, lives=60), shows(other, lives=60))
    assert (await days.look(56, silent(first), shows(other, lives=60))).settled == []
    assert (await days.look(57, shows(first, lives=60), shows(other, "b2", born=57))).settled == []
    [settled] = (await days.look(58, shows(first, "b2", born=57), shows(other, "b2", born=57))).settled
    assert (settled.serial, settled.name) == ("a1", first)


async def test_it_is_settled_when_all_its_endpoints_change_at_once() -> None:
    days = Days()
    hosts = [f"{name}.example.com" for name in "abc"]
    await days.look(55, *(shows(host, lives=60) for host in hosts))
    [settled] = (await days.look(56, *(shows(host, "b2", born=56) for host in hosts))).settled
    assert settled.name == "a.example.com"


async def test_a_name_asked_for_elsewhere_is_an_endpoint_of_its_own() -> None:
    days = Days()
    found = await days.look(1, shows("192.0.2.1", name="x.example.com"), shows("192.0.2.2", name="x.example.com"))
    assert found.fresh == ["x.example.com at 192.0.2.1:443", "x.example.com at 192.0.2.2:443"]


async def test_a_wildcard_is_for_one_label() -> None:
    days = Days()
    hosts = ["www.shop.example.com", "a.b.shop.example.com"]
    await days.look(1, *map(shows, hosts))
    assert [days.endpoint(f"{host}:443").value["renewed_by"] for host in hosts] == ["regie", "nobody"]


async def test_an_entry_without_names_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidInput, match="entry shop"):
        await Days().look(1, shows(), managed={"shop": {"authority": "acme"}})


async def test_what_stores_and_files_hold_appears_with_its_owner_and_who_renews_it() -> None:
    days = Days()
    found = await days.look(
        1,
        holds(used_by=["arn:balancer"]),
        holds("a.example.com", "b2", place="arn:2", renewed_by="source", renewal="pending"),
        holds("b.example.com", "c3", place="/etc/ssl/b.pem", findings=["chain_incomplete"]),
        certificate.Certificate(id="/etc/ssl/odd.pem", names=[], state="unreadable", findings=["unreadable:forbidden"]),
    )
    assert found.fresh == ["arn:1 in store", "arn:2 in store", "/etc/ssl/b.pem in store", "/etc/ssl/odd.pem in store"]
    assert found.unreachable == ["/etc/ssl/odd.pem in store"]
    told = [days.endpoint(key) for key in found.fresh]
    assert [(each.state, each.value["owner"], each.value["renewed_by"]) for each in told] == [
        ("healthy", "web@example.com", "regie"),
        ("healthy", "web@example.com", "store, by itself"),
        ("healthy", "web@example.com", "nobody"),
        ("unseen", "", "nobody"),
    ]
    assert [each.value["findings"] for each in told[2:]] == [["chain_incomplete"], ["unreadable:forbidden"]]
    assert (told[0].value["used_by"], told[1].value["renewal"]) == (["arn:balancer"], "pending")


async def test_what_nothing_uses_may_end_in_peace() -> None:
    days = Days()
    for day, serial in ((1, "a1"), (200, "a1")):
        found = await days.look(day, holds("hand.example.com", serial, is_used=False))
        assert (found.attention, found.renew, found.settled) == ([], [], [])
        kept = days.endpoint("arn:1 in store")
        assert (kept.state, kept.due_at) == ("unused", None)


async def test_what_a_store_cannot_renew_without_people_gets_its_ticket_like_what_people_renew() -> None:
    """Of 60 days a quarter is left when one that renews itself is overdue, and a third when people have to act."""
    for renewal, first in (("pending", 45), ("waits_for_proof", 41)):
        by_itself = holds("a.example.com", lives=60, renewed_by="source", renewal=renewal)
        days = Days()
        heard = [day for day in range(1, 60) if (await days.look(day, by_itself)).attention]
        assert heard[0] == first


async def test_one_certificate_here_and_there_has_one_ticket_and_one_voice() -> None:
    days = Days()
    [first] = (await days.look(55, shows("hand.example.com", lives=60))).attention
    owners = [Ownership(names=["hand.*"], owners=["somebody.else@example.com"])]
    assert (await days.look(55.1, holds("hand.example.com", lives=60), owners=owners)).attention == []
    [again] = (await days.look(56, shows("hand.example.com", lives=60))).attention
    assert (again.key, again.owner) == (first.key, first.owner)
    # The endpoint is listed no more: two days later the store speaks, about the same ticket.
    assert (await days.look(57, holds("hand.example.com", lives=60))).attention == []
    [taken_over] = (await days.look(58.5, holds("hand.example.com", lives=60))).attention
    assert taken_over.key == first.key


async def test_it_is_settled_when_the_store_still_has_it_and_nothing_uses_it() -> None:
    days = Days()
    assert (await days.look(55, holds("hand.example.com", lives=60))).attention
    renewed = holds("hand.example.com", "b2", place="arn:2", born=56)
    [settled] = (await days.look(57, holds("hand.example.com", lives=60, is_used=False), renewed)).settled
    assert (settled.serial, settled.name) == ("a1", "hand.example.com")


async def test_a_managed_certificate_that_only_a_store_knows_is_renewed() -> None:
    days = Days()
    [begun] = (await days.look(61, holds())).renew
    assert (begun.certificate, begun.serial) == ("shop", "a1")
    assert (await days.look(61.1, shows())).renew == [], "it is the same certificate"
    by_itself = holds("www.shop.example.com", "c3", place="arn:3", renewed_by="source")
    assert (await days.look(61.2, by_itself)).renew == []


async def test_a_certificate_for_more_names_than_are_managed_is_not_renewed_by_regie() -> None:
    days = Days()
    more = {"arn:1": ["*.shop.example.com", "shop.example.com"], "arn:2": ["mail.example.com", "shop.example.com"]}
    await days.look(1, *(holds(place=arn).model_copy(update={"names": names}) for arn, names in more.items()))
    assert [days.endpoint(f"{arn} in store").value["renewed_by"] for arn in more] == ["regie", "nobody"]


async def test_a_path_longer_than_a_key_is_kept_under_a_shorter_one() -> None:
    days = Days()
    paths = [f"/etc/{'x' * 600}/{name}.pem" for name in "ab"]
    found = await days.look(1, *(holds(place=path) for path in paths))
    assert len(set(found.fresh)) == 2
    assert all(len(key) <= 500 for key in found.fresh)


async def test_thousands_of_names_and_users_fit_into_a_record() -> None:
    days = Days()
    users = [
        f"arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/{n:032}/{n:016}" for n in range(500)
    ]
    await days.look(
        1, holds().model_copy(update={"used_by": users, "names": [f"n{n}.example.com" for n in range(1000)]})
    )
    assert len(days.endpoint("arn:1 in store").model_dump_json()) < record.LARGEST_VALUE
