"""The worker's side: errors come back as what they were, and a gateway that is away can be asked again."""

import json
from collections.abc import Callable

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core import errors
from regie.core.capabilities import identity
from regie.core.errors import Failure, Refused, RegieError, Retryable, Unavailable, WorldMoved
from regie.gateway_client import GatewayClient, Problem, StepRef

REF = StepRef(tenant="acme", domain="identity", run="r", place="p", fence=1)
JAN = identity.UserQuery(user="jan@example.com")
WORDS = st.text(max_size=30)
HINTS = st.one_of(st.none(), WORDS)
PLAIN = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, RegieError)
    and kind not in {WorldMoved, Refused, errors.DefinitionError}
    and not issubclass(kind, Retryable)
]
LATER = [Retryable, *Retryable.__subclasses__()]

ERRORS = st.one_of(
    st.builds(lambda kind, message, hint: kind(message, hint=hint), st.sampled_from(PLAIN), WORDS, HINTS),
    st.builds(
        lambda kind, message, after_s, hint: kind(message, after_s=after_s, hint=hint),
        st.sampled_from(LATER),
        WORDS,
        st.one_of(st.none(), st.floats(0, 1e6)),
        HINTS,
    ),
    st.builds(
        lambda message, approved, found, hint: WorldMoved(message, approved=approved, found=found, hint=hint),
        WORDS,
        WORDS,
        WORDS,
        HINTS,
    ),
    st.builds(
        lambda message, status, code, hint: Refused(message, status=status, code=code, hint=hint),
        WORDS,
        st.integers(400, 499),
        WORDS,
        HINTS,
    ),
)


@given(error=ERRORS)
def test_every_error_survives_the_trip(error: RegieError) -> None:
    sent = Problem.of(error, 400).model_dump_json()

    got = Problem.model_validate_json(sent).error()

    assert type(got) is type(error)
    assert str(got) == str(error)
    assert Failure.of(got) == Failure.of(error)
    assert {**vars(got)} == {**vars(error)}


def client(handle: Callable[[httpx2.Request], httpx2.Response]) -> GatewayClient:
    return GatewayClient("http://gateway", "t", transport=httpx2.MockTransport(handle))


def fails_with(error: Exception) -> Callable[[httpx2.Request], httpx2.Response]:
    def handle(request: httpx2.Request) -> httpx2.Response:
        raise error

    return handle


@pytest.mark.parametrize(
    "handle",
    [
        fails_with(httpx2.ConnectError("refused")),
        fails_with(httpx2.ReadError("reset")),
        fails_with(httpx2.ReadTimeout("silence")),
        fails_with(httpx2.RemoteProtocolError("cut")),
        lambda request: httpx2.Response(500, text="Internal Server Error"),
        lambda request: httpx2.Response(502, json={"detail": "no"}),
        lambda request: httpx2.Response(200, text="half an ans"),
        lambda request: httpx2.Response(200, json={"state": "of the art"}),
    ],
)
async def test_a_gateway_that_does_not_answer_can_be_asked_again(
    handle: Callable[[httpx2.Request], httpx2.Response],
) -> None:
    async with client(handle) as asking:
        with pytest.raises(Unavailable):
            await asking.call(REF, identity.LIST_ACCESS, JAN)
        with pytest.raises(Unavailable):
            await asking.apply(REF, identity.DISABLE_ACCOUNT, JAN)


async def test_a_gateway_that_is_not_there_is_unavailable() -> None:
    async with GatewayClient("http://127.0.0.1:1", "t") as asking:
        with pytest.raises(Unavailable, match="ConnectError"):
            await asking.call(REF, identity.LIST_ACCESS, JAN)


async def test_an_error_of_an_unknown_class_stays_an_error_that_is_not_retried() -> None:
    problem = Problem.of(RegieError("odd"), 500).model_dump(mode="json")
    problem["failure"]["kind"] = "Invented"

    async with client(lambda request: httpx2.Response(500, content=json.dumps(problem))) as asking:
        with pytest.raises(RegieError) as caught:
            await asking.call(REF, identity.LIST_ACCESS, JAN)

    assert type(caught.value) is RegieError
