"""Confirming with an authenticator: what it is asked, and whether what it answers holds (Web Authentication Level 2).

Pages ask and bring the answer, `approvals.py` has it verified before the policies are asked. A question counts once,
for one person, and, of an approval, for the plan that it has.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    options_to_json_dict,
    parse_authenticator_data,
    parse_client_data_json,
)
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    UserVerificationRequirement,
)

from regie.core.assertion import Agreement, Assertion
from regie.core.errors import Denied, InvalidInput
from regie.store import authenticators
from regie.store.approvals import Approval
from regie.store.authenticators import Authenticator
from regie.store.database import Transaction
from regie.web.caller import Caller

NONCE_BYTES = 32
NAME = "Regie"
AGAIN = "Load the page again, then confirm once more."
_REQUIRED = UserVerificationRequirement.REQUIRED

Base64Url = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$", max_length=20_000)]


class NotConfirmed(Denied):
    """What an authenticator has signed does not hold.

    Args:
        reason: As the leaf has it.
    """

    def __init__(self, reason: str, message: str, hint: str = AGAIN) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Signed(BaseModel):
    """What an authenticator gives for a plan; bytes in base64url without padding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Base64Url
    client_data: Base64Url
    authenticator_data: Base64Url
    signature: Base64Url


class Made(BaseModel):
    """What an authenticator gives when it is added; bytes in base64url without padding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Base64Url
    client_data: Base64Url
    attestation: Base64Url


async def ask_to_add(tx: Transaction, origin: str, address: str, display_name: str) -> dict[str, Any]:
    """What a browser needs to make a key for somebody: PublicKeyCredentialCreationOptions as JSON.

    Raises:
        InvalidInput: Nobody has said at which address this is.
        Throttled: They were asked too often.
    """
    challenge = secrets.token_bytes(NONCE_BYTES)
    options = generate_registration_options(
        rp_id=_host(origin),
        rp_name=NAME,
        user_id=hashlib.sha256(f"regie {address}".encode()).digest(),
        user_name=address,
        user_display_name=display_name,
        challenge=challenge,
        timeout=authenticators.WITHIN_S * 1000,
        authenticator_selection=AuthenticatorSelectionCriteria(user_verification=_REQUIRED),
        exclude_credentials=_descriptors(await authenticators.of(tx, address)),
    )
    await authenticators.ask(tx, challenge, address=address, nonce="")
    return options_to_json_dict(options)


async def was_asked(tx: Transaction, given: Signed | Made, *, address: str, approval: str | None = None) -> str | None:
    """The nonce of the question that this answers, which is used up; none if nobody asked this person just now."""
    try:
        challenge = parse_client_data_json(base64url_to_bytes(given.client_data)).challenge
    except Exception:  # noqa: BLE001  whatever the library stumbles over answers no question of ours
        return None
    return await authenticators.take(tx, challenge, address=address, approval=approval)


async def add(tx: Transaction, origin: str, address: str, name: str, made: Made) -> None:
    """Add what was made for a question that has been taken.

    Raises:
        NotConfirmed: It does not hold.
        InvalidInput: It has no name, or is somebody's already.
    """
    try:
        data = base64url_to_bytes(made.client_data)
        verified = verify_registration_response(
            credential={
                "id": made.id,
                "rawId": made.id,
                "type": "public-key",
                "response": {"clientDataJSON": made.client_data, "attestationObject": made.attestation},
            },
            expected_challenge=parse_client_data_json(data).challenge,
            expected_rp_id=_host(origin),
            expected_origin=origin,
            require_user_verification=True,
        )
    except Exception as error:  # whatever the library stumbles over, no authenticator makes
        raise NotConfirmed("not_genuine", "What the authenticator gave cannot be used.") from error
    await authenticators.add(
        tx,
        id=made.id,
        address=address,
        name=name,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
    )


async def ask_to_confirm(tx: Transaction, origin: str, caller: Caller, approval: Approval) -> dict[str, Any]:
    """What a browser needs to have a plan signed: PublicKeyCredentialRequestOptions as JSON.

    Raises:
        InvalidInput: They have no authenticator, or nobody has said at which address this is.
        Throttled: They were asked too often.
    """
    known = await authenticators.of(tx, caller.address)
    if not known:
        raise InvalidInput("You have no authenticator.", hint="Add one on the page Authenticators.")
    agreement = _agreement(caller, approval, secrets.token_hex(NONCE_BYTES))
    options = generate_authentication_options(
        rp_id=_host(origin),
        challenge=agreement.challenge,
        timeout=authenticators.WITHIN_S * 1000,
        allow_credentials=_descriptors(known),
        user_verification=_REQUIRED,
    )
    await authenticators.ask(
        tx, agreement.challenge, address=caller.address, nonce=agreement.nonce, approval=approval.id
    )
    return options_to_json_dict(options)


async def confirmed(
    tx: Transaction, origin: str, caller: Caller, approval: Approval, *, signed: Signed, nonce: str | None
) -> Assertion:
    """Make sure that this person has signed this very plan just now, with an authenticator of theirs.

    Args:
        nonce: Of the question, which has been taken; none if nobody asked.

    Raises:
        NotConfirmed: It does not hold; says why.
    """
    if nonce is None:
        raise NotConfirmed("not_asked", "Nobody asked for this signature just now, or it has been used already.")
    known = await authenticators.lock(tx, signed.id, address=caller.address)
    if known is None:
        raise NotConfirmed("strange_authenticator", "This authenticator is not one of yours.")
    agreement = _agreement(caller, approval, nonce)
    try:
        _require_plain(origin, agreement, known, signed)
        verified = verify_authentication_response(
            credential={
                "id": signed.id,
                "rawId": signed.id,
                "type": "public-key",
                "response": {
                    "clientDataJSON": signed.client_data,
                    "authenticatorData": signed.authenticator_data,
                    "signature": signed.signature,
                },
            },
            expected_challenge=agreement.challenge,
            expected_rp_id=_host(origin),
            expected_origin=origin,
            credential_public_key=known.public_key,
            credential_current_sign_count=known.sign_count,
            require_user_verification=True,
        )
    except NotConfirmed:
        raise
    except Exception as error:  # as above
        raise NotConfirmed("not_genuine", "What the authenticator has signed cannot be used.") from error
    await authenticators.use(tx, known.id, sign_count=verified.new_sign_count)
    return Assertion(
        agreement=agreement,
        authenticator=known.id,
        public_key=bytes_to_base64url(known.public_key),
        client_data=signed.client_data,
        authenticator_data=signed.authenticator_data,
        signature=signed.signature,
    )


def _require_plain(origin: str, agreement: Agreement, known: Authenticator, signed: Signed) -> None:
    """Refuse in plain words what people or thieves bring about; the library, asked afterwards, has one word for all."""
    said = parse_client_data_json(base64url_to_bytes(signed.client_data))
    about = parse_authenticator_data(base64url_to_bytes(signed.authenticator_data))
    if said.origin != origin:
        raise NotConfirmed(
            "other_site", f"This was signed on another site than {origin}.", "Open the approval there, and confirm."
        )
    if said.challenge != agreement.challenge:
        raise NotConfirmed("other_plan", "You have signed another plan than the one that is asked about now.")
    if not about.flags.uv:
        raise NotConfirmed(
            "nobody_verified",
            "The authenticator did not make sure that it was you.",
            "Set a PIN or a fingerprint on it, then confirm once more.",
        )
    if max(about.sign_count, known.sign_count) > 0 and about.sign_count <= known.sign_count:
        raise NotConfirmed(
            "count_went_back",
            "The authenticator has counted back: there may be a copy of it.",
            "Remove it on the page Authenticators, add another one, and tell whoever looks after security.",
        )


def _agreement(caller: Caller, approval: Approval, nonce: str) -> Agreement:
    return Agreement(
        approval=approval.id, person=caller.address.casefold(), plan_sha256=approval.plan_sha256, nonce=nonce
    )


def _descriptors(known: list[Authenticator]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=base64url_to_bytes(each.id)) for each in known]


def _host(origin: str) -> str:
    """The name that authenticators bind their keys to (Web Authentication Level 2, 5.1.2)."""
    host = urlsplit(origin).hostname
    if not host:
        raise InvalidInput(
            "Authenticators need to know at which address people reach this.",
            hint="The operator sets REGIE_PUBLIC_URL.",
        )
    return host
