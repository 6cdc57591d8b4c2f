"""What `regie doctor` looks at in the database: whether it fits, who works, which runs and approvals are odd."""

from __future__ import annotations

from datetime import UTC, datetime

from regie.cli import pools
from regie.cli.findings import Finding, info, ok, problem, warning
from regie.cli.installation import Installation
from regie.core.errors import RegieError
from regie.core.release import Release
from regie.store import (
    attesting,
    checkup,
    dropped,
    key_rotation,
    liveness,
    logs,
    polls,
    quotas,
    rate_budgets,
    releases,
    schedules,
    workers,
)
from regie.store.attesting import Kind
from regie.store.checkup import OddApproval, WaitingRun
from regie.store.database import Database, Transaction
from regie.store.dropped import Dropped
from regie.store.liveness import Sleeper
from regie.store.sealer import SealBroken, Sealer
from regie.store.start_rates import rate_in_words

CLOCKS_APART_S = 5.0
"""Seconds that two clocks may differ before somebody should look."""
NEARLY_FULL = 0.8
"""Part of a queue's bound from which somebody should look."""
UNSIGNED_AFTER_S, ALARM_AFTER_S = 10.0, 30.0
"""Seconds that an entry may wait for the notary before somebody should look, and before something is wrong."""


def machine_clock() -> datetime:
    """This machine's clock, which is one of the things that are examined."""
    return datetime.now(tz=UTC)  # noqa: TID251  it is compared with the database's here, not relied upon


async def database(installation: Installation) -> tuple[str | None, list[Finding]]:
    """The address of a database that fits, if there is one, and what was found."""
    settings = installation.settings
    dsn = installation.running_address()
    if dsn is None:
        if installation.read_state():
            return None, [problem("database", "It does not run, though Regie does.", "regie down, then regie up")]
        return None, [info("database", "It does not run; runs and approvals were not looked at.", "regie up")]
    try:
        found = await checkup.examine(dsn, machine_clock)
    except RegieError as error:
        hint = error.hint or "Does it run, and is REGIE_DATABASE_URL right?"
        own = f"Look into {settings.home / 'postgres'}/log; `regie up` starts it."
        return None, [problem("database", error.message, hint if settings.database_url else own)]
    findings = [ok("database", f"PostgreSQL {found.version} answers.")]
    apart_s = abs(found.ahead_s)
    if apart_s > CLOCKS_APART_S:
        side = "ahead of" if found.ahead_s > 0 else "behind"
        message = f"The database's clock is {apart_s:.0f} s {side} this machine's."
        findings.append(warning("clocks", message, "Synchronise both, for example with chrony."))
    else:
        findings.append(ok("clocks", f"Database and machine are {apart_s:.1f} s apart."))
    if found.missing:
        names = ", ".join(found.missing)
        findings.append(
            problem("migrations", f"The database lacks {names}.", "regie down, then regie up, applies them.")
        )
        return None, findings
    findings.append(ok("migrations", "All are applied."))
    return dsn, findings


async def inside(installation: Installation, dsn: str) -> tuple[Release | None, list[Finding]]:
    """The release that new runs get, and what is odd among workers, runs and approvals."""
    key_file = installation.settings.sealing_key_file
    if not key_file.exists():
        # Opening the database would make a new one, and hide that the old one is lost.
        message = f"The key file {key_file} is gone; without it nothing stored can be read."
        return None, [problem("database", message, "Restore it from your backup of keys.")]
    try:
        sealer = Sealer.from_file(key_file)
        async with Database(dsn, sealer) as opened, opened.reading() as tx:
            current = await releases.current(tx) if await releases.history(tx, limit=1) else None
            is_running = bool(installation.read_state())
            at_work = await _workers(tx, current, is_running=is_running)
            at_work += [*await _notary(tx), *await _attesters(tx), *await _data_keys(tx)]
            of_runs = [*await _runs(tx), *await _quotas(tx), *await _approvals(tx), *await _starts(tx)]
            return current, [*at_work, *of_runs]
    except RegieError as error:
        return None, [problem("database", error.message, error.hint or "")]


async def _workers(tx: Transaction, current: Release | None, *, is_running: bool) -> list[Finding]:
    dead = await checkup.silent_workers(tx)
    names = {worker.name for worker in dead}
    living = [worker for worker in await workers.list_workers(tx) if worker.name not in names]
    findings = [
        warning(
            "workers",
            f"Worker {each.name} is gone; it was last heard of at {_moment(each.beat_at)}.",
            "Nothing, when another one lives: it takes over within seconds. Else: regie up",
        )
        for each in dead
    ]
    served = {domain for worker in living for domain in worker.domains}
    unserved = sorted(set(await pools.in_use(tx)) - served) if current and is_running else []
    if unserved:
        message = f"No worker serves {', '.join(unserved)}: its runs do not move."
        remedy = f"regie down, then regie up; see {_log_of(unserved[0])} when it does not stay up."
        return [*findings, problem("workers", message, remedy)]
    if living:
        return [*findings, ok("workers", f"{len(living)} at work.")]
    return [*findings, info("workers", "None is at work.", "regie up")]


