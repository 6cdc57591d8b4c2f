"""The effect ledger: what was meant before each call to the outside world, and what came of it. The gateway writes it.

A settled row never changes again; a row whose outcome is open can be taken up by a later claim of the run. The leaves
about effects are the gateway's to write, in the same transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import DictRow
from pydantic import JsonValue

from regie.core import canonical
from regie.core.effect import EffectState
from regie.core.errors import Denied, FencedOut, OutcomeUnknown
from regie.core.plan import Change, Receipt
from regie.store import audit
from regie.store.database import Transaction
from regie.store.keys import RunKey

_FIND: LiteralString = """
    select * from regie.effect
    where tenant = %(tenant)s and domain = %(domain)s and attempt_key = %(attempt_key)s and run = %(run)s"""


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What is about to be done for one step of a run, under the fence of the claim that asks for it."""

    key: RunKey
    place: str
    attempt_key: str
    effect_key: str
    capability: str
    target: str
    fence: int
    change: Change | None = None


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A row of the ledger. `tries` counts how often it was intended."""

    key: RunKey
    place: str
    attempt_key: str
    effect_key: str
    capability: str
    target: str
    change: Change | None
    change_digest: str
    state: EffectState
    fence: int
    tries: int
    receipt: Receipt | None
    handle: JsonValue
    observed: JsonValue
    intended_at: datetime
    settled_at: datetime | None

    @property
    def is_settled(self) -> bool:
        """Whether it can never change again."""
        return self.state in (EffectState.RECEIVED, EffectState.UNCHANGED)


async def intend(tx: Transaction, intent: Intent) -> bool:
    """Write down what is about to be done. Commit it before the call.

    Returns:
        Whether this is the first time; if not, it may have happened already: observe first.

    Raises:
        Denied: It is settled, or accepted and not finished: there is nothing to do again.
        FencedOut: A later claim of the run has taken it up.
        OutcomeUnknown: The same claim has called already and does not know what came of it.
    """
    row = await tx.row(
        """insert into regie.effect as e (tenant, domain, attempt_key, run, place, effect_key, capability, target,
                                          change_digest, change, state, fence)
           values (%(tenant)s, %(domain)s, %(attempt_key)s, %(run)s, %(place)s, %(effect_key)s, %(capability)s,
                   %(target)s, %(change_digest)s, %(change)s, 'intended', %(fence)s)
           on conflict (tenant, domain, attempt_key) do update
           set state = 'intended', fence = excluded.fence, tries = e.tries + 1, target = excluded.target,
               effect_key = excluded.effect_key, change_digest = excluded.change_digest, change = excluded.change,
               intended_at = clock_timestamp(), settled_at = null, receipt = null, handle = null, observed = null,
               request_mark = null, remote_mark = null
           where (e.state in ('intended', 'unknown') and excluded.fence > e.fence)
              or (e.state = 'failed' and excluded.fence >= e.fence)
           returning e.tries""",
        _values(tx, intent),
    )
    if row is None:
        raise await _why_not(tx, intent.key, intent.attempt_key, intent.fence)
    return bool(row["tries"] == 1)


async def settle(
    tx: Transaction,
    key: RunKey,
    attempt_key: str,
    state: EffectState,
    *,
    fence: int,
    receipt: Receipt | None = None,
    handle: JsonValue = None,
    observed: JsonValue = None,
) -> None:
    """Write down what came of an effect; received and unchanged are final. What is not given stays as recorded.

    An effect that is pending outlives the claim that asked for it: any later claim may settle it.

    Raises:
        Denied: It was never intended, or is settled.
        FencedOut: A later claim of the run has taken it up.
    """
    touched = await tx.change(
        """update regie.effect set
               state = %(state)s, fence = %(fence)s, settled_at = clock_timestamp(),
               receipt = coalesce(%(receipt)s, receipt), handle = coalesce(%(handle)s, handle),
               observed = coalesce(%(observed)s, observed),
               request_mark = coalesce(%(request_mark)s, request_mark),
               remote_mark = coalesce(%(remote_mark)s, remote_mark)
           where tenant = %(tenant)s and domain = %(domain)s and attempt_key = %(attempt_key)s
             and (fence = %(fence)s or (state = 'pending' and fence < %(fence)s))
             and state not in ('received', 'unchanged')""",
        {
            **key._asdict(),
            "attempt_key": attempt_key,
            "state": state.value,
            "fence": fence,
            "receipt": None if receipt is None else _sealed(tx, key, attempt_key, "receipt", receipt.model_dump_json()),
            "request_mark": request_mark(receipt.request_id) if receipt else None,
            "remote_mark": remote_mark(receipt.remote_id) if receipt else None,
            "handle": None if handle is None else _sealed(tx, key, attempt_key, "handle", json.dumps(handle)),
            "observed": None if observed is None else _sealed(tx, key, attempt_key, "observed", json.dumps(observed)),
        },
    )
    if touched == 0:
        raise await _why_not(tx, key, attempt_key, fence)


async def record_unchanged(tx: Transaction, intent: Intent, *, observed: JsonValue = None) -> None:
    """Write down that nothing was needed, so nothing was called.

    Raises:
        Denied: It is settled, or accepted and not finished.
        FencedOut: A later claim of the run has taken it up.
    """
    values = _values(tx, intent)
    values["observed"] = (
        None if observed is None else _sealed(tx, intent.key, intent.attempt_key, "observed", json.dumps(observed))
    )
    touched = await tx.change(
        """insert into regie.effect as e (tenant, domain, attempt_key, run, place, effect_key, capability, target,
                                          change_digest, change, state, fence, observed, settled_at)
           values (%(tenant)s, %(domain)s, %(attempt_key)s, %(run)s, %(place)s, %(effect_key)s, %(capability)s,
                   %(target)s, %(change_digest)s, %(change)s, 'unchanged', %(fence)s, %(observed)s, clock_timestamp())
           on conflict (tenant, domain, attempt_key) do update
           set state = 'unchanged', fence = excluded.fence, observed = excluded.observed,
               settled_at = excluded.settled_at
           where e.state in ('intended', 'unknown', 'failed') and excluded.fence >= e.fence""",
        values,
    )
    if touched == 0:
        raise await _why_not(tx, intent.key, intent.attempt_key, intent.fence)


async def find(tx: Transaction, key: RunKey, attempt_key: str) -> Effect | None:
    """What the ledger knows of one step of a run."""
    row = await tx.row(_FIND, {**key._asdict(), "attempt_key": attempt_key})
    return None if row is None else opened(tx, row)


async def lock_run(tx: Transaction, key: RunKey, attempt_key: str) -> tuple[DictRow, Effect | None]:
    """Lock a run, and read what the ledger knows of one step of it; the first thing a transaction of the gateway does.

    Returns:
        The run's row as `audit.LOCK` reads it, and the row of the ledger.

    Raises:
        FencedOut: There is no such run.
    """
    # Two statements: the second one sees what those have written for whom the first one waited.
    run, effect = await tx.rows_of_each(
        (audit.LOCK, key._asdict()), (_FIND, {**key._asdict(), "attempt_key": attempt_key})
    )
    if not run:
        raise FencedOut(f"There is no run {key.run}.")
    return run[0], opened(tx, effect[0]) if effect else None


async def list_effects(tx: Transaction, key: RunKey) -> list[Effect]:
    """The effects of a run, in the order in which they were last intended."""
    rows = await tx.rows(
        """select * from regie.effect
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s order by intended_at, attempt_key""",
        key._asdict(),
    )
    return [opened(tx, row) for row in rows]


async def was_closed_since(tx: Transaction, tenant: str, domains: Sequence[str], ticket: str, since: datetime) -> bool:
    """Whether a run of the tenant in one of these domains has closed a ticket since then, or may have."""
    row = await tx.row(
        """select from regie.effect
           where tenant = %(tenant)s and domain = any(%(domains)s)
             and capability = 'ticket.close' and target = %(target)s
             and state in ('intended', 'pending', 'received', 'unknown') and intended_at >= %(since)s
           limit 1""",
        {"tenant": tenant, "domains": list(domains), "target": f"ticket:{ticket}", "since": since},
    )
    return row is not None


async def count_changes(tx: Transaction, key: RunKey, *, besides: str, not_of: str) -> int:
    """How many changes a run has made or may have made, in steps of its own; what undoes others does not count.

    Lock the run first: then no other step's change comes between counting and intending.

    Args:
        besides: Attempt key of a step that is left out.
        not_of: A target whose changes are left out.
    """
    row = await tx.row(
        """select count(*) as n from regie.effect
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s
             and state in ('intended', 'pending', 'received', 'unknown')
             and attempt_key <> %(besides)s and target <> %(not_of)s
             and place not in ('start', 'answer') and place !~ '/undo(\\[[0-9.]+\\])?$'""",
        {**key._asdict(), "besides": besides, "not_of": not_of},
    )
    return row["n"] if row is not None else 0


def request_mark(request_id: str) -> str | None:
    """What the ledger keeps of an outside system's id of a request; nothing of an empty one."""
    return canonical.digest(["request", request_id]) if request_id else None


