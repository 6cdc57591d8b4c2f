"""Only what the vendor signed gets in."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.core.errors import Denied, InvalidInput
from regie.kit.inbound import SignedBody, SignedMoment, delivery_of, payload_of

NOW = 1_700_000_000
RULE = SignedBody(
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
    assert delivery_of(RULE, signed(body, secret), body, secret, now_s=NOW) == "delivery-1"


@given(body=st.binary(min_size=1), place=st.integers(min_value=0), flip=st.integers(1, 255))
def test_any_other_body_is_refused(body: bytes, place: int, flip: int) -> None:
    other = bytearray(body)
    other[place % len(body)] ^= flip
    with pytest.raises(Denied):
        delivery_of(RULE, signed(body, "secret"), bytes(other), "secret", now_s=NOW)


def test_a_published_example() -> None:
    # developer.atlassian.com/cloud/jira/platform/webhooks, "Secure admin webhooks"
    headers = {
        "X-Hub-Signature": "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
        "X-Delivery": "d",
    }
    assert delivery_of(RULE, headers, b"Hello World!", "It's a Secret to Everybody", now_s=NOW) == "d"


@pytest.mark.parametrize("value", ["", "sha256=", "sha256=é", "0" * 64])
def test_a_wrong_signature_is_refused(value: str) -> None:
    with pytest.raises(Denied):
        delivery_of(RULE, {"X-Hub-Signature": value, "X-Delivery": "d"}, b"{}", "secret", now_s=NOW)


def test_missing_headers_are_refused() -> None:
    with pytest.raises(Denied):
        delivery_of(RULE, {}, b"{}", "secret", now_s=NOW)
    for delivery in ("", "a b", "x" * 201):
        with pytest.raises(Denied):
            delivery_of(RULE, signed(b"{}", "secret") | {"X-DELIVERY": delivery}, b"{}", "secret", now_s=NOW)


def test_an_empty_secret_proves_nothing() -> None:
    with pytest.raises(Denied):
        delivery_of(RULE, signed(b"{}", ""), b"{}", "", now_s=NOW)


MOMENT = SignedMoment(
    signature="hmac-sha256-moment",
    header="X-Slack-Signature",
    version="v0",
    moment_header="X-Slack-Request-Timestamp",
    fresh_s=300,
    form_field="payload",
    secret="signing_secret",
)


def signed_at(body: bytes, secret: str, moment: int) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"v0:{moment}:".encode() + body, hashlib.sha256).hexdigest()
    return {"x-slack-signature": f"v0={digest}", "X-SLACK-REQUEST-TIMESTAMP": str(moment)}


def test_a_published_example_with_its_moment() -> None:
    # docs.slack.dev/authentication/verifying-requests-from-slack
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
        b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F"
        b"96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    assert delivery_of(MOMENT, headers, body, "8f742231b10e8888abcd99yyyzzz85a5", now_s=1531420620)


@given(body=st.binary(), late=st.integers(-300, 300))
def test_what_is_fresh_is_known_by_its_bytes_and_its_moment(body: bytes, late: int) -> None:
    one = delivery_of(MOMENT, signed_at(body, "s", NOW), body, "s", now_s=NOW + late)
    again = delivery_of(MOMENT, signed_at(body, "s", NOW), body, "s", now_s=NOW)
    later = delivery_of(MOMENT, signed_at(body, "s", NOW + 1), body, "s", now_s=NOW)
    assert one == again != later


@pytest.mark.parametrize("late", [-301, 301, 10**9])
def test_what_somebody_may_have_kept_proves_nothing(late: int) -> None:
    with pytest.raises(Denied, match="not of now"):
        delivery_of(MOMENT, signed_at(b"{}", "s", NOW), b"{}", "s", now_s=NOW + late)


@pytest.mark.parametrize("moment", ["", "now", "-5", "1e9", "9" * 13, "١"])
def test_a_moment_that_is_none_is_refused(moment: str) -> None:
    headers = signed_at(b"{}", "s", NOW) | {"X-SLACK-REQUEST-TIMESTAMP": moment}
    with pytest.raises(Denied):
        delivery_of(MOMENT, headers, b"{}", "s", now_s=NOW)


@given(body=st.binary(min_size=1), place=st.integers(min_value=0), flip=st.integers(1, 255))
def test_another_body_moment_or_secret_is_refused(body: bytes, place: int, flip: int) -> None:
    other = bytearray(body)
    other[place % len(body)] ^= flip
    headers = signed_at(body, "s", NOW)
    for given_headers, given_body, secret in (
        (headers, bytes(other), "s"),
        (headers | {"X-SLACK-REQUEST-TIMESTAMP": str(NOW + 1)}, body, "s"),
        (headers, body, "t"),
    ):
        with pytest.raises(Denied):
            delivery_of(MOMENT, given_headers, given_body, secret, now_s=NOW)


def test_the_json_is_read_from_body_or_form() -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert payload_of(MOMENT, form, b"x=1&payload=%7B%22a%22%3A%22%C5%81%22%7D") == {"a": "Ł"}
    assert payload_of(MOMENT, {"content-type": "application/json"}, b'{"a": 1}') == {"a": 1}
    assert payload_of(RULE, form, b'{"a": 1}') == {"a": 1}
    for headers, body in ((form, b"payload="), (form, b"other=1"), (form, b"\xff"), ({}, b"payload=%7B%7D")):
        with pytest.raises(InvalidInput):
            payload_of(MOMENT, headers, body)


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b'{"a": "X \\ud83d", "\\ude00": ["\\ude00\\ud83d"]}', {"a": "X \ufffd", "\ufffd": ["\ufffd\ufffd"]}),
        (b'{"a": "\\ud83d\\ude00 \xf0\x9f\x98\x80"}', {"a": "\U0001f600 \U0001f600"}),
    ],
)
def test_half_a_character_in_a_text_is_replaced_and_a_whole_one_is_kept(body: bytes, payload: JsonValue) -> None:
    assert payload_of(RULE, {}, body) == payload
