"""Many endpoints, in bounded memory and time: one that hangs takes one place of many, and gives it back in time.

Results come out as they are ready. What is wrong with an endpoint is a finding; nothing here fails for an endpoint.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from regie.core.capabilities.tls import Code, Endpoint, Finding, Inspection
from regie.core.errors import InvalidInput
from regie.ending import ended
from regie.kit.tls.asking import Clock, Revocation
from regie.kit.tls.certificates import Parsed, Unreadable, parse
from regie.kit.tls.handshake import Client, NotShown, Shown, unreachable
from regie.kit.tls.judging import found, inspection, judge, judge_authorities, worst_first
from regie.kit.tls.names import ascii_name
from regie.kit.tls.trust import Roots


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is done at the same time, and for how long.

    Attributes:
        endpoints: Endpoints in hands.
        per_host: Connections to one host; it shall not take us for an attack.
        ahead: Endpoints that are looked at to find one whose host is free.
        silent_after: Connections to one host and port that came to nothing in time, after which it is asked no more.
        seconds: For all of them; what is not looked at by then is told as such.
    """

    endpoints: int = 128
    per_host: int = 4
    ahead: int = 2000
    silent_after: int = 4
    seconds: float = 45.0


class Scanner:
    """Looks at endpoints and says what is wrong.

    Args:
        client: Makes handshakes.
        roots: Whom to trust.
        clock: The time, aware.
        revocation: Asks authorities; nobody is asked without it.
    """

    def __init__(self, client: Client, roots: Roots, clock: Clock, revocation: Revocation | None) -> None:
        self._client = client
        self._roots = roots
        self._clock = clock
        self._revocation = revocation

    async def aclose(self) -> None:
        """Close what is open."""
        if self._revocation is not None:
            await self._revocation.aclose()

    async def inspect(self, endpoint: Endpoint) -> Inspection:
        """Look at one endpoint. Never fails for what it finds there."""
        try:
            host, wanted = ascii_name(endpoint.host), ascii_name(endpoint.server_name or endpoint.host)
        except InvalidInput:
            return inspection(endpoint, [unreachable("name")])
        try:
            shown = await self._client.look(host, endpoint.port, wanted, endpoint.starttls)
        except NotShown as error:
            return inspection(endpoint, [error.finding])
        return await self._judged(endpoint, wanted, shown)

    def judge_file(self, certificates: Sequence[Parsed]) -> list[Finding]:
        """What is wrong with the certificates of a file: those of a server, its own first, or those of authorities."""
        now = self._clock()
        if certificates[0].is_authority:
            return worst_first(judge_authorities(certificates, now))
        path = self._roots.path(certificates, now)
        return worst_first(judge(certificates, path, wanted="", protocol="", now=now))

    async def scan(self, endpoints: Iterable[Endpoint], bounds: Bounds) -> AsyncIterator[Inspection]:
        """Look at endpoints, in whatever order they are ready.

        Args:
            endpoints: Any number of them; they are taken as they are needed.
            bounds: How much at a time, and for how long.
        """
        until, line = asyncio.get_running_loop().time() + bounds.seconds, Line(endpoints, bounds)
        tasks = set[asyncio.Task[tuple[Endpoint, Inspection]]]()
        done = asyncio.Queue[asyncio.Task[tuple[Endpoint, Inspection]]]()
        try:
            while True:
                while len(tasks) < bounds.endpoints and (following := line.take()) is not None:
                    task = asyncio.create_task(self._within(until, following, is_silent=line.is_silent(following)))
                    task.add_done_callback(done.put_nowait)
                    tasks.add(task)
                if not tasks:
                    break
                task = await done.get()
                tasks.discard(task)
                endpoint, inspected = task.result()
                line.give_back(endpoint, _answered_in_time(inspected))
                yield inspected
        finally:
            await ended(tasks)

    async def _within(self, until: float, endpoint: Endpoint, *, is_silent: bool) -> tuple[Endpoint, Inspection]:
        """Look at one of many, or say why not."""
        if is_silent:
            return endpoint, inspection(endpoint, [_not_inspected("silent", "Its host was silent before.")])
        try:
            async with asyncio.timeout_at(until):
                return endpoint, await self.inspect(endpoint)
        except TimeoutError:
            return endpoint, inspection(endpoint, [_not_inspected("deadline", "The time for all was over.")])

    async def _judged(self, endpoint: Endpoint, wanted: str, shown: Shown) -> Inspection:
        presented, unreadable = _parsed(shown.chain)
        findings = [_unreadable(position) for position in unreadable]
        if 0 in unreadable:
            return inspection(endpoint, findings, address=shown.address, protocol=shown.protocol)
        now = self._clock()
        path = self._roots.path(presented, now)
        findings += judge(presented, path, wanted=wanted, protocol=shown.protocol, now=now)
        if self._revocation is not None:
            findings += await self._revocation.findings(path, shown.staple)
        return inspection(endpoint, findings, presented, address=shown.address, protocol=shown.protocol)


