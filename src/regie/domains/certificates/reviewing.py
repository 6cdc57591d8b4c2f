"""Compares what was seen with what the inventory knows: what is new, what was renewed, what has to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue

from regie.core.block import Context, block
from regie.core.capabilities import certificate, record, tls
from regie.core.capability import Record
from regie.core.errors import Denied, InvalidInput, Terminal
from regie.core.server_name import is_for
from regie.domains.certificates.sightings import Sighting, presented, stored
from regie.domains.certificates.stages import Marks, Rules, Stage, Window, in_words, marks_of, told

CERTIFICATE, REMINDER, RENEWAL = "certificate", "reminder", "renewal"
"""Kinds of records: where certificates are, what people are told about, what is being renewed."""
SILENT_AFTER = timedelta(days=2)
"""One place speaks for a certificate that is in several. When it says nothing for so long, another one does."""
RENEWAL_FORGOTTEN_AFTER = timedelta(days=7)
"""A renewal that says nothing for so long counts as lost, and another one begins."""
RUNNING = "running"


class Ownership(Record):
    """Who answers for names.

    Attributes:
        names: Names or patterns such as `*.example.com`; the first entry that fits counts.
        owners: Addresses: the owner first, then the owner's owner, and so on.
        channel: Where the chat is told that it is urgent; the tenant's own when empty.
        renewed_by: Who renews the certificate, in words, where Regie does not.
    """

    names: list[str]
    owners: list[str] = []
    channel: str = ""
    renewed_by: str = ""


class Managed(BaseModel):
    """What the review reads of an entry of the setting `managed`; the rest is for the renewal."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    names: list[str]
    authority: str = ""


class Attention(Record):
    """A certificate that people have to be told about.

    Attributes:
        key: Names it and its period, for tickets: one certificate has one.
        left: How long it is valid, in words.
        owner: Empty where nobody is named.
        told: Whoever is told by now; it gets longer when nobody acts.
        channel: Where the chat is told; empty unless it is urgent.
    """

    key: str
    name: str
    stage: Stage
    serial: str
    left: str
    not_after: AwareDatetime
    owner: str
    renewed_by: str
    told: list[str]
    channel: str


class Renewal(Record):
    """A certificate to renew: the entry of the setting `managed`, and the serial that is to be replaced."""

    certificate: str
    serial: str
    key: str


class Settled(Record):
    """What people were told about and has been done: another serial is served."""

    key: str
    name: str
    serial: str