def remote_mark(remote_id: str) -> str | None:
    """What the ledger keeps of an outside system's id of what was made; nothing of an empty one."""
    return canonical.digest(["remote", remote_id]) if remote_id else None


async def _why_not(tx: Transaction, key: RunKey, attempt_key: str, fence: int) -> Denied | FencedOut | OutcomeUnknown:
    effect = await find(tx, key, attempt_key)
    if effect is None:
        return Denied("This effect was never intended.")
    if effect.is_settled:
        return Denied(f"{effect.capability} on {effect.target} is already {effect.state}; that is final.")
    if effect.fence > fence:
        return FencedOut(f"{effect.capability} on {effect.target} has been taken up by a later claim of the run.")
    if effect.state is EffectState.PENDING:
        return Denied(f"{effect.capability} on {effect.target} was accepted.", hint="Ask with its handle.")
    if effect.fence < fence:
        return Denied(
            f"{effect.capability} on {effect.target} was called by an earlier claim.", hint="Take it up first."
        )
    return OutcomeUnknown(
        f"{effect.capability} on {effect.target} has been called and its outcome is not known.",
        hint="Observe before doing anything.",
    )


def _values(tx: Transaction, intent: Intent) -> dict[str, object]:
    change = intent.change
    return {
        **intent.key._asdict(),
        "place": intent.place,
        "attempt_key": intent.attempt_key,
        "effect_key": intent.effect_key,
        "capability": intent.capability,
        "target": intent.target,
        "fence": intent.fence,
        "change_digest": "" if change is None else change.digest,
        "change": None
        if change is None
        else _sealed(tx, intent.key, intent.attempt_key, "change", change.model_dump_json()),
    }


