"""Tokens of programs that use the API: made and shown once, found by what a program shows, revoked.

A token is `regie_ID_SECRET`, so that scanners of repositories know one when they see it. The table holds a digest of
the secret, which is 256 bits of randomness and needs no slow hash. Each has a scope and an end.
"""

import hmac
import secrets
import string
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput, NotFound
from regie.core.reach import Act, Scope
from regie.core.token_digest import token_digest
from regie.store import audit
from regie.store.accounts import Account, account_of
from regie.store.database import Transaction

PREFIX = "regie_"
SHORTEST_S, LONGEST_S = 60.0, 366 * 86_400.0
"""Seconds that a token counts: a minute to a year."""
LONGEST_NAME = 100
USED_EVERY_S = 60
"""Seconds within which a use is not written down once more."""
_ID = string.digits + string.ascii_lowercase
_ID_LENGTH = 12


@dataclass(frozen=True)
class ApiToken:
    """A token as it is known, without its secret.

    Attributes:
        owner: The address of whoever made it on the pages; empty when the command line did.
        stands: `valid`, `expired` or `revoked`.
        used_at: To the minute.
    """

    id: str
    name: str
    scope: Scope
    owner: str
    made_by: str
    made_at: datetime
    expires_at: datetime
    used_at: datetime | None
    stands: str


@dataclass(frozen=True)
class Shown:
    """A token that a program has shown and that is genuine, whether it still counts or not.

    Attributes:
        owner: As they are now; none when the command line made it.
        is_due: It is worth writing down that it was used again.
    """

    token: ApiToken
    owner: Account | None
    is_due: bool


async def make(
    tx: Transaction, *, name: str, scope: Scope, lives_s: float, by: Actor, owner: str = ""
) -> tuple[ApiToken, str]:
    """Make a token; the text with it is what the program shows, and is kept nowhere.

    Raises:
        InvalidInput: It has no name, no act, or counts for too short or too long.
    """
    if not 0 < len(name.strip()) <= LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"A token has a name of 1 to {LONGEST_NAME} characters.")
    if not scope.acts:
        raise InvalidInput("A token that allows nothing is of no use.", hint=f"Acts: {', '.join(Act)}.")
    if not SHORTEST_S <= lives_s <= LONGEST_S:
        raise InvalidInput(f"A token counts for a minute to {LONGEST_S / 86_400:.0f} days.")
    secret = secrets.token_urlsafe(32)
    [row] = await tx.rows(
        """insert into regie.api_token (id, secret_sha256, name, scope_tenant, scope_domain, acts, workflows, owner,
                                        made_by, expires_at)
           values (%(id)s, %(secret)s, %(name)s, %(tenant)s, %(domain)s, %(acts)s::text[], %(workflows)s::text[],
                   %(owner)s, %(by)s, clock_timestamp() + make_interval(secs => %(lives_s)s::float8))
           returning *, 'valid' as stands""",
        {
            "id": "".join(secrets.choice(_ID) for _ in range(_ID_LENGTH)),
            "secret": token_digest(secret),
            "name": name.strip(),
            "tenant": scope.tenant,
            "domain": scope.domain,
            "acts": sorted(scope.acts),
            "workflows": sorted(scope.workflows),
            "owner": owner or None,
            "by": by.id,
            "lives_s": lives_s,
        },
    )
    token = _token(row)
    await _record(tx, Event.TOKEN_MADE, token, by)
    return token, f"{PREFIX}{token.id}_{secret}"


async def find(tx: Transaction, shown: str) -> Shown | None:
    """The token that a program shows; none when there is none with that secret."""
    token, _, secret = shown.removeprefix(PREFIX).partition("_")
    row = await tx.row(
        """select t.*, a.address, a.display_name, a.roles, a.added_at, a.groups, a.is_active, a.password_hash,
                  case when t.revoked_at is not null then 'revoked'
                       when t.expires_at <= clock_timestamp() then 'expired' else 'valid' end as stands,
                  t.used_at is null or t.used_at < clock_timestamp() - make_interval(secs => %(every)s) as is_due
           from regie.api_token t left join regie.account a on a.address = t.owner where t.id = %(id)s""",
        {"id": token, "every": USED_EVERY_S},
    )
    expected = row["secret_sha256"] if row is not None else ""
    if not hmac.compare_digest(token_digest(secret), expected) or row is None:
        return None
    return Shown(_token(row), account_of(row) if row["owner"] else None, row["is_due"])


async def use(tx: Transaction, token: str) -> None:
    """Write down that a token was used."""
    await tx.change("update regie.api_token set used_at = clock_timestamp() where id = %(id)s", {"id": token})


async def list_tokens(tx: Transaction, *, owner: str | None = None) -> list[ApiToken]:
    """Tokens, the newest first: of one owner, or all of them."""
    rows = await tx.rows(
        """select *, case when revoked_at is not null then 'revoked'
                          when expires_at <= clock_timestamp() then 'expired' else 'valid' end as stands
           from regie.api_token where %(owner)s::text is null or owner = %(owner)s order by made_at desc, id""",
        {"owner": owner},
    )
    return [_token(row) for row in rows]


async def revoke(tx: Transaction, token: str, *, by: Actor, owner: str | None = None) -> ApiToken:
    """Let a token count no more, from this moment on; twice is no fault.

    Args:
        owner: Only if it is theirs.

    Raises:
        NotFound: There is no such token.
    """
    row = await tx.row(
        """select *, 'revoked' as stands from regie.api_token
           where id = %(id)s and (%(owner)s::text is null or owner = %(owner)s) for update""",
        {"id": token, "owner": owner},
    )
    if row is None:
        raise NotFound("There is no such token.")
    if row["revoked_at"] is None:
        await tx.change("update regie.api_token set revoked_at = clock_timestamp() where id = %(id)s", {"id": token})
        await _record(tx, Event.TOKEN_REVOKED, _token(row), by)
    return _token(row)


async def _record(tx: Transaction, event: Event, token: ApiToken, by: Actor) -> None:
    """In the log of where it counts; in the deployment's when that is more than one place."""
    scope = token.scope
    told: dict[str, JsonValue] = {
        "id": token.id,
        "name": token.name,
        "tenant": scope.tenant,
        "domain": scope.domain,
        "acts": [*sorted(scope.acts)],
        "workflows": [*sorted(scope.workflows)],
    }
    place = (scope.tenant, scope.domain) if scope.tenant and scope.domain else ("", "")
    await audit.append_outside(tx, *place, [Fact(event=event, actor=by, detail={"token": told})])


def _token(row: DictRow) -> ApiToken:
    return ApiToken(
        id=row["id"],
        name=row["name"],
        scope=Scope(
            tenant=row["scope_tenant"],
            domain=row["scope_domain"],
            acts=frozenset(Act(act) for act in row["acts"]),
            workflows=frozenset(row["workflows"]),
        ),
        owner=row["owner"] or "",
        made_by=row["made_by"],
        made_at=row["made_at"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
        stands=row["stands"],
    )
