"""Any name server that takes updates (RFC 2136) signed with a shared key (RFC 8945), such as Knot or BIND."""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

from abc import abstractmethod

from pydantic import JsonValue

from regie.core.capabilities import dns
from regie.core.errors import Denied, NotFound, Refused
from regie.core.plan import Change, Pending, Receipt
from regie.kit.connector import Connector, Seen, provides
from regie.kit.dns import Server
from regie.kit.one_record import OneRecord
from regie.kit.records import meant, written, zone_of

_MAY = ["update of the zone"]
_LONGEST_WAIT_S = 60.0


class _Value(OneRecord):
    """Have a value at every server of the zone, or at none. The primary takes the update and tells the others."""

    async def observe(self, want: dns.RecordValue, marker: str) -> Seen:
        return {"present": await self._is_present(want)}

    async def apply(self, want: dns.RecordValue, change: Change, marker: str) -> Receipt | Pending:
        zone = self._zone(want)
        if want.kind != "CNAME" and (aliases := await self.dns.values(want.name, "CNAME")):
            raise Refused(
                f"{want.name} stands for {min(aliases)}, so it can have no records of its own",
                status=0,
                code="alias",
                hint="Set the record there, through the connection that serves that name.",
            )
        await self._update(zone, want)
        # Nothing is asked any more: whatever fails from here on would look as if nothing had happened.
        return Pending(handle=1, again_after_s=1.0) if self.settings["servers"] else Receipt()

    async def resume(self, want: dns.RecordValue, handle: JsonValue) -> Receipt | Pending:
        if await self._is_present(want) is self.has:
            return Receipt()
        times = handle if isinstance(handle, int) else 1
        return Pending(handle=times + 1, again_after_s=min(2.0**times, _LONGEST_WAIT_S))

    @abstractmethod
    async def _update(self, zone: str, want: dns.RecordValue) -> None:
        """Have the primary make it so."""

    async def _is_present(self, want: dns.RecordValue) -> bool:
        """Whether every server has it; or, once it is taken away, whether one still does."""
        self._zone(want)
        servers = self.settings["servers"]
        others = [Server.at(str(each)) for each in servers] if isinstance(servers, list) else []
        for server in (None, *others):
            if bool(await self._like(want, server)) is not self.has:
                return not self.has
        return self.has

    async def _like(self, want: dns.RecordValue, server: Server | None = None) -> list[str]:
        """The values of the name that mean what is wanted, as the server writes them."""
        wanted = meant(want.kind, written(want.kind, want.value))
        try:
            found = await self.dns.values(want.name, want.kind, server=server)
        except NotFound as error:
            raise NotFound(f"{error.message}: it does not serve the zone of {want.name}") from None
        return [each for each in found if meant(want.kind, each) == wanted]

    def _zone(self, want: dns.RecordValue) -> str:
        zones = self.settings["zones"]
        names = [str(each) for each in zones] if isinstance(zones, list) else []
        if zone := zone_of(want.name, names):
            return zone
        raise Denied(f"{want.name} lies in none of the zones that the connection may change: {', '.join(names)}.")


class Dns(Connector):
    """A record is a value of a name."""

    @provides(dns.SET_RECORD, permissions=_MAY, undo=dns.REMOVE_RECORD)
    class SetRecord(_Value):
        """Add the value to those that the name has."""

        has = True

        async def observe(self, want: dns.RecordValue, marker: str) -> Seen:
            seen = await super().observe(want, marker)
            if want.kind == "CNAME" and not seen["present"]:
                # A server would put ours in the place of it (RFC 2136, 3.4.2.2).
                others = await self.dns.values(want.name, "CNAME") - set(await self._like(want))
                if others:
                    raise Refused(
                        f"{want.name} stands for {min(others)} already, and can stand for one name only",
                        status=0,
                        code="alias",
                    )
            return seen

        async def _update(self, zone: str, want: dns.RecordValue) -> None:
            ttl_s = self.settings["ttl_s"]
            await self.dns.update(
                zone,
                want.name,
                want.kind,
                add=[written(want.kind, want.value)],
                ttl_s=ttl_s if isinstance(ttl_s, int) else 0,
            )

    @provides(dns.REMOVE_RECORD, permissions=_MAY, undo=dns.SET_RECORD)
    class RemoveRecord(_Value):
        """Take the value away and leave the others."""

        has = False

        async def _update(self, zone: str, want: dns.RecordValue) -> None:
            there = await self._like(want)
            if there:
                await self.dns.update(zone, want.name, want.kind, remove=there)
