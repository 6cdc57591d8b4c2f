"""What the gateway must know around a change, one statement each: before it looks at the world, and before it acts.

Every round trip to the database is paid by each change, so what is needed at the same moment is asked for together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from regie.core.effect import EffectState
from regie.store import claims, effects
from regie.store.database import Transaction
from regie.store.effects import Effect
from regie.store.keys import RunKey

CLOCK_MAY_STEP_S: Final = 1.0
"""Seconds by which the database's clock may be set back without a change of ours being taken for older than it is."""
_MADE: Final = frozenset({EffectState.INTENDED, EffectState.RECEIVED, EffectState.UNKNOWN})
"""States of a row whose change was made, or may have been."""

_NEARBY: LiteralString = """
    with near as (
        select tenant, domain, attempt_key from regie.effect
        where tenant = %(tenant)s and domain = %(domain)s and attempt_key = %(attempt_key)s
        union select tenant, domain, attempt_key from regie.effect
        where tenant = %(tenant)s and domain = %(domain)s and effect_key = %(effect_key)s
        union select tenant, domain, attempt_key from regie.effect
        where tenant = %(tenant)s and target = %(target)s and state = 'pending'
        union select tenant, domain, attempt_key from regie.effect
        where tenant = %(tenant)s and target = %(target)s and settled_at is null
        union select tenant, domain, attempt_key from regie.effect
        where tenant = %(tenant)s and target = %(target)s
          and settled_at >= least(%(since)s::timestamptz - make_interval(secs => %(step)s),
                                  statement_timestamp() - make_interval(secs => %(settle)s)))
    select e.*, r.ended_at is not null as is_over,
           e.target = %(target)s and e.attempt_key <> %(attempt_key)s
               and (e.settled_at is null or e.settled_at >= %(since)s::timestamptz - make_interval(secs => %(step)s))
               as is_touching,
           e.intended_at > statement_timestamp() - make_interval(secs => %(settle)s) as is_recent
    from near join regie.effect e using (tenant, domain, attempt_key)
    join regie.run r on (r.tenant, r.domain, r.id) = (e.tenant, e.domain, e.run)
    order by e.intended_at desc, e.attempt_key"""
"""Each part by its own index: for all of them in one condition the server reads every effect of the domain."""


@dataclass(frozen=True)
class Asked:
    """A run as it stands while a worker asks something for a step of it.

    Attributes:
        effects: What the ledger knows of the steps that were named, by attempt key.
        at: When, by the database's clock: before anything was looked at.
        current_release: Digest of the release that new runs get now.
    """

    held: claims.HeldRun
    effects: dict[str, Effect]
    at: datetime
    current_release: str


@dataclass(frozen=True)
class Nearby:
    """What else the ledger holds about a change that is about to be made, and about its target.

    Attributes:
        own: The row of the step itself.
        alike: Rows of other steps that meant the same effect, newest first.
        is_under_way: Whether another step has had the same capability accepted for the target, and its run goes on; or
            has made such a change within the given time, or may have, so that it need not show yet.
        abandoned: The same effect, accepted for a run that is over by now; the latest.
        is_touched: Whether we may have changed the target after the given moment.
    """

    own: Effect | None
    alike: Sequence[Effect]
    is_under_way: bool
    abandoned: Effect | None
    is_touched: bool


async def asked(tx: Transaction, key: RunKey, fence: int, attempt_keys: Sequence[str]) -> Asked:
    """Who holds a run, and what the ledger knows of some of its steps.

    Raises:
        FencedOut: The asker does not: the run is free, over, unknown, or with another worker.
    """
    rows = await tx.rows(
        """select r.workflow, r.release, r.definition_digest, r.ticket, r.corr, r.dry, r.status, r.requester,
                  r.started_by, r.lineage, r.first_run, clock_timestamp() as at,
                  (select digest from regie.release_activation order by n desc limit 1) as current_release, e.*
           from regie.run r left join regie.effect e
             on e.tenant = r.tenant and e.domain = r.domain and e.attempt_key = any(%(keys)s) and e.run = r.id
           where r.tenant = %(tenant)s and r.domain = %(domain)s and r.id = %(run)s
             and r.fence = %(fence)s and r.owner is not null and r.ended_at is null""",
        {**key._asdict(), "fence": fence, "keys": list(attempt_keys)},
    )
    if not rows:
        raise claims.not_held(key, fence)
    found = {row["attempt_key"]: effects.opened(tx, row) for row in rows if row["attempt_key"] is not None}
    return Asked(claims.held_of(key, fence, rows[0]), found, rows[0]["at"], rows[0]["current_release"])


async def nearby(
    tx: Transaction,
    key: RunKey,
    *,
    attempt_key: str,
    effect_key: str,
    capability: str,
    target: str,
    since: datetime,
    settle_s: float,
) -> Nearby:
    """What else there is about a change. Runs of every domain of the tenant count: they may act on the same thing.

    Args:
        target: Its lock is held, so whoever of us changed it has written that down.
        since: When its state was asked for, by the database's clock.
        settle_s: Seconds for which a change that another step makes counts as under way, whether it has been settled or
            not; 0 when looking shows it.
    """
    rows = await tx.rows(
        _NEARBY,
        {
            **key._asdict(),
            "attempt_key": attempt_key,
            "effect_key": effect_key,
            "target": target,
            "since": since,
            "step": CLOCK_MAY_STEP_S,
            "settle": settle_s,
        },
    )
    found = [(effects.opened(tx, row), bool(row["is_over"]), bool(row["is_recent"])) for row in rows]
    own = next((each for each, *_ in found if each.attempt_key == attempt_key), None)
    others = [told for told in found if told[0] is not own]
    alike = [(each, is_over) for each, is_over, _ in others if each.effect_key == effect_key]
    return Nearby(
        own=own,
        alike=[each for each, _ in alike],
        is_under_way=any(
            (each.target, each.capability) == (target, capability)
            and (not is_over if each.state is EffectState.PENDING else is_recent and each.state in _MADE)
            for each, is_over, is_recent in others
        ),
        abandoned=next((each for each, is_over in alike if each.state is EffectState.PENDING and is_over), None),
        is_touched=any(row["is_touching"] for row in rows),
    )
