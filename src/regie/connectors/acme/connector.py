"""ACME (RFC 8555): order a certificate, prove its names, have it issued; when to renew (RFC 9773).

Only the gateway constructs it, with a session whose every POST is signed by the account's key. The state of an order is
at the authority: each capability reads it first and goes on from there, so any step can be cut off and repeated.
"""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal

import idna
from pydantic import AwareDatetime, Field, JsonValue

from regie.core.capabilities import certificate
from regie.core.effect import Repeat
from regie.core.errors import InvalidInput, NotFound, Refused, Terminal
from regie.core.plan import Change, NoChange, Pending, Receipt
from regie.kit.connector import Connector, Read, Seen, Write, provides
from regie.kit.session import Answer, Session, Wild, retry_after_s

_PROBLEM = "urn:ietf:params:acme:error:"
_ACCOUNT = ["an account"]
_AGAIN_S = 1.0
"""Seconds until an authority is asked again that does not say when."""
_LONGEST_AGAIN_S = 3600.0
_MOST_LISTED = 1_000
"""Orders of an account that are looked through for one of ours whose answer was lost, and of them ..."""
_MOST_READ = 30
"""... so many of the latest are read."""
_MOST_NAMES = 100
"""Names in one certificate of Let's Encrypt (letsencrypt.org/docs/rate-limits)."""
_ASK_AGAIN_S = 6 * 3600.0
"""Seconds until the window is asked for again where the authority does not say when (RFC 9773, 4.3.2)."""


class _Meta(Wild):
    profiles: dict[str, str] = {}


class _Directory(Wild):
    new_account: str = Field(alias="newAccount")
    new_order: str = Field(alias="newOrder")
    renewal_info: str = Field(default="", alias="renewalInfo")
    meta: _Meta = _Meta()


class _Problem(Wild):
    type: str = ""


class _Identifier(Wild):
    type: str
    value: str


class _Order(Wild):
    status: Literal["pending", "ready", "processing", "valid", "invalid"]
    identifiers: list[_Identifier]
    authorizations: list[str]
    finalize: str
    certificate: str = ""
    expires: AwareDatetime | None = None
    error: _Problem | None = None


class _Challenge(Wild):
    type: str
    url: str
    token: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    error: _Problem | None = None


class _Authorisation(Wild):
    identifier: _Identifier
    status: Literal["pending", "valid", "invalid", "deactivated", "expired", "revoked"]
    challenges: list[_Challenge]

    def challenge(self, kind: str) -> _Challenge:
        """The challenge of a kind.

        Raises:
            Refused: The authority does not offer it for this name.
        """
        found = next((each for each in self.challenges if each.type == kind), None)
        if found is None:
            offered = ", ".join(each.type for each in self.challenges)
            raise Refused(
                f"the authority does not take {kind} for {self.identifier.value}",
                status=200,
                hint=f"it takes {offered}",
            )
        return found


class _Account(Wild):
    orders: str = ""


class _Orders(Wild):
    orders: list[str]


class _Window(Wild):
    start: AwareDatetime
    end: AwareDatetime


class _RenewalInfo(Wild):
    window: _Window = Field(alias="suggestedWindow")
    reason: str = Field(default="", alias="explanationURL")


async def _directory(session: Session) -> _Directory:
    return (await session.get(session.address)).read_as(_Directory)


async def _order(session: Session, url: str) -> _Order:
    return (await session.query(url)).read_as(_Order)


def _names(asked: Sequence[str]) -> list[str]:
    """Names as a certificate has them: lower case, ASCII, each once, sorted.

    Raises:
        InvalidInput: One of them is no name, or there are none, or too many.
    """
    found = set[str]()
    for written in asked:
        name = written.strip()
        wildcard = "*." if name.startswith("*.") else ""
        try:
            found.add(wildcard + idna.encode(name.removeprefix(wildcard), uts46=True).decode().lower())
        except idna.IDNAError:
            raise InvalidInput(f"{name!r} cannot stand in a certificate") from None
    if not 0 < len(found) <= _MOST_NAMES:
        raise InvalidInput(f"a certificate is for 1 to {_MOST_NAMES} names, not for {len(found)}")
    return sorted(found)


