"""The shape of a connector: one class per vendor, and in it one class per capability it provides.

Authors derive from `Connector`, `Read` and `Write`; the gateway constructs a connector per connection, asks it for an
implementation and drives observe, plan, apply and confirm. Retries, secrets and the audit log are the gateway's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from pydantic import JsonValue

from regie.core.capability import AnyCapability, Capability, Effect, Record
from regie.core.effect import Repeat
from regie.core.errors import Denied, InvalidInput, Terminal
from regie.core.plan import Change, FieldChange, NoChange, Pending, Receipt
from regie.kit.access import Access
from regie.kit.aws import Aws
from regie.kit.dns import Dns
from regie.kit.host import Host
from regie.kit.inbound import InboundEvent
from regie.kit.keys import Keys
from regie.kit.network import Network
from regie.kit.session import Session
from regie.kit.tls.looking import Tls

Want = TypeVar("Want", bound=Record)
Gives = TypeVar("Gives", bound=Record)

Seen = Mapping[str, JsonValue]
"""What a write observed: a flat JSON object, as exact as the vendor tells it."""

Settings = Mapping[str, JsonValue]
"""A connection's settings, checked against the manifest and with its defaults filled in."""


Way = TypeVar("Way")


class Implementation(Generic[Want, Gives]):
    """One connector's way of doing one capability, with the access and the settings of one connection.

    The manifest says which kind of access that is; the property of its name gives it.
    """

    capability: ClassVar[AnyCapability]
    """Set by `provides`."""

    def __init__(self, access: Access, settings: Settings, keys: Keys | None = None) -> None:
        self._access = access
        self._keys = keys
        self.settings = settings

    @property
    def session(self) -> Session:
        """HTTP, authenticated."""
        return self._as(Session)

    @property
    def aws(self) -> Aws:
        """AWS, with the connection's credentials."""
        return self._as(Aws)

    @property
    def dns(self) -> Dns:
        """Name servers, with the connection's key."""
        return self._as(Dns)

    @property
    def host(self) -> Host:
        """Files and commands of a host."""
        return self._as(Host)  # type: ignore[type-abstract]  # only looked at, never constructed

    @property
    def network(self) -> Network:
        """Connections to anywhere."""
        return self._as(Network)

    @property
    def tls(self) -> Tls:
        """Looks at TLS servers and certificate files."""
        return self._as(Tls)

    @property
    def keys(self) -> Keys:
        """Private keys and certificates, which stay on the gateway's side."""
        if self._keys is None:
            raise Terminal(f"{self.capability.name} is used where no keys are kept")
        return self._keys

    def _as(self, kind: type[Way]) -> Way:
        if not isinstance(self._access, kind):
            raise TypeError(f"{self.capability.name} has {type(self._access).__name__}; say in the manifest: access")
        return self._access


class Read(Implementation[Want, Gives], ABC):
    """A capability that only looks."""

    @abstractmethod
    async def read(self, want: Want) -> Gives:
        """Look it up. Raises the errors that the session maps, and NotFound in words a person understands."""


class Write(Implementation[Want, Gives], ABC):
    """A capability that changes at most one thing, in parts that can be shown, signed and repeated.

    Attributes:
        repeat: How it may happen again when nobody knows whether it happened.
        settle_s: Seconds after an apply during which `observe` may not show it yet. Longer than 0 only where a repeat
            would do harm, for so long waits who settles an unknown outcome.
    """

    repeat: ClassVar[Repeat]
    settle_s: ClassVar[float] = 0.0

    @abstractmethod
    async def observe(self, want: Want, marker: str) -> Seen:
        """Read the part of the world that this is about, changing nothing.

        Args:
            want: What is asked for.
            marker: Our mark for this effect: a write of class `marker` looks for it.

        Raises:
            NotFound: What the change is about does not exist.
        """

    @abstractmethod
    def plan(self, want: Want, seen: Seen) -> NoChange | Change:
        """Compare what is wanted with what is there. Pure: the same arguments give the same plan."""

    @abstractmethod
    async def apply(self, want: Want, change: Change, marker: str) -> Receipt | Pending:
        """Make the change.

        Raises:
            OutcomeUnknown: It may have happened.
        """

    async def resume(self, want: Want, handle: JsonValue) -> Receipt | Pending:  # noqa: ARG002  for those who override
        """Ask again about a change that was accepted but not finished. Only a write that answers `Pending` has this."""
        raise Terminal(f"{self.capability.name} finishes at once, so there is nothing to ask again about")

    async def confirm(self, want: Want, receipt: Receipt, marker: str) -> Seen:  # noqa: ARG002  for those who override
        """Read back after a receipt; by default an observation like the first one.

        Vendors answer from replicas, so the gateway asks a few times before it believes that nothing shows.
        """
        return await self.observe(want, marker)

    def foreseen(self, change: Change, seen: Seen) -> Seen:
        """What would be observed after the change; what a dry run works on with."""
        return {**seen, **{part.field: part.after for part in change.fields}}

    @abstractmethod
    def gives(self, want: Want, seen: Seen) -> Gives:
        """The answer that an observed, confirmed or foreseen state amounts to."""

    async def observe_patiently(self, want: Want, marker: str, pause: Callable[[float], Awaitable[None]]) -> Seen:
        """Settle an unknown outcome: observe until it shows, or until it would have shown had it happened.

        Args:
            want: What is asked for.
            marker: Our mark for this effect.
            pause: Waits so many seconds.
        """
        waited, wait = 0.0, 0.5
        seen = await self.observe(want, marker)
        while waited < self.settle_s and isinstance(self.plan(want, seen), Change):
            wait = min(wait, self.settle_s - waited)
            await pause(wait)
            waited, wait = waited + wait, wait * 2
            seen = await self.observe(want, marker)
        return seen

    def no_change(self, target: str, because: str) -> NoChange:
        """A plan to leave things as they are."""
        return NoChange(capability=self.capability.name, target=target, because=because)

    def change(self, target: str, title: str, *fields: tuple[str, JsonValue, JsonValue]) -> Change:
        """A plan to change fields, each given as name, before and after."""
        parts = tuple(FieldChange(field=name, before=before, after=after) for name, before, after in fields)
        return Change(capability=self.capability.name, target=target, title=title, fields=parts)