class Review(Record):
    """What a look at some places has come to.

    Attributes:
        at: When; the database's time.
        seen: How many were looked at.
        fresh: Places that were never seen before.
        unreachable: Places that showed nothing this time; what was known of them is kept.
        attention: Certificates that people have to be told about, each once.
        renew: Certificates to renew now.
        settled: What needs no attention any more.
    """

    at: AwareDatetime
    seen: int
    fresh: list[str]
    unreachable: list[str]
    attention: list[Attention]
    renew: list[Renewal]
    settled: list[Settled]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One place: what the inventory shall say of it, and what that means."""

    sighting: Sighting
    kept: record.NewRecord
    serial: str
    marks: Marks | None
    stage: Stage
    owner: Ownership
    entry: str

    @property
    def key(self) -> str:
        """How the inventory names the place."""
        return self.kept.key

    @property
    def certificate(self) -> str:
        """Names the certificate and so its period."""
        return _certificate(self.kept)


@block("certificate.review", needs=(record.PUT, record.FIND, certificate.RENEWAL_WINDOW), timeout_s=120.0)
async def review(
    ctx: Context,
    *,
    endpoints: list[tls.Summary] = [],  # noqa: B006  read for the block's arguments, never changed
    certificates: list[certificate.Certificate] = [],  # noqa: B006  likewise
    connection: str = "",
    managed: dict[str, JsonValue] = {},  # noqa: B006  read for the block's arguments, never changed
    owners: list[Ownership] = [],  # noqa: B006  read for the block's arguments, never changed
    channel: str = "",
    rules: Rules | None = None,
) -> Review:
    """Bring the inventory up to date with what was seen, and say what has to be done.

    `connection` is the one that listed the certificates. The authority of a managed certificate is asked when it wants
    it renewed; where it does not say, the part of the lifetime in `rules` counts. What was seen last is kept while a
    place shows nothing.

    Example:
        uses: certificate.review
        with: { endpoints: "${{ steps.page.endpoints }}", managed: "${{ settings.managed }}" }
    """
    entries = {name: _entry(name, given) for name, given in managed.items()}
    places = [*map(presented, endpoints), *(stored(each, connection) for each in certificates)]
    by_key = {each.key: each for each in places}
    known = await ctx.call(record.FIND, record.RecordQuery(kind=CERTIFICATE, keys=list(by_key)))
    before = {each.key: each for each in known.records}
    seen = [
        await _look_at(ctx, each, before.get(key), known.at, entries, owners, rules or Rules())
        for key, each in by_key.items()
    ]
    put = await ctx.call(record.PUT, record.Putting(kind=CERTIFICATE, records=[each.kept for each in seen]))
    formers = {each.key: each.former for each in put.records}
    attention, settled = await _people(ctx, seen, formers, known.at, channel)
    return Review(
        at=known.at,
        seen=len(seen),
        fresh=[each.key for each in seen if formers[each.key] is None],
        unreachable=[key for key, each in by_key.items() if each.shown is None],
        attention=attention,
        renew=await _renewals(ctx, seen, known.at),
        settled=settled,
    )


async def _look_at(  # noqa: PLR0917  everything that decides over one place
    ctx: Context,
    sighting: Sighting,
    before: record.KeptRecord | None,
    now: datetime,
    entries: dict[str, Managed],
    owners: Sequence[Ownership],
    rules: Rules,
) -> _Seen:
    names, shown = sighting.names, sighting.shown
    entry = next((each for each, managed in entries.items() if _is_for_all(managed.names, names)), "")
    owner = next((each for each in owners if any(_fits(name, each.names) for name in names)), Ownership(names=[]))
    last = dict(shown if shown is not None else before.value if before else {})
    not_before, not_after = _moment(last, "not_before"), _moment(last, "not_after")
    renewed_by = sighting.renewed_by or ("regie" if entry else owner.renewed_by or "nobody")
    entry = "" if sighting.renewed_by else entry
    marks = None
    if not_before is not None and not_after is not None:
        window = await _window(ctx, sighting, str(last["serial"]), entries[entry]) if entry and shown else None
        by_hand = renewed_by == "nobody" or sighting.is_stuck
        marks = marks_of(str(last["serial"]), not_before, not_after, rules, by_hand=by_hand, window=window)
    stage = (marks.stage(now) if sighting.is_used else Stage.UNUSED) if marks else Stage.UNSEEN
    value: dict[str, JsonValue] = {
        **last,
        **(sighting.more or {}),
        "name": sighting.name,
        "findings": list(sighting.findings),
        "owner": owner.owners[0] if owner.owners else "",
        "renewed_by": renewed_by,
        "last_seen": now.isoformat() if shown else last.get("last_seen", ""),
    }
    due_at = not_after if sighting.is_used else None
    kept = record.NewRecord(key=sighting.key, state=stage, due_at=due_at, value=value)
    return _Seen(sighting, kept, str(last.get("serial", "")), marks, stage, owner, entry)


def _certificate(kept: record.NewRecord) -> str:
    """Names the certificate of a place, by serial and end: its issuer is not told alike by all. Empty when unused."""
    serial = kept.value.get("serial", "")
    return f"{serial} {kept.value.get('not_after', '')}" if serial and kept.state != Stage.UNUSED else ""


def _moment(value: dict[str, JsonValue], field: str) -> datetime | None:
    text = value.get(field)
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None


async def _window(ctx: Context, sighting: Sighting, serial: str, entry: Managed) -> Window | None:
    """What the authority says. One that refuses to say anything about this certificate has not issued it."""
    if not (sighting.authority_key and serial):
        return None
    asked = certificate.RenewalQuery(authority_key=sighting.authority_key, serial=serial, connection=entry.authority)
    try:
        found = await ctx.call(certificate.RENEWAL_WINDOW, asked)
    except (InvalidInput, Denied, Terminal):
        return None
    if not found.offered or found.start is None or found.end is None:
        return None
    return Window(start=found.start, end=found.end)


async def _people(
    ctx: Context,
    seen: Sequence[_Seen],
    formers: dict[str, record.KeptRecord | None],
    now: datetime,
    channel: str,
) -> tuple[list[Attention], list[Settled]]:
    """What people have to be told, and what they need not care about any more."""
    noted: dict[str, list[_Seen]] = {}
    gone: dict[str, set[str]] = {}
    for each in seen:
        if each.stage.needs_ticket and each.marks:
            noted.setdefault(each.certificate, []).append(each)
        former = formers[each.key]
        if former is not None and _certificate(former) not in {"", each.certificate}:
            gone.setdefault(_certificate(former), set()).add(each.key)
    found = await ctx.call(record.FIND, record.RecordQuery(kind=REMINDER, keys=[*noted, *gone]))
    reminders = {each.key: each for each in found.records}
    speakers = {key: _speaker(places, reminders.get(key), now) for key, places in noted.items()}
    speaking = {key: place for key, place in speakers.items() if place is not None}
    attention = [_attention(key, each, reminders.get(key), now, channel) for key, each in speaking.items()]
    # Put each time, so that it shows when its place was seen last.
    notes = [
        record.NewRecord(key=key, state="open", value={"name": told.name, "place": each.key})
        for (key, each), told in zip(speaking.items(), attention, strict=True)
    ]
    if notes:
        await ctx.call(record.PUT, record.Putting(kind=REMINDER, records=notes))
    settled = [
        Settled(key=key, name=str(reminders[key].value["name"]), serial=key.partition(" ")[0])
        for key, places in gone.items()
        if key in reminders and reminders[key].value["place"] in places
    ]
    return attention, settled


def _speaker(places: Sequence[_Seen], reminder: record.KeptRecord | None, now: datetime) -> _Seen | None:
    """The place that speaks for a certificate: the same one each day, or its owner would change with the page."""
    if reminder is None or now - reminder.put_at > SILENT_AFTER:
        return places[0]
    return next((each for each in places if each.key == reminder.value["place"]), None)


def _attention(key: str, seen: _Seen, reminder: record.KeptRecord | None, now: datetime, channel: str) -> Attention:
    assert seen.marks is not None  # noqa: S101  only what was presented needs attention
    is_urgent = seen.stage in {Stage.URGENT, Stage.EXPIRED}
    return Attention(
        key=f"certificate {key}",
        # Several places may have one certificate: the ticket keeps the name that it was opened with.
        name=str(reminder.value["name"]) if reminder else seen.sighting.name,
        stage=seen.stage,
        serial=seen.serial,
        left=in_words(seen.marks.expires_at - now),
        not_after=seen.marks.expires_at,
        owner=seen.owner.owners[0] if seen.owner.owners else "",
        renewed_by=str(seen.kept.value["renewed_by"]),
        told=told(seen.owner.owners, seen.marks, now),
        channel=(seen.owner.channel or channel) if is_urgent else "",
    )


async def _renewals(ctx: Context, seen: Sequence[_Seen], now: datetime) -> list[Renewal]:
    """What is due and is not being renewed already. It is noted at once, so that the next look begins no other one.

    Whether one runs is told by what was there before this step: a repeat of the step begins the same ones.
    """
    wanted = {
        key: Renewal(certificate=each.entry, serial=each.serial, key=key)
        for each in seen
        if each.entry and each.marks and each.stage not in {Stage.HEALTHY, Stage.UNUSED}
        for key in [f"{each.entry} {each.serial}"]
    }
    if not wanted:
        return []
    found = await ctx.call(record.FIND, record.RecordQuery(kind=RENEWAL, keys=list(wanted)))
    since = {each.key: each.value["since"] for each in found.records if _runs(each, now)}
    notes = [
        record.NewRecord(key=key, state=RUNNING, value={"since": since.get(key, now.isoformat())}) for key in wanted
    ]
    put = await ctx.call(record.PUT, record.Putting(kind=RENEWAL, records=notes))
    return [wanted[each.key] for each in put.records if each.former is None or not _runs(each.former, now)]


def _runs(renewal: record.KeptRecord, now: datetime) -> bool:
    since = _moment(renewal.value, "since")
    return renewal.state == RUNNING and since is not None and now - since < RENEWAL_FORGOTTEN_AFTER


def _entry(name: str, given: JsonValue) -> Managed:
    try:
        return Managed.model_validate(given)
    except ValueError:
        raise InvalidInput(
            f"The entry {name} of the setting managed cannot be used.", hint="It needs `names`, a list of DNS names."
        ) from None


def _fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name is among these. `*` stands for one label or several, as people write it about owners."""
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _is_for_all(managed: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a renewal for these names takes the place of a certificate for those."""
    return all(is_for(managed, name.lower()) for name in names)
