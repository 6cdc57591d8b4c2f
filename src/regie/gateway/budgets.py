"""Rate budgets: before a request is sent it takes a place in each budget it counts towards; all gateways share them.

Who finds no room waits in line for the budget that lacks it, the most urgent domain first and tenants in turn; only the
first of a line asks the database. Who would wait too long is sent away with a time to come again, and holds nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from regie.core.errors import BudgetSpent, OutcomeUnknown, Unavailable
from regie.core.tenant import Priority
from regie.gateway.turns import Turns
from regie.store import rate_budgets
from regie.store.database import Database
from regie.store.rate_budgets import Draw, Short

UNSAID_S = 1.0
"""Seconds to wait after a throttled answer that does not say how long."""
LEASE_S = 0.2
"""Seconds for which a process may use what it has drawn on top ..."""
LEASE_SHARE = 0.4
"""... or this part of the time in which the budget fills, if that is shorter: half of what requests may bunch up."""
LEASE_PART = 0.1
"""Part of what may be used at once that is drawn on top, so that not every request costs a question."""
WORTH_A_LEASE = 20.0
"""Budgets that hold less at once are drawn from one by one."""
SHORTEST_S = 0.005
TIDY_EVERY = 500
"""After so many new budgets, those that are full again are forgotten."""

_RANK: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}
_RESERVE: dict[Priority, float] = {"high": 0.0, "normal": 0.1, "low": 0.3}
"""Part of what may be used at once that a priority leaves to the higher ones."""


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf something is asked for."""

    tenant: str
    priority: Priority


@dataclass(eq=False, slots=True)
class _Waiter:
    asker: Asker
    number: int
    cost: float
    called: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class _Line:
    """Those who wait for one budget."""

    each_s: float
    waiting: list[_Waiter] = field(default_factory=list)
    served: Counter[str] = field(default_factory=Counter)

    def join(self, waiter: _Waiter) -> None:
        """Stand in line. A tenant that comes anew counts like the one that was served least, not as never served."""
        tenant = waiter.asker.tenant
        if tenant not in {each.asker.tenant for each in self.waiting} and self.waiting:
            least = min(self.served[each.asker.tenant] for each in self.waiting)
            self.served[tenant] = max(self.served[tenant], least)
        self.waiting.append(waiter)

    def leave(self, waiter: _Waiter, *, is_served: bool) -> None:
        """Go, and let the next one know."""
        self.waiting.remove(waiter)
        if is_served:
            self.served[waiter.asker.tenant] += 1
        if self.waiting:
            self.front().called.set()

    def front(self) -> _Waiter:
        """Whose turn it is: the most urgent, then the tenant that was served least, then who came first."""
        return min(self.waiting, key=self._turn)

    def _turn(self, waiter: _Waiter) -> tuple[int, int, int]:
        return _RANK[waiter.asker.priority], self.served[waiter.asker.tenant], waiter.number

    def goes_before(self, asker: Asker) -> bool:
        """Whether somebody waits who is as urgent."""
        return any(_RANK[each.asker.priority] <= _RANK[asker.priority] for each in self.waiting)

    def wait_s(self, asker: Asker) -> float:
        """How long those take who go before somebody new."""
        before = [each for each in self.waiting if _RANK[each.asker.priority] <= _RANK[asker.priority]]
        mine = sum(each.cost for each in before if each.asker.tenant == asker.tenant)
        # Tenants take turns: of the others only as many go first as of one's own.
        others = {each.asker.tenant for each in before} - {asker.tenant}
        theirs = sum(min(mine + 1, sum(each.cost for each in before if each.asker.tenant == other)) for other in others)
        return (mine + theirs) / self.each_s


@dataclass
class _Lease:
    """What is left of what was drawn on top."""

    left: float
    until_s: float


