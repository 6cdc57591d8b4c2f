"""Commands about API tokens of programs. A token is shown when it is made and never again."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from pydantic import ValidationError

from regie.cli.installation import Installation, operator, real_home
from regie.cli.terminal import Json, moment, out, print_json, print_table, say
from regie.core.errors import InvalidInput
from regie.core.reach import Act, Scope, require_known
from regie.settings import Settings
from regie.store import api_tokens, releases
from regie.store.api_tokens import ApiToken

DAY_S = 86_400.0
USUAL_DAYS = 90.0

program = typer.Typer(no_args_is_help=True, help="API tokens, with which programs use the API.")


@program.command("make")
def make_token(
    name: Annotated[str, typer.Argument(help="Who uses it.")],
    act: Annotated[list[Act], typer.Option(help="What it may do; may be given several times.")],
    tenant: Annotated[str, typer.Option(help="Tenant where it counts; without it, all of them.")] = "",
    domain: Annotated[str, typer.Option(help="Domain where it counts; without it, all of them.")] = "",
    workflow: Annotated[
        list[str] | None, typer.Option(help="Only with this workflow; may be given several times.")
    ] = None,
    days: Annotated[float, typer.Option(help="Days until it expires, at most 366.")] = USUAL_DAYS,
    as_json: Json = False,
) -> None:
    """Make a token for a program, and show it this once."""
    try:
        scope = Scope(tenant=tenant, domain=domain, acts=frozenset(act), workflows=frozenset(workflow or ()))
    except ValidationError as error:
        raise InvalidInput(
            "; ".join(str(fault["msg"]).removeprefix("Value error, ") for fault in error.errors())
        ) from None
    made, shown = asyncio.run(_make(name, scope, days))
    if as_json:
        print_json({"token": shown, "made": _line(made)})
        return
    out.print(shown, markup=False, soft_wrap=True)
    say(f"This is token {made.id}, until {moment(made.expires_at.isoformat())}. It is not shown again.")


@program.command("list")
def list_tokens(as_json: Json = False) -> None:
    """List the tokens, the newest first; never a secret."""
    found = asyncio.run(_list())
    if as_json:
        print_json([_line(token) for token in found])
        return
    print_table(
        ("id", "name", "stands", "until", "used", "scope", "made by"),
        (
            (
                token.id,
                token.name,
                token.stands,
                moment(token.expires_at.isoformat()),
                moment(token.used_at.isoformat() if token.used_at else None),
                token.scope.in_words(),
                token.made_by,
            )
            for token in found
        ),
        nothing="There are no tokens.",
        prose=("scope",),
    )


@program.command("revoke")
def revoke(token: Annotated[str, typer.Argument(help="Its id, as `regie token list` shows it.")]) -> None:
    """Let a token count no more, from this moment on."""
    asyncio.run(_revoke(token))
    out.print(f"Revoked {token}.", markup=False)


def _line(token: ApiToken) -> dict[str, object]:
    scope = token.scope
    return {
        "id": token.id,
        "name": token.name,
        "stands": token.stands,
        "tenant": scope.tenant,
        "domain": scope.domain,
        "acts": sorted(scope.acts),
        "workflows": sorted(scope.workflows),
        "owner": token.owner,
        "made_by": token.made_by,
        "made_at": token.made_at.isoformat(),
        "expires_at": token.expires_at.isoformat(),
        "used_at": token.used_at.isoformat() if token.used_at else None,
    }


async def _make(name: str, scope: Scope, days: float) -> tuple[ApiToken, str]:
    async with Installation(real_home(Settings()), say).database() as database, database.transaction() as tx:
        require_known(scope, await releases.current(tx))
        return await api_tokens.make(tx, name=name, scope=scope, lives_s=days * DAY_S, by=operator())


async def _list() -> list[ApiToken]:
    async with Installation(real_home(Settings()), say).database() as database, database.reading() as tx:
        return await api_tokens.list_tokens(tx)


async def _revoke(token: str) -> None:
    async with Installation(real_home(Settings()), say).database() as database, database.transaction() as tx:
        await api_tokens.revoke(tx, token, by=operator())
