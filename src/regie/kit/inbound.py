"""Webhooks: are they really from the vendor, and what do they announce. The gateway asks before it stores anything."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Literal

from regie.core.capability import Record
from regie.core.errors import Denied

_DELIVERY = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


class InboundRule(Record):
    """How a vendor signs its webhooks, as the manifest says it.

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


class InboundEvent(Record):
    """What a webhook announces.

    Attributes:
        kind: `ticket_created`; `ticket_closed`, also when it was deleted; `ignored` when it is nothing we act on.
        event: The vendor's own name of the event.
        ticket: Key of the ticket.
        project: Project or queue of the ticket.
        request_type: What was asked for, as the portal names it; empty where the payload does not tell.
        title: The ticket's title.
        reason: Why it is ignored.
        status: The status in which a ticket was closed; empty when it was deleted.
        by: Who closed it, for people: an address or a name; `by_id` is the vendor's id of them.
    """

    kind: Literal["ticket_created", "ticket_closed", "ignored"]
    event: str
    ticket: str = ""
    project: str = ""
    request_type: str = ""
    title: str = ""
    reason: str = ""
    status: str = ""
    by: str = ""
    by_id: str = ""


def delivery_of(rule: InboundRule, headers: Mapping[str, str], body: bytes, secret: str) -> str:
    """Check a webhook's signature and name its delivery; store the name, for it is the only guard against replay.

    Args:
        rule: How the vendor signs.
        headers: As received; case does not count.
        body: The raw bytes, before any parsing.
        secret: The shared secret.

    Raises:
        Denied: The signature is missing or wrong, or the delivery has no usable name.
    """
    if not secret:
        raise Denied("a webhook without a shared secret proves nothing")
    found = {name.lower(): value for name, value in headers.items()}
    given = found.get(rule.header.lower(), "").encode()
    expected = (rule.prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()).encode()
    if not hmac.compare_digest(given, expected):
        raise Denied(f"the webhook's {rule.header} does not fit its body")
    delivery = found.get(rule.delivery_header.lower(), "")
    if not _DELIVERY.fullmatch(delivery):
        raise Denied(f"the webhook has no usable {rule.delivery_header}")
    return delivery
