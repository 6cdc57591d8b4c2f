"""What somebody signs with an authenticator when they agree to a plan. The web makes it, anybody can check it later.

An authenticator signs a challenge (Web Authentication Level 2, 7.2). Ours is a digest of who agrees to which plan in
which approval, so that the signature says this and nothing else. The leaf of the decision has the digest of it all.
"""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict, JsonValue

from regie.core import canonical

PURPOSE = "regie approval 1"
"""Keeps these challenges apart from all others."""


class Agreement(BaseModel):
    """Who agrees to what.

    Attributes:
        approval: Its id.
        person: Address, in lower case.
        plan_sha256: Digest of the plan that they have seen.
        nonce: Drawn for this one question, in hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    approval: str
    person: str
    plan_sha256: str
    nonce: str

    @property
    def challenge(self) -> bytes:
        """SHA-256 of all that in canonical JSON: what the authenticator is asked to sign."""
        return hashlib.sha256(canonical.encode({"purpose": PURPOSE, **self.model_dump()})).digest()


class Assertion(BaseModel):
    """An agreement with its signature. Bytes are written in base64url without padding.

    Attributes:
        authenticator: Id of the credential.
        public_key: As COSE_Key (RFC 9052, 7).
        client_data, authenticator_data, signature: As the authenticator gave them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agreement: Agreement
    authenticator: str
    public_key: str
    client_data: str
    authenticator_data: str
    signature: str

    @property
    def sha256(self) -> str:
        """What the leaf of the decision has."""
        content: dict[str, JsonValue] = self.model_dump(mode="json")
        return canonical.digest(content)
