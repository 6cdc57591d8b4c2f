"""Approvals: what was asked, of whom, and how it was decided. Commits open and close them, web and CLI decide them.

A decision and a time-out may meet. Whoever locks the run's row first wins: a later decision is told so, and a later
time-out is refused, so that row, audit log and run never tell different stories.
"""
# ruff: noqa: S608  statements are put together from constants of the store, as LiteralString proves

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, LiteralString, NamedTuple
from uuid import UUID, uuid5

from psycopg.rows import DictRow
from pydantic import JsonValue, TypeAdapter

from regie.core.approval import closed, require_may_decide
from regie.core.audit import Actor, Event, Fact
from regie.core.errors import Denied, InvalidInput
from regie.core.plan import PlannedStep, change_digests, plan_digest
from regie.core.run_commands import CloseApproval, OpenApproval, Remind
from regie.core.run_events import Decided
from regie.store import audit, inbox
from regie.store.database import Transaction
from regie.store.inbox import HeardMeanwhile
from regie.store.keys import MOST_NAMED, Cursor, RunKey, as_columns, as_json, id_span, the_only
from regie.store.sight import EVERYTHING, SEEN_PLACE, Sight

Status = Literal["open", "approved", "refused", "timeout", "cancelled"]

_PLAN: TypeAdapter[list[PlannedStep]] = TypeAdapter(list[PlannedStep])
_READ: LiteralString = """
    select *, extract(epoch from expires_at - clock_timestamp())::float8 as left_s from regie.approval
"""


class DecidedMeanwhile(HeardMeanwhile):
    """A person decided while the engine was about to move on without a decision. Read the inbox: it is there.

    Args:
        place: Where the approval stands in the run.
        status: What was decided.
    """

    def __init__(self, place: str, status: str) -> None:
        super().__init__(
            f"The approval at {place} is already {status}.", hint="Take the decision from the inbox first."
        )
        self.place = place


@dataclass(frozen=True, kw_only=True)
class Approval:
    """An approval as stored.

    Attributes:
        changes: The digests of the changes that its plan shows, in plan order.
        left_s: Seconds until it expires, as it was read.
    """

    key: RunKey
    id: str
    place: str
    rung: int
    rungs: int
    question: str
    plan: list[PlannedStep]
    plan_sha256: str
    changes: list[str]
    requester: str
    approvers: list[str]
    status: Status
    asked_at: datetime
    expires_at: datetime
    left_s: float = field(compare=False)
    reminded_at: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    comment: str

    @property
    def cursor(self) -> Cursor:
        """Its place in lists."""
        return Cursor(self.asked_at, self.id)


class Granted(NamedTuple):
    """A yes: the changes it covers, by digest."""

    place: str
    changes: frozenset[str]
    plan_sha256: str
    approver: str
    approval: str


def approval_id(key: RunKey, place: str) -> str:
    """The id of the approval at a place of a run: known before it is opened, so that leaves and links can name it."""
    return str(uuid5(UUID(key.run), place))


async def carry_out(tx: Transaction, key: RunKey, commands: Sequence[OpenApproval | Remind | CloseApproval]) -> None:
    """Do what a commit says about approvals. The run's row must be locked.

    Raises:
        DecidedMeanwhile: See there.
    """
    for command in commands:
        match command:
            case OpenApproval():
                await open_or_extend(tx, key, command)
            case Remind():
                await _remind(tx, key, command)
            case CloseApproval():
                await close(tx, key, command)


async def open_or_extend(tx: Transaction, key: RunKey, command: OpenApproval) -> None:
    """Ask, or ask further people. From now on everyone in `approvers` may decide.

    Raises:
        DecidedMeanwhile: It is closed already.
    """
    plan = list(command.plan)
    approval = approval_id(key, command.place)
    touched = await tx.change(
        """insert into regie.approval (tenant, domain, id, run, place, rung, rungs, question, plan, plan_sha256,
                                       changes, requester, approvers, expires_at)
           values (%(tenant)s, %(domain)s, %(id)s, %(run)s, %(place)s, %(rung)s, %(rungs)s, %(question)s, %(plan)s,
                   %(plan_sha256)s, %(changes)s::text[], %(requester)s, %(approvers)s::text[],
                   clock_timestamp() + make_interval(secs => %(expires_after_s)s::float8))
           on conflict (tenant, domain, run, place) do update
           set rung = excluded.rung, rungs = excluded.rungs, approvers = excluded.approvers,
               expires_at = excluded.expires_at
           where approval.status = 'open'""",
        {
            **key._asdict(),
            "id": approval,
            "place": command.place,
            "rung": command.rung,
            "rungs": command.rungs,
            "question": _sealed(tx, key, approval, "question", command.question),
            "plan": _sealed(tx, key, approval, "plan", _PLAN.dump_json(plan).decode()),
            "plan_sha256": plan_digest(plan),
            "changes": change_digests(plan),
            "requester": command.requester,
            "approvers": list(command.approvers),
            "expires_after_s": command.expires_after_s,
        },
    )
    if touched == 0:
        await _refuse_late(tx, key, command.place)