@dataclass(frozen=True, slots=True)
class Provided:
    """One capability as one connector provides it.

    Attributes:
        capability: What is provided.
        permissions: What the connection's account must be allowed at the vendor, in the vendor's words.
        repeat: How a write may repeat; none for a read.
        undo: The capability that undoes a write, where one does.
        implementation: The class that does it.
    """

    capability: AnyCapability
    permissions: tuple[str, ...]
    repeat: Repeat | None
    undo: AnyCapability | None
    implementation: type[Read[Any, Any] | Write[Any, Any]]


_MARK = "_regie_provided"


def provides(
    capability: Capability[Want, Gives],
    *,
    permissions: list[str],
    undo: Capability[Any, Any] | None = None,
) -> Callable[[type[Read[Want, Gives] | Write[Want, Gives]]], Any]:
    """Declare that a class nested in a connector does a capability.

    Args:
        capability: What it does; a read needs a `Read`, everything else a `Write`.
        permissions: What the account must be allowed at the vendor, least privilege, in the vendor's words.
        undo: The capability that undoes it.

    Raises:
        TypeError: Shape, permissions, repeat class or docstring are missing or do not fit the capability.
    """

    def declare(implementation: type[Read[Want, Gives] | Write[Want, Gives]]) -> Any:
        name = f"{implementation.__qualname__} ({capability.name})"
        is_read = capability.effect is Effect.READ
        if not issubclass(implementation, Read if is_read else Write):
            raise TypeError(f"{name} is {capability.effect}, so it derives from {'Read' if is_read else 'Write'}")
        if not permissions:
            raise TypeError(f"{name} names no permission of the vendor")
        if not implementation.__doc__:
            raise TypeError(f"{name} has no docstring")
        repeat = None if is_read else getattr(implementation, "repeat", None)
        if not is_read and not isinstance(repeat, Repeat):
            raise TypeError(f"{name} does not say how it may repeat")
        # The registry forgets the record types; the gateway checks them against the capability at run time.
        known = cast("AnyCapability", capability)
        implementation.capability = known
        found = Provided(known, tuple(permissions), repeat, cast("AnyCapability | None", undo), implementation)
        setattr(implementation, _MARK, found)
        return implementation

    return declare


def provided(connector: type[Connector]) -> Mapping[str, Provided]:
    """What a connector provides, by capability name, sorted.

    Raises:
        TypeError: Two of its classes provide the same capability.
    """
    found: dict[str, Provided] = {}
    for member in vars(connector).values():
        # `vars`, so that a class derived from a provided one does not inherit the declaration.
        entry = vars(member).get(_MARK) if isinstance(member, type) else None
        if isinstance(entry, Provided):
            if entry.capability.name in found:
                raise TypeError(f"{connector.__name__} provides {entry.capability.name} twice")
            found[entry.capability.name] = entry
    return dict(sorted(found.items()))


class Connector:
    """One vendor's API for one connection.

    Args:
        access: Authenticated, by the gateway, of the kind that the manifest names.
        settings: The connection's settings with the manifest's defaults filled in.
        keys: The keys and certificates that it may use without seeing them.
    """

    def __init__(self, access: Access, settings: Settings, keys: Keys | None = None) -> None:
        self.access = access
        self._settings = settings
        self._keys = keys

    def implementation(self, capability: str) -> Read[Any, Any] | Write[Any, Any]:
        """The way this connection does a capability.

        Raises:
            Denied: The connector does not provide it.
        """
        found = provided(type(self)).get(capability)
        if found is None:
            raise Denied(f"the connector {type(self).__name__} does not provide {capability}")
        return found.implementation(self.access.needing(found.permissions), self._settings, self._keys)

    @property
    def session(self) -> Session:
        """HTTP, authenticated.

        Raises:
            InvalidInput: Its vendor is reached in another way.
        """
        if not isinstance(self.access, Session):
            raise InvalidInput(f"The connector {type(self).__name__} is not asked over HTTP.")
        return self.access

    async def probe(self, path: str) -> None:
        """Ask the one harmless question that the manifest names; for vendors that say no with a yes, to override.

        Raises:
            InvalidInput: Its vendor is not asked over HTTP.
            RegieError: What `Session.get` raises.
        """
        await self.session.get(path, accept={404})

    @classmethod
    def inbound(cls, settings: Settings, payload: JsonValue) -> InboundEvent:  # noqa: ARG003  for those who override
        """Say in our words what a webhook of this vendor announces. Pure; the signature was checked before.

        Raises:
            InvalidInput: It announces something that we act on, and cannot be read.
        """
        return InboundEvent(kind="ignored", event="", reason=f"{cls.__name__} takes no webhooks")
