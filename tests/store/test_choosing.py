"""Which runs a worker gets: never more than the quotas allow, and nobody's flood keeps others waiting."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

import psycopg
import pytest

from regie.core.errors import Throttled
from regie.core.format import FORMAT
from regie.core.tenant import Domain, Quota
from regie.store import choosing, claims, quotas, workers
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.workers import Worker

from .conftest import Start

pytestmark = pytest.mark.slow

FLOOD = 20_000


@pytest.fixture
async def hand(database: Database) -> AsyncIterator[Worker]:
    async with workers.registered(database, name="w", domains=["identity", "support", "hr"]) as registered:
        yield registered


async def allow(database: Database, **domains: Quota) -> None:
    async with database.transaction() as tx:
        await quotas.keep(
            tx,
            {
                name: Domain(domain=name, title=name, owner="team:it", classification="internal", quota=quota)
                for name, quota in domains.items()
            },
        )


async def take(
    database: Database,
    worker: Worker,
    limit: int,
    *,
    domains: Sequence[str] = ("identity",),
    held: Mapping[str, int] = choosing.NONE,
    most: Mapping[str, int] = choosing.NONE,
) -> list[claims.Claimed]:
    async with database.transaction() as tx:
        return (await claims.take(tx, worker.id, list(domains), limit, held=held, most=most)).runs


async def park(database: Database, claimed: claims.Claimed) -> None:
    async with database.transaction() as tx:
        await claims.park(tx, claimed.claim, claimed.inbox_n)


def tenants(claimed: list[claims.Claimed]) -> Counter[str]:
    return Counter(each.claim.key.tenant for each in claimed)


async def test_a_domain_never_has_more_in_hands_than_its_quota(database: Database, start: Start, hand: Worker) -> None:
    await allow(database, identity=Quota(runs=3))
    for _ in range(5):
        await start()

    first = await take(database, hand, 10)
    assert len(first) == 3
    assert await take(database, hand, 10) == []
    async with database.reading() as tx:
        assert (await choosing.choose(tx, hand.id, ["identity"], 0)).is_left_behind

    # Parked, it is in nobody's hands.
    await park(database, first[0])
    assert len(await take(database, hand, 10)) == 1
    assert await take(database, hand, 10) == []


async def test_many_claims_at_once_keep_the_quota_and_use_it_up(database: Database, start: Start, hand: Worker) -> None:
    await allow(database, identity=Quota(runs=7, per_tenant=4))
    for number in range(30):
        await start(tenant=("acme", "umbrella", "globex")[number % 3])

    async with workers.registered(database, name="other", domains=["identity"]) as other:
        both = [hand, other] * 4
        taken = await asyncio.gather(*(take(database, worker, 5) for worker in both))
        found = [each for some in taken for each in some]
        assert len({each.claim.key for each in found}) == len(found) == 7
        assert max(tenants(found).values()) <= 4


async def test_a_tenant_never_has_more_in_hands_than_its_part(database: Database, start: Start, hand: Worker) -> None:
    await allow(database, identity=Quota(per_tenant=2))
    for tenant in ("acme", "acme", "acme", "umbrella"):
        await start(tenant=tenant)

    assert tenants(await take(database, hand, 10)) == {"acme": 2, "umbrella": 1}
    assert await take(database, hand, 10) == []


async def test_a_flood_of_one_tenant_does_not_starve_another(database: Database, start: Start, hand: Worker) -> None:
    for _ in range(20):
        await start(tenant="acme")
    held = await take(database, hand, 5)
    late = [await start(tenant="umbrella") for _ in range(3)]

    # Whoever has least in hands comes first, although the others are older.
    assert [each.claim.key for each in await take(database, hand, 3)] == late
    assert len(held) == 5
    assert tenants(await take(database, hand, 4)) == {"acme": 4}


async def test_what_is_urgent_goes_first_whoever_it_belongs_to(database: Database, start: Start, hand: Worker) -> None:
    await start(tenant="umbrella")
    urgent = [await start(tenant="acme", prio=1) for _ in range(3)]
    assert [each.claim.key for each in await take(database, hand, 3)] == urgent


async def test_of_what_is_taken_together_the_quiet_domain_goes_first(
    database: Database, start: Start, hand: Worker
) -> None:
    flood = [await start(domain="support") for _ in range(5)]
    late = await start(domain="hr")
    taken = await take(database, hand, 10, domains=("hr", "support"))
    assert [each.claim.key for each in taken] == [late, *flood]


async def test_domains_share_what_a_worker_takes(database: Database, start: Start, hand: Worker) -> None:
    both = ("hr", "support")
    for _ in range(10):
        await start(domain="support")
    for _ in range(2):
        await start(domain="hr")

    first = await take(database, hand, 4, domains=both)
    assert Counter(each.claim.key.domain for each in first) == {"hr": 2, "support": 2}

    await start(domain="hr")
    [next_one] = await take(database, hand, 1, domains=both, held={"support": 2, "hr": 2})
    assert next_one.claim.key.domain == "support", "the same number each: the older one"
    [next_one] = await take(database, hand, 1, domains=both, held={"support": 3, "hr": 2})
    assert next_one.claim.key.domain == "hr"
    assert await take(database, hand, 5, domains=both, held={"support": 3}, most={"support": 3}) == []


async def test_a_row_that_somebody_changes_holds_nobody_up(
    database: Database, database_url: str, start: Start, hand: Worker
) -> None:
    first, second = await start(), await start()
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("select from regie.run where id = %s for no key update", [first.run])
        [taken] = await take(database, hand, 1)
        assert taken.claim.key == second


async def flood(database_url: str, start: Start, tenants: int) -> None:
    """Many ready runs, copied from one."""
    key = await start(domain="support")
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            """insert into regie.run (tenant, domain, id, workflow, release, definition_digest, trigger_key, ticket,
                                      corr, started_by, requester, dry, prio, status, state)
               select 'tenant-' || n %% %s, domain, gen_random_uuid(), workflow, release, definition_digest,
                      'flood-' || n, ticket, corr, started_by, requester, dry, prio, status, state
               from regie.run, generate_series(1, %s) as n where id = %s""",
            [tenants, FLOOD, key.run],
        )
        await connection.execute("analyze regie.run")


@pytest.mark.slow
@pytest.mark.parametrize("tenants", [1, 200])
async def test_a_long_queue_does_not_make_a_claim_read_more_than_a_little(
    database: Database, database_url: str, start: Start, hand: Worker, tenants: int
) -> None:
    await flood(database_url, start, tenants)
    await allow(database, support=Quota(runs=5000, per_tenant=5000))
    domains = ["hr", "support"]
    values = {"worker": hand.id, "domains": domains, "held": [0, 0], "most": [None, None], "limit": 16, "reads": FORMAT}
    for _ in range(20):
        async with database.transaction() as tx:
            # As `choose` does, which ends its transaction itself. What a session has read is counted over several.
            before = await rows_read(tx)
            rows = await tx.rows(choosing._CHOOSE, values)
            await tx.rows(choosing._OUTLOOK, {"domains": domains})
            after = await rows_read(tx)
        assert len(rows) == 16
        assert after - before < FLOOD / 10


async def rows_read(tx: Transaction) -> int:
    """How many rows of runs were read, through an index or not."""
    row = await tx.row("select seq_tup_read + idx_tup_fetch as n from pg_stat_xact_user_tables where relname = 'run'")
    assert row is not None
    return int(row["n"])


async def test_the_queue_is_read_by_its_index(
    database: Database, database_url: str, start: Start, hand: Worker
) -> None:
    for _ in range(3):
        await start()
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("set enable_seqscan = off")
        values = {"worker": hand.id, "domains": ["identity"], "held": [0], "most": [None], "limit": 4, "reads": 9}
        cursor = await connection.execute(b"explain " + choosing._CHOOSE.encode(), values)
        plan = "\n".join(row[0] for row in await cursor.fetchall())
    assert "run_queued" in plan
    assert "run_in_hands" in plan
    assert "Seq Scan on run" not in plan


async def test_what_waits_knows_its_place(database: Database, start: Start, hand: Worker) -> None:
    await allow(database, identity=Quota(runs=2, per_tenant=2))
    keys = [await start() for _ in range(5)]
    await take(database, hand, 10)
    async with database.reading() as tx:
        assert await quotas.in_line(tx, keys[0]) is None
        last = await quotas.in_line(tx, keys[4])
        [used] = await quotas.use(tx)
    assert isinstance(last, quotas.InLine)
    assert (last.ahead, last.in_hands) == (2, 2)
    assert last.in_words() == "queued behind 2 runs of its domain; quota 2 of 2 in use; of its tenant 2 of 2"
    assert (used.domain, used.in_hands, used.ready, used.waiting) == ("identity", 2, 3, 3)


async def test_a_full_queue_takes_no_more(database: Database, start: Start, hand: Worker) -> None:
    await allow(database, identity=Quota(waiting=2), support=Quota())

    async def offer(domain: str = "identity") -> RunKey:
        key = await start(domain=domain)
        async with database.reading() as tx:
            await quotas.require_room(tx, domain)
        return key

    await offer()
    await offer()
    with pytest.raises(Throttled) as refused:
        await offer()
    assert refused.value.after_s == quotas.FULL_AGAIN_S
    assert "2 runs waiting to begin" in refused.value.message
    for _ in range(3):
        await offer("support")
    # What has begun waits for nobody to begin it.
    await take(database, hand, 10)
    await offer()
