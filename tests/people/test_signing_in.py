"""Signing in with a certified OpenID provider, and every way in which it must not succeed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from regie.core.audit import Event
from regie.core.errors import AuthFailed, Denied, Unavailable
from regie.gateway.identity_provider import SKEW_S
from regie.gateway_client import IdentityQuestion, SignInQuestion
from regie.store import accounts, audit, sessions
from regie.web.pages.visitor import BEFORE, COOKIE
from tests.leaves import read_outside

from ..counterparts.identity_provider import SECRET, serving, sign_in_at  # noqa: TID252  as elsewhere in tests
from ..web.stage import OPERATOR, FakeGateway, Stage  # noqa: TID252  as elsewhere in tests
from .conftest import ANSWER, PEOPLE, REGIE, SECRET_AT, STRANGER, Clocks, People, Swapped, provider_at

pytestmark = pytest.mark.slow

ZOE = "zoe.unal@example.com"


async def test_signing_in_and_out(people: People) -> None:
    answer = await people.sign_in("zoe", then="/runs?status=failed")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/runs?status=failed")
    cookie = next(line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{COOKIE}="))
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    shown = (await people.http.get("/runs")).text
    assert "Zoë Ünal-Ødegård" in shown
    first = people.http.cookies[COOKIE]

    await people.sign_in("zoe")
    second = people.http.cookies[COOKIE]
    assert second != first, "a session is rotated at each sign-in"
    async with people.database.reading() as tx:
        assert await sessions.find(tx, first) is None, "and the one before is over"
        found = await sessions.find(tx, second)
        [account] = await accounts.list_accounts(tx)
        events = [leaf.event for leaf in await read_outside(tx, "", "")]
    assert found is not None
    assert found.mfa_age_s is not None
    assert 0 <= found.mfa_age_s < 60, "a password and a one-time code are two factors"
    assert (account.address, account.groups, account.is_local) == (ZOE, ("soc",), False)
    assert sorted(events) == [Event.ACCOUNT_ADDED, Event.SESSION_BEGUN, Event.SESSION_BEGUN]

    csrf = shown.split('name="csrf" value="')[1].split('"')[0]
    refused = await people.http.post("/sign-out", data={"csrf": csrf}, headers={"Origin": "https://web"})
    assert refused.status_code == 403, "the form of a session that is over"
    csrf = (await people.http.get("/runs")).text.split('name="csrf" value="')[1].split('"')[0]
    left = await people.http.post("/sign-out", data={"csrf": csrf}, headers={"Origin": "https://web"})
    assert COOKIE not in people.http.cookies
    assert "Sign out of the identity provider too" in (await people.http.get(left.headers["Location"])).text
    people.http.cookies.set(COOKIE, second)
    assert (await people.http.get("/runs")).status_code == 303, "a cookie that was kept opens nothing"
    there = (await people.http.get("/sign-out/provider")).headers["Location"]
    assert there.startswith(f"{people.issuer}/session/end?client_id=regie&post_logout_redirect_uri=https%3A%2F%2Fweb")
    async with httpx2.AsyncClient(trust_env=False) as http:
        assert (await http.get(there)).status_code == 200, "the provider takes the address"


async def test_a_session_is_over_when_idle_and_at_last_in_any_case(people: People) -> None:
    for column, seconds in (("seen_at", sessions.IDLE_S), ("created_at", sessions.LONGEST_S)):
        await people.sign_in("wang")
        assert (await people.http.get("/runs")).status_code == 200
        async with people.database.transaction() as tx:
            statement = {
                "seen_at": "update regie.session set seen_at = seen_at - make_interval(secs => %(s)s)",
                "created_at": "update regie.session set created_at = created_at - make_interval(secs => %(s)s)",
            }[column]
            await tx.change(statement, {"s": seconds + 1})
        assert (await people.http.get("/runs")).headers["Location"] == "/sign-in?next=%2Fruns"


async def test_what_was_brought_back_counts_once_and_here_only(people: People) -> None:
    brought = await people.come_back("zoe")
    before = people.http.cookies[BEFORE]
    people.http.cookies.clear()
    people.http.cookies.set(BEFORE, "of another browser")
    elsewhere = await people.http.get(brought)
    assert (elsewhere.status_code, COOKIE in people.http.cookies) == (400, False)
    people.http.cookies.clear()
    people.http.cookies.set(BEFORE, before)
    several = await asyncio.gather(*(people.http.get(brought) for _ in range(5)))
    assert sorted(answer.status_code for answer in several) == [303, 400, 400, 400, 400]
    code = parse_qs(urlsplit(brought).query)["code"][0]
    again = parse_qs(urlsplit(await people.leave()).query)["state"][0]
    replayed = await people.http.get("/sign-in/answer", params={"state": again, "code": code, "iss": people.issuer})
    assert replayed.status_code == 403
    assert "invalid_grant" in replayed.text, "the provider itself refuses a code that was used"


async def test_a_sign_in_that_takes_too_long_is_begun_again(people: People) -> None:
    brought = await people.come_back("zoe")
    async with people.database.transaction() as tx:
        await tx.change("update regie.sign_in set begun_at = begun_at - make_interval(secs => 601)", {})
    answer = await people.http.get(brought)
    assert (answer.status_code, COOKIE in people.http.cookies) == (400, False)


async def test_what_the_browser_brings_is_looked_at(people: People) -> None:
    wrong = [
        {},
        {"code": "x"},
        {"state": "x", "code": "x"},
        {"state": "x" * 201, "code": "x"},
        {"state": "x", "code": "x" * 9000},
    ]
    for query in wrong:
        assert (await people.http.get("/sign-in/answer", params=query)).status_code in {400, 422}, query
    refused = await people.http.get(await people.come_back("nobody"))
    assert (refused.status_code, "did not sign you in" in refused.text) == (403, True)
    brought = await people.come_back("zoe")
    other = brought.replace(urlencode({"iss": people.issuer}), urlencode({"iss": "https://evil.example.com"}))
    assert other != brought
    mixed_up = await people.http.get(other)
    assert (mixed_up.status_code, "another identity provider" in mixed_up.text) == (403, True)
    assert COOKIE not in people.http.cookies


async def token_of(people: People, client: str, back_at: str, nonce: str) -> str:
    """A genuine ID token of the provider, for a client."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = {
        "client_id": client,
        "response_type": "code",
        "scope": "openid email profile groups",
        "redirect_uri": back_at,
        "state": "s",
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    brought = await sign_in_at(f"{people.issuer}/auth?{urlencode(query)}", "wang", back_at=back_at)
    async with httpx2.AsyncClient(trust_env=False, auth=(client, SECRET)) as http:
        body = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(brought).query)["code"][0],
            "redirect_uri": back_at,
            "code_verifier": verifier,
        }
        answer = await http.post(f"{people.issuer}/token", data=body)
    return str(answer.json()["id_token"])


