"""Only the gateway needs a route to vendors: the others do their work with the database and the gateway alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn

from regie.core.definition import Definition
from regie.core.status import RunStatus
from regie.core.tenant import SecretRef
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.gateway.app import make_gateway
from regie.gateway.identify import Callers, worker_of
from regie.gateway.vault import VaultFile
from regie.settings import Settings, read_or_make_token
from regie.store import releases, runs
from regie.store.database import Database
from regie_sandbox.servers.process import NotInstalled
from tests.gateway.stage import OPERATOR, connection, release_of, step
from tests.gateway.vendor import CANARY, FOUND, Vendor

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("apart.py")
DEFINITION = Definition(
    workflow="identity.tell",
    title="Tell",
    owner="team:implementation",
    steps=(step("say", "ticket.comment", arguments={"ticket": "ITSM-1", "text": "from afar"}),),
)
NOWHERE = "192.0.2.1"
"""An address that is routed on no network (RFC 5737)."""


def in_a_namespace() -> Sequence[str]:
    """The beginning of a command that runs apart from every network.

    Raises:
        NotInstalled: This machine does not permit it.
    """
    unshare = shutil.which("unshare")
    command = [unshare or "unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if unshare is None or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        raise NotInstalled("Network namespaces are not permitted here; as root, with util-linux, they are.")
    return command


@asynccontextmanager
async def passed_on(way_in: Path, port: int) -> AsyncIterator[None]:
    """What comes through a socket in a folder goes to a port of this machine."""

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65_536):
                sink.write(piece)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    async with await asyncio.start_unix_server(serve, way_in):
        yield


@asynccontextmanager
async def served(app: object, door: socket.socket) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))  # type: ignore[arg-type]  # any ASGI application
    running = asyncio.create_task(server.serve(sockets=[door]))
    try:
        yield
    finally:
        server.should_exit = True
        await running


async def test_a_run_that_changes_something_outside_needs_no_route_but_the_gateways(
    database: Database, gateway_database: Database, url_of: Callable[[str], str], tmp_path: Path
) -> None:
    command = in_a_namespace()
    settings, vendor = Settings(home=tmp_path), Vendor()
    token = read_or_make_token(settings.worker_token_file("identity"))
    read_or_make_token(settings.web_token_file)
    vault = VaultFile.create(settings.vault_file)
    vault.put("acme", SecretRef(domain="identity", name="toy", field="client_secret"), CANARY)
    gateway = make_gateway(
        gateway_database,
        vault,
        Callers(lambda: {worker_of("identity"): token}),
        connectors={"toy": FOUND},
        transport_for=lambda _: httpx2.MockTransport(vendor.handle),
    )
    async with database.transaction() as tx:
        await releases.put(tx, release_of({"desk": connection()}, DEFINITION), by=OPERATOR)
    async with AsyncExitStack() as stack:
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        # The database is reached through a socket in a folder, which is there in every namespace.
        ports = (door.getsockname()[1],)
        await stack.enter_async_context(served(gateway, door))
        for port in ports:
            await stack.enter_async_context(passed_on(tmp_path / str(port), port))
        shared = {"home": str(settings.home), "gateway_url": f"http://127.0.0.1:{ports[0]}", "port": "0"}
        own: dict[str, dict[str, str]] = {
            "regie.worker --domain identity": {"database_url": url_of("worker-identity")},
            "regie.web": {"database_url": url_of("web")},
            "regie.notary": {"database_url": "", "notary_database_url": url_of("notary")},
        }
        asked = {
            "ports": ports,
            "folder": str(tmp_path),
            "probes": [(NOWHERE, 443), ("127.0.0.1", other.getsockname()[1]), *(("127.0.0.1", port) for port in ports)],
            "processes": [
                {
                    "command": program.split(),
                    "environment": {f"REGIE_{k.upper()}": v for k, v in {**shared, **more}.items()},
                }
                for program, more in own.items()
            ],
        }
        apart = await asyncio.create_subprocess_exec(
            *command,
            sys.executable,
            str(PROGRAM),
            json.dumps(asked),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert apart.stdin is not None
        assert apart.stdout is not None
        try:
            async with asyncio.timeout(120):
                said = json.loads(await apart.stdout.readline())
                request = StartRequest(
                    tenant="acme", workflow=DEFINITION.workflow, trigger_key="t", started_by=OPERATOR
                )
                key = (await PostgresEngine(database).start(request)).key
                while True:
                    async with database.reading() as reading:
                        row = await runs.get(reading, key)
                    if row is not None and row.status.is_final:
                        break
                    await asyncio.sleep(0.05)
        finally:
            apart.stdin.close()
            await apart.wait()
    assert all(json.loads(line)["ready"] for line in said["ready"]), said
    reached = [f"127.0.0.1:{port}" for port in ports]
    assert {place for place, came in said["probes"].items() if came == "reached"} == {*reached}, said["probes"]
    assert row.status is RunStatus.DONE
    assert [each["text"] for each in vendor.comments] == ["from afar"]
