"""Compares what endpoints present with what the inventory knows: what is new, what was renewed, what has to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue

from regie.core.block import Context, block
from regie.core.capabilities import certificate, record, tls
from regie.core.capability import Record
from regie.core.errors import InvalidInput, NotFound, Refused, Terminal
from regie.domains.certificates.stages import Marks, Rules, Stage, Window, in_words, marks_of, told

ENDPOINT, REMINDER, RENEWAL = "endpoint", "reminder", "renewal"
"""Kinds of records: what is known of an endpoint, what people are told about, what is being renewed."""
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
    """What a look at some endpoints has come to.

    Attributes:
        at: When; the database's time.
        seen: How many were looked at.
        fresh: Endpoints that were never seen before.
        unreachable: Endpoints that presented nothing this time; what was known of them is kept.
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
    """One endpoint: what the inventory shall say of it, and what that means."""

    key: str
    kept: record.NewRecord
    name: str
    serial: str
    marks: Marks | None
    stage: Stage
    owner: Ownership
    entry: str

    @property
    def certificate(self) -> str:
        """Names the certificate and so its period: a renewed one has another serial."""
        return f"{self.serial} {self.kept.value.get('issuer', '')}"


@block("certificate.review", needs=(record.PUT, record.FIND, certificate.RENEWAL_WINDOW), timeout_s=120.0)
async def review(
    ctx: Context,
    *,
    endpoints: list[tls.Summary],
    managed: dict[str, JsonValue] = {},  # noqa: B006  read for the block's arguments, never changed
    owners: list[Ownership] = [],  # noqa: B006  read for the block's arguments, never changed
    channel: str = "",
    rules: Rules = Rules(),  # noqa: B008  immutable
) -> Review:
    """Bring the inventory up to date with what endpoints present, and say what has to be done.

    The authority of a managed certificate is asked when it wants it renewed; where it does not say, the part of the
    lifetime in `rules` counts. What an endpoint presented last is kept while it cannot be reached.

    Example:
        uses: certificate.review
        with: { endpoints: "${{ steps.page.endpoints }}", managed: "${{ settings.managed }}" }
    """
    entries = {name: _entry(name, given) for name, given in managed.items()}
    by_key = {key_of(each): each for each in endpoints}
    known = await ctx.call(record.FIND, record.RecordQuery(kind=ENDPOINT, keys=list(by_key)))
    before = {each.key: each for each in known.records}
    seen = [
        await _look_at(ctx, key, each, before.get(key), known.at, entries, owners, rules)
        for key, each in by_key.items()
    ]
    put = await ctx.call(record.PUT, record.Putting(kind=ENDPOINT, records=[each.kept for each in seen]))
    formers = {each.key: each.former for each in put.records}
    attention, settled = await _people(ctx, seen, formers, known.at, channel)
    return Review(
        at=known.at,
        seen=len(seen),
        fresh=[each.key for each in seen if formers[each.key] is None],
        unreachable=[key for key, each in by_key.items() if not each.reached],
        attention=attention,
        renew=await _renewals(ctx, seen, known.at),
        settled=settled,
    )


def key_of(endpoint: tls.Summary) -> str:
    """How the inventory names an endpoint: by the name that is asked for, and where if that is another host."""
    if endpoint.server_name in {"", endpoint.host}:
        return f"{endpoint.host}:{endpoint.port}"
    return f"{endpoint.server_name} at {endpoint.host}:{endpoint.port}"


