"""Asking authorities whether certificates were revoked: over plain HTTP, guarded, bounded, and no more than needed.

Where to ask stands in a certificate, which anybody can make. So an answer is fetched only from where we may go, only so
much of it is read, no redirect is followed, and it counts only if `revocation` finds it credible.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

import httpx2

from regie.core.capabilities.tls import Code, Finding
from regie.core.errors import InvalidInput
from regie.kit.reaching import Dialler, Unreached
from regie.kit.tls.certificates import Parsed
from regie.kit.tls.judging import found
from regie.kit.tls.names import ascii_name
from regie.kit.tls.revocation import (
    NotCredible,
    RevokedList,
    Verdict,
    crl_addresses,
    is_short_lived,
    ocsp_addresses,
    ocsp_question,
    read_crl,
    read_ocsp,
)
from regie.kit.tls.trust import Path

Clock = Callable[[], datetime]

FETCH_S = 5.0
"""Seconds for one answer of an authority."""
LARGEST_OCSP = 64 * 1024
"""Bytes of an OCSP answer; with certificates of its signers it has a few thousand."""
LARGEST_LIST = 8 * 1024 * 1024
"""Bytes of a list; public authorities split theirs so that each part has about 1 MB at most."""
MOST_OF_LISTS = 24 * 1024 * 1024
"""Bytes of all lists that are kept."""
MOST_VERDICTS = 20_000
"""OCSP answers that are kept, each in some 200 bytes."""
MOST_PER_AUTHORITY = 4
"""Questions to one authority at the same time."""
SILENT = timedelta(minutes=1)
"""How long an authority is left alone that did not answer."""
MOST_SILENT = 1000
"""Authorities that are remembered as silent."""
MOST_ADDRESSES = 2
"""Addresses of one certificate that are tried; more than one is rare."""


class Fetch(Protocol):
    """Gets an answer over HTTP."""

    async def __call__(self, address: str, question: bytes | None, largest: int) -> bytes:
        """The body: of a GET, or of a POST of an OCSP question.

        Raises:
            NotFetched: There is none.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


class NotFetched(Exception):
    """There is no answer. `cause`: a cause of `Unreached`, `address`, `too_large`, or `http_` with the status."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody, for nothing is fetched over TLS: that would need to know first whether an authority has revoked."""