async def _notary(tx: Transaction) -> list[Finding]:
    """Whether entries get into their logs in time."""
    count, oldest_s = await logs.waiting(tx)
    if oldest_s < UNSIGNED_AFTER_S:
        return [ok("notary", "No entry waits long for its signature.")]
    message = f"{count} entries wait to be signed, the oldest for {oldest_s:.0f} s."
    remedy = "regie up; else logs/notary.log says what keeps it from signing."
    return [(problem if oldest_s > ALARM_AFTER_S else warning)("notary", message, remedy)]


async def _data_keys(tx: Transaction) -> list[Finding]:
    """Whether the key file of each domain is there and opens its data keys."""
    found = {key.domain: key for key in await key_rotation.list_keys(tx)}
    findings = []
    for key in found.values():
        try:
            await key_rotation.check(tx, key)
        except SealBroken as error:
            findings.append(problem("data keys", error.message, error.hint or ""))
    return findings or [ok("data keys", f"Those of {len(found)} domains open.")]


async def _attesters(tx: Transaction) -> list[Finding]:
    """Whether parties outside attest what the notary signs."""
    failing = await attesting.failing(tx)
    findings = [
        (problem if each.is_broken else warning)(
            "attestations",
            f"{_ATTESTS[each.party.kind].format(each.party.name)} since {_moment(each.since)}, "
            f"{_times(each.failures)}: {each.reason}",
            "The notary goes on and asks again. " + _ATTEST_REMEDY[each.party.kind],
        )
        for each in failing
    ]
    answering = len(await attesting.asked(tx)) - len(failing)
    return findings + ([ok("attestations", f"{answering} outside attest what is signed.")] if answering else [])


_ATTESTS = {
    Kind.WITNESS: "The witness {} has not countersigned",
    Kind.TIMESTAMP: "The timestamp authority {} has given no token",
    Kind.DEPOSIT: "The bucket {} has taken no deposit",
}
_ATTEST_REMEDY = {
    Kind.WITNESS: "Does it run, and at the address in the file of REGIE_WITNESSES?",
    Kind.TIMESTAMP: "See REGIE_TIMESTAMP_URL and REGIE_TIMESTAMP_CA.",
    Kind.DEPOSIT: "See the settings REGIE_DEPOSIT_..., and what the credentials may do there.",
}


async def _runs(tx: Transaction) -> list[Finding]:
    asleep = await liveness.asleep(tx)
    findings = [
        problem("runs", f"{_about(run)} {_why_asleep(run)} since {_moment(run.since)}.", _mend(run)) for run in asleep
    ]
    if len(asleep) == liveness.MOST:
        findings.append(problem("runs", f"There may be more: {liveness.MOST} are named.", "Mend these; look again."))
    findings += [
        warning(
            "runs", f"{_about(run)} has waited for a worker since {_moment(run.since)}.", "regie up; then look again"
        )
        for run in await checkup.unclaimed_runs(tx)
    ]
    findings += [
        warning(
            "runs",
            f"{_about(run)} met a fault of Regie {_times(run.times)} where it stands; {_again(run)}.",
            f"{_log_of(run.key.domain)} says why (run:dropped). At {dropped.MOST_TIMES} times it is set aside.",
        )
        for run in await dropped.list_dropped(tx)
    ]
    findings += [
        problem(
            "runs",
            f"{each.runs} runs of {each.domain} wait for a newer worker: they are written in format {each.format}, and "
            f"its workers read up to {each.reads}.",
            "Stop the older workers and start those of the version that is installed: regie down, then regie up.",
        )
        for each in await checkup.too_new_runs(tx)
    ]
    return findings or [ok("runs", "None is stuck.")]


