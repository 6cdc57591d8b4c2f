"""Where a connection may go, and getting there.

What comes from customers' lists and from certificates is not trusted: without permission in the connection's settings
only addresses of the public internet are reached (against server-side request forgery).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from regie.core.server_name import Address, as_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LookUp = Callable[[str], Awaitable[list[str]]]
"""A host name to its addresses, as texts; OSError when there are none."""

MOST_ADDRESSES = 4
"""Addresses of one name that are tried, one after the other, within one time limit."""

_TUNNELS = tuple(ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
"""IPv6 networks whose addresses hold an IPv4 address that a gateway would send to: NAT64, 6to4, Teredo."""


class Unreached(Exception):
    """No connection came about. `cause`: `dns`, `not_allowed`, `refused`, `timeout`, `reset`, `closed`, `network`."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Reach:
    """Opens connections to where they may go.

    Args:
        allowed: Networks that may be reached besides the public internet.
        look_up: Asks for addresses; the machine's own way unless said otherwise.
    """

    def __init__(self, allowed: Iterable[Network] = (), *, look_up: LookUp | None = None) -> None:
        self._allowed = tuple(allowed)
        self._look_up = look_up or ask_the_machine

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
        if any(plain in network for network in self._allowed):
            return True
        is_tunnel = any(plain in network for network in _TUNNELS)
        return plain.is_global and not plain.is_multicast and not plain.is_reserved and not is_tunnel

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
    found = await asyncio.get_running_loop().run_in_executor(
        _THREADS, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    )
    return [str(entry[4][0]) for entry in found]
