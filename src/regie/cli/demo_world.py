"""The demo installation: Regie with an imaginary outside world beside it, on ports and with credentials of its own."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from regie.cli.installation import Installation, Say, demo_file, demo_home, operator, real_home
from regie.cli.ports import free_port
from regie.cli.running import Services, require_free_ports, serve, supervised
from regie.cli.worlds import find as find_world
from regie.cli.worlds.world import DemoTenant, Site, World
from regie.core.errors import InvalidInput
from regie.core.reach import OPERATOR
from regie.gateway.keeping import keep_secrets
from regie.settings import Settings
from regie.store import accounts
from regie.store.database import Database

TENANT = "example"
"""The demo's only tenant."""
MAIN_JOB = "identity"
"""The domain whose world the demo is in when nothing is said."""
LOOKING_AROUND = "nguyen.thao@example.com"
"""The office manager of the imaginary company: her account may see everything."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the demo installation remembers between starts: its ports, and whose world it is in."""

    web_port: int
    sandbox_port: int
    domain: str

    @classmethod
    def read(cls, file: Path) -> Remembered:
        """Read it back."""
        return cls(**json.loads(file.read_text()))


@dataclass(frozen=True)
class Extension:
    """What somebody has added to the demo, to be there in another one from its beginning.

    Attributes:
        folder: Where their domains lie, each a folder; none when there are no files of theirs.
        domains: Which ones the tenant has besides that of the world; they may use all its connections.
        roles, settings: Of the tenant, in place of the world's.
    """

    folder: Path | None = None
    domains: tuple[str, ...] = ()
    roles: Mapping[str, list[str]] = field(default_factory=dict)
    settings: Mapping[str, dict[str, Any]] = field(default_factory=dict)


NOTHING_MORE = Extension()


@asynccontextmanager
async def up_demo(
    settings: Settings, say: Say, *, domain: str = MAIN_JOB, extension: Extension = NOTHING_MORE
) -> AsyncIterator[Services]:
    """Everything of a demo installation, running until the end of the block.

    Args:
        domain: Whose world it is made in; one that is there stays in its own.
        extension: What is added to it when it is made.

    Raises:
        InvalidInput: It runs already, or is a real installation.
    """
    settings = real_home(settings)
    _refuse_real(settings)
    with Installation(settings, say).alone():
        made = world(settings, domain)
        # The imaginary world is told the port anew each time, so another one does as well.
        settings = settings.model_copy(update={"port": free_port(made.web_port), "local_accounts": True})
        installation = Installation(settings, say)
        async with supervised(installation) as supervisor:
            require_free_ports(settings)
            outside, webhook_secret = find_world(made.domain), _webhook_secret(settings)
            site = Site(settings, supervisor, TENANT, made.sandbox_port)
            addresses, _ = await asyncio.gather(
                outside.start(site, webhook_secret), asyncio.to_thread(installation.start_database)
            )
            await _write_workspace(settings, outside, await outside.tenant(addresses, webhook_secret), extension)
            async with installation.database() as database:
                release = await installation.load(database)
                await _add_accounts(settings, database, release.tenants[TENANT].roles)
                yield await serve(installation, supervisor, database, domain=made.domain, outside=addresses)


def _refuse_real(settings: Settings) -> None:
    """Refuse to make a demo of an installation that is none.

    Raises:
        InvalidInput: It is one.
    """
    home = settings.home
    if home.exists() and any(file.name != "up.lock" for file in home.iterdir()) and not demo_home(settings):
        raise InvalidInput(f"{home} holds an installation that is no demo.", hint="Set REGIE_HOME to another folder.")


def world(settings: Settings, domain: str = MAIN_JOB) -> Remembered:
    """What makes an installation a demo, written down the first time."""
    file = demo_file(settings)
    if not file.exists():
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Remembered(free_port(settings.port), free_port(), domain)
        file.write_text(json.dumps(asdict(made)))
    return Remembered.read(file)


def _webhook_secret(settings: Settings) -> str:
    """What the imaginary Jira signs with."""
    secret = settings.keys / "sandbox-webhook.secret"
    settings.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
    return secret.read_text()


async def _write_workspace(settings: Settings, outside: World, tenant: DemoTenant, extension: Extension) -> None:
    """Write the demo's tenant and vault as the imaginary world tells; later only what it says anew after each start."""
    file = settings.workspace_folder / "tenants" / f"{TENANT}.yaml"
    if file.exists():
        if tenant.moving:
            written = yaml.safe_load(file.read_text(encoding="utf-8"))
            written["connections"] |= {name: tenant.connections[name] for name in tenant.moving}
            _write(file, written)
            keep_secrets(settings.vault_file, TENANT, tenant.secrets)
        return
    keep_secrets(settings.vault_file, TENANT, tenant.secrets)
    if extension.folder:
        copy_domains(extension.folder, settings.workspace_folder / "domains")
    domains = list(dict.fromkeys((outside.domain, *extension.domains)))
    roles = {**tenant.roles, **extension.roles}
    _write(
        file,
        {
            "tenant": TENANT,
            "title": "Example Company",
            "domains": domains,
            "connections": {name: {**each, "domains": [*domains]} for name, each in tenant.connections.items()},
            "roles": roles,
            "settings": {outside.domain: tenant.settings, **extension.settings},
        },
    )
    asked = {*tenant.people, *(person for people in roles.values() for person in people), LOOKING_AROUND}
    settings.sign_ins_file.touch(mode=0o600)
    passwords = {person: secrets.token_urlsafe(12) for person in sorted(asked)}
    settings.sign_ins_file.write_text(json.dumps(passwords, indent=2))


def copy_domains(source: Path, target: Path) -> None:
    """Copy what a release is read from; whatever else lies there may be of a kind that cannot be copied."""
    for pattern in ("*/domain.yaml", "*/workflows/*.yaml"):
        for file in source.glob(pattern):
            copied = target / file.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)


def _write(file: Path, tenant: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(tenant, sort_keys=False, allow_unicode=True), encoding="utf-8")


async def _add_accounts(settings: Settings, database: Database, roles: dict[str, tuple[str, ...]]) -> None:
    """Local accounts for the people whom the demo asks, one of which may look around everywhere."""
    passwords: dict[str, str] = json.loads(settings.sign_ins_file.read_text())
    async with database.transaction() as tx:
        known = {account.address for account in await accounts.list_accounts(tx)}
        for person in passwords.keys() - known:
            held = tuple(role for role, people in roles.items() if person in people)
            if person == LOOKING_AROUND:
                held += (OPERATOR,)
            await accounts.add(
                tx,
                address=person,
                display_name=person.partition("@")[0].replace(".", " ").title(),
                password=passwords[person],
                roles=held,
                by=operator(),
                cost=accounts.OF_A_MACHINE,
            )
