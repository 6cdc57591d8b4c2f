"""The folder of a web server on this machine, in which proofs for http-01 are shown (RFC 8555, 8.3)."""

# ruff: noqa: ARG002 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

import re
from typing import ClassVar

from regie.core.capabilities import certificate
from regie.core.effect import Repeat
from regie.core.errors import InvalidInput
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.connector import Connector, Seen, Write, provides

_PATH = re.compile(r"/\.well-known/acme-challenge/[A-Za-z0-9_-]{1,200}")
_MAY_WRITE = ["write: .well-known/acme-challenge"]


class _Show(Write[certificate.Publication, certificate.PublicationState]):
    """Have a file with the proof, or have none. Its name is made of the authority's token: nobody else has it."""

    repeat = Repeat.OBSERVABLE
    shown: ClassVar[bool]

    async def observe(self, want: certificate.Publication, marker: str) -> Seen:
        return {"published": await self.host.read(self._file(want)) == want.content.encode()}

    def plan(self, want: certificate.Publication, seen: Seen) -> NoChange | Change:
        target = f"proof:{want.name}{want.path}"
        if seen["published"] is self.shown:
            return self.no_change(target, f"{want.path} {'is' if self.shown else 'is not'} there")
        return self.change(target, f"Proof for {want.name}", ("published", seen["published"], self.shown))

    async def apply(self, want: certificate.Publication, change: Change, marker: str) -> Receipt:
        if self.shown:
            await self.host.write(self._file(want), want.content.encode())
        else:
            await self.host.remove(self._file(want))
        return Receipt()

    def gives(self, want: certificate.Publication, seen: Seen) -> certificate.PublicationState:
        return certificate.PublicationState(name=want.name, path=want.path, published=bool(seen["published"]))

    def _file(self, want: certificate.Publication) -> str:
        if not _PATH.fullmatch(want.path):
            raise InvalidInput(f"{want.path!r} is no path of a proof")
        return f"{str(self.settings['folder']).rstrip('/')}{want.path}"


class Webroot(Connector):
    """A proof is a file."""

    @provides(certificate.PUBLISH_PROOF, permissions=_MAY_WRITE, undo=certificate.WITHDRAW_PROOF)
    class PublishProof(_Show):
        """Write the file."""

        shown = True

    @provides(certificate.WITHDRAW_PROOF, permissions=_MAY_WRITE, undo=certificate.PUBLISH_PROOF)
    class WithdrawProof(_Show):
        """Take the file away."""

        shown = False
