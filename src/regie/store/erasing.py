"""Erases a person from beside the audit log: afterwards no leaf tells who was meant, and every proof still holds."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from regie.core.audit import PERSON, Actor, Event, Fact
from regie.store import audit
from regie.store.database import Transaction
from regie.store.subjects import mark_of


@dataclass(frozen=True)
class Erased:
    """In which log a person was erased, and by which commitment its leaves still name them."""

    tenant: str
    domain: str
    subject: str


async def erase(tx: Transaction, person: str, by: Actor) -> list[Erased]:
    """Destroy the key, the salt and the name of a person in every log, and take their address out of ended runs.

    A second time there is nothing left to erase but in runs that were not over before. Who acts again later is
    somebody new to the log.

    Returns:
        Where there was something.
    """
    places = await tx.rows("select distinct tenant, domain from audit.subject where erased_at is null")
    marks = [mark_of(row["tenant"], row["domain"], person) for row in places]
    rows = await tx.rows(
        """update audit.subject set mark = null, wrapped = null, sealed = null, erased_at = clock_timestamp()
           where mark = any(%(marks)s) returning tenant, domain, subject""",
        {"marks": marks},
    )
    found = {(row["tenant"], row["domain"]): row["subject"] for row in rows}
    erased = [
        Erased(place[0], place[1], found.get(place) or PERSON + secrets.token_hex(32))
        for place in sorted(found.keys() | await _places_of_runs(tx, person))
    ]
    for each in erased:
        await _take_out_of_runs(tx, each, person)
        fact = Fact(event=Event.SUBJECT_ERASED, actor=by, detail={"subject": each.subject})
        await audit.append_outside(tx, each.tenant, each.domain, [fact])
    return erased


async def _places_of_runs(tx: Transaction, person: str) -> set[tuple[str, str]]:
    """Where the address stands in rows of runs that are over."""
    rows = await tx.rows(
        """select tenant, domain from regie.run
           where ended_at is not null
             and (lower(requester) = %(person)s
                  or (started_by->>'type' = 'person' and lower(started_by->>'id') = %(person)s))
           union
           select a.tenant, a.domain from regie.approval a
           join regie.run r on (r.tenant, r.domain, r.id) = (a.tenant, a.domain, a.run) and r.ended_at is not null
           where lower(a.requester) = %(person)s or lower(a.decided_by) = %(person)s
              or exists (select from unnest(a.approvers) as asked (each) where lower(each) = %(person)s)""",
        {"person": person.casefold()},
    )
    return {(row["tenant"], row["domain"]) for row in rows}


async def _take_out_of_runs(tx: Transaction, erased: Erased, person: str) -> None:
    """Write the commitment where the address stood, in rows by which runs that are over are found.

    What the person has signed goes: it names them, and its leaf has only its digest.
    """
    values = {"tenant": erased.tenant, "domain": erased.domain, "subject": erased.subject, "person": person.casefold()}
    await tx.change(
        """update regie.run set
               requester = case when lower(requester) = %(person)s then %(subject)s else requester end,
               started_by = case when lower(started_by->>'id') = %(person)s and started_by->>'type' = 'person'
                   then jsonb_set(started_by, '{id}', to_jsonb(%(subject)s::text)) else started_by end
           where tenant = %(tenant)s and domain = %(domain)s and ended_at is not null
             and (lower(requester) = %(person)s or lower(started_by->>'id') = %(person)s)""",
        values,
    )
    await tx.change(
        """delete from regie.assertion s using regie.approval a, regie.run r
           where s.tenant = %(tenant)s and s.domain = %(domain)s and lower(a.decided_by) = %(person)s
             and (a.tenant, a.domain, a.id) = (s.tenant, s.domain, s.approval)
             and (r.tenant, r.domain, r.id) = (a.tenant, a.domain, a.run) and r.ended_at is not null""",
        values,
    )
    await tx.change(
        """update regie.approval a set
               requester = case when lower(a.requester) = %(person)s then %(subject)s else a.requester end,
               decided_by = case when lower(a.decided_by) = %(person)s then %(subject)s else a.decided_by end,
               approvers = array(select case when lower(each) = %(person)s then %(subject)s else each end
                                 from unnest(a.approvers) with ordinality as asked (each, n) order by n)
           where a.tenant = %(tenant)s and a.domain = %(domain)s
             and (lower(a.requester) = %(person)s or lower(a.decided_by) = %(person)s
                  or exists (select from unnest(a.approvers) as asked (each) where lower(each) = %(person)s))
             and exists (select from regie.run r where (r.tenant, r.domain, r.id) = (a.tenant, a.domain, a.run)
                         and r.ended_at is not null)""",
        values,
    )
