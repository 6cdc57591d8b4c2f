"""Figures over many runs: they are what counting by hand gives, only of what one may see, and quickly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest

from regie.store import figures
from regie.store.database import Database
from regie.store.figures import Asked, Promise, Spread
from regie.store.sight import EVERYTHING, Sight

pytestmark = pytest.mark.slow

Rows = psycopg.Connection[tuple[object, ...]]

HOUR_S = 3600.0
DIGEST = "d" * 64
PERSON, OTHER = "Ana@example.com", "ben@example.com"
MANY = 100_000
WITHIN_S = 5.0
"""Longest that all figures may take over so many runs, for an operator and for a person; 0.9 s on an idle machine."""


@pytest.fixture
def rows(database_url: str, database: Database) -> Iterator[Rows]:
    """A way to write runs as they would be after a long time."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("insert into regie.release (digest, content) values (%s, '')", [DIGEST])
        yield connection


def add(
    rows: Rows,
    *,
    tenant: str = "acme",
    domain: str = "hr",
    status: str = "done",
    began_ago_s: float,
    took_s: float | None = None,
    ready_ago_s: float | None = None,
    owned: bool = False,
    dry: bool = False,
    requester: str = "",
    steps: tuple[tuple[float, float], ...] = (),
) -> str:
    """One run; `steps` are the seconds that each attempt queued and ran."""
    found = rows.execute(
        """insert into regie.run (tenant, domain, id, workflow, release, definition_digest, trigger_key, ticket, corr,
                                  started_by, requester, dry, prio, status, state, started_at, ended_at, ready_at,
                                  owner)
           values (%(tenant)s, %(domain)s, gen_random_uuid(), 'hr.it', %(release)s, '', gen_random_uuid()::text, '', '',
                   '{"type": "operator", "id": "x"}', %(requester)s, %(dry)s, 100, %(status)s, '',
                   now() - make_interval(secs => %(began)s),
                   now() - make_interval(secs => %(began)s) + make_interval(secs => %(took)s::float8),
                   now() - make_interval(secs => %(ready)s::float8),
                   case when %(owned)s then gen_random_uuid() end)
           returning id""",
        {
            "tenant": tenant,
            "domain": domain,
            "release": DIGEST,
            "requester": requester,
            "dry": dry,
            "status": status,
            "began": began_ago_s,
            "took": took_s,
            "ready": ready_ago_s,
            "owned": owned,
        },
    ).fetchone()
    assert found is not None
    for number, (queued_s, ran_s) in enumerate(steps):
        rows.execute(
            """insert into regie.step (tenant, domain, run, place, attempt, seq, uses, status, input_sha256, queued_at,
                                       started_at, ended_at)
               values (%s, %s, %s, %s, 1, 1, 'x.y', 'done', '', now(), now() + make_interval(secs => %s),
                       now() + make_interval(secs => %s))""",
            [tenant, domain, found[0], str(number), queued_s, queued_s + ran_s],
        )
    return str(found[0])


async def test_what_ended(rows: Rows, database: Database) -> None:
    for took_s in (10, 20, 30, 40):
        add(rows, began_ago_s=100, took_s=took_s, steps=((1, 2), (3, 4)))
    add(rows, began_ago_s=100, took_s=50, status="failed", tenant="umbrella")
    add(rows, began_ago_s=100, took_s=60, status="cancelled")
    add(rows, began_ago_s=100, took_s=1, dry=True)
    add(rows, began_ago_s=2 * HOUR_S, took_s=1)
    add(rows, began_ago_s=10, domain="it", took_s=5, status="refused")
    async with database.reading() as tx:
        asked = Asked(window_s=HOUR_S)
        hr, it = await figures.ended(tx, asked, [Promise(DIGEST, "hr.it", 25)])
        [steps] = await figures.step_times(tx, asked)
        [umbrella] = await figures.ended(tx, Asked(window_s=HOUR_S, tenant="umbrella"), [])
        assert sorted(await figures.in_use(tx, asked)) == [(DIGEST, "hr.it")]
    assert (hr.domain, hr.by_outcome) == ("hr", {"done": 4, "failed": 1, "cancelled": 1})
    assert (hr.on_time, hr.late) == (2, 4)
    assert hr.took.p50_s == pytest.approx(35)
    assert (it.domain, it.by_outcome, it.late) == ("it", {"refused": 1}, 0)
    assert (umbrella.by_outcome, umbrella.on_time, umbrella.late) == ({"failed": 1}, 0, 0)
    assert (steps.domain, steps.attempts) == ("hr", 8)
    assert steps.queued.p50_s == pytest.approx(2)
    assert steps.ran == pytest.approx(Spread(3, 4))