async def _look_at(  # noqa: PLR0917  everything that decides over one endpoint
    ctx: Context,
    key: str,
    shown: tls.Summary,
    before: record.KeptRecord | None,
    now: datetime,
    entries: dict[str, Managed],
    owners: Sequence[Ownership],
    rules: Rules,
) -> _Seen:
    name = shown.server_name or shown.host
    entry = next((each for each, managed in entries.items() if _fits(name, managed.names)), "")
    owner = next((each for each in owners if _fits(name, each.names)), Ownership(names=[]))
    last = _presented(shown) if shown.reached else dict(before.value if before else {})
    not_before, not_after = _moment(last, "not_before"), _moment(last, "not_after")
    renewed_by = "regie" if entry else owner.renewed_by or "nobody"
    marks = None
    if not_before is not None and not_after is not None:
        window = await _window(ctx, shown, entries[entry]) if entry and shown.reached else None
        by_hand = renewed_by == "nobody"
        marks = marks_of(str(last["serial"]), not_before, not_after, rules, by_hand=by_hand, window=window)
    stage = marks.stage(now) if marks else Stage.UNSEEN
    value: dict[str, JsonValue] = {
        **last,
        "name": name,
        "findings": list(shown.findings),
        "owner": owner.owners[0] if owner.owners else "",
        "renewed_by": renewed_by,
        "last_seen": now.isoformat() if shown.reached else last.get("last_seen", ""),
    }
    kept = record.NewRecord(key=key, state=stage, due_at=not_after, value=value)
    return _Seen(key, kept, name, str(last.get("serial", "")), marks, stage, owner, entry)


def _presented(shown: tls.Summary) -> dict[str, JsonValue]:
    return shown.model_dump(mode="json", include={"serial", "issuer", "not_before", "not_after"})


def _moment(value: dict[str, JsonValue], field: str) -> datetime | None:
    text = value.get(field)
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None


async def _window(ctx: Context, shown: tls.Summary, entry: Managed) -> Window | None:
    """What the authority says. One that refuses to say anything about this certificate has not issued it."""
    if not (shown.authority_key and shown.serial):
        return None
    asked = certificate.RenewalQuery(authority_key=shown.authority_key, serial=shown.serial, connection=entry.authority)
    try:
        found = await ctx.call(certificate.RENEWAL_WINDOW, asked)
    except (NotFound, Refused, InvalidInput, Terminal):
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
    noted = {each.certificate: each for each in reversed(seen) if each.stage.needs_ticket and each.marks}
    gone = {
        f"{former.value.get('serial', '')} {former.value.get('issuer', '')}": each.key
        for each in seen
        if (former := formers[each.key]) is not None and former.value.get("serial", "") not in {"", each.serial}
    }
    found = await ctx.call(record.FIND, record.RecordQuery(kind=REMINDER, keys=[*noted, *gone]))
    reminders = {each.key: each for each in found.records}
    fresh = [
        record.NewRecord(key=key, state="open", value={"name": each.name, "endpoint": each.key})
        for key, each in noted.items()
        if key not in reminders
    ]
    if fresh:
        await ctx.call(record.PUT, record.Putting(kind=REMINDER, records=fresh))
    attention = [_attention(key, each, reminders.get(key), now, channel) for key, each in noted.items()]
    settled = [
        Settled(key=key, name=str(reminders[key].value["name"]), serial=key.partition(" ")[0])
        for key, endpoint in gone.items()
        if key in reminders and reminders[key].value["endpoint"] == endpoint
    ]
    return attention, settled


def _attention(key: str, seen: _Seen, reminder: record.KeptRecord | None, now: datetime, channel: str) -> Attention:
    assert seen.marks is not None  # noqa: S101  only what was presented needs attention
    is_urgent = seen.stage in {Stage.URGENT, Stage.EXPIRED}
    return Attention(
        key=f"certificate {key}",
        # Several endpoints may present one certificate: the ticket keeps the name that it was opened with.
        name=str(reminder.value["name"]) if reminder else seen.name,
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
    """What is due and not being renewed already. Noted as running at once, so that the next look begins none."""
    wanted = {
        f"{each.entry} {each.serial}": Renewal(
            certificate=each.entry, serial=each.serial, key=f"{each.entry} {each.serial}"
        )
        for each in seen
        if each.entry and each.marks and each.stage is not Stage.HEALTHY
    }
    if not wanted:
        return []
    found = await ctx.call(record.FIND, record.RecordQuery(kind=RENEWAL, keys=list(wanted)))
    busy = {each.key for each in found.records if each.state == RUNNING and now - each.put_at < RENEWAL_FORGOTTEN_AFTER}
    begun = [each for key, each in wanted.items() if key not in busy]
    notes = [record.NewRecord(key=each.key, state=RUNNING) for each in begun]
    await ctx.call(record.PUT, record.Putting(kind=RENEWAL, records=notes))
    return begun


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
