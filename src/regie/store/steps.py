"""The record of each attempt of each step of a run, with its times. Commits write it, the pages and the CLI read it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString

from regie.core.errors import Failure
from regie.core.status import StepStatus
from regie.store.database import Transaction
from regie.store.keys import RunKey, as_json
from regie.store.sealer import as_text


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One attempt as a commit writes it; written again, it replaces what is known of the attempt.

    Attributes:
        input_sha256: Digest of the arguments.
        output_json: What it gave, as JSON text.
        queued_ago_s, started_ago_s, ended_ago_s: Seconds before this commit on a monotonic clock, from which the
            database makes times of its own clock. None leaves what an earlier commit recorded.
    """

    place: str
    attempt: int
    uses: str
    status: StepStatus
    input_sha256: str = ""
    output_json: str | None = None
    failure: Failure | None = None
    queued_ago_s: float | None = None
    started_ago_s: float | None = None
    ended_ago_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One attempt as recorded; `seq` is the number of the commit that wrote it last."""

    place: str
    attempt: int
    uses: str
    status: StepStatus
    input_sha256: str
    output_json: str | None
    failure: Failure | None
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    seq: int


async def write(tx: Transaction, commits: Sequence[tuple[RunKey, int, Sequence[StepRow]]]) -> None:
    """Record the attempts of several runs, each within a commit of that number."""
    rows = [_row(tx, key, seq, step) for key, seq, attempts in commits for step in _latest(attempts)]
    if rows:
        await tx.change(_WRITE, {"rows": as_json(rows)})


def _latest(attempts: Sequence[StepRow]) -> list[StepRow]:
    """Each attempt once: what is said of it last, with what had been said before and is not said again."""
    known: dict[tuple[str, int], StepRow] = {}
    for step in attempts:
        mark = (step.place, step.attempt)
        before = known.get(mark)
        known[mark] = step if before is None else _over(before, step)
    return list(known.values())


def _over(before: StepRow, step: StepRow) -> StepRow:
    return replace(
        step,
        input_sha256=step.input_sha256 or before.input_sha256,
        queued_ago_s=before.queued_ago_s if step.queued_ago_s is None else step.queued_ago_s,
        started_ago_s=before.started_ago_s if step.started_ago_s is None else step.started_ago_s,
        ended_ago_s=before.ended_ago_s if step.ended_ago_s is None else step.ended_ago_s,
    )


_WRITE: LiteralString = """
    insert into regie.step (tenant, domain, run, place, attempt, seq, uses, status, input_sha256, output, failure,
                            queued_at, started_at, ended_at)
    select s.tenant, s.domain, s.run, s.place, s.attempt, s.seq, s.uses, s.status, s.input_sha256,
           decode(s.output, 'base64'), decode(s.failure, 'base64'),
           clock_timestamp() - make_interval(secs => s.queued),
           clock_timestamp() - make_interval(secs => s.started),
           clock_timestamp() - make_interval(secs => s.ended)
    from json_to_recordset(%(rows)s::json) as s (
        tenant text, domain text, run uuid, place text, attempt integer, seq bigint, uses text, status text,
        input_sha256 text, output text, failure text, queued float8, started float8, ended float8)
    on conflict (tenant, domain, run, place, attempt) do update
    set seq = excluded.seq, uses = excluded.uses, status = excluded.status, output = excluded.output,
        failure = excluded.failure,
        input_sha256 = coalesce(nullif(excluded.input_sha256, ''), step.input_sha256),
        queued_at = coalesce(excluded.queued_at, step.queued_at),
        started_at = coalesce(excluded.started_at, step.started_at),
        ended_at = coalesce(excluded.ended_at, step.ended_at)"""


def _row(tx: Transaction, key: RunKey, seq: int, step: StepRow) -> dict[str, object]:
    failure = step.failure.model_dump_json() if step.failure else None
    return {
        **key._asdict(),
        "place": step.place,
        "attempt": step.attempt,
        "seq": seq,
        "uses": step.uses,
        "status": step.status.value,
        "input_sha256": step.input_sha256,
        "output": _sealed(tx, key, step, "output", step.output_json),
        "failure": _sealed(tx, key, step, "failure", failure),
        "queued": step.queued_ago_s,
        "started": step.started_ago_s,
        "ended": step.ended_ago_s,
    }


async def list_steps(tx: Transaction, key: RunKey) -> list[StepRecord]:
    """The attempts of a run, in the order in which they were first recorded."""
    rows = await tx.rows(
        """select * from regie.step where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s order by n""",
        key._asdict(),
    )
    records = []
    for row in rows:
        pk = _pk(key, row["place"], row["attempt"])
        output, failure = (
            None
            if row[column] is None
            else tx.sealer.open(row[column], tenant=key.tenant, domain=key.domain, table=f"step.{column}", pk=pk)
            for column in ("output", "failure")
        )
        records.append(
            StepRecord(
                place=row["place"],
                attempt=row["attempt"],
                uses=row["uses"],
                status=StepStatus(row["status"]),
                input_sha256=row["input_sha256"],
                output_json=None if output is None else output.decode(),
                failure=None if failure is None else Failure.model_validate_json(failure),
                queued_at=row["queued_at"],
                started_at=row["started_at"],
                ended_at=row["ended_at"],
                seq=row["seq"],
            )
        )
    return records


def _sealed(tx: Transaction, key: RunKey, step: StepRow, column: str, text: str | None) -> str | None:
    if text is None:
        return None
    pk = _pk(key, step.place, step.attempt)
    return as_text(tx.sealer.seal(text.encode(), tenant=key.tenant, domain=key.domain, table=f"step.{column}", pk=pk))


def _pk(key: RunKey, place: str, attempt: int) -> str:
    return f"{key.run}|{place}|{attempt}"