def _again_s(answer: Answer) -> float:
    """Seconds after which the authority wants to be asked again."""
    wished = retry_after_s(answer.headers)
    return min(max(wished if wished is not None else _AGAIN_S, _AGAIN_S), _LONGEST_AGAIN_S)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _certificate_id(authority_key: str, serial: str) -> str:
    """How an authority knows a certificate of its own (RFC 9773, 4.1).

    Raises:
        InvalidInput: They are not hexadecimal.
    """
    try:
        number = int(serial, 16)
        key = bytes.fromhex(authority_key)
    except ValueError:
        raise InvalidInput(f"{authority_key}.{serial} names no certificate: both parts are hexadecimal") from None
    # The bytes of a DER integer: one more where the first bit would say that it is negative.
    return f"{_base64url(key)}.{_base64url(number.to_bytes(number.bit_length() // 8 + 1))}"


def _refusal(what: str, problem: _Problem | None) -> Refused:
    """The authority's no, with its word for the reason."""
    kind = problem.type.removeprefix(_PROBLEM) if problem else ""
    code = kind if kind.isalnum() and kind.isascii() else ""
    return Refused(f"{what}: {code}" if code else what, status=200, code=code)


class Acme(Connector):
    """Orders are the authority's; keys and chains are the gateway's."""

    @provides(certificate.RENEWAL_WINDOW, permissions=_ACCOUNT)
    class AskWhenToRenew(Read[certificate.RenewalQuery, certificate.RenewalWindow]):
        """Read the renewal information of a certificate; open to all, so nothing is signed."""

        async def read(self, want: certificate.RenewalQuery) -> certificate.RenewalWindow:
            named = _certificate_id(want.authority_key, want.serial)
            place = (await _directory(self.session)).renewal_info
            if not place:
                return certificate.RenewalWindow(offered=False)
            answer = await self.session.get(f"{place.rstrip('/')}/{named}", accept={404})
            if answer.status == 404:
                # A certificate of another authority, or one that it has forgotten.
                return certificate.RenewalWindow(offered=False)
            found = answer.read_as(_RenewalInfo)
            wished = retry_after_s(answer.headers)
            return certificate.RenewalWindow(
                offered=True,
                start=found.window.start,
                end=found.window.end,
                reason=found.reason,
                again_after_s=_ASK_AGAIN_S if wished is None else wished,
            )

    @provides(certificate.ORDER, permissions=_ACCOUNT)
    class OrderCertificate(Write[certificate.NewOrder, certificate.OrderState]):
        """Make an order. A second one does no harm: nothing is issued before it is finalised."""

        repeat = Repeat.HARMLESS

        async def observe(self, want: certificate.NewOrder, marker: str) -> Seen:
            names = _names(want.names)
            if want.proof == "http-01" and any(name.startswith("*.") for name in names):
                # CA/Browser Forum baseline requirements, 3.2.2.4.19.
                raise InvalidInput("a wildcard cannot be proven by http-01", hint="Prove it by dns-01.")
            if want.profile and want.profile not in (await _directory(self.session)).meta.profiles:
                raise InvalidInput(f"the authority has no profile {want.profile}")
            return {"order": "", "names": list(names)}

        async def observe_patiently(
            self, want: certificate.NewOrder, marker: str, pause: Callable[[float], Awaitable[None]]
        ) -> Seen:
            """Look for an order whose answer was lost: an open one of this account for the same names."""
            names = _names(want.names)
            found = ""
            async for url in self._latest_orders():
                try:
                    order = await _order(self.session, url)
                except (NotFound, Terminal):
                    continue
                if order.status in {"pending", "ready"} and sorted(each.value for each in order.identifiers) == names:
                    found = url
                    break
            return await self._seen(want, found) if found else {"order": "", "names": list(names)}

        async def _latest_orders(self) -> AsyncIterator[str]:
            """The account's latest orders, where the authority lists them (RFC 8555, 7.1.2.1); not every one does."""
            directory = await _directory(self.session)
            answer = await self.session.query(directory.new_account, json={"onlyReturnExisting": True})
            place, urls = answer.read_as(_Account).orders, list[str]()
            while place and len(urls) < _MOST_LISTED:
                page = await self.session.query(place)
                urls.extend(page.read_as(_Orders).orders)
                place = page.next_page
            for url in urls[: -_MOST_READ - 1 : -1]:
                yield url

        def plan(self, want: certificate.NewOrder, seen: Seen) -> NoChange | Change:
            names = _names(want.names)
            target, title = f"order:{','.join(names)}", f"Certificate for {', '.join(names)}"
            if seen["order"]:
                return self.no_change(target, "it is ordered")
            return self.change(target, title, ("ordered", False, True))

        async def apply(self, want: certificate.NewOrder, change: Change, marker: str) -> Receipt:
            directory = await _directory(self.session)
            asked: dict[str, JsonValue] = {
                "identifiers": [{"type": "dns", "value": name} for name in _names(want.names)],
                **({"profile": want.profile} if want.profile else {}),
            }
            if replaces := await self._replaced(want) if directory.renewal_info else "":
                try:
                    return _ordered(await self.session.post(directory.new_order, json={**asked, "replaces": replaces}))
                except Refused as error:
                    # Somebody has renewed it already; the authority then wants an order that says nothing about it.
                    if not error.code.endswith(("alreadyReplaced", "malformed")):
                        raise
            return _ordered(await self.session.post(directory.new_order, json=asked))

        async def _replaced(self, want: certificate.NewOrder) -> str:
            """The authority's name of the certificate that is renewed; empty where we do not keep it."""
            try:
                kept = await self.keys.get(want.replaces)
            except NotFound:
                return ""
            return _certificate_id(kept.authority_key, kept.serial) if kept.authority_key else ""

        async def confirm(self, want: certificate.NewOrder, receipt: Receipt, marker: str) -> Seen:
            if not receipt.remote_id:
                return await self.observe(want, marker)
            return await self._seen(want, receipt.remote_id)

        async def _seen(self, want: certificate.NewOrder, url: str) -> Seen:
            order = await _order(self.session, url)
            if order.status == "invalid":
                raise _refusal("the authority has dropped the order", order.error)
            proofs = await self._proofs(order, want.proof) if order.status == "pending" else []
            return {
                "order": url,
                "state": order.status,
                "names": list(_names(want.names)),
                "proofs": [each.model_dump(mode="json") for each in proofs],
                "expires": order.expires.isoformat() if order.expires else None,
            }

        async def _proofs(self, order: _Order, kind: certificate.ProofKind) -> list[certificate.Proof]:
            found = []
            for url in order.authorizations:
                authorisation = (await self.session.query(url)).read_as(_Authorisation)
                if authorisation.status == "valid":
                    continue
                if authorisation.status != "pending":
                    problem = next((each.error for each in authorisation.challenges if each.error), None)
                    raise _refusal(f"{authorisation.identifier.value} cannot be proven in this order any more", problem)
                found.append(self._proof(authorisation, url, kind, await self.keys.thumbprint()))
            return found

        def _proof(
            self, authorisation: _Authorisation, url: str, kind: certificate.ProofKind, thumbprint: str
        ) -> certificate.Proof:
            name = authorisation.identifier.value
            token = authorisation.challenge(kind).token
            content = f"{token}.{thumbprint}"
            if kind == "http-01":
                path = f"/.well-known/acme-challenge/{token}"
                return certificate.Proof(name=name, kind=kind, authorisation=url, path=path, content=content)
            value = _base64url(hashlib.sha256(content.encode()).digest())
            record = f"_acme-challenge.{name}"
            return certificate.Proof(name=name, kind=kind, authorisation=url, record=record, value=value)

        def foreseen(self, change: Change, seen: Seen) -> Seen:
            return {**seen, "state": "planned"}

        def gives(self, want: certificate.NewOrder, seen: Seen) -> certificate.OrderState:
            return certificate.OrderState.model_validate(seen)

    @provides(certificate.PROVE, permissions=_ACCOUNT)
    class ProveName(Write[certificate.Proving, certificate.ProvenState]):
        """Tell the authority that the proof is in place, and wait until it has looked."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: certificate.Proving, marker: str) -> Seen:
            return {"state": (await self._look(want))[0]}

        async def _look(self, want: certificate.Proving) -> tuple[str, str, float]:
            """State of the name, where the authority is told to look, and when to ask again.

            Raises:
                Refused: The authority has looked and did not find the proof.
            """
            answer = await self.session.query(want.authorisation)
            found = answer.read_as(_Authorisation)
            if found.identifier.value != want.name.removeprefix("*."):
                raise InvalidInput(f"that authorisation is not about {want.name}")
            if found.status not in {"pending", "valid"}:
                problem = next((each.error for each in found.challenges if each.error), None)
                raise _refusal(f"the authority did not find the proof for {want.name}", problem)
            url = found.challenge(want.kind).url if found.status == "pending" else ""
            return found.status, url, _again_s(answer)

        def plan(self, want: certificate.Proving, seen: Seen) -> NoChange | Change:
            target = f"name:{want.name}"
            if seen["state"] == "valid":
                return self.no_change(target, f"{want.name} is proven")
            return self.change(target, f"Proof for {want.name}", ("state", seen["state"], "valid"))

        async def apply(self, want: certificate.Proving, change: Change, marker: str) -> Receipt | Pending:
            _, url, _ = await self._look(want)
            if url:
                # Once more does no harm: a challenge that is looked at already stays so (RFC 8555, 7.5.1).
                await self.session.post(url, json={})
            return await self.resume(want, None)

        async def resume(self, want: certificate.Proving, handle: JsonValue) -> Receipt | Pending:
            state, _, again_after_s = await self._look(want)
            if state == "valid":
                return Receipt(remote_id=want.authorisation)
            return Pending(handle=want.authorisation, again_after_s=again_after_s)

        def gives(self, want: certificate.Proving, seen: Seen) -> certificate.ProvenState:
            return certificate.ProvenState(name=want.name, state=str(seen["state"]))

    @provides(certificate.FINALISE, permissions=_ACCOUNT)
    class FinaliseOrder(Write[certificate.Finalising, certificate.KeptCertificate]):
        """Have the certificate issued for the order's key: one order, one key, one certificate."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: certificate.Finalising, marker: str) -> Seen:
            if not want.order:
                # Of a dry run, in which nothing was ordered.
                return {
                    "state": "ready",
                    "names": list(_names(want.names)),
                    "certificate": await self.keys.reference(""),
                }
            order = await self._look(want)
            if order.status != "valid":
                return {"state": order.status, "names": list(_names(want.names))}
            # Kept here as well: after a crash nobody else would fetch it.
            chain = (await self.session.query(order.certificate)).json
            if not isinstance(chain, str):
                raise Terminal("the authority gives something else than a chain of certificates")
            reference = await self.keys.reference(want.order)
            kept = await self.keys.keep(reference, chain, _names(want.names))
            return {"state": "valid", **kept.model_dump(mode="json")}

        async def _look(self, want: certificate.Finalising) -> _Order:
            if not want.order:
                raise InvalidInput("nothing was ordered")
            order = await _order(self.session, want.order)
            if sorted(each.value for each in order.identifiers) != _names(want.names):
                raise InvalidInput("that order is for other names")
            if order.status == "invalid":
                raise _refusal("the authority has dropped the order", order.error)
            if order.status == "pending":
                raise Refused("not every name of the order is proven yet", status=200, code="orderNotReady")
            return order

        def plan(self, want: certificate.Finalising, seen: Seen) -> NoChange | Change:
            names = ", ".join(_names(want.names))
            target = f"order:{want.order}"
            if seen["state"] == "valid":
                return self.no_change(target, f"the certificate for {names} is issued")
            # `processing` is `ready` and a request that was sent: the same change.
            return self.change(target, f"Certificate for {names}", ("state", "ready", "valid"), ("key", None, want.key))

        async def apply(self, want: certificate.Finalising, change: Change, marker: str) -> Receipt | Pending:
            order = await self._look(want)
            if order.status == "ready":
                request = await self.keys.request(want.order, _names(want.names), want.key)
                await self.session.post(order.finalize, json={"csr": _base64url(request.der)})
            return await self.resume(want, None)

        async def resume(self, want: certificate.Finalising, handle: JsonValue) -> Receipt | Pending:
            answer = await self.session.query(want.order)
            order = answer.read_as(_Order)
            if order.status == "invalid":
                raise _refusal("the authority has dropped the order", order.error)
            if order.status == "valid":
                return Receipt(remote_id=want.order)
            return Pending(handle=want.order, again_after_s=_again_s(answer))

        def foreseen(self, change: Change, seen: Seen) -> Seen:
            return {**seen, "state": "planned"}

        def gives(self, want: certificate.Finalising, seen: Seen) -> certificate.KeptCertificate:
            told = {name: value for name, value in seen.items() if name != "state"}
            return certificate.KeptCertificate.model_validate({"certificate": "", "serial": "", **told})


def _ordered(answer: Answer) -> Receipt:
    """Where the authority keeps a new order."""
    return Receipt(request_id=answer.request_id, remote_id=answer.headers.get("location", ""))
