"""Running an installation on this machine: everything that belongs to it, until the end of a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from regie.cli.installation import Installation, Say, real_home
from regie.cli.ports import require_free
from regie.cli.processes import Supervisor
from regie.settings import Settings
from regie.store.database import Database


@dataclass(frozen=True, slots=True)
class Services:
    """Where everything answers; `domain` and `outside` are empty where it is no demo.

    Attributes:
        domain: Whose world the demo is in.
        outside: Addresses of what stands for the outside, by name.
    """

    web: str
    domain: str
    outside: Mapping[str, str]
    settings: Settings
    supervisor: Supervisor

    @property
    def sandbox(self) -> str:
        """Where the imaginary Jira, Graph and Slack answer."""
        return self.outside.get("sandbox", "")


@asynccontextmanager
async def up(settings: Settings, say: Say) -> AsyncIterator[Services]:
    """Everything of an installation in the world as it is, running until the end of the block.

    Raises:
        InvalidInput: It runs already.
        DefinitionError: Its workspace has faults.
    """
    settings = real_home(settings)
    installation = Installation(settings, say)
    with installation.alone():
        async with supervised(installation) as supervisor:
            # What can be known to be wrong is told before anything is started for it.
            installation.read_release()
            require_free_ports(settings)
            async with installation.database() as database:
                await installation.load(database)
                yield await serve(installation, supervisor, database)


@asynccontextmanager
async def supervised(installation: Installation) -> AsyncIterator[Supervisor]:
    """Looks after an installation's processes; at the end of the block they are stopped, and its database with them."""
    supervisor = Supervisor(installation.say)
    server = installation.server()
    try:
        yield supervisor
    finally:
        await supervisor.stop()
        installation.forget_state()
        if server is not None:
            server.stop()


def require_free_ports(settings: Settings) -> None:
    """Make sure that the ports which the settings name can be listened on, before anything is started for them.

    Raises:
        InvalidInput: There is no such port.
        Unavailable: Somebody else listens there.
    """
    require_free(settings.port)
    # How many workers there will be depends on the release; the first one's is known.
    for port, name in (
        (settings.worker_metrics_port, "REGIE_WORKER_METRICS_PORT"),
        (settings.notary_metrics_port, "REGIE_NOTARY_METRICS_PORT"),
    ):
        if port is not None:
            require_free(port, name)


async def serve(
    installation: Installation,
    supervisor: Supervisor,
    database: Database,
    *,
    domain: str = "",
    outside: Mapping[str, str] | None = None,
) -> Services:
    """Start the processes of an installation whose release is loaded, and write down where they answer.

    Args:
        domain, outside: Of a demo; see `Services`.
    """
    server = installation.server()
    if server is not None:
        supervisor.keep(server.is_running, server.ensure)
    installation.say("Starting gateway, workers and web")
    web = await installation.start(supervisor, installation.start_database(), database)
    gateway = next(process.ready["address"] for process in supervisor.processes if process.name == "gateway")
    services = Services(web.ready["address"], domain, outside or {}, installation.settings, supervisor)
    installation.write_state(web=services.web, gateway=gateway, sandbox=services.sandbox)
    return services