class Line:
    """Endpoints that wait, so that no host gets more than its share at a time and none waits for another's.

    Args:
        endpoints: Taken as needed, a bounded number ahead.
        bounds: The shares.
    """

    def __init__(self, endpoints: Iterable[Endpoint], bounds: Bounds) -> None:
        self._source: Iterator[Endpoint] = iter(endpoints)
        self._bounds = bounds
        self._waiting: dict[str, deque[Endpoint]] = {}
        self._held = 0
        self._busy = Counter[str]()
        self._ready = deque[str]()
        """Hosts with something that waits and less than their share in hands, each once."""
        self._silences = Counter[tuple[str, int]]()

    def take(self) -> Endpoint | None:
        """The next one whose host is free; none when there is none now."""
        for endpoint in islice(self._source, self._bounds.ahead - self._held):
            self._add(endpoint)
        if not self._ready:
            return None
        host = self._ready.popleft()
        endpoint = self._waiting[host].popleft()
        self._held -= 1
        self._busy[host] += 1
        if not self._waiting[host]:
            del self._waiting[host]
        elif self._busy[host] < self._bounds.per_host:
            self._ready.append(host)
        return endpoint

    def give_back(self, endpoint: Endpoint, in_time: bool | None) -> None:  # noqa: FBT001  the answer to a question
        """One that was taken is over; whether it answered in time is not known of one that was not asked."""
        host, place = endpoint.host, (endpoint.host, endpoint.port)
        if host in self._waiting and self._busy[host] == self._bounds.per_host:
            self._ready.append(host)
        self._busy[host] -= 1
        if not self._busy[host]:
            del self._busy[host]
        if in_time:
            self._silences.pop(place, None)
        elif in_time is False:
            self._silences[place] += 1

    def is_silent(self, endpoint: Endpoint) -> bool:
        """Whether its host and port have not answered several times in a row."""
        return self._silences[endpoint.host, endpoint.port] >= self._bounds.silent_after

    def _add(self, endpoint: Endpoint) -> None:
        waiting = self._waiting.get(endpoint.host)
        if waiting is not None:
            waiting.append(endpoint)
        else:
            self._waiting[endpoint.host] = deque([endpoint])
            if self._busy[endpoint.host] < self._bounds.per_host:
                self._ready.append(endpoint.host)
        self._held += 1


def _parsed(chain: Iterable[bytes]) -> tuple[list[Parsed], list[int]]:
    """The certificates that can be read, and the positions of those that cannot."""
    readable: list[Parsed] = []
    unreadable: list[int] = []
    for position, der in enumerate(chain):
        try:
            readable.append(parse(der))
        except Unreadable:
            unreadable.append(position)
    return readable, unreadable


def _unreadable(position: int) -> Finding:
    text = "A certificate that is presented cannot be read."
    return found(Code.UNREADABLE, text, certificate=0 if position == 0 else None)


def _not_inspected(cause: str, text: str) -> Finding:
    return found(Code.NOT_INSPECTED, text, cause=cause)


def _answered_in_time(inspected: Inspection) -> bool | None:
    codes = {each.code: each.cause for each in inspected.findings}
    return None if Code.NOT_INSPECTED in codes else codes.get(Code.UNREACHABLE) != "timeout"