async def refused_with(people: People, token: str) -> str:
    """Why a sign-in fails when the provider's answer is replaced by this token."""
    brought = await people.come_back("zoe")
    people.way.token = token
    answer = await people.http.get(brought)
    people.way.token = None
    assert (answer.status_code, COOKIE in people.http.cookies) == (403, False), answer.text
    return answer.text


async def test_tokens_for_others_of_others_and_forged_ones_do_not_count(people: People) -> None:
    for_another = await token_of(people, STRANGER.client_id, STRANGER.redirect_uri, "n")
    assert "it is for another audience" in await refused_with(people, for_another)
    of_another_sign_in = await token_of(people, REGIE.client_id, ANSWER, "n")
    assert "it belongs to another sign-in" in await refused_with(people, of_another_sign_in)

    claims = json.loads(base64.urlsafe_b64decode(of_another_sign_in.split(".")[1] + "=="))
    kid = json.loads(base64.urlsafe_b64decode(of_another_sign_in.split(".")[0] + "=="))["kid"]
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    none = f"{header}.{of_another_sign_in.split('.')[1]}."
    own_key = jwt.encode({"alg": "RS256", "kid": kid}, claims, RSAKey.generate_key(2048))
    by_secret = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))
    for forged in (none, own_key, by_secret, "", "a.b.c", of_another_sign_in[:-6] + "AAAAAA"):
        assert "its signature is not the provider" in await refused_with(people, forged), forged


