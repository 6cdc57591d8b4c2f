"""Sign-ins that are at the identity provider and not back yet. The pages begin one, and take it on return.

Each counts once, in the browser that began it, and for a while. The table holds digests of what the browser brings
back, and the verifier sealed.
"""

from dataclasses import dataclass

from regie.core.errors import Throttled
from regie.core.token_digest import token_digest
from regie.store.database import Transaction

WITHIN_S = 600
"""Seconds within which somebody has to come back: time enough for a second factor."""
MOST = 10_000
"""How many may be on their way at once: whoever begins them without end must not fill the disk."""


@dataclass(frozen=True)
class SignIn:
    """A sign-in on its way.

    Attributes:
        nonce: What the provider's token must name.
        verifier: What shows the provider that the code was given to us (RFC 7636).
        next: Where whoever signs in wanted to go.
    """

    nonce: str
    verifier: str
    next: str


async def begin(tx: Transaction, state: str, before: str, sign_in: SignIn) -> None:
    """Keep a sign-in until the browser is back; what nobody came back from is forgotten.

    Args:
        state: What the provider gives back to us.
        before: What only this browser holds.

    Raises:
        Throttled: Too many are on their way.
    """
    await tx.change(
        "delete from regie.sign_in where begun_at < clock_timestamp() - make_interval(secs => %(within)s)",
        {"within": WITHIN_S},
    )
    digest = token_digest(state)
    begun = await tx.change(
        """insert into regie.sign_in (state_sha256, before_sha256, nonce, verifier, next)
           select %(state)s, %(before)s, %(nonce)s, %(verifier)s, %(next)s
           where (select count(*) from regie.sign_in) < %(most)s""",
        {
            "state": digest,
            "before": token_digest(before),
            "nonce": sign_in.nonce,
            "verifier": tx.sealer.seal(sign_in.verifier.encode(), **_address(digest)),
            "next": sign_in.next,
            "most": MOST,
        },
    )
    if begun == 0:
        raise Throttled("Too many people are signing in at the moment.", after_s=30)


async def take(tx: Transaction, state: str, before: str) -> SignIn | None:
    """The sign-in that comes back, which is over with that; none if this browser did not begin it just now."""
    digest = token_digest(state)
    row = await tx.row(
        """delete from regie.sign_in
           where state_sha256 = %(state)s and before_sha256 = %(before)s
             and begun_at >= clock_timestamp() - make_interval(secs => %(within)s)
           returning *""",
        {"state": digest, "before": token_digest(before), "within": WITHIN_S},
    )
    if row is None:
        return None
    return SignIn(row["nonce"], tx.sealer.open(row["verifier"], **_address(digest)).decode(), row["next"])


def _address(digest: str) -> dict[str, str]:
    return {"tenant": "", "domain": "", "table": "sign_in.verifier", "pk": digest}
