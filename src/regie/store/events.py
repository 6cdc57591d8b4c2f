"""Events, told from outside or published by runs, and the steps that wait for them: kept, matched, delivered.

An event is written first and brought to those who wait in a transaction of its own, by whoever gets to it. Whoever
begins to wait looks at what has arrived; a lock by the event's name makes sure that one of the two sees the other.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, LiteralString, NamedTuple

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from regie.core import canonical
from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput
from regie.core.outside_event import OutsideEvent, marks_of
from regie.core.run import Cause
from regie.core.run_commands import AwaitEvent
from regie.core.run_events import EventArrived
from regie.store import audit, inbox
from regie.store.database import Transaction
from regie.store.keys import RunKey, as_json
from regie.store.sealer import SealBroken

KEPT: Final = timedelta(days=30)
"""How long an event is kept, for steps that begin to wait later and for the same event told again."""
SEED: Final = 7_238_415_005
"""Part of the keys of the locks by which waiting and telling see each other."""
MOST_AT_ONCE = 500
"""Waits that one transaction delivers to."""
_NAMED: LiteralString = "hashtextextended(%(name)s, %(seed)s)"


class OfRun(NamedTuple):
    """Where an event comes from that a run publishes: its step, its correlation id, the worker that writes it down."""

    cause: Cause
    place: str
    corr: str
    worker: Actor


async def publish(tx: Transaction, event: OutsideEvent, by: Actor, *, of_run: OfRun | None = None) -> bool:
    """Keep an event and write its leaf; `route` brings it to those who wait for it, the engine starts what it starts.

    Args:
        tx: Within.
        event: What has happened.
        by: Who tells it; of a run's event, who started the run.
        of_run: Which run publishes it; None when it comes from outside.

    Returns:
        Whether it is new: the same id counts once.

    Raises:
        InvalidInput: That id is another event's.
    """
    digest = canonical.digest(event.data)
    values = {"tenant": event.tenant, "domain": event.domain, "id": event.id}
    row = await tx.row(
        """insert into regie.event (tenant, domain, id, name, data, data_sha256, marks, published_by, cause, corr)
           values (%(tenant)s, %(domain)s, %(id)s, %(name)s, %(data)s, %(digest)s, %(marks)s, %(by)s, %(cause)s,
                   %(corr)s)
           on conflict (tenant, domain, id) do nothing returning arrived_at""",
        {
            **values,
            "name": event.name,
            "data": tx.sealer.seal(canonical.encode(event.data), **_address(event.tenant, event.domain, event.id)),
            "digest": digest,
            "marks": event.marks,
            "by": Jsonb(by.model_dump(mode="json")),
            "cause": of_run
            and tx.sealer.seal(
                of_run.cause.model_dump_json().encode(), **_address(event.tenant, event.domain, event.id, "cause")
            ),
            "corr": of_run.corr if of_run else "",
        },
    )
    if row is not None:
        await tx.change(
            """insert into regie.event_mark (tenant, domain, mark, arrived_at, event)
               select %(tenant)s, %(domain)s, m.mark, %(at)s, %(id)s from unnest(%(marks)s::text[]) as m (mark)
               on conflict do nothing""",
            {**values, "at": row["arrived_at"], "marks": event.marks},
        )
    else:
        before = await tx.row(
            """select name, data_sha256 from regie.event
               where tenant = %(tenant)s and domain = %(domain)s and id = %(id)s""",
            values,
        )
        if before is not None and (before["name"], before["data_sha256"]) != (event.name, digest):
            raise InvalidInput("This Idempotency-Key was used for another event.", hint="Each event has its own.")
    about: dict[str, JsonValue] = {"outside_event": {"id": event.id, "name": event.name, "data_sha256": digest}}
    if of_run is not None:
        about = {**about, "publisher": {"run": of_run.cause.run, "place": of_run.place}}
        fact = Fact(event=Event.EVENT_PUBLISHED, actor=of_run.worker, detail=about)
    else:
        fact = Fact(event=Event.EVENT_REPEATED if row is None else Event.EVENT_RECEIVED, actor=by, detail=about)
    await audit.append_outside(tx, event.tenant, event.domain, [fact])
    return row is not None


async def wait(tx: Transaction, key: RunKey, awaits: Sequence[AwaitEvent], *, since: datetime) -> None:
    """Begin to wait for events, within a commit; what has arrived since then goes into the run's inbox at once.

    Args:
        since: When the run started: what is older is none of its business.
    """
    found: list[tuple[str, str]] = []
    for awaited in awaits:
        marks = marks_of(awaited.event, awaited.where)
        values = {"tenant": key.tenant, "domain": key.domain, "mark": marks[0], "marks": marks, "name": awaited.event}
        lock = {"name": _lock_name(key.tenant, key.domain, awaited.event), "seed": SEED}
        await tx.row("select pg_advisory_xact_lock_shared(" + _NAMED + ")", lock)
        row = await tx.row(
            """select e.tenant, e.domain, e.id, e.name, e.data
               from regie.event_mark m
               join regie.event e on (e.tenant, e.domain, e.id) = (m.tenant, m.domain, m.event)
               where m.tenant = %(tenant)s and m.domain = %(domain)s and m.mark = %(mark)s
                 and m.arrived_at >= %(since)s and e.marks @> %(marks)s::text[]
               order by m.arrived_at, m.event limit 1""",
            {**values, "since": since},
        )
        data = None if row is None else data_of(tx, row)
        if row is not None and data is not None:
            found.append(_arrived(row, data, awaited.place))
            continue
        await tx.change(
            """insert into regie.event_wait (tenant, domain, run, place, name, mark, marks)
               values (%(tenant)s, %(domain)s, %(run)s, %(place)s, %(name)s, %(mark)s, %(marks)s)
               on conflict (tenant, domain, run, place) do nothing""",
            {**values, "run": key.run, "place": awaited.place},
        )
    if found:
        # The commit may be one of many, and another of them have told this run something by now.
        await inbox.put(tx, key, found, await inbox.stands_at(tx, key))


async def forget(tx: Transaction, commits: Sequence[tuple[RunKey, Sequence[str]]]) -> None:
    """Wait no longer at some places of several runs."""
    rows = [{**key._asdict(), "place": place} for key, places in commits for place in places]
    if rows:
        await tx.change(
            """delete from regie.event_wait w
               using json_to_recordset(%(rows)s::json) as c (tenant text, domain text, run uuid, place text)
               where (w.tenant, w.domain, w.run, w.place) = (c.tenant, c.domain, c.run, c.place)""",
            {"rows": as_json(rows)},
        )


async def forget_all(tx: Transaction, keys: Sequence[RunKey]) -> None:
    """Nothing is waited for any more by runs that are over."""
    if keys:
        await tx.change(
            """delete from regie.event_wait w
               using json_to_recordset(%(rows)s::json) as c (tenant text, domain text, run uuid)
               where (w.tenant, w.domain, w.run) = (c.tenant, c.domain, c.run)""",
            {"rows": as_json(key._asdict() for key in keys)},
        )


async def route(tx: Transaction, domains: Sequence[str]) -> bool:
    """Bring the oldest event of these domains that has not been brought anywhere to the steps that wait for it.

    A run that is being changed at this moment is left for the next time, so nothing here waits for one.

    Returns:
        Whether there was one, so that it pays to look for another.
    """
    event = await tx.row(
        """select tenant, domain, id, name, data, marks, arrived_at from regie.event
           where domain = any(%(domains)s) and routed_at is null
           order by arrived_at limit 1 for no key update skip locked""",
        {"domains": list(domains)},
    )
    if event is None:
        return False
    data = data_of(tx, event)
    if data is None:
        await set_aside(tx, event)
        return True
    lock = {"name": _lock_name(event["tenant"], event["domain"], event["name"]), "seed": SEED}
    await tx.row("select pg_advisory_xact_lock(" + _NAMED + ")", lock)
    values = {name: event[name] for name in ("tenant", "domain", "id", "marks", "arrived_at")}
    waits = await tx.rows(
        """select w.tenant, w.domain, w.run, w.place, r.inbox_n
           from regie.event_wait w
           join regie.run r on r.id = w.run and (r.tenant, r.domain) is not distinct from (w.tenant, w.domain)
           where w.tenant = %(tenant)s and w.domain = %(domain)s and w.mark = any(%(marks)s)
             and w.marks <@ %(marks)s::text[] and r.started_at <= %(arrived_at)s
             -- One that came before it and is on its way, but did not get to this run yet, goes first.
             and not exists (
                 select from regie.event e
                 where e.tenant = w.tenant and e.domain = w.domain and e.routed_at is null and e.name = w.name
                   and e.marks @> w.marks and e.arrived_at >= r.started_at
                   and (e.arrived_at, e.id) < (%(arrived_at)s, %(id)s))
           order by w.run, w.place limit %(limit)s for no key update of r skip locked""",
        {**values, "limit": MOST_AT_ONCE},
    )
    arrived: dict[tuple[RunKey, int], list[tuple[str, str]]] = {}
    for row in waits:
        key = RunKey(row["tenant"], row["domain"], str(row["run"]))
        arrived.setdefault((key, row["inbox_n"]), []).append(_arrived(event, data, row["place"]))
    for (key, inbox_n), events in arrived.items():
        await inbox.put(tx, key, events, inbox_n)
    await tx.change_each(
        """delete from regie.event_wait
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and place = %(place)s""",
        waits,
    )
    done = await tx.change(
        """update regie.event e set routed_at = clock_timestamp()
           where e.tenant = %(tenant)s and e.domain = %(domain)s and e.id = %(id)s
             and not exists (
                 select from regie.event_wait w
                 join regie.run r on (r.tenant, r.domain, r.id) = (w.tenant, w.domain, w.run)
                 where w.tenant = %(tenant)s and w.domain = %(domain)s and w.mark = any(%(marks)s)
                   and w.marks <@ %(marks)s::text[] and r.started_at <= %(arrived_at)s)""",
        values,
    )
    return done > 0


async def clear_old(tx: Transaction, domains: Sequence[str], limit: int = 1000) -> int:
    """Delete events that have been kept long enough; give how many."""
    return await tx.change(
        """delete from regie.event e using (
               select tenant, domain, id from regie.event
               where domain = any(%(domains)s) and arrived_at < (select clock_timestamp()) - %(kept)s
                 and routed_at is not null and started_at is not null
               order by arrived_at limit %(limit)s for update skip locked) old
           where (e.tenant, e.domain, e.id) = (old.tenant, old.domain, old.id)""",
        {"domains": list(domains), "kept": KEPT, "limit": limit},
    )


def data_of(tx: Transaction, row: DictRow) -> dict[str, JsonValue] | None:
    """The data of an event; none when somebody has altered what is kept, which must stop no run and no worker."""
    try:
        opened = tx.sealer.open(row["data"], **_address(row["tenant"], row["domain"], row["id"]))
    except SealBroken:
        return None
    data: dict[str, JsonValue] = json.loads(opened)
    return data


async def set_aside(tx: Transaction, row: DictRow) -> None:
    """Leave an event that nobody can read to a person."""
    await tx.change(
        """update regie.event set routed_at = clock_timestamp()
           where tenant = %(tenant)s and domain = %(domain)s and id = %(id)s""",
        {name: row[name] for name in ("tenant", "domain", "id")},
    )
    about: dict[str, JsonValue] = {"outside_event": {"id": row["id"], "name": row["name"]}}
    fact = Fact(event=Event.EVENT_SET_ASIDE, actor=Actor(type="engine", id="engine"), detail=about)
    await audit.append_outside(tx, row["tenant"], row["domain"], [fact])


def cause_of(tx: Transaction, row: DictRow) -> Cause | None:
    """What led to an event, for the runs that it starts; none when somebody has altered what is kept."""
    if row["cause"] is None:
        return Cause(event=row["id"], name=row["name"])
    try:
        opened = tx.sealer.open(row["cause"], **_address(row["tenant"], row["domain"], row["id"], "cause"))
    except SealBroken:
        return None
    return Cause.model_validate_json(opened)


def _arrived(row: DictRow, data: dict[str, JsonValue], place: str) -> tuple[str, str]:
    """The event as it goes into an inbox: a step is told of one, once."""
    event = EventArrived(place=place, event=row["name"], id=row["id"], data=data)
    return f"event:{place}", event.model_dump_json()


def _lock_name(tenant: str, domain: str, name: str) -> str:
    return f"{tenant}/{domain}/{name}"


def _address(tenant: str, domain: str, event: str, column: str = "data") -> dict[str, str]:
    return {"tenant": tenant, "domain": domain, "table": f"event.{column}", "pk": event}
