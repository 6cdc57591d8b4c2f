"""What a connection's requests draw from, and what the vendor's answers do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from regie import connectors
from regie.core.errors import BudgetSpent
from regie.core.tenant import Priority
from regie.gateway.budgets import Asker, Budgets
from regie.gateway.pacing import ConnectionPace
from regie.kit.discovery import connectors_in
from regie.kit.rates import Outgoing
from regie.store import rate_budgets
from regie.store.database import Database

pytestmark = pytest.mark.slow

KNOWN = connectors_in(connectors)
ISSUE, OTHER = "/rest/api/3/issue/A-1", "/rest/api/3/issue/B-2"
SITE: Mapping[str, Any] = {"site": "https://acme.example.com"}

Pacing = Callable[..., ConnectionPace]


@pytest.fixture
def pacing(database: Database) -> Pacing:
    budgets = Budgets(database)

    def make(
        connector: str = "jira",
        tenant: str = "acme",
        settings: Mapping[str, Any] = SITE,
        capability: str = "ticket.read",
        priority: Priority = "high",
    ) -> ConnectionPace:
        return ConnectionPace(
            budgets,
            KNOWN[connector].manifest,
            connection=(tenant, connector),
            settings=settings,
            capability=capability,
            asker=Asker(tenant, priority),
        )

    return make


def get(path: str) -> Outgoing:
    return Outgoing("GET", path, {}, None)


def post(path: str) -> Outgoing:
    return Outgoing("POST", f"{path}/comment", {}, {"body": "x"})


async def throttled(pace: ConnectionPace, request: Outgoing, **headers: str) -> None:
    told = {"retry-after": "30", **{name.replace("_", "-").lower(): value for name, value in headers.items()}}
    await pace.heard(request, 429, told)


async def test_only_the_limit_that_was_met_is_left_alone(pacing: Pacing) -> None:
    pace = pacing()
    await pace.enter(post(ISSUE))
    await throttled(pace, post(ISSUE), RateLimit_Reason="jira-per-issue-on-write")
    with pytest.raises(BudgetSpent) as spent:
        await pacing().enter(post(ISSUE))
    assert spent.value.after_s == pytest.approx(30, abs=2)
    for free in (post(OTHER), get(ISSUE)):
        await pacing().enter(free)


async def test_without_a_reason_the_endpoint_is_left_alone_for_this_connection(pacing: Pacing) -> None:
    pace = pacing()
    await throttled(pace, get(ISSUE))
    with pytest.raises(BudgetSpent):
        await pacing().enter(get(OTHER))
    await pacing().enter(post(ISSUE))
    await pacing(tenant="globex").enter(get(ISSUE))


async def test_what_the_manifest_does_not_know_slows_down_with_its_capability(pacing: Pacing) -> None:
    await throttled(pacing(), get("/rest/api/3/new"))
    with pytest.raises(BudgetSpent):
        await pacing().enter(get("/rest/api/3/newer"))
    await pacing(capability="ticket.find").enter(get("/rest/api/3/new"))


async def test_one_site_has_one_budget_whoever_has_the_connection(pacing: Pacing, database: Database) -> None:
    for tenant in ("acme", "globex"):
        await pacing(tenant=tenant).enter(get(ISSUE))
    await pacing(settings={"site": "https://other.example.com"}).enter(get(ISSUE))
    async with database.reading() as tx:
        levels = [each for each in await rate_budgets.levels(tx) if each.key.startswith("jira/burst-get/")]
    assert len(levels) == 2
    assert {each.about for each in levels} == {
        "Jira Cloud: GET of one endpoint (https://acme.example.com)",
        "Jira Cloud: GET of one endpoint (https://other.example.com)",
    }


async def test_a_vendor_is_told_how_urgent_it_is_where_it_asks(pacing: Pacing) -> None:
    directory = {"client_id": "app", "token_url": "https://login.example.com/t"}
    assert await pacing("graph", settings=directory, priority="low").enter(get("/users/u1")) == {
        "x-ms-throttle-priority": "low"
    }
    assert await pacing().enter(get(ISSUE)) == {}


@pytest.mark.parametrize(
    ("said", "left"),
    [("0.8", 350), ("0.99", 35), ("1.2", 0), ("nonsense", 350), ("nan", 350), ("-1", 350), ("9" * 50, 350)],
)
async def test_a_vendor_that_says_how_much_is_used_is_believed(
    pacing: Pacing, database: Database, said: str, left: float
) -> None:
    pace = pacing("graph", settings={"client_id": "app", "token_url": "https://login.example.com/t"})
    await pace.enter(get("/users/u1"))
    await pace.heard(get("/users/u1"), 200, {"x-ms-throttle-limit-percentage": said})
    async with database.reading() as tx:
        [level] = [each for each in await rate_budgets.levels(tx) if each.key.startswith("graph/resource-units/")]
    # Some comes back between the two looks, and some was drawn on top.
    assert left - 40 <= level.level <= left + 60


async def test_what_cannot_be_kept_does_not_hide_the_answer(pacing: Pacing, database: Database) -> None:
    pace = pacing()
    await database.close()
    await throttled(pace, get(ISSUE))
