"""What TLS servers present, and what certificate files hold. Only the gateway constructs it. RFC 8446, RFC 5280."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue, TypeAdapter, ValidationError

from regie.core.capabilities import certificate, tls
from regie.core.errors import InvalidInput
from regie.kit.connector import Connector, Read, provides
from regie.kit.paging import page_after, pages_of
from regie.kit.tls.certificates import Parsed
from regie.kit.tls.judging import in_words, summed_up
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

    @provides(tls.LIST_PAGES, permissions=["tcp:connect"])
    class ListPages(Read[tls.EndpointList, tls.Pages]):
        """Count the connection's own list."""

        async def read(self, want: tls.EndpointList) -> tls.Pages:  # noqa: ARG002  the connection is this one
            """A cursor is how many endpoints come before its page; the first one is empty."""
            number = len(_listed(self.settings["endpoints"]))
            cursors = [str(begin) if begin else "" for begin in range(0, number, tls.MOST_ENDPOINTS)]
            return tls.Pages(cursors=cursors, endpoints=number)

    @provides(tls.INSPECT_FILES, permissions=["files:read"])
    class InspectFiles(Read[tls.Files, tls.FilePage]):
        """Read the certificate files of the connection's folders."""

        async def read(self, want: tls.Files) -> tls.FilePage:
            """A file that holds no certificate is a finding."""
            files, cursor = await _page(self.tls, want.cursor)
            inspected = [
                tls.FileInspection(path=path, certificates=[each.facts for each in held], findings=findings)
                for path, held, findings in files
            ]
            return tls.FilePage(files=inspected, cursor=cursor)

    @provides(certificate.LIST, permissions=["files:read"])
    class ListCertificates(Read[certificate.Source, certificate.Inventory]):
        """List the certificates of the connection's files, each known by its path.

        A file is what its first certificate is for, as servers read it; what is wrong with the others of its chain is
        wrong with the file.
        """

        async def read(self, want: certificate.Source) -> certificate.Inventory:
            """A file that cannot be read is listed as such."""
            files, cursor = await _page(self.tls, want.cursor)
            return certificate.Inventory(certificates=[_in_inventory(*each) for each in files], cursor=cursor)

    @provides(certificate.LIST_PAGES, permissions=["files:read"])
    class ListFilePages(Read[certificate.CertificateList, certificate.Pages]):
        """Count the connection's files."""

        async def read(self, want: certificate.CertificateList) -> certificate.Pages:  # noqa: ARG002  as for endpoints
            """A page begins after the last path of the one before."""
            paths = sorted(await self.tls.files())
            return certificate.Pages(cursors=pages_of(paths, FILES_OF_A_PAGE), certificates=len(paths))


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


async def _page(way: Looking, cursor: str) -> tuple[list[tuple[str, list[Parsed], list[tls.Finding]]], str]:
    """Files of a page with what they hold and what is wrong, and the cursor of the next page."""
    files = await way.files()
    paths, following = page_after(sorted(files), cursor, FILES_OF_A_PAGE)
    return [(path, *await way.look_at_file(files[path])) for path in paths], following


def _in_inventory(path: str, held: Sequence[Parsed], findings: Sequence[tls.Finding]) -> certificate.Certificate:
    if not held:
        return certificate.Certificate(id=path, names=[], state="unreadable", findings=in_words(findings))
    facts = held[0].facts
    return certificate.Certificate(
        id=path,
        names=sorted(name.lower() for name in facts.names),
        serial=facts.serial,
        issuer=held[0].issuer_name,
        authority_key=facts.authority_key,
        not_before=facts.not_before,
        not_after=facts.not_after,
        key=facts.key,
        state="imported",
        findings=in_words(findings),
    )