async def close(tx: Transaction, key: RunKey, command: CloseApproval) -> None:
    """End an approval that nobody decided in time, or whose run is cancelled.

    Nothing happens when it has ended that way already. What was decided stays so when the run is cancelled.

    Raises:
        DecidedMeanwhile: Somebody has decided it, so that time is not up.
    """
    touched = await tx.change(
        """update regie.approval set status = %(decision)s, decided_at = coalesce(decided_at, clock_timestamp())
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and place = %(place)s
             and status in ('open', %(decision)s)""",
        {**key._asdict(), "place": command.place, "decision": command.decision},
    )
    if touched == 0 and command.decision == "timeout":
        await _refuse_late(tx, key, command.place)


async def close_open(tx: Transaction, keys: Sequence[RunKey]) -> None:
    """Runs are over: nobody needs to decide their open approvals any more; they end as not answered in time."""
    if keys:
        await tx.change(
            """update regie.approval a set status = 'timeout', decided_at = clock_timestamp()
               from json_to_recordset(%(rows)s::json) as c (tenant text, domain text, run uuid)
               where (a.tenant, a.domain, a.run) = (c.tenant, c.domain, c.run) and a.status = 'open'""",
            {"rows": as_json(key._asdict() for key in keys)},
        )


async def decide(
    tx: Transaction,
    key: RunKey,
    approval: str,
    *,
    person: str,
    decision: Literal["approved", "refused"],
    comment: str = "",
    told: dict[str, JsonValue] | None = None,
) -> None:
    """Say yes or no: closes the approval, tells the run and writes the leaf.

    Args:
        told: What the leaf says besides, about how it is known who the person is.

    Raises:
        Denied: The person may not, or it is decided or timed out already; the message says by whom and when.
        InvalidInput: There is no such approval in this run.
    """
    # The run first, then what belongs to it: the same order as in a commit.
    await tx.row(
        """select id from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s for no key update""",
        key._asdict(),
    )
    row = await tx.row(
        """select * from regie.approval
           where tenant = %(tenant)s and domain = %(domain)s and id = %(id)s and run = %(run)s for no key update""",
        {**key._asdict(), "id": approval},
    )
    if row is None:
        raise InvalidInput(f"There is no approval {approval}.")
    if row["status"] != "open":
        raise Denied(closed(row["status"], by=row["decided_by"], at=row["decided_at"]))
    require_may_decide(person, requester=row["requester"], approvers=row["approvers"])
    await tx.change(
        """update regie.approval set
               status = %(decision)s, decided_by = %(person)s, decided_at = clock_timestamp(), comment = %(comment)s
           where tenant = %(tenant)s and domain = %(domain)s and id = %(id)s""",
        {
            **key._asdict(),
            "id": approval,
            "decision": decision,
            "person": person,
            "comment": _sealed(tx, key, approval, "comment", comment),
        },
    )
    event = Decided(place=row["place"], decision=decision, by=person, comment=comment)
    await inbox.deliver(tx, key, f"decision:{approval}", event.model_dump_json())
    detail = {"id": approval, "approver": person, "decision": decision, "plan_sha256": row["plan_sha256"]}
    if row["requester"]:
        detail["requester"] = row["requester"]
    fact = Fact(
        event=Event.APPROVAL_GRANTED if decision == "approved" else Event.APPROVAL_REFUSED,
        actor=Actor(type="person", id=person),
        detail={"approval": {**detail, "place": row["place"]}, **(told or {})},
    )
    await audit.append(tx, key, [fact])


async def granted(tx: Transaction, key: RunKey) -> list[Granted]:
    """Every yes in a run: what the gateway may let through."""
    rows = await tx.rows(
        """select id, place, changes, plan_sha256, decided_by from regie.approval
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and status = 'approved'
           order by decided_at""",
        key._asdict(),
    )
    return [
        Granted(row["place"], frozenset(row["changes"]), row["plan_sha256"], row["decided_by"], str(row["id"]))
        for row in rows
    ]


async def get(tx: Transaction, tenant: str, domain: str, approval: str) -> Approval | None:
    """One approval."""
    row = await tx.row(
        _READ + "where tenant = %(tenant)s and domain = %(domain)s and id = %(id)s",
        {"tenant": tenant, "domain": domain, "id": approval},
    )
    return None if row is None else _opened(tx, row)


async def asked_in(tx: Transaction, keys: Sequence[RunKey]) -> dict[RunKey, frozenset[str]]:
    """Who has been asked to decide something in each of these runs; nothing is opened for that."""
    rows = await tx.rows(
        """select tenant, domain, run, array_agg(distinct person) as asked
           from unnest(%(tenants)s::text[], %(domains)s::text[], %(runs)s::uuid[]) k (tenant, domain, run)
           join regie.approval a using (tenant, domain, run) cross join unnest(a.approvers) person group by 1, 2, 3""",
        as_columns(keys),
    )
    return {RunKey(row["tenant"], row["domain"], str(row["run"])): frozenset(row["asked"]) for row in rows}