@pytest.mark.parametrize(
    ("ahead_s", "fault"),
    [
        (SKEW_S - 15, ""),
        (15 - SKEW_S, ""),
        (300 + SKEW_S + 15, "it has expired: compare the clocks"),
        (-SKEW_S - 60, "it comes from the future: compare the clocks"),
    ],
)
async def test_clocks_may_differ_a_little(people: People, ahead_s: float, fault: str) -> None:
    people.clock.ahead_s = ahead_s
    answer = await people.sign_in("zoe")
    assert answer.status_code == (403 if fault else 303), answer.text
    assert fault in answer.text


async def test_an_address_is_one_persons(people: People) -> None:
    assert (await people.sign_in("zoe")).status_code == 303
    taken = await people.sign_in("mallory")
    assert (taken.status_code, "There is another account" in taken.text) == (403, True)
    for person in ("unverified", "unsure"):
        unverified = await people.sign_in(person)
        assert (unverified.status_code, "no verified address" in unverified.text) == (403, True), person


async def test_who_is_deactivated_is_nobody(people: People) -> None:
    await people.sign_in("zoe")
    async with people.database.transaction() as tx:
        await accounts.set_active(tx, ZOE, is_active=False, by=OPERATOR)
    assert (await people.http.get("/runs")).status_code == 303
    again = await people.sign_in("zoe")
    assert (again.status_code, "deactivated" in again.text) == (403, True)


DECIDED = {Event.APPROVAL_GRANTED, Event.APPROVAL_REFUSED}


async def test_a_decision_says_how_long_ago_a_second_factor_was_shown(people: People) -> None:
    stage = Stage(people.database, FakeGateway(), people.http)
    for person, trigger in (("zoe", "a"), ("vera", "b")):
        key = await stage.start(trigger=trigger)
        approval = await stage.ask(key, str(PEOPLE[person]["email"]))
        await people.sign_in(person)
        shown = (await people.http.get(f"/approvals/{approval}")).text
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', shown))
        # A yes to what takes something away needs the second factor; a no does not.
        said = {**hidden, "decision": "approved" if person == "zoe" else "refused"}
        answer = await people.http.post(f"/approvals/{approval}/decision", data=said, headers={"Origin": "https://web"})
        assert answer.status_code == 303, answer.text
        async with people.database.reading() as tx:
            [leaf] = [leaf for leaf in await audit.read(tx, key) if leaf.event in DECIDED]
        assert ("mfa_age_s" in leaf.fields) == (person == "zoe"), "one has signed in with a password alone"


async def test_nobody_uses_a_password_here(people: People) -> None:
    shown = (await people.http.get("/sign-in")).text
    assert "password" not in shown
    csrf = "x"
    answer = await people.http.post("/sign-in", data={"csrf": csrf}, headers={"Origin": "https://web"})
    assert answer.status_code == 403
    basic = await people.http.get("/v1/runs", auth=httpx2.BasicAuth(ZOE, "x"))
    assert basic.status_code == 401
    assert "Nobody signs in with a password here" in basic.json()["detail"]


async def test_a_provider_that_tells_little_is_asked(people: People, tmp_path: Path) -> None:
    with serving(tmp_path, [REGIE], PEOPLE, is_thin=True) as issuer:
        way = Swapped()
        provider = provider_at(issuer, people.vault, Clocks(), way)
        verifier = secrets.token_urlsafe(48)
        asked = SignInQuestion(redirect_uri=ANSWER, state="s", nonce="n", verifier=verifier)
        brought = await sign_in_at((await provider.address(asked)).address, "vera", back_at=ANSWER)
        code = parse_qs(urlsplit(brought).query)["code"][0]
        question = IdentityQuestion(code=code, redirect_uri=ANSWER, nonce="n", verifier=verifier, issuer=issuer)
        found = await provider.identity(question)
        assert (found.address, found.groups) == ("vera@example.com", ("watchers", "signers"))
        assert found.mfa_age_s is None
        with pytest.raises(Denied, match="invalid_grant"):
            await provider.identity(question.model_copy(update={"verifier": secrets.token_urlsafe(48)}))
        with pytest.raises(Denied, match="invalid_grant"):
            await provider.identity(question)
    people.vault.put("", SECRET_AT, "another secret")
    with pytest.raises((Unavailable, AuthFailed)):
        await provider.identity(question)
    await way.aclose()
