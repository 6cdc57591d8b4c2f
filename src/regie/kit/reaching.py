"""Where a connection may go, and getting there: the one place where the gateway decides about addresses.

What comes from customers' files, lists and certificates is not trusted: without permission in the connection's
configuration only addresses of the public internet are reached (against server-side request forgery). It is decided
after resolution, so it does not matter how an address is written, and whoever connects does so to the very address that
was looked at, so it does not matter what a name leads to a moment later.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from regie.core.errors import Denied, RegieError, Unavailable
from regie.core.server_name import Address, as_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LookUp = Callable[[str], Awaitable[list[str]]]
"""A host name to its addresses, as texts; OSError when there are none."""

MOST_ADDRESSES = 4
"""Addresses of one name that are tried, one after the other, within one time limit."""

_NEVER = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128"),
        # Of Alibaba Cloud, and Azure's WireServer, which is a public address (learn.microsoft.com/azure/virtual-network
        # /what-is-ip-address-168-63-129-16).
        *("100.100.100.200/32", "168.63.129.16/32"),
    )
)
"""Where clouds tell a machine its own credentials, and what else is on its wire. No configuration opens them."""
_ENDING_IN_IPV4 = tuple(ipaddress.ip_network(each) for each in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48"))
"""Of IPv6, where an address of IPv4 stands at the end (RFC 4291, 2.5.5.1; RFC 6052, 2.1; RFC 8215)."""
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(each)
    for each in (
        # Of these `is_global` of Python 3.11 takes some or all for public: IANA's registries of special addresses,
        # read on 2026-11-29 (iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry).
        *(
            "0.0.0.0/8",
            "100.64.0.0/10",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
        *("::/96", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10", "ff00::/8"),
        # These hold an IPv4 address that a router on the way would send to: NAT64, 6to4, Teredo, ISATAP's kin.
        *("64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16"),
    )
)


class Unreached(Exception):
    """No connection came about. `cause`: `dns`, `not_allowed`, `refused`, `timeout`, `reset`, `closed`, `network`."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


def told(error: Unreached, where: str) -> RegieError:
    """What to say when a host of a connection was not reached."""
    if error.cause == "not_allowed":
        return Denied(
            f"{where} leads to no address that the connection may reach.",
            hint="A private network is reached only when the connection names it: reach: [10.20.0.0/16].",
        )
    causes = {
        "dns": "its name leads nowhere",
        "refused": "nobody listens there",
        "timeout": "it does not answer in time",
    }
    return Unavailable(f"{where} cannot be reached: {causes.get(error.cause, error.cause)}")


class Dialler:
    """Opens connections to where they may go.

    Args:
        allowed: Networks that may be reached besides the public internet.
        with_public: Whether the public internet may be.
        look_up: Asks for addresses; the machine's own way unless said otherwise.
    """

    def __init__(
        self, allowed: Iterable[Network] = (), *, with_public: bool = True, look_up: LookUp | None = None
    ) -> None:
        self._allowed = tuple(allowed)
        self._with_public = with_public
        self._look_up = look_up or ask_the_machine

    def in_clear(self) -> Dialler:
        """Where one may go without TLS: only to networks that are named."""
        return Dialler(self._allowed, with_public=False, look_up=self._look_up)

    async def addresses(self, host: str) -> list[Address]:
        """The addresses of a host that may be reached, in the order they should be tried.

        Raises:
            Unreached: `dns` or `not_allowed`.
        """
        address = as_address(host)
        try:
            found = [address] if address else [as_address(each) for each in await self._look_up(host)]
        except (OSError, UnicodeError):
            raise Unreached("dns") from None
        return self._permitted(found)

    def addresses_now(self, host: str) -> list[Address]:
        """The same in a thread that may wait, the machine's own way.

        Raises:
            Unreached: `dns` or `not_allowed`.
        """
        address = as_address(host)
        try:
            found = [address] if address else [as_address(each) for each in _resolved(host)]
        except (OSError, UnicodeError):
            raise Unreached("dns") from None
        return self._permitted(found)

    def _permitted(self, found: Iterable[Address | None]) -> list[Address]:
        known = list(dict.fromkeys(each for each in found if each is not None))
        if not known:
            raise Unreached("dns")
        permitted = [each for each in known if self.may_reach(each)]
        if not permitted:
            raise Unreached("not_allowed")
        return permitted[:MOST_ADDRESSES]

    def may_reach(self, address: Address) -> bool:
        """Whether an address is public or in a network that is allowed."""
        plain = getattr(address, "ipv4_mapped", None) or address
        if any(each in network for each in (plain, *_within(plain)) for network in _NEVER):
            return False
        return any(plain in network for network in self._allowed) or (self._with_public and _is_public(plain))

    async def connect(self, host: str, port: int, within_s: float) -> tuple[socket.socket, Address]:
        """A connected, non-blocking socket, which the caller closes, and the address it leads to.

        Args:
            host: Name in ASCII, or address.
            port: TCP port.
            within_s: Seconds for everything.

        Raises:
            Unreached: For any of its causes but `reset` and `closed`.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        try:
            async with asyncio.timeout_at(until):
                addresses = await self.addresses(host)
        except TimeoutError:
            raise Unreached("dns") from None
        last = Unreached("timeout")
        for number, address in enumerate(addresses):
            # An address that does not answer leaves time for the others.
            share_s = (until - loop.time()) / (len(addresses) - number)
            try:
                return await _connect(address, port, share_s), address
            except Unreached as error:
                last = error
        raise last


def _within(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """The addresses of IPv4 to which a router may pass on what is sent to one of IPv6."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if any(address in network for network in _ENDING_IN_IPV4):
        yield ipaddress.IPv4Address(address.packed[-4:])
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NOT_PUBLIC)
    )


async def _connect(address: Address, port: int, within_s: float) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setblocking(False)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(within_s):
            await asyncio.get_running_loop().sock_connect(opened, (str(address), port))
    except BaseException as error:
        opened.close()
        if isinstance(error, OSError):
            raise Unreached(cause_of(error)) from None
        raise
    return opened


def cause_of(error: OSError) -> str:
    """The word for a failure of the network. Decided by the class, as everywhere."""
    match error:
        case TimeoutError():
            return "timeout"
        case ConnectionRefusedError():
            return "refused"
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            return "reset"
        case _:
            return "network"


MOST_LOOK_UPS = 256
"""Names asked for at the same time: as many as endpoints, so that a name server that is silent for one name delays no
other. Threads are made as they are needed and hardly cost memory."""
_THREADS = ThreadPoolExecutor(MOST_LOOK_UPS, thread_name_prefix="look-up")


async def ask_the_machine(host: str) -> list[str]:
    """The addresses that the machine's own configuration leads to."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _resolved, host)


def _resolved(host: str) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
