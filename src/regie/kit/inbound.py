"""Webhooks: are they really from the vendor, and what do they announce. The gateway asks before it stores anything."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import parse_qsl

from pydantic import Field, JsonValue, ValidationError

from regie.core.capability import Record
from regie.core.errors import Denied, InvalidInput
from regie.kit.session import Shape, places_of, read_json

_DELIVERY = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_MOMENT = re.compile(r"[0-9]{1,12}")
_FORM = "application/x-www-form-urlencoded"


class SignedBody(Record):
    """A vendor that signs the body of a webhook, as the manifest says it.

    Attributes:
        signature: HMAC with SHA-256 over the raw body.
        header: Header that carries the signature.
        prefix: What stands before the hexadecimal digits.
        delivery_header: Header that names the delivery; the same on every retry.
        secret: The manifest's name of the secret it is signed with.
    """

    signature: Literal["hmac-sha256"]
    header: str
    prefix: str = ""
    delivery_header: str
    secret: str


class SignedMoment(Record):
    """A vendor that signs the moment of sending together with the body, so that an old request proves nothing.

    Attributes:
        signature: HMAC with SHA-256 over version, moment and raw body, with colons between them.
        header: Header that carries the signature: the version, `=`, hexadecimal digits.
        version: As the vendor writes it, such as `v0`.
        moment_header: Header with the moment of sending, in whole seconds since 1970.
        fresh_s: Seconds that it may differ from our own clock, either way.
        form_field: The field that holds the JSON where the body is a form.
        secret: The manifest's name of the secret it is signed with.
    """

    signature: Literal["hmac-sha256-moment"]
    header: str
    version: str
    moment_header: str
    fresh_s: float = Field(gt=0)
    form_field: str = ""
    secret: str


InboundRule = Annotated[SignedBody | SignedMoment, Field(discriminator="signature")]
"""How a vendor signs its webhooks."""


class InboundEvent(Record):
    """What a webhook announces.

    Attributes:
        kind: `ticket_created`; `ticket_closed`, also when it was deleted; `decided` when somebody pressed a button
            about an approval; `acknowledged` when the sender only wants an answer; `ignored` when it is nothing we
            act on.
        event: The vendor's own name of the event.
        ticket: Key of the ticket.
        project: Project or queue of the ticket.
        request_type: What was asked for, as the portal names it; empty where the payload does not tell.
        title: The ticket's title.
        reason: Why it is ignored.
        status: The status in which a ticket was closed; empty when it was deleted.
        by: Who did it, for people: an address or a name; `by_id` is the vendor's id of them.
        approval: Id of the approval that was decided, `decision` the word, `plan_sha256` the plan that was shown.
        challenge: What the sender wants to be answered with.
    """

    kind: Literal["ticket_created", "ticket_closed", "decided", "acknowledged", "ignored"]
    event: str
    ticket: str = ""
    project: str = ""
    request_type: str = ""
    title: str = ""
    reason: str = ""
    status: str = ""
    by: str = ""
    by_id: str = ""
    approval: str = ""
    decision: str = ""
    plan_sha256: str = ""
    challenge: str = ""


def delivery_of(
    rule: SignedBody | SignedMoment, headers: Mapping[str, str], body: bytes, secret: str, *, now_s: float
) -> str:
    """Check a webhook's signature and name its delivery.

    Args:
        rule: How the vendor signs.
        headers: As received; case does not count.
        body: The raw bytes, before any parsing.
        secret: The shared secret.
        now_s: What time it is, in seconds since 1970.

    Raises:
        Denied: The signature is missing or wrong, the request is too old, or the delivery has no usable name.
    """
    if not secret:
        raise Denied("a webhook without a shared secret proves nothing")
    found = {name.lower(): value for name, value in headers.items()}
    match rule:
        case SignedBody():
            _require_signature(rule.header, found, rule.prefix, body, secret)
            delivery = found.get(rule.delivery_header.lower(), "")
            if not _DELIVERY.fullmatch(delivery):
                raise Denied(f"the webhook has no usable {rule.delivery_header}")
            return delivery
        case SignedMoment():
            moment = found.get(rule.moment_header.lower(), "")
            if not _MOMENT.fullmatch(moment):
                raise Denied(f"the webhook has no usable {rule.moment_header}")
            signed = f"{rule.version}:{moment}:".encode() + body
            _require_signature(rule.header, found, f"{rule.version}=", signed, secret)
            if abs(now_s - int(moment)) > rule.fresh_s:
                raise Denied(
                    f"the webhook's {rule.moment_header} is not of now: it may be sent by somebody who kept it"
                )
            # Nothing in the headers names it. The signature does: the same bytes at another moment have another one.
            return hashlib.sha256(signed).hexdigest()


def _require_signature(header: str, found: Mapping[str, str], prefix: str, signed: bytes, secret: str) -> None:
    given = found.get(header.lower(), "").encode()
    expected = (prefix + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()).encode()
    if not hmac.compare_digest(given, expected):
        raise Denied(f"the webhook's {header} does not fit its body")


def payload_of(rule: SignedBody | SignedMoment, headers: Mapping[str, str], body: bytes) -> JsonValue:
    """The JSON in a webhook that was found genuine: its body, or the field of a form that holds it.

    Raises:
        InvalidInput: There is none.
    """
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    text: str | bytes = body
    if isinstance(rule, SignedMoment) and rule.form_field and kind.partition(";")[0].strip().lower() == _FORM:
        text = next(
            (value for name, value in parse_qsl(body.decode("utf-8", "replace")) if name == rule.form_field), ""
        )
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        raise InvalidInput("The webhook is genuine and holds no JSON.") from None


def announced_as(payload: JsonValue, shape: type[Shape]) -> Shape:
    """Read the payload of an event that we act on as a shape.

    Raises:
        InvalidInput: It has another shape: dropping it might lose what somebody asked for.
    """
    try:
        return shape.model_validate(payload)
    except ValidationError as error:
        places = places_of(error)
    # Raised outside the handler: the validation error would carry the vendor's text into tracebacks.
    raise InvalidInput(f"The webhook is genuine and has a shape that we do not know: look at {places}.")