async def questions_in(tx: Transaction, keys: Sequence[RunKey]) -> dict[RunKey, str]:
    """What each of these runs waits for people about; the first question of those that ask several."""
    rows = await tx.rows(
        """select tenant, domain, run, id, question
           from unnest(%(tenants)s::text[], %(domains)s::text[], %(runs)s::uuid[]) k (tenant, domain, run)
           join regie.approval a using (tenant, domain, run)
           where a.status = 'open' order by a.asked_at desc, a.id desc""",
        as_columns(keys),
    )
    return {
        (key := RunKey(row["tenant"], row["domain"], str(row["run"]))): _opened_text(tx, key, row, "question")
        for row in rows
    }


async def find(tx: Transaction, approval: str) -> Approval | None:
    """One approval of any tenant by its id alone, or by a beginning of it that no other approval shares.

    The caller makes sure that the reader may see it.

    Raises:
        InvalidInput: Several approvals share it.
    """
    span = id_span(approval)
    if span is None:
        return None
    rows = await tx.rows(
        _READ + "where id between %(low)s and %(high)s order by id limit %(most)s",
        {"low": span[0], "high": span[1], "most": MOST_NAMED},
    )
    row = the_only(approval, rows)
    return None if row is None else _opened(tx, row)


async def of_run(tx: Transaction, key: RunKey) -> list[Approval]:
    """The approvals of a run, oldest first."""
    rows = await tx.rows(
        _READ + "where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s order by asked_at, id",
        key._asdict(),
    )
    return [_opened(tx, row) for row in rows]


async def list_approvals(
    tx: Transaction,
    *,
    tenant: str | None = None,
    domain: str | None = None,
    approver: str | None = None,
    sight: Sight = EVERYTHING,
    status: Status | None = "open",
    limit: int = 50,
    before: Cursor | None = None,
) -> list[Approval]:
    """Approvals, newest first, from behind `before`.

    `approver` leaves those on which this person has been asked, `sight` those that somebody sees: in places that they
    see, or asked about themselves.
    """
    rows = await tx.rows(
        _READ
        + """
           where (%(tenant)s::text is null or tenant = %(tenant)s)
             and (%(domain)s::text is null or domain = %(domain)s)
             and (%(status)s::text is null or status = %(status)s)
             and (%(approver)s::text is null
                  or exists (select from unnest(approvers) a where lower(a) = lower(%(approver)s)))
             and (%(sees_all)s
                  or exists (select from unnest(approvers) a where lower(a) = lower(%(person)s::text))
                  or exists (select from regie.run r
                             where r.tenant = approval.tenant and r.domain = approval.domain and r.id = approval.run
                               and """
        + SEEN_PLACE
        + """))
             and (%(at)s::timestamptz is null or (asked_at, id) < (%(at)s, %(id)s::uuid))
           order by asked_at desc, id desc limit %(limit)s""",
        {
            "tenant": tenant,
            "domain": domain,
            "status": status,
            "approver": approver,
            **sight.values(),
            "at": before and before.at,
            "id": before and before.id,
            "limit": limit,
        },
    )
    return [_opened(tx, row) for row in rows]


async def _remind(tx: Transaction, key: RunKey, command: Remind) -> None:
    touched = await tx.change(
        """update regie.approval set reminded_at = clock_timestamp()
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and place = %(place)s
             and status = 'open'""",
        {**key._asdict(), "place": command.place},
    )
    if touched == 0:
        await _refuse_late(tx, key, command.place)


async def _refuse_late(tx: Transaction, key: RunKey, place: str) -> None:
    row = await tx.row(
        """select status from regie.approval
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and place = %(place)s""",
        {**key._asdict(), "place": place},
    )
    if row is None:
        raise InvalidInput(f"There is no approval at {place} to change.")
    tx.doom = DecidedMeanwhile(place, row["status"])
    raise tx.doom


def _opened(tx: Transaction, row: DictRow) -> Approval:
    key = RunKey(row["tenant"], row["domain"], str(row["run"]))
    return Approval(
        key=key,
        id=str(row["id"]),
        place=row["place"],
        rung=row["rung"],
        rungs=row["rungs"],
        question=_opened_text(tx, key, row, "question"),
        plan=_PLAN.validate_json(_opened_text(tx, key, row, "plan")),
        plan_sha256=row["plan_sha256"],
        changes=row["changes"],
        requester=row["requester"],
        approvers=row["approvers"],
        status=row["status"],
        asked_at=row["asked_at"],
        expires_at=row["expires_at"],
        left_s=row["left_s"],
        reminded_at=row["reminded_at"],
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
        comment=_opened_text(tx, key, row, "comment") if row["comment"] is not None else "",
    )


def _opened_text(tx: Transaction, key: RunKey, row: DictRow, column: str) -> str:
    return tx.sealer.open(row[column], **_address(key, str(row["id"]), column)).decode()


def _sealed(tx: Transaction, key: RunKey, approval: str, column: str, text: str) -> bytes:
    return tx.sealer.seal(text.encode(), **_address(key, approval, column))


def _address(key: RunKey, approval: str, column: str) -> dict[str, str]:
    return {"tenant": key.tenant, "domain": key.domain, "table": f"approval.{column}", "pk": approval}