class GuardedFetch:
    """Fetches over plain HTTP from where a `Dialler` allows, connecting to the very address that was looked at.

    Args:
        dialler: Says where.
    """

    def __init__(self, dialler: Dialler) -> None:
        self._dialler = dialler
        self._client = httpx2.AsyncClient(
            timeout=FETCH_S, follow_redirects=False, trust_env=False, verify=_NO_AUTHORITIES
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def __call__(self, address: str, question: bytes | None, largest: int) -> bytes:
        """See `Fetch`."""
        try:
            url = httpx2.URL(address)
            host = ascii_name(url.host)
        except (httpx2.InvalidURL, InvalidInput):
            raise NotFetched("address") from None
        if url.scheme != "http" or not 0 < (url.port or 80) < 65536:
            raise NotFetched("address")
        headers = {"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"}
        if question is not None:
            headers |= {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}
        try:
            async with asyncio.timeout(FETCH_S):
                # The name could lead elsewhere when it is asked a second time, so the address is written into the URL.
                pinned = url.copy_with(host=str((await self._dialler.addresses(host))[0]), userinfo=b"")
                method = "GET" if question is None else "POST"
                request = self._client.build_request(method, pinned, headers=headers, content=question)
                return await _read(self._client, request, largest)
        except Unreached as error:
            raise NotFetched(error.cause) from None
        except (TimeoutError, httpx2.TimeoutException):
            raise NotFetched("timeout") from None
        except httpx2.HTTPError:
            raise NotFetched("network") from None


async def _read(client: httpx2.AsyncClient, request: httpx2.Request, largest: int) -> bytes:
    response = await client.send(request, stream=True)
    try:
        if response.status_code != 200:
            raise NotFetched(f"http_{response.status_code}")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > largest:
                raise NotFetched("too_large")
        return bytes(body)
    finally:
        await response.aclose()


@dataclass(slots=True)
class _Turn:
    """The right to ask an authority something: so many may at the same time."""

    free: asyncio.Semaphore
    users: int = 0


class Answers:
    """What authorities have said and still holds, in bounded memory. It is the same for whoever asks.

    Args:
        clock: The time, aware.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._verdicts: OrderedDict[str, Verdict] = OrderedDict()
        self._lists: OrderedDict[tuple[str, str], RevokedList] = OrderedDict()

    def about(self, certificate: Parsed, issuer: Parsed) -> Verdict | None:
        """What is known of a certificate; none when somebody must be asked."""
        now = self.clock()
        verdict = self._verdicts.get(certificate.facts.sha256)
        if verdict is not None and verdict.until > now:
            return verdict
        for address in crl_addresses(certificate)[:MOST_ADDRESSES]:
            revoked = self._lists.get((address, issuer.facts.sha256))
            if revoked is not None and revoked.until > now:
                return revoked.verdict(certificate)
        return None

    def keep(self, certificate: Parsed, verdict: Verdict) -> Verdict:
        """Keep what a responder has said."""
        self._verdicts[certificate.facts.sha256] = verdict
        if len(self._verdicts) > MOST_VERDICTS:
            self._verdicts.popitem(last=False)
        return verdict

    def keep_list(self, address: str, issuer: Parsed, revoked: RevokedList) -> None:
        """Keep a list."""
        self._lists[address, issuer.facts.sha256] = revoked
        while sum(each.size for each in self._lists.values()) > MOST_OF_LISTS:
            self._lists.popitem(last=False)


class Revocation:
    """Says of certificates whether they were revoked.

    Args:
        fetch: Gets answers.
        answers: Those that are known.
    """

    def __init__(self, fetch: Fetch, answers: Answers) -> None:
        self._fetch = fetch
        self._answers = answers
        self._clock = answers.clock
        self._silent: OrderedDict[str, tuple[datetime, str]] = OrderedDict()
        self._turns: dict[str, _Turn] = {}

    async def aclose(self) -> None:
        """Close what is open."""
        await self._fetch.aclose()

    async def findings(self, path: Path, staple: bytes) -> list[Finding]:
        """What is to say about each certificate of a path but its root.

        Args:
            path: Where a presented chain leads.
            staple: The OCSP answer that the server sent along; empty if it sent none.
        """
        told: list[Finding] = []
        for position, certificate in enumerate(path.certificates):
            issuer = path.certificates[position + 1] if position + 1 < len(path.certificates) else None
            if certificate.is_self_issued or is_short_lived(certificate) or (issuer is None and path.fault is None):
                continue
            finding = await self._finding(position, certificate, issuer, staple if position == 0 else b"")
            if finding is not None:
                told.append(finding)
        return told

    async def _finding(
        self, position: int, certificate: Parsed, issuer: Parsed | None, staple: bytes
    ) -> Finding | None:
        try:
            if issuer is None:
                raise NotFetched("no_issuer")  # noqa: TRY301  one place for whatever cannot be found out
            verdict = await self._verdict(certificate, issuer, staple)
        except (NotCredible, NotFetched) as error:
            # Authorities that sign authorities often offer nothing, and the server's owner can do nothing about it.
            if position > 0 and error.cause in {"not_offered", "no_issuer"}:
                return None
            text = "Whether it was revoked cannot be found out."
            return found(Code.REVOCATION_UNKNOWN, text, cause=error.cause, certificate=position)
        if verdict.state == "good":
            return None
        return found(Code.REVOKED, "Its authority has revoked it.", cause=verdict.reason, certificate=position)

    async def _verdict(self, certificate: Parsed, issuer: Parsed, staple: bytes) -> Verdict:
        """What is known already, came along, or can be asked, in this order."""
        known = self._answers.about(certificate, issuer)
        if known is not None:
            return known
        if staple:
            # A server may have kept its staple for too long; the authority itself knows better then.
            with contextlib.suppress(NotCredible):
                return self._answers.keep(certificate, read_ocsp(staple, certificate, issuer, self._clock()))
        failure: NotCredible | NotFetched = NotFetched("not_offered")
        for ask, addresses in (
            (self._by_ocsp, ocsp_addresses(certificate)),
            (self._by_list, crl_addresses(certificate)),
        ):
            for address in addresses[:MOST_ADDRESSES]:
                try:
                    return await ask(address, certificate, issuer)
                except (NotCredible, NotFetched) as error:
                    failure = error
        raise failure

    async def _by_ocsp(self, address: str, certificate: Parsed, issuer: Parsed) -> Verdict:
        async with self._turn(_authority(address), MOST_PER_AUTHORITY):
            answer = await self._get(address, ocsp_question(certificate, issuer), LARGEST_OCSP)
        return self._answers.keep(certificate, read_ocsp(answer, certificate, issuer, self._clock()))

    async def _by_list(self, address: str, certificate: Parsed, issuer: Parsed) -> Verdict:
        async with self._turn(address, 1):
            # Whoever waited while another got the same list finds it here.
            known = self._answers.about(certificate, issuer)
            if known is not None:
                return known
            revoked = read_crl(await self._get(address, None, LARGEST_LIST), address, issuer, self._clock())
            self._answers.keep_list(address, issuer, revoked)
        return revoked.verdict(certificate)

    async def _get(self, address: str, question: bytes | None, largest: int) -> bytes:
        """Fetch, but leave an authority alone for a while that did not answer."""
        authority = _authority(address)
        until, cause = self._silent.get(authority, (self._clock(), ""))
        if until > self._clock():
            raise NotFetched(cause)
        try:
            return await self._fetch(address, question, largest)
        except NotFetched as error:
            self._silent[authority] = self._clock() + SILENT, error.cause
            if len(self._silent) > MOST_SILENT:
                self._silent.popitem(last=False)
            raise

    @asynccontextmanager
    async def _turn(self, name: str, most: int) -> AsyncIterator[None]:
        turn = self._turns.setdefault(name, _Turn(asyncio.Semaphore(most)))
        turn.users += 1
        try:
            async with turn.free:
                yield
        finally:
            turn.users -= 1
            if turn.users == 0:
                del self._turns[name]


def _authority(address: str) -> str:
    """Who is asked: host and port."""
    return urlsplit(address).netloc.lower()
