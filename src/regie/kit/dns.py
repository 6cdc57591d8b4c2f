"""Questions to authoritative name servers, and updates signed with the connection's key (RFC 2136, RFC 8945)."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update

from regie.core.errors import (
    AuthFailed,
    Denied,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Refused,
    RegieError,
    Unavailable,
)
from regie.kit.access import Calls
from regie.kit.reaching import Dialler, Unreached, told
from regie.kit.records import absolute

ANSWER_S = 10.0
"""Seconds that a server gets to answer."""


PORT = 53


@dataclass(frozen=True, slots=True)
class Server:
    """A name server, by its IP address."""

    address: str
    port: int = PORT

    @classmethod
    def at(cls, text: str) -> Server:
        """One written as `ADDRESS` or `ADDRESS:PORT`; an IPv6 address with a port stands in brackets.

        Raises:
            Denied: It is neither. A name is none of them: looking it up would be a question to somebody else first.
        """
        host, _, port = text.rpartition(":")
        for address, number in ((text, str(PORT)), (host, port)):
            try:
                found = ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
            except ValueError:
                continue
            if number.isascii() and number.isdigit() and 0 < int(number) < 65536:
                return cls(str(found), int(number))
        raise Denied(f"{text!r} is no address of a name server.", hint="Write ADDRESS or ADDRESS:PORT, in numbers.")


KeyFor = Callable[[], Awaitable[dns.tsig.Key | None]]
"""Gives the key that signs questions, or none where nobody asks for one. The gateway's."""


class Dns:
    """One connection's way to its name servers.

    Args:
        primary: Takes updates.
        key_for: Signs questions to it.
        calls: Paces and watches; the manifest's endpoints are `/query` and `/update`.
        dialler: Says where it may go.
    """

    def __init__(
        self, primary: Server, key_for: KeyFor, calls: Calls, dialler: Dialler, permissions: tuple[str, ...] = ()
    ) -> None:
        self._primary = primary
        self._key_for = key_for
        self._calls = calls
        self._dialler = dialler
        self._permissions = permissions

    def needing(self, permissions: tuple[str, ...]) -> Dns:
        """The same, for a capability that needs these permissions."""
        return Dns(self._primary, self._key_for, self._calls, self._dialler, permissions)

    async def values(self, name: str, kind: str, *, server: Server | None = None) -> frozenset[str]:
        """The values that a server has for a name, as a zone file writes them; none when there is no such name.

        Args:
            server: Another than the primary.

        Raises:
            InvalidInput: It is no name.
            NotFound: The server does not answer for that zone.
            AuthFailed, Unavailable: It does not accept our key, or does not answer.
        """
        asked = dns.message.make_query(absolute(name), kind)
        answer = await self._ask(asked, "/query", server or self._primary, was_write=False)
        if answer.rcode() == dns.rcode.NXDOMAIN:
            return frozenset()
        wanted = dns.rdatatype.from_text(kind)
        return frozenset(item.to_text() for rrset in answer.answer if rrset.rdtype == wanted for item in rrset)

    async def update(
        self,
        zone: str,
        name: str,
        kind: str,
        *,
        add: Collection[str] = (),
        remove: Collection[str] = (),
        ttl_s: int = 60,
    ) -> None:
        """Add and remove single values of a name, in one update.

        Args:
            add: Values as a zone file writes them; TXT with quotes.

        Raises:
            RegieError: What `values` raises, Refused, and OutcomeUnknown when it may have happened.
        """
        change = dns.update.UpdateMessage(absolute(zone))
        where = absolute(name)
        try:
            for value in remove:
                change.delete(where, kind, value)
            for value in add:
                change.add(where, ttl_s, kind, value)
        except dns.exception.DNSException:
            raise InvalidInput(f"{name} cannot have that {kind} record") from None
        await self._ask(change, "/update", self._primary, was_write=True)

    async def _ask(
        self, message: dns.message.Message, path: str, server: Server, *, was_write: bool
    ) -> dns.message.Message:
        key = await self._key_for() if server == self._primary else None
        if key is not None:
            message.use_tsig(key)
        where = f"{server.address}:{server.port}"
        if not self._dialler.may_reach(ipaddress.ip_address(server.address)):
            raise told(Unreached("not_allowed"), where)
        request = f"{self._calls.vendor}: {'update' if was_write else 'query'} at {where}"
        async with self._calls.one("POST" if was_write else "GET", path, place=where):
            failure: RegieError
            try:
                # Over TCP: an answer is never cut short, and a source address cannot be made up.
                answer = await dns.asyncquery.tcp(message, server.address, timeout=ANSWER_S, port=server.port)
            except ConnectionRefusedError:
                failure = Unavailable(f"{request} could not connect")
            except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadTime, dns.message.UnknownTSIGKey):
                failure = AuthFailed(f"{request} does not accept our key", hint="Check its name, algorithm and secret.")
            except (dns.exception.DNSException, OSError, EOFError) as error:
                if key is not None and type(error) is dns.exception.FormError:
                    # How dnspython says that an answer has no signature: who cannot sign it does not know key or zone.
                    raise AuthFailed(
                        f"{request} is answered without a signature", hint="Does it serve the zone, and know the key?"
                    ) from None
                said = f"{request} got no answer that counts: {type(error).__name__}"
                failure = OutcomeUnknown(said) if was_write else Unavailable(said)
            else:
                return self._judge(answer, request, was_write=was_write)
            raise failure

    def _judge(self, answer: dns.message.Message, request: str, *, was_write: bool) -> dns.message.Message:
        """The one place where a server's answer code becomes one of our errors (RFC 2136, 2.2; RFC 6895)."""
        code = answer.rcode()
        said = f"{request} answered {dns.rcode.to_text(code)}"
        needed = ", ".join(self._permissions)
        if code == dns.rcode.NOERROR or (code == dns.rcode.NXDOMAIN and not was_write):
            return answer
        if code in {dns.rcode.NOTZONE, dns.rcode.NXDOMAIN} or (code == dns.rcode.REFUSED and not was_write):
            raise NotFound(said)
        if code in {dns.rcode.NOTAUTH, dns.rcode.REFUSED, dns.rcode.BADSIG, dns.rcode.BADKEY, dns.rcode.BADTIME}:
            raise AuthFailed(said, hint=f"does the connection's key have {needed}?" if needed else None)
        if code == dns.rcode.SERVFAIL:
            raise OutcomeUnknown(said) if was_write else Unavailable(said)
        raise Refused(said, status=int(code), code=dns.rcode.to_text(code))
