"""Authentication towards outside systems: the right header, one token for many requests, no secret in any error."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs

import httpx2
import pytest

from regie.core.errors import AuthFailed, RegieError, Throttled, Unavailable
from regie.gateway.authentication import EARLY_S, LARGEST_TOKEN_ANSWER, Basic, Bearer, ClientCredentials
from regie.gateway.vault import SecretText
from regie.kit.session import LONGEST_WAIT_S, Session

CANARY = "canary-7f3a9c55e1"


async def secret(refused: SecretText | None = None) -> SecretText:
    return SecretText(CANARY)


class World:
    """A token endpoint and an API behind it."""

    def __init__(self, *, token_answer: Callable[[int], httpx2.Response] | None = None) -> None:
        self.issued = 0
        self.accepted: set[str] = set()
        self.seen: list[str] = []
        self.forms: list[dict[str, list[str]]] = []
        self.token_answer = token_answer
        self.lifetime_s = 3600
        self.now = 1000.0

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(0)
        if request.url.path == "/token":
            self.issued += 1
            self.forms.append(parse_qs(request.content.decode()))
            if self.token_answer:
                return self.token_answer(self.issued)
            self.accepted.add(f"t{self.issued}")
            return httpx2.Response(200, json={"access_token": f"t{self.issued}", "expires_in": self.lifetime_s})
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.seen.append(token)
        return httpx2.Response(200 if token in self.accepted else 401)

    def client(self) -> httpx2.AsyncClient:
        transport = httpx2.MockTransport(self.handle)
        authentication = ClientCredentials(
            token_url="https://login.example.com/token",
            client_id="app",
            secret=secret,
            scope="https://api.example.com/.default",
            transport=transport,
            clock=lambda: self.now,
        )
        return httpx2.AsyncClient(transport=transport, auth=authentication, base_url="https://api.example.com")


async def test_basic_sends_account_and_secret() -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")))

    auth = Basic("bot@example.com", secret)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), auth=auth) as client:
        answer = await client.get("https://api.example.com/")

    assert answer.text == f"bot@example.com:{CANARY}"
    assert CANARY not in repr(auth)


async def test_many_requests_at_once_share_one_token() -> None:
    world = World()
    async with world.client() as client:
        answers = await asyncio.gather(*(client.get("/users") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert world.issued == 1
    assert world.forms == [
        {
            "grant_type": ["client_credentials"],
            "client_id": ["app"],
            "client_secret": [CANARY],
            "scope": ["https://api.example.com/.default"],
        }
    ]


async def test_a_token_is_renewed_a_minute_before_its_end_and_not_earlier() -> None:
    world = World()
    async with world.client() as client:
        await client.get("/users")
        world.now += world.lifetime_s - EARLY_S - 1
        await client.get("/users")
        assert world.issued == 1
        world.now += 1
        await client.get("/users")

    assert world.seen == ["t1", "t1", "t2"]


async def test_a_refused_token_is_renewed_once_for_everybody() -> None:
    world = World()
    async with world.client() as client:
        await client.get("/users")
        world.accepted.clear()
        answers = await asyncio.gather(*(client.get("/users") for _ in range(10)))

    assert {answer.status_code for answer in answers} == {200}
    assert world.issued == 2


async def test_a_second_refusal_is_passed_on() -> None:
    world = World(token_answer=lambda n: httpx2.Response(200, json={"access_token": f"bad{n}", "expires_in": 3600}))
    async with world.client() as client:
        answer = await client.get("/users")

    assert answer.status_code == 401
    assert world.seen == ["bad1", "bad2"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx2.Response(401, json={"error": "invalid_client"}), AuthFailed),
        (httpx2.Response(400, json={"error": "invalid_scope"}), AuthFailed),
        (httpx2.Response(429, headers={"Retry-After": "7"}), Throttled),
        (httpx2.Response(503), Unavailable),
        (httpx2.Response(200, text="<html>"), Unavailable),
        (httpx2.Response(200, json={"token_type": "Bearer"}), Unavailable),
        (httpx2.Response(200, json=[]), Unavailable),
    ],
)
async def test_each_refusal_of_the_token_endpoint_has_its_class(
    answer: httpx2.Response, kind: type[RegieError]
) -> None:
    world = World(token_answer=lambda _: answer)
    async with world.client() as client:
        with pytest.raises(kind) as caught:
            await client.post("/users")

    assert world.seen == []
    assert CANARY not in repr(caught.value)
    if isinstance(caught.value, Throttled):
        assert caught.value.after_s == 7


async def test_a_silent_token_endpoint_is_unavailable_rather_than_an_unknown_outcome() -> None:
    def silent(_: int) -> httpx2.Response:
        raise httpx2.ReadTimeout("nothing came")

    async with World(token_answer=silent).client() as client:
        with pytest.raises(Unavailable) as caught:
            await client.post("/users")

    assert caught.value.__cause__ is None


async def dripping() -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(0.01)
        yield b" "


async def silent() -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield b""


def token(value: str = "t", lifetime: str = "3600") -> bytes:
    return f'{{"access_token": {json.dumps(value)}, "expires_in": {lifetime}}}'.encode()


@pytest.mark.parametrize(
    "content",
    [
        silent,
        dripping,
        lambda: gzip.compress(token())[:-12],
        lambda: b"no gzip",
        lambda: gzip.compress(b"[" * 100_000),
        lambda: gzip.compress(token("")),
        lambda: gzip.compress(token("two\nlines")),
        lambda: gzip.compress(token("Zoë")),
        lambda: gzip.compress(token(lifetime="NaN")),
        lambda: gzip.compress(token(lifetime="1e999")),
        lambda: gzip.compress(token(lifetime="1" * 400)),
    ],
    ids=["silent", "dripping", "torn", "undecodable", "deep", "empty", "lines", "no ascii", "nan", "endless", "long"],
)
async def test_whatever_is_wrong_with_a_token_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, content: Callable[[], AsyncIterator[bytes] | bytes]
) -> None:
    monkeypatch.setattr("regie.gateway.authentication.TOKEN_TIMEOUT_S", 0.1)
    headers = {} if content in {silent, dripping} else {"Content-Encoding": "gzip"}
    world = World(token_answer=lambda _: httpx2.Response(200, headers=headers, content=content()))
    async with world.client() as client:
        with pytest.raises(Unavailable) as caught:
            await Session(client, vendor="Vendor").post("/users", json={})

    assert world.seen == []
    assert "token endpoint" in caught.value.message


async def test_an_endless_answer_of_a_token_endpoint_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 4096

    async with World(token_answer=lambda _: httpx2.Response(200, content=endless())).client() as client:
        with pytest.raises(Unavailable):
            await Session(client, vendor="Vendor").post("/users", json={})

    assert sent <= LARGEST_TOKEN_ANSWER // 4096 + 1


@pytest.mark.parametrize(
    ("said", "after_s"),
    [("7", 7.0), ("9" * 15, LONGEST_WAIT_S), ("9" * 400, LONGEST_WAIT_S), ("\xb2", None), ("soon", None)],
)
async def test_a_token_endpoint_cannot_ask_us_to_wait_for_ages(said: str, after_s: float | None) -> None:
    headers = [(b"Retry-After", said.encode("latin-1"))]
    world = World(token_answer=lambda _: httpx2.Response(429, headers=headers))
    async with world.client() as client:
        with pytest.raises(Throttled) as caught:
            await client.get("/users")

    assert caught.value.after_s == after_s


async def test_a_token_that_was_given_out_is_sent_as_it_is() -> None:
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["Authorization"])
        return httpx2.Response(401)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), auth=Bearer(secret)) as client:
        await client.get("https://api.example.com/x")
    assert seen == [f"Bearer {CANARY}"]  # nothing can be renewed, so it is not tried again


class Rotating:
    """A secret of which the gateway remembers an old value."""

    def __init__(self, remembered: str, newest: str) -> None:
        self.remembered = remembered
        self.newest = newest
        self.anew = 0

    async def __call__(self, refused: SecretText | None = None) -> SecretText:
        if refused is not None:
            self.anew += 1
            self.remembered = self.newest
        return SecretText(self.remembered)


@pytest.mark.parametrize("kind", [Bearer, lambda secret: Basic("bot", secret)])
@pytest.mark.parametrize(("newest", "status", "requests"), [("new", 200, 2), ("old", 401, 1), ("wrong", 401, 2)])
async def test_after_a_401_a_newer_secret_is_tried_once(
    kind: Callable[[Rotating], httpx2.Auth], newest: str, status: int, requests: int
) -> None:
    shown: list[str] = []
    good = {"Bearer new", "Basic " + base64.b64encode(b"bot:new").decode()}

    def handle(request: httpx2.Request) -> httpx2.Response:
        shown.append(request.headers["Authorization"])
        return httpx2.Response(200 if shown[-1] in good and request.content == b"body" else 401)

    secret = Rotating("old", newest)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), auth=kind(secret)) as client:
        answer = await client.post("https://api.example.com/", content=b"body")

    assert answer.status_code == status
    assert len(shown) == requests
    assert secret.anew == 1


@pytest.mark.parametrize("status", [400, 401])
async def test_a_token_endpoint_is_shown_a_newer_secret_once(status: int) -> None:
    forms: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path != "/token":
            return httpx2.Response(200)
        forms.append(parse_qs(request.content.decode())["client_secret"][0])
        if forms[-1] != "new":
            return httpx2.Response(status, json={"error": "invalid_client"})
        return httpx2.Response(200, json={"access_token": "t", "expires_in": 3600})

    transport = httpx2.MockTransport(handle)
    auth = ClientCredentials(
        token_url="https://login.example.com/token",
        client_id="app",
        secret=Rotating("old", "new"),
        scope="all",
        transport=transport,
    )
    async with httpx2.AsyncClient(transport=transport, auth=auth) as client:
        assert (await client.get("https://api.example.com/users")).is_success

    assert forms == ["old", "new"]
