"""One field of a secret that is kept as a JSON object, as AWS's consoles write them."""

from __future__ import annotations

import json

from regie.core.tenant import SecretRef
from regie.gateway.vault import NoSecret


def field_of(document: str, tenant: str, reference: SecretRef) -> str:
    """The field that a reference names, or the whole when it names none.

    Raises:
        NoSecret: There is no such field, it is no text, or it is empty.
    """
    found: object = document
    if reference.field:
        try:
            read = json.loads(document)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            raise NoSecret(f"The secret {reference} of {tenant} is no JSON object, so it has no fields.") from None
        found = read.get(reference.field)
    if not isinstance(found, str) or not found:
        what = f"has no text in its field {reference.field}" if reference.field else "is empty"
        raise NoSecret(f"The secret {reference} of {tenant} {what}.")
    return found
