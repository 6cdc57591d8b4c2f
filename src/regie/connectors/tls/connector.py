"""What TLS servers present, and what certificate files hold. Only the gateway constructs it. RFC 8446, RFC 5280."""

from __future__ import annotations

from pydantic import JsonValue, TypeAdapter, ValidationError

from regie.core.capabilities import certificate, tls
from regie.core.errors import InvalidInput
from regie.kit.connector import Connector, Read, provides
from regie.kit.tls.certificates import Parsed
from regie.kit.tls.judging import summed_up
from regie.kit.tls.looking import Tls as Looking

FILES_OF_A_PAGE = 50


class Tls(Connector):
    """Looks, and changes nothing."""

    @provides(tls.INSPECT, permissions=["tcp:connect"])
    class Inspect(Read[tls.EndpointQuery, tls.Inspection]):
        """Make one handshake, and ask the certificate's authority whether it was revoked."""

        async def read(self, want: tls.EndpointQuery) -> tls.Inspection:
            """Nothing at the endpoint makes it fail: whatever it does is a finding."""
            return await self.tls.look(tls.Endpoint.model_validate(want.model_dump(exclude={"connection"})))

    @provides(tls.INSPECT_MANY, permissions=["tcp:connect"])
    class InspectMany(Read[tls.Endpoints, tls.Summaries]):
        """Make as many handshakes at a time as are bearable for both sides."""

        async def read(self, want: tls.Endpoints) -> tls.Summaries:
            """What there was no time for has the finding `not_inspected`."""
            return await _summaries(self.tls, want.endpoints)

    @provides(tls.INSPECT_LISTED, permissions=["tcp:connect"])
    class InspectListed(Read[tls.Listed, tls.ListedSummaries]):
        """Look at a page of the connection's own list."""

        async def read(self, want: tls.Listed) -> tls.ListedSummaries:
            """The cursor is how many came before, so a list that changes between two pages may repeat or miss some."""
            listed = _listed(self.settings["endpoints"])
            begin = _begin(want.cursor)
            end = begin + tls.MOST_ENDPOINTS
            shown = await _summaries(self.tls, listed[begin:end])
            cursor = str(end) if end < len(listed) else ""
            return tls.ListedSummaries(endpoints=shown.endpoints, troubled=shown.troubled, cursor=cursor)

    @provides(tls.INSPECT_FILES, permissions=["files:read"])
    class InspectFiles(Read[tls.Files, tls.FilePage]):
        """Read the certificate files of the connection's folders."""

        async def read(self, want: tls.Files) -> tls.FilePage:
            """A file that holds no certificate is a finding."""
            paths, cursor = _page(await self.tls.files(), want.cursor)
            return tls.FilePage(files=[await self.tls.look_at_file(path) for path in paths], cursor=cursor)

    @provides(certificate.LIST, permissions=["files:read"])
    class ListCertificates(Read[certificate.Source, certificate.Inventory]):
        """List the certificates of the connection's files; one is known by its path and its place in the file."""

        async def read(self, want: certificate.Source) -> certificate.Inventory:
            """Files without a certificate are left out; looking at files says what is wrong with them."""
            paths, cursor = _page(await self.tls.files(), want.cursor)
            listed: list[certificate.Certificate] = []
            for path in paths:
                held = await self.tls.certificates_if_any(path)
                listed += [_in_inventory(path, number, each) for number, each in enumerate(held)]
            return certificate.Inventory(certificates=listed, cursor=cursor)


async def _summaries(way: Looking, endpoints: list[tls.Endpoint]) -> tls.Summaries:
    shown = [summed_up(each) for each in await way.look_at_many(endpoints)]
    troubled = sum(each.severity in {"high", "medium"} for each in shown)
    return tls.Summaries(endpoints=shown, troubled=troubled)


_ENDPOINTS = TypeAdapter(list[tls.Endpoint])


def _listed(setting: JsonValue) -> list[tls.Endpoint]:
    try:
        return _ENDPOINTS.validate_python(setting)
    except ValidationError as error:
        places = ", ".join(sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]})[:5])
    raise InvalidInput(
        f"The connection's endpoints cannot be read; look at number {places} (the first is 0).",
        hint="each is like { host: mail.example.com, port: 25, starttls: smtp }",
    )


def _begin(cursor: str) -> int:
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise InvalidInput("That is no cursor of this list.")
    return int(cursor or 0)


def _page(paths: list[str], cursor: str) -> tuple[list[str], str]:
    """Those that follow the cursor, and the cursor of the next page: the last path of this one."""
    following = [path for path in paths if path > cursor]
    page = following[:FILES_OF_A_PAGE]
    return page, page[-1] if len(following) > len(page) else ""


def _in_inventory(path: str, number: int, held: Parsed) -> certificate.Certificate:
    facts = held.facts
    return certificate.Certificate(
        id=path if number == 0 else f"{path}#{number}",
        names=sorted(name.lower() for name in facts.names),
        serial=facts.serial,
        issuer=held.issuer_name,
        authority_key=facts.authority_key,
        not_before=facts.not_before,
        not_after=facts.not_after,
        key=facts.key,
        state="imported",
    )
