"""The places where secrets may be kept, for the suite that holds for all of them: how a test fills and breaks each."""

from __future__ import annotations

import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from regie.core.tenant import SecretRef
from regie.gateway.aws_credentials import AwsClients, AwsPlace
from regie.gateway.backends.aws import ParameterStore, SecretsManager
from regie.gateway.backends.keeper import Keeper
from regie.gateway.backends.memory import Memory
from regie.gateway.backends.mounted import InEnvironment, MountedFiles
from regie.gateway.vault import SecretBackend, SecretText, VaultFile
from regie_sandbox import keeper as imitation
from tests.counterparts.aws import REGION
from tests.counterparts.aws import Aws as Cloud
from tests.counterparts.here import HERE, NOBODYS_PORT

CLOSED = f"http://127.0.0.1:{NOBODYS_PORT}"
"""Where nobody answers."""
REMEMBER_S = 300.0
STALE_S = 3600.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Place(ABC):
    """A backend, and what it is filled from.

    Attributes:
        largest: Bytes of the largest value it takes; at least 64 kB unless the vendor says otherwise.
        has_versions: An older value can be asked for.
        can: Which troubles it can have: `denied`, `throttled`, `unreachable`.
        is_remembered: Its answers are kept for a while.
    """

    largest = 65_536
    has_versions = False
    can: frozenset[str] = frozenset({"denied", "unreachable"})
    is_remembered = False

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.backend = self.build()

    @abstractmethod
    def build(self) -> SecretBackend: ...

    @abstractmethod
    def put(self, tenant: str, reference: SecretRef, value: str) -> str:
        """Keep a value; gives what its version is called."""

    @abstractmethod
    def put_fields(self, tenant: str, reference: SecretRef, fields: Mapping[str, str]) -> None: ...

    def break_by(self, trouble: str) -> None:
        """Have whoever is asked from now on meet a trouble that it can have."""
        raise AssertionError(f"{type(self).__name__} cannot be {trouble}.")

    def asked(self) -> int:
        """How often it has been asked over the network."""
        return 0

    def memory(self) -> Memory:
        return Memory("test", remember_s=REMEMBER_S, stale_s=STALE_S, clock=self.clock)

    async def aclose(self) -> None:  # noqa: B027  most have nothing open
        """Let go of what is open."""


class InVault(Place):
    has_versions = True
    can = frozenset({"denied"})

    def __init__(self, folder: Path) -> None:
        self.vault = VaultFile.create(folder / "vault")
        self.numbers: dict[str, int] = {}
        super().__init__()

    def build(self) -> SecretBackend:
        return self.vault

    def put(self, tenant: str, reference: SecretRef, value: str) -> str:
        number = self.numbers[str(reference)] = self.numbers.get(str(reference), 0) + 1
        self.vault.put(tenant, reference, value)
        self.vault.put(tenant, reference.model_copy(update={"version": str(number)}), value)
        return str(number)

    def put_fields(self, tenant: str, reference: SecretRef, fields: Mapping[str, str]) -> None:
        for name, value in fields.items():
            self.vault.put(tenant, reference.model_copy(update={"field": name}), value)

    def break_by(self, trouble: str) -> None:
        self.vault.key_path.chmod(0o644)


class Mounted(Place):
    can = frozenset({"unreachable"}) if os.geteuid() == 0 else frozenset({"denied", "unreachable"})
    """Nobody denies root a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mounted"
        self.folder.mkdir()
        super().__init__()

    def build(self) -> SecretBackend:
        return MountedFiles(self.folder)

    def put(self, tenant: str, reference: SecretRef, value: str) -> str:
        path = self.folder / tenant / reference.domain / reference.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n", encoding="utf-8")
        return ""

    def put_fields(self, tenant: str, reference: SecretRef, fields: Mapping[str, str]) -> None:
        path = self.folder / tenant / reference.domain / reference.name
        path.mkdir(parents=True)
        for name, value in fields.items():
            (path / name).write_text(value, encoding="utf-8")

    def break_by(self, trouble: str) -> None:
        if trouble == "unreachable":
            self.folder.rename(self.folder.with_name("elsewhere"))
        else:
            for path in self.folder.rglob("*"):
                if path.is_file():
                    path.chmod(0)


class Variables(Place):
    can = frozenset()

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        super().__init__()

    def build(self) -> SecretBackend:
        return InEnvironment(lambda name: self.variables.get(name, ""))

    def put(self, tenant: str, reference: SecretRef, value: str) -> str:
        parts = (tenant, reference.domain, reference.name, *filter(None, [reference.field]))
        self.variables["__".join(part.upper().replace("-", "_") for part in parts)] = value
        return ""

    def put_fields(self, tenant: str, reference: SecretRef, fields: Mapping[str, str]) -> None:
        for name, value in fields.items():
            self.put(tenant, reference.model_copy(update={"field": name}), value)


class Clients:
    """Clients of AWS that tests share: to make one takes longer than a call."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, ...], AwsClients] = {}

    def of(self, endpoint: str, access_key: str, secret_key: str) -> AwsClients:
        async def secret(refused: SecretText | None = None) -> SecretText:
            return SecretText(secret_key)

        key = (endpoint, access_key)
        if key not in self.open:
            self.open[key] = AwsClients(AwsPlace(REGION, access_key, endpoint=endpoint), secret, HERE)
        return self.open[key]

    async def aclose(self) -> None:
        for each in self.open.values():
            await each.aclose()


