"""The access of connectors that look at TLS servers and certificate files; see `kit.access`."""

from __future__ import annotations

from collections.abc import Sequence

from regie.core.capabilities.tls import Code, Endpoint, Finding, Inspection
from regie.core.errors import AuthFailed, Denied, InvalidInput, Terminal
from regie.kit.access import Calls
from regie.kit.host import Host
from regie.kit.tls.certificates import Parsed, parse_file
from regie.kit.tls.judging import found
from regie.kit.tls.scanning import Bounds, Scanner

SUFFIXES = frozenset({".pem", ".crt", ".cer", ".der", ".p7b", ".p7c", ".cert"})
"""How the names of certificate files end."""


class Tls:
    """A way to look at TLS servers, and at the certificate files of a host. It has no credentials to lose.

    Args:
        scanner: Looks.
        calls: Paces and watches; the manifest's endpoints are `/endpoint` and `/endpoints`.
        host: Where the files are.
        bounds: How much of a page at the same time, and for how long.
    """

    def __init__(self, scanner: Scanner, calls: Calls, host: Host, bounds: Bounds | None = None) -> None:
        self._scanner = scanner
        self._calls = calls
        self._host = host
        self._bounds = bounds or Bounds()

    def needing(self, permissions: tuple[str, ...]) -> Tls:
        """The same, for a capability that needs these permissions of the host."""
        return Tls(self._scanner, self._calls, self._host.needing(permissions), self._bounds)

    async def look(self, endpoint: Endpoint) -> Inspection:
        """What one endpoint shows, and what is wrong with it."""
        async with self._calls.one("GET", "/endpoint", place=endpoint.host):
            return await self._scanner.inspect(endpoint)

    async def look_at_many(self, endpoints: Sequence[Endpoint]) -> list[Inspection]:
        """The same of many, in their order; what there was no time for has a finding that says so."""
        different = dict.fromkeys(endpoints)
        shown: dict[tuple[str, int, str, str], Inspection] = {}
        async with self._calls.one("GET", "/endpoints", place="many"):
            async for each in self._scanner.scan(different, self._bounds):
                shown[each.host, each.port, each.server_name, each.starttls] = each
        return [shown[each.host, each.port, each.server_name or each.host, each.starttls] for each in endpoints]

    async def files(self) -> dict[str, str]:
        """The paths of the certificate files in the host's folders, by how they are written for people.

        A name that is no UTF-8 is written with its odd bytes spelled out.

        Raises:
            RegieError: What `Host.list_files` raises.
        """
        paths = [path for path in await self._host.list_files() if path[path.rfind(".") :].lower() in SUFFIXES]
        return {path.encode(errors="surrogateescape").decode(errors="backslashreplace"): path for path in paths}

    async def certificates(self, path: str) -> list[Parsed]:
        """The certificates of a file. What else is in it, keys above all, is seen by nobody.

        Raises:
            InvalidInput: There is none, or it cannot be read.
            RegieError: What `Host.read` raises.
        """
        return parse_file(await self._host.read(path) or b"")

    async def look_at_file(self, path: str) -> tuple[list[Parsed], list[Finding]]:
        """What a file holds, and what is wrong with it; one that cannot be read holds nothing, and that is a finding.

        Raises:
            Unavailable: The host does not answer.
        """
        try:
            held = await self.certificates(path)
        except AuthFailed:
            return [], [found(Code.UNREADABLE, "The file may not be read.", cause="forbidden")]
        except (Denied, InvalidInput, Terminal):
            return [], [found(Code.UNREADABLE, "The file holds no certificate that can be read.")]
        return held, self._scanner.judge_file(held)
