"""Asks what polls ask, and starts a run for each new item. Called by `starting.py` in every worker.

A poll is asked outside any transaction. What came is dealt with item by item, each run with its own trigger; the cursor
moves when all of them have one. So whatever is cut off, and whoever asks at the same time, an item starts one run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.block import Catalogue
from regie.core.capability import Capability, Record
from regie.core.definition import Definition
from regie.core.errors import Failure, FencedOut, RegieError, Terminal, TimedOut
from regie.core.expression import render
from regie.core.polling import CURSOR, Found, Item, again_in_s, read_answer
from regie.core.reading_starts import SOONEST_S
from regie.core.release import Release
from regie.core.starts import PollStart
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.engine.recurring import all_of, one_of
from regie.gateway_client import GatewayClient, PollRef
from regie.store import audit, polls, releases, run_lists
from regie.store.database import Database, Transaction
from regie.store.polls import Claimed
from regie.worker.performer import call_block

MOST_AT_ONCE = 100
"""New items of one answer that start runs; the others follow with the next poll, soon."""
HOLD_S = 150.0
"""Seconds after which another worker asks when the one that holds a poll has said nothing."""
ANSWER_WITHIN_S = 90.0
"""Seconds for one answer, however long its block may take: well before somebody else would ask."""
ACTOR = Actor(type="engine", id="poll")

Want = TypeVar("Want", bound=Record)
Gives = TypeVar("Gives", bound=Record)

log = structlog.get_logger(__name__)


class PollContext:
    """A block's way to the world before there is a run: it reads, see `core.block.Context`."""

    def __init__(self, gateway: GatewayClient, poll: PollRef) -> None:
        self.gateway = gateway
        self.poll = poll

    async def call(self, capability: Capability[Want, Gives], want: Want) -> Gives:
        """Read."""
        return await self.gateway.poll(self.poll, capability, want)

    async def change(self, capability: Capability[Want, Gives], want: Want) -> Gives:  # noqa: ARG002  as the protocol has it
        """Refuse: nothing is changed before there is a run."""
        raise Terminal(f"A poll cannot use {capability.name}: it only reads.")


