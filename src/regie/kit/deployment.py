"""Certificates as files that a server reads: how one is put in place without a lost handshake or a half-written pair.

For connectors of servers that read chain and private key from one file, which takes its place by one rename. A target
`shop` is the file `shop.pem` in the connection's folder. Beside it lie `.shop.original`, the latest one that was in
place without being Regie's, and while somebody works on it `.shop.fresh`. Wherever an attempt is cut off, `shop.pem` is
a file that the server can load.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from pydantic import model_validator

from regie.core.capabilities.certificate import DeployedState, Deployment, KeptCertificate, Target
from regie.core.capability import Record
from regie.core.effect import Repeat
from regie.core.errors import NotFound, OutcomeUnknown, Refused, RegieError, Retryable, Unavailable
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.connector import Read, Seen, Settings, Write
from regie.kit.host import Host, Outcome, Stored
from regie.kit.keys import Keys, Material, Part
from regie.kit.targets import entry_of, refuse_odd_name, refuse_other_names

PRIVATE = 0o600
"""Mode of a file with a private key: its owner's alone. Servers read it as root, before they become somebody else."""
SERVED_S = 10.0
"""Seconds until a certificate must be served that a server was told to serve."""
LOOK_S = 0.1
IN_A_ROW = 3
"""Connections one after the other that must show a certificate: for a while, going and coming workers both answer."""


