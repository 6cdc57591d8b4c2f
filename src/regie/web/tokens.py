"""API tokens of programs: make one, list them, revoke one. Pages and command line call the same functions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, status
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regie.core.errors import Denied, InvalidInput
from regie.core.reach import Act, Reach, Scope, require_known
from regie.store import api_tokens
from regie.store.api_tokens import ApiToken
from regie.store.database import Transaction
from regie.web.answers import Answer, Moment
from regie.web.caller import Caller
from regie.web.means import Asking, BodyOf, Having, Nothing, current_release
from regie.web.problems import OutOfReach, faults_of

USUAL_DAYS = 90
MOST_WORKFLOWS = 100

router = APIRouter(prefix="/v1/tokens")


class MakeToken(BaseModel):
    """A token to make. Without a tenant or a domain it counts in all of them; without workflows, for all of those."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=api_tokens.LONGEST_NAME)
    tenant: str = Field(default="", max_length=100)
    domain: str = Field(default="", max_length=100)
    acts: frozenset[Act] = Field(min_length=1)
    workflows: frozenset[Annotated[str, Field(max_length=200)]] = Field(default=frozenset(), max_length=MOST_WORKFLOWS)
    days: float = Field(default=USUAL_DAYS, gt=0, le=api_tokens.LONGEST_S / 86_400)


class TokenLine(Answer):
    """A token without its secret. `stands` is `valid`, `expired` or `revoked`."""

    id: str
    name: str
    tenant: str
    domain: str
    acts: list[Act]
    workflows: list[str]
    owner: str
    made_by: str
    made_at: Moment
    expires_at: Moment
    used_at: Moment | None
    stands: str

    @classmethod
    def of(cls, token: ApiToken) -> TokenLine:
        """As it is kept."""
        scope = token.scope
        return cls(
            id=token.id,
            name=token.name,
            tenant=scope.tenant,
            domain=scope.domain,
            acts=sorted(scope.acts),
            workflows=sorted(scope.workflows),
            owner=token.owner,
            made_by=token.made_by,
            made_at=token.made_at,
            expires_at=token.expires_at,
            used_at=token.used_at,
            stands=token.stands,
        )


class TokenMade(Answer):
    """A token that was just made, and what the program shows: it is told this once."""

    token: str
    made: TokenLine


class Tokens(Answer):
    """The tokens that a caller looks after, the newest first."""

    items: list[TokenLine]


async def make(tx: Transaction, caller: Caller, wanted: MakeToken) -> tuple[ApiToken, str]:
    """Make a token that allows no more than its maker may.

    Raises:
        Denied: A program asks for it.
        OutOfReach: It would allow more than its maker may.
        InvalidInput: It names what there is not.
    """
    if caller.actor.type == "program":
        raise Denied("A token makes no tokens.", hint="People make them, on the page Tokens, or the command line.")
    try:
        scope = Scope(tenant=wanted.tenant, domain=wanted.domain, acts=wanted.acts, workflows=wanted.workflows)
    except ValidationError as error:
        raise InvalidInput(f"This scope cannot be: {faults_of(error)}.") from None
    [kept] = Reach(scopes=(scope,)).within(caller.reach).scopes
    lacking = sorted(scope.acts - kept.acts)
    if lacking:
        raise OutOfReach(
            f"A token gives no more than its maker has: {scope.in_words()} goes beyond that.",
            missing={"act": ", ".join(lacking), "tenant": scope.tenant, "domain": scope.domain},
            hint=f"{caller.named} has {caller.reach.in_words()}.",
        )
    require_known(scope, await current_release(tx))
    return await api_tokens.make(
        tx, name=wanted.name, scope=scope, lives_s=wanted.days * 86_400, by=caller.actor, owner=caller.address
    )


def owner_of(caller: Caller) -> str | None:
    """Whose tokens a caller looks after: their own, or everybody's.

    Raises:
        Denied: None: it is a program.
    """
    if caller.actor.type == "program":
        raise Denied("A token looks after no tokens.")
    return None if caller.is_operator else caller.address


@router.get("")
async def list_tokens(means: Having, caller: Asking) -> Tokens:
    """The caller's own tokens; all of them for an operator of everything."""
    async with means.database.reading() as tx:
        found = await api_tokens.list_tokens(tx, owner=owner_of(caller))
    return Tokens(items=[TokenLine.of(token) for token in found])


@router.post("", status_code=status.HTTP_201_CREATED)
async def make_token(
    means: Having, caller: Asking, wanted: Annotated[MakeToken, Depends(BodyOf(MakeToken))]
) -> TokenMade:
    """Make a token. What the program shows is in this answer and nowhere else."""
    async with means.database.transaction() as tx:
        made, shown = await make(tx, caller, wanted)
    return TokenMade(token=shown, made=TokenLine.of(made))


@router.post("/{token}/revoke")
async def revoke_token(
    means: Having,
    caller: Asking,
    token: str,
    nothing: Annotated[Nothing, Depends(BodyOf(Nothing))],  # noqa: ARG001  an empty body, read
) -> TokenLine:
    """Let a token count no more."""
    async with means.database.transaction() as tx:
        revoked = await api_tokens.revoke(tx, token, by=caller.actor, owner=owner_of(caller))
    return TokenLine.of(revoked)
