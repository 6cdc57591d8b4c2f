"""A connection that sends all it has to send. `Database` opens its connections as this.

In a pipeline psycopg 3.3 hands the network what it takes at once, and from there on waits for answers only: of a
parameter of a megabyte the rest stayed here, the server waited for it, and a commit waited for the server for ever.
"""

from typing import TypeVar

from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn
from psycopg.rows import DictRow
from psycopg.waiting import Ready, Wait

Result = TypeVar("Result")


class Connection(AsyncConnection[DictRow]):
    """As psycopg's, but whoever waits for the server sends meanwhile what the server waits for."""

    async def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:  # noqa: ASYNC109  psycopg's own
        """Carry out what psycopg does on the connection; for the arguments see there."""
        return await super().wait(_sending(gen, self.pgconn), interval, timeout)


def _sending(work: PQGen[Result], pgconn: PGconn) -> PQGen[Result]:
    """The same work; while it waits to read, what is left to be sent is sent."""
    try:
        wanted = next(work)
        while True:
            is_left = wanted == Wait.R and pgconn.flush()
            ready = yield Wait.RW if is_left else wanted
            if is_left and ready == Ready.W:
                continue
            wanted = work.send(ready)
    except StopIteration as done:
        result: Result = done.value
        return result
