"""Deploy targets as a connection's setting `targets` names them; for connectors of files and of APIs alike."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypeVar

from pydantic import ValidationError

from regie.core.capability import Record
from regie.core.errors import Denied, NotFound, Refused
from regie.core.server_name import is_for
from regie.kit.connector import Settings
from regie.kit.tls.names import ascii_name

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?")
Entry = TypeVar("Entry", bound=Record)


def entry_of(settings: Settings, target: str, kind: type[Entry], form: str) -> Entry:
    """What a connection's setting `targets` says of a target.

    Args:
        kind: What an entry of the setting `targets` holds.
        form: How such an entry is written, for whoever wrote another one.

    Raises:
        NotFound: The connection has no such target.
        Denied: Its entry cannot be used.
    """
    targets = settings["targets"]
    if not isinstance(targets, dict) or target not in targets:
        known = sorted(targets) if isinstance(targets, dict) else ()
        raise NotFound(f"the connection has no target {target!r}", hint=f"Its targets: {', '.join(known) or 'none'}")
    try:
        return kind.model_validate(targets[target])
    except ValidationError:
        raise Denied(f"target {target} of the connection cannot be used", hint=f"Write {form}.") from None


def refuse_odd_name(target: str) -> None:
    """Refuse a target that cannot give a file its name.

    Raises:
        Denied: It cannot.
    """
    if not _NAME.fullmatch(target):
        raise Denied(
            f"target {target!r} is no name of a file", hint="Use lower-case letters, digits, dots and hyphens."
        )


def refuse_other_names(certificate: str, names: Collection[str], server_name: str, target: str) -> None:
    """Refuse a certificate that is not for the name that a target is asked for.

    Args:
        certificate: What it is called in the message: its serial, or its ARN.
        names: Lower case. One that is only planned has none yet.
        server_name: In any script. Empty where a target says none: then any certificate will do.

    Raises:
        InvalidInput: That is no name of a server.
        Refused: It is for other names.
    """
    if server_name and names and not is_for(names, ascii_name(server_name)):
        raise Refused(
            f"the certificate {certificate} is not for {server_name}, so it is not put in place at {target}",
            status=0,
            code="wrong-names",
            hint=f"It is for {', '.join(names)}.",
        )
