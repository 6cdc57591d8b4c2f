"""A pool of workers for each domain that is in use, each with a login to the database that knows no other domain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from regie.cli.ports import require_free
from regie.cli.processes import Process, Supervisor
from regie.core.errors import RegieError, Unavailable
from regie.settings import Settings, read_or_make_token
from regie.store import liveness, releases, walls
from regie.store.database import Database, Transaction
from regie.store.walls import Login

LOOK_EVERY_S = 2.0
"""Between two looks whether a release that was loaded meanwhile has more domains in use."""


class Pools:
    """The workers that `regie up` keeps running: of the domains that a tenant has, or a run that is not over.

    Args:
        dsn: Connection string of the owner of the tables.
        environment: `REGIE_` settings that every worker gets.
    """

    def __init__(self, settings: Settings, supervisor: Supervisor, dsn: str, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._dsn = dsn
        self._environment = environment
        self._served: list[str] = []

    async def follow(self, database: Database) -> None:
        """Start workers of domains that come into use, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._supervisor.add_together(*await self.more(database))
            except Unavailable:
                continue
            except RegieError as error:
                self._supervisor.say(str(error))

    async def more(self, database: Database, *, crash_at: str = "") -> list[Process]:
        """The workers, to be started, of domains that are in use and have none yet.

        Raises:
            WallRefused: The owner of the database may not make logins for them.
            Unavailable: The database does not answer.
        """
        async with database.reading() as tx:
            domains = [domain for domain in await in_use(tx) if domain not in self._served]
        if not domains:
            return []
        tokens = self._settings.database_token_file
        logins = [
            Login(walls.Process.WORKER, read_or_make_token(tokens("worker", domain)), domain) for domain in domains
        ]
        addresses = await walls.build(self._dsn, logins)
        made = []
        for domain, dsn in zip(domains, addresses, strict=True):
            read_or_make_token(self._settings.worker_token_file(domain))
            made += [self._worker(domain, number, dsn, crash_at) for number in range(self._settings.workers)]
            self._served.append(domain)
        return made

    def _worker(self, domain: str, number: int, dsn: str, crash_at: str) -> Process:
        metrics = {}
        if (first := self._settings.worker_metrics_port) is not None:
            port = first and first + len(self._served) * self._settings.workers + number
            require_free(port, "REGIE_WORKER_METRICS_PORT")
            metrics = {"worker_metrics_port": str(port)}
        return Process(
            f"worker-{domain}-{number + 1}",
            "regie.worker",
            self._settings.home / "logs",
            arguments=("--domain", domain),
            environment={**self._environment, **metrics, "database_url": dsn, "crash_at": crash_at},
        )


async def in_use(tx: Transaction) -> list[str]:
    """The domains of the current release that some tenant has, or that have a run which is not over.

    Raises:
        InvalidInput: No release has been loaded.
    """
    release = await releases.current(tx)
    of_tenants = {domain for tenant in release.tenants.values() for domain in tenant.domains}
    unfinished = await liveness.unfinished_domains(tx)
    return sorted(of_tenants | (set(unfinished) & set(release.domains)))
