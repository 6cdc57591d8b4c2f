"""What every connector promises that puts certificates in place as files: one suite, with a real server for each.

A module of a connector derives a class from `Deploying` and says in a fixture `site` which server is meant.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from pydantic import JsonValue

from regie.core.capabilities.certificate import DeployedState, Deployment, KeptCertificate, KeyKind, Target
from regie.core.errors import NotFound, Refused, RegieError
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.access import Calls
from regie.kit.connector import Read, Write
from regie.kit.deployment import DeployPemFile, pem_file_of
from regie.kit.keys import Material, Part, SigningRequest
from regie.kit.local_host import LocalHost
from regie.kit.network import Network
from regie_sandbox.servers.authority import Authority, Issued
from regie_sandbox.servers.haproxy import Haproxy
from regie_sandbox.servers.nginx import Nginx
from tests.counterparts.here import HERE

from .conftest import all_connectors

NAME = "shop.example.test"
TARGET = "shop"
AUTHORITY = Authority()
SHORT = timedelta(minutes=10)
RENEWALS = 20
RESTS_S = 0.02
SHOWS_WITHIN_S = 10.0
"""Between two connections of a client where a server is to stay as it is: what breaks it then, breaks it for long."""


class Kept:
    """Certificates as the gateway keeps them; see `kit.keys.Keys`."""

    def __init__(self) -> None:
        self.issued: dict[str, Issued] = {}

    def put(self, issued: Issued) -> str:
        """Keep one; gives its reference."""
        reference = f"secret://certificates/certificate-{issued.serial}"
        self.issued[reference] = issued
        return reference

    async def resolve(self, material: Material) -> bytes:
        found = self.issued[material.certificate]
        assert material.part is Part.EVERYTHING
        return (found.chain + found.key).encode()

    async def get(self, certificate: str) -> KeptCertificate:
        if certificate not in self.issued:
            raise NotFound(f"no certificate is kept as {certificate}")
        own = x509.load_pem_x509_certificate(self.issued[certificate].chain.encode())
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return KeptCertificate(
            certificate=certificate,
            serial=f"{own.serial_number:x}",
            names=names.get_values_for_type(x509.DNSName),
            not_after=own.not_valid_after_utc,
        )

    async def with_serial(self, serial: str) -> KeptCertificate | None:
        reference = f"secret://certificates/certificate-{serial}"
        return await self.get(reference) if reference in self.issued else None

    async def request(self, order: str, names: Sequence[str], kind: KeyKind) -> SigningRequest:
        raise NotImplementedError

    async def keep(self, certificate: str, chain_pem: str, names: Sequence[str]) -> KeptCertificate:
        raise NotImplementedError

    async def reference(self, order: str) -> str:
        raise NotImplementedError

    async def thumbprint(self) -> str:
        raise NotImplementedError


@dataclass
class Site:
    """A running server, and a connection to it.

    Attributes:
        folder: Where its certificates are; `shop.pem` is the target's.
        test: The command that says whether the server could be started again.
    """

    connector: str
    port: int
    folder: Path
    config: Path
    test: tuple[str, ...]
    settings: dict[str, JsonValue]
    kept: Kept = field(default_factory=Kept)
    calls: type[Calls] = Calls

    @classmethod
    def of(cls, connector: str, server: Nginx | Haproxy, *test: str, **settings: str) -> Site:
        """The target at a running server; its program with `test` says whether it could be started."""
        folder = server.pem_file.parent
        known = {"folder": str(folder), "config": str(server.config), "program": server.program, **settings}
        made = cls(
            connector, server.port, folder, server.config, (server.program, *test, str(server.config)), {**known}
        )
        made.settings["targets"] = made.address(server.port)
        return made

    @property
    def live(self) -> Path:
        return self.folder / f"{TARGET}.pem"

    def address(self, port: int) -> dict[str, JsonValue]:
        return {TARGET: {"server_name": NAME, "address": f"127.0.0.1:{port}"}}

    def host(self, kind: type[LocalHost] = LocalHost, **settings: JsonValue) -> LocalHost:
        manifest = all_connectors()[self.connector].manifest
        assert manifest.host is not None
        effective = manifest.effective({**self.settings, **settings})
        texts = {name: str(value) for name, value in effective.items()}
        calls = self.calls(manifest.title)
        return kind(
            network=Network(calls, HERE),
            calls=calls,
            resolve=self.kept.resolve,
            folders=[texts[name] for name in manifest.host.folders],
            commands={
                name: [part.format_map(texts) for part in parts] for name, parts in manifest.host.commands.items()
            },
            sockets={name: texts[name] for name in manifest.host.sockets},
        )

    def implementation(
        self, capability: str, kind: type[LocalHost] = LocalHost, **settings: JsonValue
    ) -> Read[Any, Any] | Write[Any, Any]:
        found = all_connectors()[self.connector]
        effective = found.manifest.effective({**self.settings, **settings})
        return found.connector(self.host(kind, **settings), effective, self.kept).implementation(capability)

    async def deploy(self, certificate: str, kind: type[LocalHost] = LocalHost, **settings: JsonValue) -> DeployedState:
        """As the gateway does it: look, plan, change, look again."""
        write = self.implementation("certificate.deploy", kind, **settings)
        assert isinstance(write, Write)
        want = Deployment(target=TARGET, certificate=certificate, connection="web-1")
        seen = await write.observe(want, "")
        planned = write.plan(want, seen)
        if isinstance(planned, Change):
            receipt = await write.apply(want, planned, "")
            assert isinstance(receipt, Receipt)
            foreseen = write.gives(want, write.foreseen(planned, seen))
            until_s = time.monotonic() + SHOWS_WITHIN_S
            # Workers of nginx that go still answer for a moment, and the gateway looks more than once too.
            while not isinstance(write.plan(want, seen := await write.confirm(want, receipt, "")), NoChange):
                assert time.monotonic() < until_s, seen
                await asyncio.sleep(0.05)
            assert foreseen == write.gives(want, seen)
        state: DeployedState = write.gives(want, seen)
        return state

    async def found(self) -> DeployedState:
        read = self.implementation("certificate.find_deployed")
        assert isinstance(read, Read)
        state: DeployedState = await read.read(Target(target=TARGET, connection="web-1"))
        return state

    def could_start(self) -> bool:
        return subprocess.run(self.test, capture_output=True, check=False).returncode == 0

    def issue(self, **more: Any) -> str:
        return self.kept.put(AUTHORITY.issue([NAME], lifetime=SHORT, **more))

    def cut_off(self, executioner: subprocess.Popen[str], certificate: str, at: int) -> bool:
        """Deploy in a process that is killed before its call number `at` of the host; whether it came to that."""
        issued = {reference: [each.chain, each.key] for reference, each in self.kept.issued.items()}
        order = {
            "connector": self.connector,
            "settings": self.settings,
            "issued": issued,
            "certificate": certificate,
            "at": at,
        }
        assert executioner.stdin is not None
        assert executioner.stdout is not None
        executioner.stdin.write(json.dumps(order) + "\n")
        executioner.stdin.flush()
        ended = int(executioner.stdout.readline())
        assert ended in {0, -signal.SIGKILL}
        return ended != 0


@contextmanager
def executions() -> Iterator[subprocess.Popen[str]]:
    """Who carries out `Site.cut_off`."""
    arguments = (sys.executable, "-m", "tests.connectors.cut_off")
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()


class Client(threading.Thread):
    """Connects again and again, trusting one authority alone.

    Args:
        rest_s: Between two connections. A server that is without a certificate for a moment is met without any rest.
    """

    def __init__(self, port: int, trust: str = AUTHORITY.pem, rest_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._rest_s = rest_s
        self._context = ssl.create_default_context(cadata=trust)
        self._is_over = threading.Event()
        self.failures: list[str] = []
        self.shown: list[str] = []
        """Serials in the order in which they were met, each change once."""
        self.handshakes = 0

    def run(self) -> None:
        self._connect()
        while not self._is_over.wait(self._rest_s):
            self._connect()

    def _connect(self) -> None:
        try:
            with (
                socket.create_connection(("127.0.0.1", self._port), timeout=30) as plain,
                self._context.wrap_socket(plain, server_hostname=NAME) as secure,
            ):
                secure.sendall(b"GET / HTTP/1.1\r\nHost: shop.example.test\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: secure.recv(4096), b""))
                serial = secure.getpeercert() or {}
        except OSError as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        if not answer.startswith(b"HTTP/1.1 200"):
            self.failures.append(f"answer {answer[:80]!r}")
        self.handshakes += 1
        found = f"{int(str(serial['serialNumber']), 16):x}"
        if found not in self.shown[-2:]:
            self.shown.append(found)

    def stop(self) -> None:
        self._is_over.set()
        self.join()


@contextmanager
def clients(port: int, number: int = 2, trust: str = AUTHORITY.pem, rest_s: float = RESTS_S) -> Iterator[list[Client]]:
    """Clients for as long as the block takes; not one of their handshakes may fail."""
    made = [Client(port, trust, rest_s) for _ in range(number)]
    for each in made:
        each.start()
    try:
        yield made
    finally:
        for each in made:
            each.stop()
    assert [failure for each in made for failure in each.failures] == []
    assert all(each.handshakes for each in made)


class Deploying(ABC):
    """The suite."""

    program: ClassVar[str]

    @abstractmethod
    def serving(self, folder: Path, first: Issued) -> Iterator[Site]:
        """A server that serves the first certificate at the target."""

    def own_trial(self, folder: Path) -> Path:
        """The server's program, as somebody would run it who may do nothing but read and write the folder."""
        program = folder / "as-nobody"
        program.write_text(f'#!/bin/sh\nexec setpriv --reuid nobody --clear-groups {self.program} "$@"\n')
        program.chmod(0o755)
        return program

    @abstractmethod
    async def no_reload(self, site: Site) -> RegieError:
        """Deploy where the server cannot be told to serve something else; the error that comes of it."""

    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[Site]:
        yield from self.serving(tmp_path, AUTHORITY.issue([NAME], lifetime=SHORT))

    async def still(self, site: Site, before: DeployedState) -> None:
        """Everything is as it was, and a start would find it so."""
        until_s = time.monotonic() + 60
        # Workers of nginx that go still answer for a moment.
        while (now := await site.found()) != before and time.monotonic() < until_s:  # noqa: ASYNC110  a server
            await asyncio.sleep(0.05)
        assert now == before
        assert before.serial == before.installed
        assert site.could_start()
        assert not list(site.folder.glob(".*.fresh"))

    async def test_renewals_in_a_row_lose_no_handshake(self, site: Site) -> None:
        serials = [(await site.found()).serial]
        with clients(site.port, rest_s=0.0) as connecting:
            for _ in range(RENEWALS):
                reference = site.issue()
                state = await site.deploy(reference)
                assert state.serial == state.installed == site.kept.issued[reference].serial
                assert (state.certificate, state.connection) == (reference, "web-1")
                serials.append(state.serial)
                # On a busy machine a client may connect less often than certificates change.
                async with asyncio.timeout(60):
                    while not all(state.serial in each.shown for each in connecting):  # noqa: ASYNC110  threads
                        await asyncio.sleep(0.005)
        handshakes = sum(each.handshakes for each in connecting)
        print(f"{site.connector}: {RENEWALS} renewals, {handshakes} handshakes, none failed")  # noqa: T201  a figure to keep
        assert len(set(serials)) == RENEWALS + 1
        for each in connecting:
            assert each.shown == [serial for serial in serials if serial in each.shown]
            assert set(each.shown) >= set(serials[1:])

    async def test_the_same_again_changes_nothing(self, site: Site) -> None:
        reference = site.issue()
        await site.deploy(reference)
        at = site.live.stat().st_mtime_ns
        await site.deploy(reference)
        assert site.live.stat().st_mtime_ns == at
        assert site.live.stat().st_mode & 0o777 == 0o600

    async def test_what_was_there_before_comes_back(self, site: Site) -> None:
        before, content = await site.found(), site.live.read_bytes()
        assert before.certificate == ""
        first, second = site.issue(), site.issue()
        await site.deploy(first)
        assert (await site.found()).certificate == first
        await site.deploy(second)
        assert (await site.deploy(first)).certificate == first
        for _ in range(2):
            assert (await site.deploy("")).serial == before.serial
        assert site.live.read_bytes() == content
        assert await site.found() == before
        await site.deploy(second)
        assert (await site.deploy("")).serial == before.serial

    async def test_a_certificate_that_the_server_cannot_load_is_never_put_in_place(self, site: Site) -> None:
        before = await site.found()
        good, other = AUTHORITY.issue([NAME]), AUTHORITY.issue([NAME])
        wrong = {
            "a key that does not fit": Issued(good.chain, other.key),
            "no key": Issued(other.chain, ""),
            "a broken certificate in its chain": Issued(
                AUTHORITY.issue([NAME]).chain + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                other.key,
            ),
        }
        with clients(site.port):
            for why, issued in wrong.items():
                with pytest.raises(Refused, match="nothing was changed") as caught:
                    await site.deploy(site.kept.put(issued))
                assert caught.value.code == "not-accepted", why
                await self.still(site, before)

    async def test_trying_out_needs_no_right_beyond_the_folder(self, site: Site) -> None:
        if os.geteuid() != 0:
            pytest.skip("nobody but root can become somebody else")
        with tempfile.TemporaryDirectory(dir="/tmp") as made:
            folder = Path(made)
            program = self.own_trial(folder)
            host = site.host(trial_program=str(program), folder=made)
            write = site.implementation("certificate.deploy", trial_program=str(program), folder=made)
            assert isinstance(write, DeployPemFile)
            pem_file = pem_file_of(write.settings, TARGET)
            await host.write(pem_file.fresh, Material(site.issue(), Part.EVERYTHING), mode=0o600)
            await asyncio.to_thread(shutil.chown, pem_file.fresh, "nobody")
            await asyncio.to_thread(shutil.chown, folder, "nobody")
            await write.try_out(pem_file)

    async def test_a_certificate_for_another_name_is_not_put_in_place(self, site: Site) -> None:
        before = await site.found()
        with pytest.raises(Refused, match=r"is not for shop\.example\.test"):
            await site.deploy(site.kept.put(AUTHORITY.issue(["example.test", "*.shop.example.test"])))
        await self.still(site, before)
        await site.deploy(site.kept.put(AUTHORITY.issue(["*.example.test"])))

    async def test_a_configuration_that_fails_its_test(self, site: Site) -> None:
        await site.deploy(site.issue())
        before, content = await site.found(), site.live.read_bytes()
        configured = site.config.read_text()
        site.config.write_text(configured + "\nnonsense here\n")
        with clients(site.port), pytest.raises(Refused, match="does not pass its test") as caught:
            await site.deploy(site.issue())
        assert caught.value.code == "config-test"
        assert f"the former file is in place again and {before.serial} is served" in caught.value.message
        assert site.live.read_bytes() == content
        site.config.write_text(configured)
        await self.still(site, before)
        await site.deploy(site.issue())

    async def test_a_server_that_does_not_take_it(self, site: Site) -> None:
        before, content = await site.found(), site.live.read_bytes()
        with clients(site.port):
            error = await self.no_reload(site)
        assert f"is in place again and {before.serial} is served" in error.message
        assert site.live.read_bytes() == content
        await self.still(site, before)

    async def test_another_process_answers_at_the_address(self, site: Site, tmp_path: Path) -> None:
        before, content = await site.found(), site.live.read_bytes()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        theirs = AUTHORITY.issue([NAME])
        site.kept.put(theirs)  # kept by us as well, and still not what the file is to hold afterwards
        for other in self.serving(elsewhere, theirs):
            shown = (await other.found()).serial
            with clients(site.port), pytest.raises(Refused) as caught:
                await site.deploy(site.issue(), targets=site.address(other.port))
            assert caught.value.code == "not-served"
            assert f"127.0.0.1:{other.port} shows {shown}" in caught.value.message
            assert f"the former file is in place again and {shown} is served" in caught.value.message
        assert site.live.read_bytes() == content
        await self.still(site, before)

    async def test_killed_before_any_call_the_next_attempt_finishes(self, site: Site) -> None:
        at = 0
        with clients(site.port, 1), executions() as executioner:
            while True:
                at += 1
                reference, before = site.issue(), await site.found()
                was_cut_off = site.cut_off(executioner, reference, at)
                assert site.could_start(), f"call {at}"
                serial = (await site.found()).serial
                assert serial in {before.serial, site.kept.issued[reference].serial}
                assert (await site.deploy(reference)).serial == site.kept.issued[reference].serial
                if not was_cut_off:
                    break
                # And the same where the next one has to go back.
                bad = site.kept.put(Issued(AUTHORITY.issue([NAME]).chain, AUTHORITY.issue([NAME]).key))
                before = await site.found()
                site.cut_off(executioner, bad, at)
                assert site.could_start(), f"call {at} of one that cannot be loaded"
                with pytest.raises(Refused):
                    await site.deploy(bad)
                await self.still(site, before)
        print(f"{site.connector}: killed before each of {at - 1} calls")  # noqa: T201  a figure to keep
        assert at > 5

    async def test_a_target_that_is_not_there(self, site: Site) -> None:
        with pytest.raises(NotFound, match="no target 'shop'"):
            await site.deploy(site.issue(), targets={"other": {"server_name": NAME}})
        with pytest.raises(NotFound):
            await site.deploy("secret://certificates/certificate-none")