class TargetEntry(Record):
    """Where a target is served.

    Attributes:
        server_name: The name that is asked for (SNI); a certificate that is put in place must be for it.
        address: `HOST:PORT` as the gateway reaches it. Empty where nobody serves the file: then it counts itself.
    """

    server_name: str = ""
    address: str = ""

    @model_validator(mode="after")
    def _has_a_door(self) -> Self:
        if self.address:
            _ = self.door
        return self

    @property
    def door(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class PemFile:
    """The file of a target, chain and private key in one, and those beside it."""

    target: str
    folder: str
    entry: TargetEntry

    @property
    def live(self) -> str:
        """What the server reads."""
        return f"{self.folder}/{self.target}.pem"

    @property
    def original(self) -> str:
        """What it read before Regie came. A leading dot: HAProxy loads every other file of a folder."""
        return f"{self.folder}/.{self.target}.original"

    @property
    def fresh(self) -> str:
        """What it is to read next."""
        return f"{self.folder}/.{self.target}.fresh"

    @property
    def title(self) -> str:
        """For people."""
        named = self.entry.server_name or self.target
        return f"{named} at {self.entry.address}" if self.entry.address else f"{named} in {self.live}"


def pem_file_of(settings: Settings, target: str) -> PemFile:
    """The file of a target, after the connection's settings `folder` and `targets`.

    Raises:
        NotFound: The connection has no such target.
        Denied: Its settings cannot be used.
    """
    entry = entry_of(settings, target, TargetEntry, "{ server_name: NAME, address: HOST:PORT }")
    refuse_odd_name(target)
    return PemFile(target, str(settings["folder"]).rstrip("/"), entry)


class FindPemFile(Read[Target, DeployedState]):
    """Look what a target serves, and what its file holds."""

    async def read(self, want: Target) -> DeployedState:
        """Connect, and read the file. See `Read.read`."""
        return await _look(self.host, self.keys, pem_file_of(self.settings, want.target), want.connection)


class DeployPemFile(Write[Deployment, DeployedState]):
    """Put a certificate in place as a file, have the server serve it, and see that it does; if not, the former is back.

    What a server does of its own is in `try_out` and `serve`.
    """

    repeat = Repeat.OBSERVABLE

    async def try_out(self, pem_file: PemFile) -> None:
        """Have the server judge `pem_file.fresh` before it is put in place. By default nobody does.

        Raises:
            Refused: It cannot load it. Nothing was changed.
        """

    @abstractmethod
    async def serve(self, pem_file: PemFile) -> None:
        """Have the server serve `pem_file.live` as it is now, without losing a connection.

        Raises:
            Refused: It does not, in words that say which part failed.
        """

    async def expect(self, command: str, what: str, *, code: str) -> Outcome:
        """Run a command of the manifest that must end well.

        Args:
            what: What is wrong when it does not, as the beginning of a sentence.
            code: The same for programs.

        Raises:
            Refused: It did not end with 0.
        """
        outcome = await self.host.run(command)
        if not outcome.is_good:
            raise Refused(what, status=0, code=code, hint=f"On {self.host.name}, its command `{command}` tells why.")
        return outcome

    async def observe(self, want: Deployment, marker: str) -> Seen:  # noqa: ARG002  it needs no mark: all can be read
        """What is served, what is installed, and what the wanted certificate is. See `Write.observe`."""
        pem_file = pem_file_of(self.settings, want.target)
        wanted = await self._wanted(pem_file, want)
        state = await _look(self.host, self.keys, pem_file, want.connection)
        return {**state.model_dump(mode="json"), "wanted": wanted.serial, "wanted_not_after": _iso(wanted)}

    def plan(self, want: Deployment, seen: Seen) -> NoChange | Change:
        """Serial before and after. See `Write.plan`."""
        pem_file = pem_file_of(self.settings, want.target)
        wanted = seen["wanted"]
        # One deployment at a time in a folder: a test of the configuration judges all its files.
        target = f"certificates:{self.host.name}:{pem_file.folder}"
        if seen["serial"] == seen["installed"] == wanted:
            return self.no_change(target, f"{pem_file.title} serves {wanted} already")
        # An attempt that was cut off leaves one of the two as it was: that is the same change, with the same digest.
        before = seen["serial"] if seen["serial"] != wanted else seen["installed"]
        return self.change(target, pem_file.title, (f"serial of {pem_file.target}", before, wanted))

    async def apply(self, want: Deployment, change: Change, marker: str) -> Receipt:  # noqa: ARG002  as for observe
        """Put it in place. See `Write.apply`."""
        pem_file = pem_file_of(self.settings, want.target)
        wanted = (await self._wanted(pem_file, want)).serial
        source = await self._source(pem_file, want)
        before = await _look(self.host, self.keys, pem_file)
        was_cut_off = await certificate_in(self.host, pem_file.fresh) is not None
        await self.host.write(pem_file.fresh, source, mode=PRIVATE)
        try:
            await self.try_out(pem_file)
        except RegieError:
            await self.host.remove(pem_file.fresh)
            raise
        await self._keep_original(pem_file, before.installed, wanted)
        # A cut-off attempt may have left a file that was never served; otherwise what is served may be somebody else's.
        order = (before.serial, before.installed) if was_cut_off else (before.installed, before.serial)
        former = await self._former(pem_file, [serial for serial in order if serial not in {"", wanted}])
        await self.host.write(pem_file.live, Stored(pem_file.fresh), mode=PRIVATE)
        try:
            await self.serve(pem_file)
            await self._until_served(pem_file, wanted)
        except (Refused, Retryable, OutcomeUnknown) as error:
            raise await self._take_back(pem_file, former, before.serial, error) from error
        await self.host.remove(pem_file.fresh)
        return Receipt(remote_id=wanted)

    def foreseen(self, change: Change, seen: Seen) -> Seen:  # noqa: ARG002  all there is to see follows from the observed
        """All that is wanted. See `Write.foreseen`."""
        wanted = seen["wanted"]
        after = {"serial": wanted, "installed": wanted, "not_after": seen["wanted_not_after"]}
        return {**seen, **after}

    def gives(self, want: Deployment, seen: Seen) -> DeployedState:
        """The state, with the reference that was asked for where that is served. See `Write.gives`."""
        state = {name: seen[name] for name in DeployedState.model_fields}
        if seen["serial"] == seen["wanted"]:
            state["certificate"] = state["restore"] = want.certificate
        return DeployedState.model_validate(state)

    async def _wanted(self, pem_file: PemFile, want: Deployment) -> KeptCertificate:
        """The certificate that is to be put in place.

        Raises:
            NotFound: Nobody keeps it.
            Refused: It is for other names than the target's.
        """
        if not want.certificate:
            _, found = await self._original(pem_file)
            return KeptCertificate(
                certificate="", serial=serial_of(found), names=[], not_after=found.not_valid_after_utc
            )
        kept = await self.keys.get(want.certificate)
        refuse_other_names(kept.serial, kept.names, pem_file.entry.server_name, pem_file.target)
        return kept

    async def _source(self, pem_file: PemFile, want: Deployment) -> Material | Stored:
        if want.certificate:
            return Material(want.certificate, Part.EVERYTHING)
        return Stored((await self._original(pem_file))[0])

    async def _original(self, pem_file: PemFile) -> tuple[str, x509.Certificate]:
        """What was in place before Regie came, and its file. Where one is in place that is not Regie's, it is that."""
        for path in (pem_file.live, pem_file.original):
            found = await certificate_in(self.host, path)
            if found is not None and await self.keys.with_serial(serial_of(found)) is None:
                return path, found
        raise NotFound(f"{pem_file.title} had no certificate before Regie put one in place")

    async def _keep_original(self, pem_file: PemFile, installed: str, wanted: str) -> None:
        """Keep what is about to be replaced, if nobody else does."""
        if installed and installed != wanted and await self.keys.with_serial(installed) is None:
            await self.host.write(pem_file.original, Stored(pem_file.live), mode=PRIVATE)

    async def _former(self, pem_file: PemFile, serials: Sequence[str]) -> Material | Stored | None:
        """What comes back if this fails: the first of these certificates that somebody keeps."""
        original = await certificate_in(self.host, pem_file.original)
        for serial in serials:
            if kept := await self.keys.with_serial(serial):
                return Material(kept.certificate, Part.EVERYTHING)
            if serial_of(original) == serial:
                return Stored(pem_file.original)
        return None

    async def _until_served(self, pem_file: PemFile, serial: str) -> None:
        """Connect until a certificate is served.

        Raises:
            Refused: It is not, in time.
        """
        shown, met = "", 0
        try:
            async with asyncio.timeout(SERVED_S):
                while met < IN_A_ROW:
                    try:
                        shown = serial_of(await _served(self.host, pem_file))
                    except Unavailable:
                        shown = ""
                    met = met + 1 if shown == serial else 0
                    if not met:
                        await asyncio.sleep(LOOK_S)
        except TimeoutError:
            now = f"shows {shown}" if shown else "shows no certificate"
            raise Refused(
                f"{pem_file.entry.address} {now} and not {serial} {SERVED_S:g} s after the server took it",
                status=0,
                code="not-served",
                hint="Does another process answer there, or another part of the configuration?",
            ) from None

    async def _take_back(
        self, pem_file: PemFile, former: Material | Stored | None, serial: str, error: RegieError
    ) -> RegieError:
        """Put the former file in place again and see that it is served; the error to raise, which tells of both."""
        end = "there is no former certificate to put in place again"
        if former is not None:
            end = await self._return(pem_file, former, serial)
        message = f"{pem_file.title}: {error.message}; {end}"
        if isinstance(error, Retryable):
            return Unavailable(message, hint=error.hint)
        code = error.code if isinstance(error, Refused) else "no-answer"
        return Refused(message, status=0, code=code, hint=error.hint)

    async def _return(self, pem_file: PemFile, former: Material | Stored, serial: str) -> str:
        try:
            await self.host.write(pem_file.live, former, mode=PRIVATE)
            await self.host.remove(pem_file.fresh)
        except RegieError as error:
            return f"the former certificate cannot be put in place again, look at the host now: {error.message}"
        failed = ""
        try:
            await self.serve(pem_file)
        except RegieError as error:
            failed = f", though {error.message} with it either"
        try:
            await self._until_served(pem_file, serial)
        except RegieError as error:
            return f"the former certificate is in place again and not served, look now: {error.message}"
        return f"the former file is in place again and {serial} is served{failed}"


async def _look(host: Host, keys: Keys, pem_file: PemFile, connection: str = "") -> DeployedState:
    """What a target serves and has."""
    installed = await certificate_in(host, pem_file.live)
    served = await _served(host, pem_file)
    kept = await keys.with_serial(serial_of(served)) if served is not None else None
    reference = kept.certificate if kept is not None else ""
    return DeployedState(
        target=pem_file.target,
        connection=connection,
        serial=serial_of(served),
        certificate=reference,
        restore=reference,
        installed=serial_of(installed),
        not_after=served.not_valid_after_utc if served is not None else None,
    )


async def _served(host: Host, pem_file: PemFile) -> x509.Certificate | None:
    """What is served now; what lies in the file, where nobody serves it.

    Raises:
        Unavailable: No handshake comes about.
    """
    if not pem_file.entry.address:
        return await certificate_in(host, pem_file.live)
    name, port = pem_file.entry.door
    shown = await host.network.served_certificate(name, port, server_name=pem_file.entry.server_name)
    return x509.load_der_x509_certificate(shown)


async def certificate_in(host: Host, path: str) -> x509.Certificate | None:
    """The first certificate of a file; none when there is no file, or nothing that could be served."""
    content = await host.certificates(path)
    if not content:
        return None
    try:
        return x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        return None


def serial_of(certificate: x509.Certificate | None) -> str:
    """Lower-case hexadecimal; empty where there is no certificate."""
    return "" if certificate is None else f"{certificate.serial_number:x}"


def _iso(certificate: KeptCertificate) -> str | None:
    return certificate.not_after.isoformat() if certificate.not_after else None
