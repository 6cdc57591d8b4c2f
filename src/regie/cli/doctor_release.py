"""What `regie doctor` looks at in the workspace: faults, what is loaded, secrets, and whether connections answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from regie.cli.findings import Finding, info, ok, problem, warning
from regie.cli.installation import Installation
from regie.core.approval import APPROVE
from regie.core.definition import Definition
from regie.core.errors import DefinitionError, InvalidInput, NotFound, RegieError
from regie.core.release import Release
from regie.core.release_changes import changes_between
from regie.gateway.backends.configuration import VAULT
from regie.gateway.keeping import missing_secrets, referred_secrets
from regie.gateway_client import GatewayClient
from regie.settings import Settings, read_or_make_token

PROBE_WITHIN_S = 30.0
ROLE = "role:"
EXPRESSION = "${{"


def workspace(installation: Installation) -> tuple[Release | None, list[Finding]]:
    """The workspace as it is written now, if it can be read, and what is wrong with it."""
    folder = installation.settings.workspace_folder
    if not folder.is_dir():
        if installation.settings.workspace:
            return None, [problem("workspace", f"There is no folder {folder}.", "REGIE_WORKSPACE names it.")]
        return None, [info("workspace", f"There is no workspace in {folder} yet.", "regie demo makes one to look at")]
    try:
        release = installation.read_release()
    except DefinitionError as error:
        again = "Correct it; `regie validate` checks again."
        return None, [problem("workspace", str(fault), again) for fault in error.faults]
    except InvalidInput as error:
        return None, [problem("workspace", error.message, error.hint or "")]
    counted = f"{len(release.definitions)} workflows, {len(release.tenants)} tenants, no faults."
    return release, [ok("workspace", counted)]


def loaded(release: Release, current: Release | None) -> Finding:
    """Whether the workspace is what new runs get."""
    if current is None:
        return problem("release", "No release has been loaded.", "Load the workspace: regie release load")
    if current.digest == release.digest:
        return ok("release", f"The workspace is loaded as {release.digest[:12]}.")
    changes = "; ".join(" ".join(change.split()) for change in changes_between(current, release))
    return warning("release", f"The workspace has changed and is not loaded: {changes}.", "regie release load")


def secrets(settings: Settings, release: Release) -> Iterator[Finding]:
    """Whether every secret that a connection refers to and the vault should have is there."""
    try:
        missing = missing_secrets(settings, release)
        others = {each.place for each in referred_secrets(settings, release)} - {VAULT}
    except DefinitionError as error:
        for fault in error.faults:
            yield problem("secrets", str(fault), "Correct it; the gateway does not start with it.")
        return
    except RegieError as error:
        yield problem("secrets", error.message, error.hint or "")
        return
    for each in missing:
        message = f"The connection {each.connection} of {each.tenant} refers to {each.reference}, which is not kept."
        yield problem("secrets", message, f"regie secret put --tenant {each.tenant} {each.reference}")
    if not missing:
        count = sum(len(link.secrets) for tenant in release.tenants.values() for link in tenant.connections.values())
        yield ok("secrets", f"All {count} are in the vault.") if not others else ok("secrets", "The vault lacks none.")
    if others:
        yield info("secrets", f"Others are kept in {', '.join(sorted(others))}.", "regie secret check looks there, too")


def roles(release: Release) -> Iterator[Finding]:
    """Whether somebody holds each role that an approval asks for by its name: one that nobody holds is passed over."""
    for slug, tenant in sorted(release.tenants.items()):
        asking: dict[str, list[str]] = {}
        for name, definition in sorted(release.definitions.items()):
            for role in _roles_asked(definition) if definition.domain in tenant.domains else ():
                asking.setdefault(role, []).append(name)
        for role, workflows in sorted(asking.items()):
            if not tenant.roles.get(role):
                message = f"role:{role} is held by nobody in tenant {slug}; asked by {', '.join(workflows)}."
                yield warning("roles", message, f"Say who holds it under roles: in tenants/{slug}.yaml.")


def _roles_asked(definition: Definition) -> set[str]:
    """The roles that a workflow's approvals name; which one an expression means is known to a run only."""
    rungs = [rung.who for rung in definition.limit_ask]
    for step in definition.by_place.values():
        if step.uses == APPROVE and isinstance(ask := step.arguments.get("ask"), list):
            rungs += [str(rung.get("who")) for rung in ask if isinstance(rung, dict)]
    return {who.removeprefix(ROLE).strip() for who in rungs if who.startswith(ROLE) and EXPRESSION not in who}


async def connections(installation: Installation, release: Release) -> list[Finding]:
    """Have every connection of the current release ask its outside system something harmless, through the gateway."""
    address = installation.read_state().get("gateway")
    if not address:
        return [info("connections", "Not tried out: no gateway runs.", "regie up, then regie doctor --online")]
    places = [(slug, name) for slug, tenant in sorted(release.tenants.items()) for name in sorted(tenant.connections)]
    token = read_or_make_token(installation.settings.web_token_file)
    async with GatewayClient(address, token, timeout=PROBE_WITHIN_S) as gateway:
        return await asyncio.gather(*(_probe(gateway, *place) for place in places))


async def _probe(gateway: GatewayClient, tenant: str, name: str) -> Finding:
    where = f"connection {name} of {tenant}"
    try:
        await gateway.probe(tenant, name)
    except (InvalidInput, NotFound) as error:
        return info(where, f"Not tried out: {error.message}")
    except RegieError as error:
        return problem(
            where, error.message, error.hint or "Check its address, settings and secrets in the tenant's file."
        )
    return ok(where, "Answers, and takes our credentials.")
