"""Which tenant a command is about when it does not say, for those that read the workspace and those that ask the web.

On its own, since who only asks the web loads nothing that reads a workspace.
"""

from __future__ import annotations

from collections.abc import Iterable

from regie.core.errors import InvalidInput


def only_tenant(known: Iterable[str]) -> str:
    """The one tenant that there is.

    Args:
        known: All that there are.

    Raises:
        InvalidInput: There are none, or several.
    """
    match sorted(known):
        case []:
            raise InvalidInput("There is no tenant in the workspace.", hint="A tenant is a file tenants/NAME.yaml.")
        case [tenant]:
            return tenant
        case several:
            raise InvalidInput("Say which tenant it is about: --tenant.", hint=f"Known: {', '.join(several)}")
