"""One suite for every place where secrets may be kept: what the gateway may rely on, whichever it is."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from regie.core.errors import AuthFailed, RegieError, Throttled, Unavailable
from regie.core.tenant import SecretRef
from regie.gateway.aws_credentials import AwsClients, AwsPlace
from regie.gateway.backends.aws import SecretsManager
from regie.gateway.backends.memory import AGAIN_S
from regie.gateway.vault import NoSecret, SecretText
from tests.counterparts.aws import REGION, aws
from tests.counterparts.aws import Aws as Cloud
from tests.counterparts.here import HERE

from .places import (
    REMEMBER_S,
    STALE_S,
    Clients,
    InKeeper,
    InParameterStore,
    InSecretsManager,
    InVault,
    Mounted,
    Place,
    Variables,
    slowing_down,
)

pytestmark = pytest.mark.slow

UNICODE = "Zażółć 𝕒 \u202e ' \" \\ {{ $x }} \t line\nline"
TROUBLES = {"denied": AuthFailed, "throttled": Throttled, "unreachable": Unavailable}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    allowed = ["secretsmanager:GetSecretValue", "ssm:GetParameter", "sts:AssumeRole"]
    with aws(allowed) as running:
        yield running


@pytest.fixture(scope="module")
def nobody(cloud: Cloud) -> tuple[str, str]:
    return cloud.who_may([])


@pytest.fixture(scope="module")
def throttling() -> Iterator[str]:
    with slowing_down() as address:
        yield address


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    made = Clients()
    yield made
    asyncio.run(made.aclose())


PLACES: dict[str, tuple[type[Place], Callable[[pytest.FixtureRequest], Place]]] = {
    "vault": (InVault, lambda asked: InVault(asked.getfixturevalue("tmp_path"))),
    "files": (Mounted, lambda asked: Mounted(asked.getfixturevalue("tmp_path"))),
    "environment": (Variables, lambda _: Variables()),
    "keeper": (InKeeper, lambda _: InKeeper()),
    "secrets_manager": (InSecretsManager, lambda asked: InSecretsManager(*_of_aws(asked))),
    "parameter_store": (InParameterStore, lambda asked: InParameterStore(*_of_aws(asked))),
}
MET = [(name, trouble) for name, (kind, _) in PLACES.items() for trouble in TROUBLES if trouble in kind.can]
"""Each place with each trouble that it can have."""
OUTLIVED = [(name, trouble) for name, trouble in MET if PLACES[name][0].is_remembered and trouble != "denied"]
"""Those that what is remembered outlives for a while."""


def _of_aws(asked: pytest.FixtureRequest) -> tuple[Cloud, tuple[str, str], str, Clients]:
    cloud, nobody = asked.getfixturevalue("cloud"), asked.getfixturevalue("nobody")
    return cloud, nobody, asked.getfixturevalue("throttling"), asked.getfixturevalue("clients")


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    _, make = PLACES[request.param]
    made = make(request)
    yield made
    await made.aclose()


@pytest.fixture
def reference() -> SecretRef:
    """A secret that no other test has put where all of them put theirs."""
    return SecretRef(domain="hr", name=f"token-{secrets.token_hex(4)}")


async def value(place: Place, reference: SecretRef, tenant: str = "example-north") -> str:
    return (await place.backend.get(tenant, reference)).reveal()


async def test_what_was_put_is_found(place: Place, reference: SecretRef) -> None:
    place.put("example-north", reference, UNICODE)
    assert await value(place, reference) == UNICODE


async def test_what_nobody_put_is_missing_and_not_denied(place: Place, reference: SecretRef) -> None:
    place.put("example-north", reference, "x")
    for tenant, asked in (
        ("example-north", reference.model_copy(update={"name": f"{reference.name}-x"})),
        ("example-north", reference.model_copy(update={"domain": "support"})),
        ("example", reference),
        ("example-south", reference),
    ):
        with pytest.raises(NoSecret):
            await value(place, asked, tenant)


async def test_each_tenant_and_domain_has_its_own(place: Place, reference: SecretRef) -> None:
    other = reference.model_copy(update={"domain": "support"})
    for number, (tenant, asked) in enumerate(
        (t, r) for t in ("example-north", "example-south") for r in (reference, other)
    ):
        place.put(tenant, asked, f"value {number}")
    assert [await value(place, r, t) for t in ("example-north", "example-south") for r in (reference, other)] == [
        f"value {number}" for number in range(4)
    ]


async def test_a_field_of_several(place: Place, reference: SecretRef) -> None:
    place.put_fields("example-north", reference, {"client_id": "id", "client_secret": UNICODE})
    assert await value(place, reference.model_copy(update={"field": "client_secret"})) == UNICODE
    with pytest.raises(NoSecret):
        await value(place, reference.model_copy(update={"field": "another"}))


async def test_an_older_version_is_given_by_name_or_not_at_all(place: Place, reference: SecretRef) -> None:
    first = place.put("example-north", reference, "first") or "1"
    place.put("example-north", reference, "second")
    assert await value(place, reference) == "second"
    older = reference.model_copy(update={"version": first})
    if place.has_versions:
        assert await value(place, older) == "first"
    else:
        with pytest.raises(NoSecret):
            await value(place, older)
    with pytest.raises(NoSecret):
        await value(place, reference.model_copy(update={"version": "77"}))


async def test_a_large_one(place: Place, reference: SecretRef) -> None:
    large = secrets.token_hex(place.largest // 2)
    place.put("example-north", reference, large)
    assert await value(place, reference) == large


def test_every_place_but_variables_can_be_in_trouble() -> None:
    assert {name for name, _ in MET} == {*PLACES} - {"environment"}
    assert {name for name, _ in OUTLIVED} == {"keeper", "secrets_manager", "parameter_store"}


@pytest.mark.parametrize(("place", "trouble"), MET, indirect=["place"])
async def test_troubles_are_told_apart(place: Place, reference: SecretRef, trouble: str) -> None:
    place.put("example-north", reference, "canary-5d1f0c")
    place.break_by(trouble)
    with pytest.raises(RegieError) as caught:
        await value(place, reference)
    assert isinstance(caught.value, TROUBLES[trouble])
    assert not isinstance(caught.value, NoSecret)
    assert "canary" not in str(caught.value)


async def test_two_at_once_get_the_same_and_one_asks(place: Place, reference: SecretRef) -> None:
    place.put("example-north", reference, "shared")
    found = await asyncio.gather(*(value(place, reference) for _ in range(50)))
    assert set(found) == {"shared"}
    assert place.asked() == (1 if place.is_remembered else 0)


async def test_a_new_value_counts_at_once_where_the_old_one_was_turned_down(place: Place, reference: SecretRef) -> None:
    place.put("example-north", reference, "old")
    old = await place.backend.get("example-north", reference)
    place.clock.now += AGAIN_S
    place.put("example-north", reference, "new")
    found = await place.backend.get("example-north", reference, old)
    assert found.reveal() == "new"
    assert await value(place, reference) == "new"


async def test_a_new_value_counts_after_a_while_by_itself(place: Place, reference: SecretRef) -> None:
    place.put("example-north", reference, "old")
    assert await value(place, reference) == "old"
    place.put("example-north", reference, "new")
    place.clock.now += REMEMBER_S
    assert await value(place, reference) == "new"


async def test_a_value_that_is_turned_down_again_and_again_is_not_looked_up_as_often(
    place: Place, reference: SecretRef
) -> None:
    place.put("example-north", reference, "wrong")
    for _ in range(30):
        found = await place.backend.get("example-north", reference)
        await place.backend.get("example-north", reference, found)
        place.clock.now += 1.0
    assert place.asked() <= 30 / AGAIN_S + 1


@pytest.mark.parametrize(("place", "trouble"), OUTLIVED, indirect=["place"])
async def test_what_is_known_is_used_on_while_nobody_answers_but_not_for_ever(
    place: Place, reference: SecretRef, trouble: str
) -> None:
    place.put("example-north", reference, "known")
    assert await value(place, reference) == "known"
    place.break_by(trouble)
    asked = place.asked()
    place.clock.now += REMEMBER_S
    assert {await value(place, reference) for _ in range(5)} == {"known"}
    assert place.asked() - asked <= 1
    place.clock.now += STALE_S
    with pytest.raises(TROUBLES[trouble]):
        await value(place, reference)


@pytest.mark.parametrize("place", [name for name, trouble in MET if trouble == "denied"], indirect=True)
async def test_what_is_denied_is_not_used_on(place: Place, reference: SecretRef) -> None:
    place.put("example-north", reference, "known")
    assert await value(place, reference) == "known"
    place.break_by("denied")
    place.clock.now += REMEMBER_S
    for _ in range(2):
        with pytest.raises(AuthFailed):
            await value(place, reference)


@pytest.mark.parametrize("allowed", ["secretsmanager:GetSecretValue", "secretsmanager:ListSecrets"])
async def test_what_a_role_may_is_what_counts_when_one_is_taken_on(
    cloud: Cloud, clients: Clients, reference: SecretRef, allowed: str
) -> None:
    iam, name = cloud.client("iam"), f"role-{secrets.token_hex(4)}"
    anybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [anybody]})
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=json.dumps(policy))
    filled = InSecretsManager(cloud, ("", ""), "", clients)
    filled.put("example-north", reference, "of the other account")

    async def secret(refused: SecretText | None = None) -> SecretText:
        return SecretText(cloud.secret_key)

    place = AwsPlace(REGION, cloud.access_key, endpoint=cloud.endpoint, role=arn, external_id="example-4711")
    under_role = AwsClients(place, secret, HERE)
    backend = SecretsManager(under_role.client, filled.prefix, filled.memory())
    if allowed.endswith("GetSecretValue"):
        assert (await backend.get("example-north", reference)).reveal() == "of the other account"
    else:
        with pytest.raises(AuthFailed) as caught:
            await backend.get("example-north", reference)
        assert not isinstance(caught.value, NoSecret)
    await under_role.aclose()