async def _quotas(tx: Transaction) -> list[Finding]:
    """Queues that are full or nearly so, and vendors that have asked us to wait."""
    findings = []
    for use in await quotas.use(tx):
        most, waiting = use.quota.waiting, use.waiting + use.held_back
        if most is not None and waiting >= most * NEARLY_FULL:
            findings.append(
                warning(
                    "quotas",
                    f"Domain {use.domain} has {waiting} runs waiting to begin; at {most} people start no more.",
                    "See `regie quotas`. Raise quota.runs in its domain.yaml, add workers, or wait.",
                )
            )
        elif use.quota.runs is not None and use.in_hands >= use.quota.runs and use.ready:
            message = f"Domain {use.domain} uses its quota of {use.quota.runs}; {use.ready} more runs are ready."
            findings.append(info("quotas", message, "regie quotas"))
        if use.held_back and use.last_at is not None and use.quota.start_rate is not None:
            message = (
                f"Domain {use.domain} holds back {use.held_back} runs: it begins "
                f"{rate_in_words(use.quota.start_rate)}; the last begins at {_moment(use.last_at)}."
            )
            findings.append(info("quotas", message, "Wait, or raise quota.start_rate in its domain.yaml."))
    findings += [
        warning(
            "rate budgets",
            f"{level.about}: asked us to wait until {_moment(level.closed_until)}.",
            "Nothing: runs park until then. When it happens often, other programs use the same account.",
        )
        for level in await rate_budgets.levels(tx)
        if level.closed_until is not None
    ]
    return findings or [ok("quotas", "No queue is full, and no vendor has asked us to wait.")]


def _about(run: WaitingRun | Sleeper | Dropped) -> str:
    return f"Run {run.key.run} ({run.workflow}, {run.key.tenant}{', ' + run.ticket if run.ticket else ''})"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _again(run: Dropped) -> str:
    return "a worker tries again" if run.again_at is None else f"it is tried again at {_moment(run.again_at)}"


def _log_of(domain: str) -> str:
    return f"logs/worker-{domain}-1.log"


def _why_asleep(run: Sleeper) -> str:
    if run.set_aside == dropped.FAULT:
        return f"met a fault of Regie {dropped.MOST_TIMES} times where it stands, and is set aside"
    if run.set_aside == liveness.STUCK:
        return "was woken, did nothing and fell asleep again"
    return f"is set aside ({run.set_aside})" if run.set_aside else "sleeps, and nothing will wake it,"


def _mend(run: Sleeper) -> str:
    """What to do about a run that nothing will wake, by why that is so."""
    run_id = run.key.run
    match run.set_aside:
        case "":
            return f"A worker wakes it within a minute; or do it: regie wake {run_id}"
        case liveness.STUCK:
            return f"See `regie show {run_id}`; then: regie cancel {run_id}, and regie rerun {run_id} --from STEP"
        case "SealBroken":
            return f"Restore the key file or the row from your backup; then: regie wake {run_id}"
        case dropped.FAULT:
            log = _log_of(run.key.domain)
            return f"{log} says why (run:dropped). Install a version without the fault; then: regie wake {run_id}"
        case _:
            log = _log_of(run.key.domain)
            return f"Install a version that can read its release ({log} says why); then: regie wake {run_id}"


async def _approvals(tx: Transaction) -> list[Finding]:
    findings = [
        warning(
            "approvals",
            f"Approval {each.id} of run {each.key.run} should have ended at {_moment(each.expires_at)}.",
            "A worker ends it within a second: regie up; then look again.",
        )
        for each in await checkup.overdue_approvals(tx)
    ]
    findings += [_stranger(each) for each in await checkup.approvals_of_strangers(tx)]
    return findings or [ok("approvals", "None is overdue, and everybody asked can sign in.")]


def _stranger(approval: OddApproval) -> Finding:
    who = ", ".join(approval.unknown)
    message = f"Approval {approval.id} of run {approval.key.run} asks {who}, who cannot sign in: there is no account."
    if approval.is_hopeless:
        remedy = (
            f"Nobody asked can answer before {_moment(approval.expires_at)}; correct the roles in the tenant's file."
        )
        return problem("approvals", message, remedy)
    return warning("approvals", message, "Others can answer; correct the roles in the tenant's file.")


async def _starts(tx: Transaction) -> list[Finding]:
    """Schedules that nobody starts, and polls that get no answer."""
    findings = [
        warning(
            "schedules",
            f"{row.key.workflow} for {row.key.tenant} should have started at {_moment(row.due_at)}.",
            "A worker starts it within a second: regie up; then look again, and into the worker's log.",
        )
        for row in await schedules.overdue(tx, checkup.OVERDUE_AFTER_S)
    ]
    for row in await polls.list_polls(tx):
        if row.failure is not None and row.failing_since is not None:
            count = "once" if row.failures == 1 else f"{row.failures} times"
            message = (
                f"The poll of {row.key.workflow} for {row.key.tenant} has failed {count} since "
                f"{_moment(row.failing_since)}: {row.failure.message} It is tried again at {_moment(row.next_at)}."
            )
            hint = row.failure.hint or "See whether the outside system answers: regie doctor --online"
            findings.append(warning("polls", message, hint))
    return findings or [ok("schedules", "None is overdue, and no poll fails.")]


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
