"""A folder on another machine, over SFTP: certificate, chain and key as files. Only the gateway constructs it.

Contract: draft-ietf-secsh-filexfer-02 with OpenSSH's `posix-rename`, `fsync` and `statvfs` (its file PROTOCOL, 4).

A target `shop` is a link in the folder. It leads to `.shop.a` or `.shop.b`, folders with the files; the other one is
filled, compared and then linked to by one rename. So the three files change at once, and whoever has followed the link
before keeps a whole set until the next deployment. What the link led to before Regie came is never touched: a second
link, `.shop.original`, keeps its place.
"""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regie.core.capabilities.certificate import (
    DEPLOY,
    FIND_DEPLOYED,
    NOTHING,
    DeployedState,
    Deployment,
    Target,
)
from regie.core.capability import Record
from regie.core.effect import Repeat
from regie.core.errors import NotFound, Refused
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.connector import Connector, Read, Seen, Settings, Write, provides
from regie.kit.deployment import certificate_in, serial_of
from regie.kit.host import Host
from regie.kit.keys import Keys, Material, Part
from regie.kit.targets import entry_of, refuse_odd_name, refuse_other_names

LOOKING = ["read FOLDER/*"]
PUTTING = [*LOOKING, "write FOLDER/*"]
CHAIN = "chain.pem"
PUBLIC: Mapping[str, Part] = {"certificate.pem": Part.CERTIFICATE, CHAIN: Part.CHAIN}
KEY = "key.pem"
FILES: Mapping[str, Part] = {**PUBLIC, KEY: Part.PRIVATE_KEY}


class TargetEntry(Record):
    """What a target is for.

    Attributes:
        server_name: The name that a certificate which is put in place must be for.
        group_reads: Whether the group of the key's file reads it too; else its owner alone does.
    """

    server_name: str = ""
    group_reads: bool = False


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a target is: its link, and what lies beside it."""

    target: str
    folder: str
    entry: TargetEntry

    @property
    def live(self) -> str:
        """The link that others follow."""
        return f"{self.folder}/{self.target}"

    @property
    def original(self) -> str:
        """A link to what was in place before Regie came."""
        return f"{self.folder}/.{self.target}.original"

    @property
    def slots(self) -> tuple[str, str]:
        """The folders that are Regie's, as links name them."""
        return f".{self.target}.a", f".{self.target}.b"

    def file(self, slot: str, name: str) -> str:
        """A file of a slot."""
        return f"{self.folder}/{slot}/{name}"

    def mode(self, name: str) -> int:
        """Who may read a file."""
        if name != KEY:
            return 0o644
        return 0o640 if self.entry.group_reads else 0o600


def _spot(settings: Settings, target: str) -> Spot:
    entry = entry_of(settings, target, TargetEntry, "{ server_name: NAME, group_reads: true or false }")
    refuse_odd_name(target)
    return Spot(target, str(settings["folder"]).rstrip("/"), entry)


