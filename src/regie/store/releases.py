"""Releases as loaded: each kept for ever under its digest, one of them current. CLI and web load, everybody reads."""

from dataclasses import dataclass
from datetime import datetime

from regie.core import canonical
from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput
from regie.core.format import FORMAT, require_readable
from regie.core.release import Release
from regie.store import audit, quotas
from regie.store.database import Transaction

ACTIVATING = 7_238_415_002
"""Advisory lock under which one release at a time becomes current."""


@dataclass(frozen=True)
class Activation:
    """A release became current: its digest, when, and by whom."""

    digest: str
    at: datetime
    by: str


async def put(tx: Transaction, release: Release, *, by: Actor) -> bool:
    """Keep a release and make it the one that new runs get.

    Returns:
        Whether it became current now; loading the current one again changes nothing.
    """
    await tx.row("select pg_advisory_xact_lock(%(lock)s)", {"lock": ACTIVATING})
    digest = release.digest
    last = await history(tx, limit=1)
    if last and last[0].digest == digest:
        return False
    content = canonical.encode(release.model_dump(mode="json"))
    await tx.change(
        """insert into regie.release (digest, content, format) values (%(digest)s, %(content)s, %(format)s)
           on conflict do nothing""",
        {"digest": digest, "content": tx.sealer.seal(content, **_address(digest)), "format": FORMAT},
    )
    await tx.change(
        "insert into regie.release_activation (digest, activated_by) values (%(digest)s, %(by)s)",
        {"digest": digest, "by": by.id},
    )
    await quotas.keep(tx, release.domains)
    fact = Fact(event=Event.RELEASE_LOADED, actor=by, detail={"release": digest})
    for slug, tenant in sorted(release.tenants.items()):
        for domain in sorted(tenant.domains):
            await audit.append_outside(tx, slug, domain, [fact])
    return True


@dataclass(frozen=True)
class Current:
    """The release that new runs get, the name it was loaded under, and the database's clock.

    Attributes:
        rated: The domains whose runs are let in at a rate.
    """

    release: Release
    digest: str
    now: datetime
    rated: frozenset[str]


async def current(tx: Transaction) -> Release:
    """The release that new runs get.

    Raises:
        InvalidInput: None has been loaded.
    """
    return (await current_at(tx)).release


async def current_at(tx: Transaction) -> Current:
    """The same, with what a start needs besides.

    Raises:
        InvalidInput: None has been loaded.
    """
    row = await tx.row(
        """select digest, clock_timestamp() as now,
                  array(select domain from regie.quota where start_runs is not null) as rated
           from regie.release_activation order by n desc limit 1"""
    )
    if row is None:
        raise InvalidInput("No release has been loaded.", hint="Load a workspace first.")
    return Current(await get(tx, row["digest"]), row["digest"], row["now"], frozenset(row["rated"]))


async def get(tx: Transaction, digest: str) -> Release:
    """The release of that digest; read once per process.

    Raises:
        InvalidInput: It was never loaded.
        SealBroken: What is stored under it is something else.
        Unavailable: A newer version has written it.
    """
    known = tx.releases.get(digest)
    if known is not None:
        return known
    row = await tx.row("select content, format from regie.release where digest = %(digest)s", {"digest": digest})
    if row is None:
        raise InvalidInput(f"There is no release {digest}.")
    require_readable(f"The release {digest[:12]}", row["format"])
    # Sealed under its digest, so it is what was put there. It is not digested again: a later version of this code may
    # write the same release with further fields.
    release = Release.model_validate_json(tx.sealer.open(row["content"], **_address(digest)))
    tx.releases[digest] = release
    return release


async def history(tx: Transaction, limit: int = 50) -> list[Activation]:
    """What was current when, newest first."""
    rows = await tx.rows(
        "select digest, at, activated_by from regie.release_activation order by n desc limit %(limit)s",
        {"limit": limit},
    )
    return [Activation(row["digest"], row["at"], row["activated_by"]) for row in rows]


def _address(digest: str) -> dict[str, str]:
    return {"tenant": "", "domain": "", "table": "release.content", "pk": digest}