class Poller:
    """Polls of some domains.

    Args:
        gateways: How to ask the gateway, by domain.
    """

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        gateways: Callable[[str], GatewayClient],
        domains: Sequence[str],
    ) -> None:
        self._database = database
        self._engine = PostgresEngine(database)
        self._catalogue = catalogue
        self._gateways = gateways
        self._domains = domains

    async def keep(self, tx: Transaction, release: Release) -> int:
        """Have a row for each poll of the release; new ones are due at once.

        Returns:
            How many there are.
        """
        keys = [key for key, _ in all_of(release, self._domains, PollStart)]
        await polls.keep(tx, self._domains, sorted(release.domains), keys)
        return len(keys)

    async def claim(self, most: int) -> list[tuple[Claimed, Release]]:
        """Take polls that are due."""
        async with self._database.transaction() as tx:
            release = await releases.current(tx)
            taken = await polls.claim(tx, self._domains, release=release.digest, hold_s=HOLD_S, most=most)
        return [(claimed, release) for claimed in taken]

    async def poll(self, claimed: Claimed, release: Release) -> None:
        """Ask once and deal with the answer; a failure is written down and tried again later.

        Raises:
            Unavailable, OutcomeUnknown: The database does not answer; the poll is asked again when its hold is over.
        """
        key = claimed.claim.key
        found = one_of(release, key, PollStart)
        if found is None:
            # The next look at the release drops the row.
            log.info("poll:gone", workflow=key.workflow, tenant=key.tenant)
            return
        definition, start = found
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await self._ask(claimed, release, start)
            has_more = await self._deal_with(claimed, definition, start, answer)
        except FencedOut:
            log.info("poll:fenced_out", workflow=key.workflow, tenant=key.tenant)
        except TimeoutError:
            await self._fail(claimed, start, TimedOut(f"{start.uses} gave no answer within {ANSWER_WITHIN_S:g} s."))
        except RegieError as error:
            await self._fail(claimed, start, error)
        except Exception as error:
            log.exception("poll:broke", workflow=key.workflow, tenant=key.tenant)
            broken = Terminal(
                f"The poll by {start.uses} broke with {type(error).__name__}.", hint="The worker's log has the details."
            )
            await self._fail(claimed, start, broken)
        else:
            log.debug("poll:answered", workflow=key.workflow, tenant=key.tenant, has_more=has_more)

    async def _ask(self, claimed: Claimed, release: Release, start: PollStart) -> Found:
        key = claimed.claim.key
        if claimed.cursor is None:
            raise Terminal(
                "The cursor of the poll cannot be opened.", hint="Is the key file the one it was sealed with?"
            )
        definition = release.definition(key.workflow)
        settings = release.domains[key.domain].settings_of(release.tenant(key.tenant))
        scope: dict[str, JsonValue] = {"settings": settings, "poll": {CURSOR: claimed.cursor}}
        arguments = render(start.arguments, scope)
        ref = PollRef(
            tenant=key.tenant, domain=key.domain, workflow=key.workflow, start=key.start, fence=claimed.claim.fence
        )
        ctx = PollContext(self._gateways(key.domain), ref)
        given = arguments if isinstance(arguments, dict) else {}
        output = await call_block(self._catalogue, ctx, start.uses, given)
        return read_answer(definition, start, self._catalogue[start.uses], output.model_dump(mode="json"))

    async def _deal_with(self, claimed: Claimed, definition: Definition, start: PollStart, found: Found) -> bool:
        """Start what is new; whether there is more than one poll may start."""
        key = claimed.claim.key
        async with self._database.reading() as tx:
            known = await run_lists.known_triggers(
                tx, key.tenant, key.domain, [item.trigger_key for item in found.items]
            )
        new = [item for item in found.items if item.trigger_key not in known]
        for item in new[:MOST_AT_ONCE]:
            await self._start(claimed, definition, item)
        if found.keyless:
            raise Terminal(
                f"{found.keyless} of the items that {start.uses} gave have no {start.key}: nobody can tell them apart.",
                hint="Name another `key` in the workflow, or mend the block.",
            )
        has_more = len(new) > MOST_AT_ONCE
        async with self._database.transaction() as tx:
            await polls.answered(
                tx,
                claimed.claim,
                cursor=None if has_more else found.cursor,
                again_s=SOONEST_S if has_more else start.every_s,
            )
            if claimed.failures:
                await self._note(tx, claimed, start, Event.POLL_RECOVERED)
        return has_more

    async def _start(self, claimed: Claimed, definition: Definition, item: Item) -> None:
        request = StartRequest(
            tenant=claimed.claim.key.tenant,
            workflow=definition.workflow,
            trigger_key=item.trigger_key,
            started_by=ACTOR,
            given=item.given,
        )
        await self._engine.start(request)

    async def _fail(self, claimed: Claimed, start: PollStart, error: RegieError) -> None:
        failure = Failure.of(error)
        again_s = again_in_s(start, claimed.failures + 1, failure.after_s)
        log.warning(
            "poll:failed", workflow=claimed.claim.key.workflow, tenant=claimed.claim.key.tenant, kind=failure.kind
        )
        try:
            async with self._database.transaction() as tx:
                await polls.failed(tx, claimed.claim, failure, again_s=again_s)
                if not claimed.failures:
                    await self._note(tx, claimed, start, Event.POLL_FAILED, failure=failure.kind)
        except FencedOut:
            log.info("poll:fenced_out", workflow=claimed.claim.key.workflow, tenant=claimed.claim.key.tenant)

    async def _note(self, tx: Transaction, claimed: Claimed, start: PollStart, event: Event, **more: str) -> None:
        key = claimed.claim.key
        detail: dict[str, JsonValue] = {"poll": {"workflow": key.workflow, "uses": start.uses}, **more}
        await audit.append_outside(tx, key.tenant, key.domain, [Fact(event=event, actor=ACTOR, detail=detail)])
