"""`regie quotas`: how much of what may run runs, what waits for it, and how much of the vendors' limits is left."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from regie.cli.installation import Installation, real_home
from regie.cli.terminal import Json, moment, out, print_json, print_table, say
from regie.settings import Settings
from regie.store import quotas as stored
from regie.store import rate_budgets
from regie.store.quotas import DomainUse
from regie.store.rate_budgets import Level
from regie.store.start_rates import rate_in_words

NO_BOUND = "-"


def quotas(as_json: Json = False) -> None:
    """Show how full the domains' quotas are, who waits, and how much of the vendors' limits is left."""
    uses, levels = asyncio.run(_read(Installation(real_home(Settings()), say)))
    if as_json:
        print_json({"domains": [_domain(use) for use in uses], "rate_budgets": [_level(level) for level in levels]})
        return
    print_table(
        ("domain", "tenant", "in hands", "quota", "ready", "not begun", "takes at most"),
        (row for use in uses for row in _rows(use)),
        nothing="There is no domain: load a workspace first.",
    )
    out.print("")
    print_table(
        ("domain", "begins", "held back", "the last until"),
        (
            (use.domain, rate_in_words(rate), use.held_back, moment(use.last_at.isoformat() if use.last_at else None))
            for use in uses
            if (rate := use.quota.start_rate) is not None
        ),
        nothing="No domain has a start rate.",
    )
    out.print("")
    print_table(
        ("left", "at once", "each second", "closed until", "rate budget"),
        (
            (
                f"{level.level:.1f}",
                f"{level.at_once:g}",
                f"{level.each_s:.2g}",
                moment(level.closed_until.isoformat() if level.closed_until else None),
                level.about,
            )
            for level in levels
            if not _is_free(level)
        ),
        nothing="No rate budget is in use.",
    )


async def _read(installation: Installation) -> tuple[list[DomainUse], list[Level]]:
    async with installation.running_database() as database, database.reading() as tx:
        return await stored.use(tx), await rate_budgets.levels(tx)


def _rows(use: DomainUse) -> list[tuple[object, ...]]:
    quota = use.quota
    whole = (
        use.domain,
        "all",
        use.in_hands,
        quota.runs or NO_BOUND,
        use.ready,
        use.waiting,
        quota.waiting or NO_BOUND,
    )
    each = [
        ("", tenant.tenant, tenant.in_hands, quota.per_tenant or NO_BOUND, tenant.ready, tenant.waiting, "")
        for tenant in use.tenants
    ]
    return [whole, *each]


def _domain(use: DomainUse) -> dict[str, Any]:
    return {
        "domain": use.domain,
        "quota": use.quota.model_dump(),
        "in_hands": use.in_hands,
        "ready": use.ready,
        "waiting": use.waiting,
        "held_back": use.held_back,
        "last_at": use.last_at.isoformat() if use.last_at else None,
        "tenants": [asdict(tenant) for tenant in use.tenants],
    }


def _level(level: Level) -> dict[str, Any]:
    return {
        "key": level.key,
        "about": level.about,
        "left": round(level.level, 3),
        "at_once": level.at_once,
        "each_s": round(level.each_s, 3),
        "closed_until": level.closed_until.isoformat() if level.closed_until else None,
    }


def _is_free(level: Level) -> bool:
    """Whether it says nothing: full, and nobody asked to wait."""
    return level.closed_until is None and level.level >= level.at_once