class OnAws(Place):
    has_versions = True
    can = frozenset({"denied", "throttled", "unreachable"})
    is_remembered = True
    service: str
    prefix = "regie/"

    def __init__(self, cloud: Cloud, nobody: tuple[str, str], throttling: str, clients: Clients) -> None:
        self.cloud = cloud
        self.nobody = nobody
        self.throttling = throttling
        self.clients = clients
        self.keys = (cloud.access_key, cloud.secret_key)
        self.endpoint = cloud.endpoint
        self.calls = 0
        super().__init__()

    async def client(self, service: str, permissions: tuple[str, ...] = (), refused: Any = None) -> Any:
        """The client that the backend asks with: who it is may change under way."""
        self.calls += 1
        return await self.clients.of(self.endpoint, *self.keys).client(service)

    def asked(self) -> int:
        return self.calls

    def name(self, tenant: str, reference: SecretRef) -> str:
        return f"{self.prefix}{tenant}/{reference.domain}/{reference.name}"

    def put_fields(self, tenant: str, reference: SecretRef, fields: Mapping[str, str]) -> None:
        self.put(tenant, reference, json.dumps(dict(fields), ensure_ascii=False))

    def break_by(self, trouble: str) -> None:
        if trouble == "denied":
            self.keys = self.nobody
        else:
            self.endpoint = self.throttling if trouble == "throttled" else CLOSED


class InSecretsManager(OnAws):
    def build(self) -> SecretBackend:
        return SecretsManager(self.client, self.prefix, self.memory())

    def put(self, tenant: str, reference: SecretRef, value: str) -> str:
        client, name = self.cloud.client("secretsmanager"), self.name(tenant, reference)
        try:
            made = client.create_secret(Name=name, SecretString=value)
        except client.exceptions.ResourceExistsException:
            made = client.put_secret_value(SecretId=name, SecretString=value)
        return str(made["VersionId"])


class InParameterStore(OnAws):
    largest = 8192
    """Of an advanced parameter (API reference, PutParameter)."""

    def build(self) -> SecretBackend:
        return ParameterStore(self.client, self.prefix, self.memory())

    def put(self, tenant: str, reference: SecretRef, value: str) -> str:
        made = self.cloud.client("ssm").put_parameter(
            Name=f"/{self.name(tenant, reference)}",
            Value=value,
            Type="SecureString",
            Tier="Advanced",
            Overwrite=True,
        )
        return str(made["Version"])


class InKeeper(Place):
    can = frozenset({"denied", "throttled", "unreachable"})
    is_remembered = True

    def __init__(self) -> None:
        clock = Clock()
        self.keeper = imitation.Keeper(clock)
        self.is_cut_off = False
        super().__init__(clock)

    def build(self) -> SecretBackend:
        transport = httpx2.MockTransport(self._handle)
        self.own = Keeper("test", self.keeper.device(), self.memory(), transport, self.clock)
        return self.own

    def _handle(self, request: httpx2.Request) -> httpx2.Response:
        if self.is_cut_off:
            raise httpx2.ConnectError("cut off", request=request)
        return self.keeper.handle(request)

    def put(self, tenant: str, reference: SecretRef, value: str) -> str:
        return str(self.keeper.put(f"{tenant}/{reference.domain}/{reference.name}", value))

    def put_fields(self, tenant: str, reference: SecretRef, fields: Mapping[str, str]) -> None:
        self.keeper.put(f"{tenant}/{reference.domain}/{reference.name}", "whole", fields)

    def asked(self) -> int:
        return self.keeper.requests

    def break_by(self, trouble: str) -> None:
        match trouble:
            case "denied":
                self.keeper.remove_devices()
            case "throttled":
                self.keeper.limit = 0
            case _:
                self.is_cut_off = True

    async def aclose(self) -> None:
        await self.own.aclose()


@contextmanager
def slowing_down() -> Iterator[str]:
    """Have a server that answers as AWS does when it throttles (Common errors, ThrottlingException)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