async def test_what_stands(rows: Rows, database: Database) -> None:
    add(rows, began_ago_s=50, status="running", ready_ago_s=7)
    add(rows, began_ago_s=80, status="running", ready_ago_s=20)
    add(rows, began_ago_s=120, status="running", owned=True)
    add(rows, began_ago_s=10, status="waiting")
    add(rows, began_ago_s=10, status="waiting", dry=True)
    add(rows, began_ago_s=10, took_s=1)
    async with database.reading() as tx:
        [found] = await figures.standing(tx, Asked(window_s=HOUR_S), [Promise(DIGEST, "hr.it", 100)])
        [unpromised] = await figures.standing(tx, Asked(window_s=HOUR_S), [])
    assert (found.tenant, found.domain) == ("acme", "hr")
    assert (found.queued, found.running, found.waiting) == (2, 1, 1)
    assert found.oldest_wait_s == pytest.approx(20, abs=5)
    assert (found.on_time, found.at_risk, found.late) == (2, 1, 1)
    assert (unpromised.on_time, unpromised.at_risk, unpromised.late) == (0, 0, 0)


async def test_a_person_sees_figures_of_their_own_runs(rows: Rows, database: Database) -> None:
    add(rows, began_ago_s=100, took_s=10, requester=PERSON.lower())
    add(rows, began_ago_s=100, took_s=10, requester=OTHER)
    run = add(rows, began_ago_s=100, status="waiting", requester=OTHER)
    rows.execute(
        """insert into regie.approval (tenant, domain, id, run, place, rung, rungs, question, plan, plan_sha256,
                                       changes, requester, approvers, expires_at)
           values ('acme', 'hr', gen_random_uuid(), %s, 'a', 1, 1, '', '', '', '{}', '', %s, now())""",
        [run, [PERSON]],
    )
    async with database.reading() as tx:
        asked = Asked(window_s=HOUR_S, sight=Sight(person=PERSON))
        [ended] = await figures.ended(tx, asked, [])
        [standing] = await figures.standing(tx, asked, [])
        parts = await figures.by_time(tx, asked, 4)
        nobody = Asked(window_s=HOUR_S, sight=Sight(person="sam@example.com"))
        assert await figures.ended(tx, nobody, []) == []
        assert await figures.standing(tx, nobody, []) == []
        assert await figures.by_time(tx, nobody, 4) == {}
    assert ended.by_outcome == {"done": 1}
    assert standing.waiting == 1
    assert [part.ended for part in parts["hr"]] == [1]


async def test_each_run_is_in_its_part_of_the_window(rows: Rows, database: Database) -> None:
    for ended_ago_s in (1, 400, 1000, 1300, 3500):
        add(rows, began_ago_s=ended_ago_s + 1, took_s=1, status="failed" if ended_ago_s == 400 else "done")
    async with database.reading() as tx:
        parts = (await figures.by_time(tx, Asked(window_s=HOUR_S), 6))["hr"]
    assert [(part.number, part.ended, part.failed) for part in parts] == [(0, 1, 0), (3, 1, 0), (4, 1, 0), (5, 2, 1)]


async def test_a_hundred_thousand_runs(rows: Rows, database: Database) -> None:
    """Half of them ended within the window, two steps each; 2,000 wait."""
    rows.execute(
        """insert into regie.run (tenant, domain, id, workflow, release, definition_digest, trigger_key, ticket, corr,
                                  started_by, requester, dry, prio, status, state, started_at, ended_at, ready_at)
           select 't' || n %% 5, 'd' || n %% 3, gen_random_uuid(), 'hr.it', %(release)s, '', n::text, '', '',
                  '{"type": "operator", "id": "x"}', 'p' || n %% 50 || '@example.com', false, 100,
                  case when n <= 2000 then 'waiting' when n %% 10 = 0 then 'failed' else 'done' end,
                  decode(repeat('00', 1000), 'hex'),
                  now() - make_interval(secs => n),
                  case when n > 2000 then now() - make_interval(secs => n - 1) end, null
           from generate_series(1, %(many)s) n""",
        {"release": DIGEST, "many": MANY},
    )
    rows.execute(
        """insert into regie.step (tenant, domain, run, place, attempt, seq, uses, status, input_sha256, queued_at,
                                   started_at, ended_at)
           select tenant, domain, id, place, 1, 1, 'x.y', 'done', '', now(), now(), now()
           from regie.run, unnest(array['a', 'b']) place"""
    )
    rows.execute("vacuum analyze regie.run, regie.step")

    async def all_figures_s() -> float:
        """Look at them all; the seconds it took."""
        began_s = time.monotonic()
        async with database.reading() as tx:
            for sight in (EVERYTHING, Sight(person="p7@example.com")):
                asked = Asked(window_s=MANY / 2, sight=sight)
                promises = [Promise(release, workflow, 0.5) for release, workflow in await figures.in_use(tx, asked)]
                ended = await figures.ended(tx, asked, promises)
                standing = await figures.standing(tx, asked, promises)
                await figures.step_times(tx, asked)
                await figures.by_time(tx, asked, 24)
                counted = Counter[str]()
                for each in ended:
                    counted.update(each.by_outcome)
                share = 1 if sight is EVERYTHING else 50
                # The window has moved on since they were written.
                assert counted.total() == pytest.approx((MANY / 2 - 2000) / share, rel=0.01)
                assert sum(each.late for each in ended) == counted.total()
                assert sum(each.waiting for each in standing) == 2000 / share
        return time.monotonic() - began_s

    first_s = await all_figures_s()
    # A machine that does other things as well may have done them meanwhile.
    assert first_s < WITHIN_S or await all_figures_s() < WITHIN_S