class Budgets:
    """The rate budgets as one gateway process uses them.

    Args:
        database: Where the levels are.
        clock: Seconds that only go forward; for waiting only, what counts is the database's clock.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pause = pause
        self._lines: dict[str, _Line] = {}
        self._leases: dict[str, _Lease] = {}
        self._made: set[str] = set()
        self._promised_s: dict[tuple[str, Asker], float] = {}
        self._numbers = itertools.count()
        self._turns = Turns()

    async def take(self, draws: Sequence[Draw], asker: Asker, within_s: float) -> None:
        """Take a place in all of these budgets, waiting for it at most so long.

        Raises:
            BudgetSpent: That would take longer; carries when to come again. Nothing was taken.
            Unavailable: The database does not answer.
        """
        wanted = [_for(each, asker) for each in draws]
        deadline_s = self._clock() + within_s
        held_up = next((each for each in wanted if self._is_taken_before(each.key, asker)), None)
        while True:
            if held_up is None:
                short = await self._draw(wanted)
                if short is None:
                    return
                held_up = next(each for each in wanted if each.key == short.key)
                if short.wait_s > deadline_s - self._clock():
                    raise self._spent(held_up, asker, short.wait_s)
            held_up = await self._stand_in_line(held_up, wanted, asker, deadline_s)
            if held_up is None:
                return

    async def close(self, draws: Sequence[Draw], for_s: float | None) -> None:
        """Leave the vendor alone as it has asked: nobody draws from these budgets before its time."""
        for each in draws:
            self._leases.pop(each.key, None)
        wait_s = UNSAID_S if for_s is None else for_s
        async with self._database.transaction() as tx:
            await rate_budgets.make(tx, draws)
            await rate_budgets.close(tx, [each.key for each in draws], wait_s)

    async def lower(self, draw: Draw, left: float) -> None:
        """Believe a vendor that less is left than we count."""
        if left < draw.at_once:
            self._leases.pop(draw.key, None)
            async with self._database.transaction() as tx:
                await rate_budgets.lower(tx, draw.key, left)

    def _is_taken_before(self, key: str, asker: Asker) -> bool:
        return key in self._lines and self._lines[key].goes_before(asker)

    async def _stand_in_line(
        self, held_up: Draw, wanted: Sequence[Draw], asker: Asker, deadline_s: float
    ) -> Draw | None:
        """Wait for the turn and take what is wanted; gives another budget that lacks room by then, if one does."""
        line = self._lines.setdefault(held_up.key, _Line(held_up.each_s))
        ahead_s = line.wait_s(asker)
        if ahead_s > deadline_s - self._clock():
            raise self._spent(held_up, asker, ahead_s)
        waiter = _Waiter(asker, next(self._numbers), held_up.cost)
        line.join(waiter)
        is_served = False
        try:
            while True:
                await self._until_called(line, waiter, held_up, deadline_s)
                short = await self._draw(wanted)
                if short is None:
                    is_served = True
                    return None
                if short.key != held_up.key:
                    return next(each for each in wanted if each.key == short.key)
                if short.wait_s > deadline_s - self._clock():
                    raise self._spent(held_up, asker, short.wait_s)
                await self._pause(max(SHORTEST_S, short.wait_s))
        finally:
            line.leave(waiter, is_served=is_served)
            if not line.waiting:
                self._lines.pop(held_up.key, None)

    async def _until_called(self, line: _Line, waiter: _Waiter, held_up: Draw, deadline_s: float) -> None:
        while line.front() is not waiter:
            waiter.called.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline_s - self._clock())):
                    await waiter.called.wait()
            except TimeoutError:
                raise self._spent(held_up, waiter.asker, line.wait_s(waiter.asker)) from None

    async def _draw(self, wanted: Sequence[Draw]) -> Short | None:
        """Take from what was drawn on top, and the rest from the database; what lacks room, if anything does."""
        leased = [each for each in wanted if self._use_lease(each)]
        asked = [each for each in wanted if each not in leased]
        if not asked:
            return None
        is_drawn = False
        try:
            async with self._turns.take(tuple(each.key for each in asked)) as is_second:
                if is_second:
                    # Who asked before may have drawn enough on top for this one too.
                    leased += [each for each in asked if self._use_lease(each)]
                    asked = [each for each in asked if each not in leased]
                drawn = await self._ask(asked) if asked else {}
                if isinstance(drawn, Short):
                    return drawn
                self._lease(asked, drawn)
            is_drawn = True
        except OutcomeUnknown as error:
            # Nothing was sent to the vendor. At worst a place stays empty.
            raise Unavailable("The database did not say whether there is room.") from error
        finally:
            for each in leased if not is_drawn else ():
                if each.key in self._leases:
                    self._leases[each.key].left += each.cost
        return None

    def _lease(self, asked: Sequence[Draw], drawn: Mapping[str, float]) -> None:
        """Keep what was drawn on top for those who come next."""
        now_s = self._clock()
        for each in asked:
            if drawn[each.key]:
                for_s = min(LEASE_S, LEASE_SHARE * each.at_once / each.each_s)
                self._leases[each.key] = _Lease(drawn[each.key], now_s + for_s)

    def _use_lease(self, draw: Draw) -> bool:
        lease = self._leases.get(draw.key)
        if lease is None or lease.until_s <= self._clock() or lease.left < draw.cost:
            return False
        lease.left -= draw.cost
        return True

    async def _ask(self, asked: Sequence[Draw]) -> Short | dict[str, float]:
        async with self._database.transaction() as tx:
            if all(each.key in self._made for each in asked):
                drawn = await rate_budgets.draw(tx, asked)
                if drawn is not None:
                    return drawn
            # New here, or full again and forgotten.
            await rate_budgets.make(tx, asked)
            self._made |= {each.key for each in asked}
            if len(self._made) > TIDY_EVERY:
                await rate_budgets.forget_full(tx)
                self._made = {each.key for each in asked}
        async with self._database.transaction() as tx:
            drawn = await rate_budgets.draw(tx, asked)
        if drawn is None:
            raise Unavailable("The rate budgets are being tidied up.")
        return drawn

    def _spent(self, draw: Draw, asker: Asker, wait_s: float) -> BudgetSpent:
        """Send somebody away, each to a time of its own, so that they do not all come again at once."""
        now_s = self._clock()
        promised_s = max(now_s + wait_s, self._promised_s.get((draw.key, asker), 0.0))
        self._promised_s[draw.key, asker] = promised_s + draw.cost / draw.each_s
        if len(self._promised_s) > TIDY_EVERY:
            self._promised_s = {key: until_s for key, until_s in self._promised_s.items() if until_s > now_s}
        return BudgetSpent(
            f"The rate budget of {draw.about} has no room now.",
            after_s=promised_s - now_s,
            hint="Nothing was sent; `regie quotas` shows the budgets.",
        )


def _for(draw: Draw, asker: Asker) -> Draw:
    """What somebody leaves to those who are more urgent, and takes on top."""
    extra = draw.at_once * LEASE_PART if draw.at_once >= WORTH_A_LEASE else 0.0
    return replace(draw, floor=draw.at_once * _RESERVE[asker.priority], extra=extra)
