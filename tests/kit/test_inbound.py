"""Only what the vendor signed gets in."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.errors import Denied
from regie.kit.inbound import InboundRule, delivery_of

RULE = InboundRule(
    signature="hmac-sha256",
    header="X-Hub-Signature",
    prefix="sha256=",
    delivery_header="X-Delivery",
    secret="webhook",
)


def signed(body: bytes, secret: str) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature": f"sha256={digest}", "X-DELIVERY": "delivery-1"}


@given(body=st.binary(), secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_signed_webhook_gives_its_delivery(body: bytes, secret: str) -> None:
    assert delivery_of(RULE, signed(body, secret), body, secret) == "delivery-1"


@given(body=st.binary(min_size=1), place=st.integers(min_value=0), flip=st.integers(1, 255))
def test_any_other_body_is_refused(body: bytes, place: int, flip: int) -> None:
    other = bytearray(body)
    other[place % len(body)] ^= flip
    with pytest.raises(Denied):
        delivery_of(RULE, signed(body, "secret"), bytes(other), "secret")


def test_a_published_example() -> None:
    # developer.atlassian.com/cloud/jira/platform/webhooks, "Secure admin webhooks"
    headers = {
        "X-Hub-Signature": "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
        "X-Delivery": "d",
    }
    assert delivery_of(RULE, headers, b"Hello World!", "It's a Secret to Everybody") == "d"


@pytest.mark.parametrize("value", ["", "sha256=", "sha256=é", "0" * 64])
def test_a_wrong_signature_is_refused(value: str) -> None:
    with pytest.raises(Denied):
        delivery_of(RULE, {"X-Hub-Signature": value, "X-Delivery": "d"}, b"{}", "secret")


def test_missing_headers_are_refused() -> None:
    with pytest.raises(Denied):
        delivery_of(RULE, {}, b"{}", "secret")
    for delivery in ("", "a b", "x" * 201):
        with pytest.raises(Denied):
            delivery_of(RULE, signed(b"{}", "secret") | {"X-DELIVERY": delivery}, b"{}", "secret")


def test_an_empty_secret_proves_nothing() -> None:
    with pytest.raises(Denied):
        delivery_of(RULE, signed(b"{}", ""), b"{}", "")