class Sftp(Connector):
    """A target is a link to a folder with three files."""

    @provides(FIND_DEPLOYED, permissions=LOOKING)
    class FindDeployed(Read[Target, DeployedState]):
        """Look which certificate lies in the folder for a target."""

        async def read(self, want: Target) -> DeployedState:
            spot = _spot(self.settings, want.target)
            return await _look(self.host, self.keys, spot, await self.host.leads_to(spot.live), want.connection)

    @provides(DEPLOY, permissions=PUTTING, undo=DEPLOY)
    class Deploy(Write[Deployment, DeployedState]):
        """Put certificate, chain and key in place together. An empty certificate means what was there before Regie."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: Deployment, marker: str) -> Seen:
            spot = _spot(self.settings, want.target)
            link = await self.host.leads_to(spot.live)
            state = await _look(self.host, self.keys, spot, link, want.connection)
            return {
                **state.model_dump(mode="json"),
                "before": state.serial or link or NOTHING,
                **await self._wanted(spot, want, state, link),
            }

        def plan(self, want: Deployment, seen: Seen) -> NoChange | Change:
            spot = _spot(self.settings, want.target)
            title = f"{spot.entry.server_name or want.target} in {spot.live} on {self.host.name}"
            target = f"certificates:{self.host.name}:{spot.live}"
            if seen["is_there"]:
                return self.no_change(target, f"{title} is as wanted already")
            if seen["before"] == seen["wanted"]:
                return self.change(target, title, (f"files of {want.target}", "altered", "as kept"))
            return self.change(target, title, (f"serial of {want.target}", seen["before"], seen["wanted"]))

        async def apply(self, want: Deployment, change: Change, marker: str) -> Receipt:
            spot = _spot(self.settings, want.target)
            link = await self.host.leads_to(spot.live)
            if want.certificate in {"", NOTHING}:
                await self._leave(spot, want, link)
                return Receipt()
            slot = next(each for each in spot.slots if each != link)
            await self.host.make_folder(f"{spot.folder}/{slot}")
            for name, part in FILES.items():
                await self.host.write(spot.file(slot, name), Material(want.certificate, part), mode=spot.mode(name))
            if self._compares and (wrong := await self._differing(spot, slot, want.certificate)):
                raise Refused(
                    f"{spot.file(slot, wrong)} on {self.host.name} does not hold what was written into it, and nothing "
                    "was changed",
                    status=0,
                    code="not-as-written",
                    hint="Does somebody else write there?",
                )
            await self._keep_original(spot, link)
            await self.host.point(spot.live, slot)
            return Receipt()

        def foreseen(self, change: Change, seen: Seen) -> Seen:
            certificate = {"certificate": seen["wanted_certificate"], "restore": seen["wanted_restore"]}
            serial = {"serial": seen["wanted_serial"], "installed": seen["wanted_serial"]}
            return {**seen, **serial, **certificate, "not_after": seen["wanted_not_after"], "is_there": True}

        def gives(self, want: Deployment, seen: Seen) -> DeployedState:
            return DeployedState.model_validate({name: seen[name] for name in DeployedState.model_fields})

        @property
        def _compares(self) -> bool:
            return bool(self.settings["read_back"])

        async def _wanted(
            self, spot: Spot, want: Deployment, state: DeployedState, link: str | None
        ) -> dict[str, str | bool | None]:
            """What is to be in place, and whether it is.

            Raises:
                NotFound: Nobody keeps it.
                Refused: It is for other names than the target's.
            """
            if want.certificate == NOTHING:
                nothing = DeployedState(target=want.target, serial="", restore=NOTHING)
                return _wanting(nothing, NOTHING, is_there=link is None)
            if not want.certificate:
                original = link if link not in {None, *spot.slots} else await self.host.leads_to(spot.original)
                if original is None:
                    raise NotFound(
                        f"there was nothing at {spot.live} before Regie put something there",
                        hint=f"certificate.find_deployed tells it beforehand, as `restore`; here: {NOTHING}",
                    )
                found = await _look(self.host, self.keys, spot, original, "")
                return _wanting(found, found.serial or original, is_there=link == original)
            kept = await self.keys.get(want.certificate)
            refuse_other_names(kept.serial, kept.names, spot.entry.server_name, spot.target)
            is_there = link in spot.slots and state.serial == kept.serial
            if is_there and self._compares:
                is_there = await self._differing(spot, str(link), want.certificate) is None
            wanted = DeployedState(
                target=want.target,
                serial=kept.serial,
                certificate=want.certificate,
                restore=want.certificate,
                not_after=kept.not_after,
            )
            return _wanting(wanted, kept.serial, is_there=is_there)

        async def _differing(self, spot: Spot, slot: str, certificate: str) -> str | None:
            """The first file of a slot that does not hold its part of a certificate; none when all do."""
            for name, part in FILES.items():
                if not await self.host.holds(spot.file(slot, name), Material(certificate, part)):
                    return name
            return None

        async def _keep_original(self, spot: Spot, link: str | None) -> None:
            """Note where somebody else's link leads that is about to be replaced."""
            if link is not None and link not in spot.slots:
                await self.host.point(spot.original, link)

        async def _leave(self, spot: Spot, want: Deployment, link: str | None) -> None:
            """Have nothing there, or what was there before; and no key of ours."""
            await self._keep_original(spot, link)
            original = await self.host.leads_to(spot.original)
            if want.certificate == NOTHING or original is None:
                await self.host.remove(spot.live)
            else:
                await self.host.point(spot.live, original)
            for slot in spot.slots:
                for name in FILES:
                    await self.host.remove(spot.file(slot, name))


def _wanting(wanted: DeployedState, name: str, *, is_there: bool) -> dict[str, str | bool | None]:
    """What is wanted, for `plan` and `foreseen`. `name` is what people read of it."""
    return {
        "wanted": name,
        "wanted_serial": wanted.serial,
        "wanted_certificate": wanted.certificate,
        "wanted_restore": wanted.restore,
        "wanted_not_after": wanted.not_after.isoformat() if wanted.not_after else None,
        "is_there": is_there,
    }


async def _look(host: Host, keys: Keys, spot: Spot, link: str | None, connection: str) -> DeployedState:
    """What lies where a link leads."""
    if link is None:
        return DeployedState(target=spot.target, connection=connection, serial="", restore=NOTHING)
    folder = link if link.startswith("/") else f"{spot.folder}/{link}"
    found = await certificate_in(host, f"{folder}/{CHAIN}")
    serial = serial_of(found)
    kept = await keys.with_serial(serial) if serial and link in spot.slots else None
    reference = kept.certificate if kept else ""
    return DeployedState(
        target=spot.target,
        connection=connection,
        serial=serial,
        installed=serial,
        certificate=reference,
        restore=reference,
        not_after=found.not_valid_after_utc if found else None,
    )