def opened(tx: Transaction, row: DictRow) -> Effect:
    """A row of the ledger, with what is sealed in it opened."""
    key = RunKey(row["tenant"], row["domain"], str(row["run"]))

    def text(column: str) -> bytes | None:
        sealed = row[column]
        return None if sealed is None else tx.sealer.open(sealed, **_address(key, row["attempt_key"], column))

    change, receipt, handle, observed = (text(column) for column in ("change", "receipt", "handle", "observed"))
    return Effect(
        key=key,
        place=row["place"],
        attempt_key=row["attempt_key"],
        effect_key=row["effect_key"],
        capability=row["capability"],
        target=row["target"],
        change=None if change is None else Change.model_validate_json(change),
        change_digest=row["change_digest"],
        state=EffectState(row["state"]),
        fence=row["fence"],
        tries=row["tries"],
        receipt=None if receipt is None else Receipt.model_validate_json(receipt),
        handle=None if handle is None else json.loads(handle),
        observed=None if observed is None else json.loads(observed),
        intended_at=row["intended_at"],
        settled_at=row["settled_at"],
    )


def _sealed(tx: Transaction, key: RunKey, attempt_key: str, column: str, text: str) -> bytes:
    return tx.sealer.seal(text.encode(), **_address(key, attempt_key, column))


def _address(key: RunKey, attempt_key: str, column: str) -> dict[str, str]:
    return {"tenant": key.tenant, "domain": key.domain, "table": f"effect.{column}", "pk": attempt_key}
