"""A deploy target of the tests: a folder whose files are what it serves. Fails when it is told to."""

from __future__ import annotations

from regie.core.capabilities import certificate
from regie.core.effect import Repeat
from regie.core.errors import Refused
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.connector import Connector, Read, Seen, Write, provides
from regie.kit.discovery import Found
from regie.kit.host import Host
from regie.kit.keys import Keys, Material, Part
from regie.kit.manifest import HostRules, Manifest, Nobody, Quality, Setting


async def _deployed(host: Host, keys: Keys, folder: str, target: str) -> Seen:
    found = await host.read(f"{folder}/{target}.serial")
    serial = (found or b"").decode()
    kept = await keys.with_serial(serial) if serial else None
    return {
        "serial": serial,
        "certificate": kept.certificate if kept else "",
    }


class Shelf(Connector):
    """Each target is three files."""

    @provides(certificate.FIND_DEPLOYED, permissions=["write"])
    class FindDeployed(Read[certificate.Target, certificate.DeployedState]):
        """Look what lies there."""

        async def read(self, want: certificate.Target) -> certificate.DeployedState:
            seen = await _deployed(self.host, self.keys, str(self.settings["folder"]), want.target)
            return certificate.DeployedState(
                target=want.target,
                connection=want.connection,
                serial=str(seen["serial"]),
                certificate=str(seen["certificate"]),
                restore=str(seen["certificate"]),
            )

    @provides(certificate.DEPLOY, permissions=["write"], undo=certificate.DEPLOY)
    class Deploy(Write[certificate.Deployment, certificate.DeployedState]):
        """Lay it there."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: certificate.Deployment, marker: str) -> Seen:
            kept = await self.keys.get(want.certificate)
            seen = await _deployed(self.host, self.keys, str(self.settings["folder"]), want.target)
            return {**seen, "wanted": kept.serial}

        def plan(self, want: certificate.Deployment, seen: Seen) -> NoChange | Change:
            target = f"target:{want.target}"
            if seen["serial"] == seen["wanted"]:
                return self.no_change(target, "it serves that certificate")
            return self.change(target, f"Certificate of {want.target}", ("serial", seen["serial"], seen["wanted"]))

        async def apply(self, want: certificate.Deployment, change: Change, marker: str) -> Receipt:
            place = f"{self.settings['folder']}/{want.target}"
            if await self.host.read(f"{place}.broken") is not None:
                raise Refused("the shelf does not take it", status=500)
            await self.host.write(f"{place}.pem", Material(want.certificate, Part.CHAIN))
            await self.host.write(f"{place}.key", Material(want.certificate, Part.PRIVATE_KEY), mode=0o600)
            await self.host.write(f"{place}.serial", str((await self.keys.get(want.certificate)).serial).encode())
            log = await self.host.read(f"{place}.log") or b""
            await self.host.write(f"{place}.log", log, b"deployed\n")
            return Receipt()

        def gives(self, want: certificate.Deployment, seen: Seen) -> certificate.DeployedState:
            return certificate.DeployedState(
                target=want.target,
                connection=want.connection,
                serial=str(seen["serial"]),
                certificate=want.certificate,
                restore=want.certificate,
            )


FOUND = Found(
    "shelf",
    Shelf,
    Manifest(
        name="shelf",
        title="Shelf",
        docs="https://shelf.example.test",
        owner="team:implementation",
        quality=Quality(level="bronze", rules={}),
        access="host",
        authentication=Nobody(kind="nobody"),
        host=HostRules(folders=("folder",)),
        settings={"folder": Setting(about="Where it is.", example="/srv/shelf")},
        secrets={},
        permissions=("write",),
        limits=(),
    ),
)
