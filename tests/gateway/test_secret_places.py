"""Which backend keeps whose secrets: the file that says so, and what Keeper's limit means for a thousand steps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from textwrap import dedent

import httpx2
import pytest

from regie.core.errors import AuthFailed, DefinitionError, Throttled, Unavailable
from regie.core.tenant import SecretRef
from regie.gateway.backends import configuration
from regie.gateway.backends.configuration import Configuration
from regie.gateway.backends.fields import field_of
from regie.gateway.backends.keeper import MOST_REQUESTS, Keeper
from regie.gateway.backends.memory import Memory
from regie.gateway.backends.mounted import InEnvironment
from regie.gateway.backends.secrets import Secrets, opened
from regie.gateway.vault import NoSecret, SecretText, VaultFile
from regie_sandbox import keeper as imitation

from .places import Clock

TOKEN = SecretRef(domain="hr", name="token")
GOOD = """
    backends:
      cloud: { kind: aws_secrets_manager, region: eu-west-1, prefix: "regie/prod/", remember: 1m }
      mounted: { kind: files, folder: mounted }
    serving:
      - { tenants: [example-north], domains: [hr], backend: mounted }
      - { domains: [hr], backend: cloud }
"""


def read(tmp_path: Path, text: str) -> Configuration:
    file = tmp_path / "secrets.yaml"
    file.write_text(dedent(text), encoding="utf-8")
    return configuration.read(file)


def test_without_a_file_the_vault_serves_everybody(tmp_path: Path) -> None:
    assert configuration.read(tmp_path / "secrets.yaml").place("example-north", "hr") == "vault"


def test_the_first_line_that_fits_counts_and_the_vault_has_the_rest(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert found.place("example-north", "hr") == "mounted"
    assert found.place("example-south", "hr") == "cloud"
    assert found.place("example-north", "support") == "vault"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("backends: { cloud: { kind: aws_secrets_manger, region: x } }", 1, "aws_secrets_manager"),
        ("backends:\n  cloud: { kind: files, folder: x, regoin: y }", 2, "regoin"),
        ("backends:\n  vault: { kind: environment }\nserving:\n  - { backend: vault }", 2, "encrypted file"),
        (
            "backends:\n  a: { kind: environment }\nserving:\n  - { backend: b }\n  - { backend: a }",
            4,
            "no backend 'b'",
        ),
        ("backends:\n  a: { kind: environment }", 2, "serves nobody"),
        (
            "serving:\n  - { domains: [hr], backend: vault }\n  - { tenants: [x], domains: [hr], backend: vault }",
            3,
            "line 2",
        ),
        ("serving:\n  - { backend: vault }\n  - { domains: [hr], backend: vault }", 3, "never counts"),
        ("backends:\n  k: { kind: keeper, device: nowhere }\nserving:\n  - { backend: k }", 2, "No such file"),
        ("backends:\n  k: { kind: keeper, device: open }\nserving:\n  - { backend: k }", 2, "chmod 600"),
        (
            "backends:\n  c: { kind: aws_parameter_store, region: x, access_key: A }\nserving:\n  - { backend: c }",
            2,
            "come together",
        ),
        (
            "backends:\n  c: { kind: aws_parameter_store, region: x, role: A }\nserving:\n  - { backend: c }",
            2,
            "external_id",
        ),
        (
            "backends:\n  c: { kind: aws_parameter_store, region: x, remember: 2h }\nserving:\n  - { backend: c }",
            2,
            "stale is shorter",
        ),
        ("backends:\n  c: { kind: aws_parameter_store, region: x, remember: soon }", 2, "soon"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    (tmp_path / "open").write_text("x")
    (tmp_path / "open").chmod(0o644)
    with pytest.raises(DefinitionError) as caught:
        read(tmp_path, text)
    told = [fault for fault in caught.value.faults if message in str(fault)]
    assert told, caught.value
    assert told[0].line == line
    assert told[0].file == str(tmp_path / "secrets.yaml")


async def test_each_secret_comes_from_the_backend_that_keeps_it(tmp_path: Path) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    for tenant in ("example-north", "example-south"):
        vault.put(tenant, TOKEN, "of the vault")
    place = tmp_path / "mounted" / "example-north" / "hr"
    place.mkdir(parents=True)
    (place / "token").write_text("of the orchestrator\n")
    text = "backends: { m: { kind: files, folder: mounted } }\nserving: [{ tenants: [example-north], backend: m }]"
    secrets = opened(vault, read(tmp_path, text))
    assert (await secrets.get("example-north", TOKEN)).reveal() == "of the orchestrator"
    assert (await secrets.get("example-south", TOKEN)).reveal() == "of the vault"
    # A secret that lacks where it should be is not looked for elsewhere.
    (place / "token").unlink()
    with pytest.raises(NoSecret):
        await secrets.get("example-north", TOKEN)
    await secrets.aclose()


async def test_a_variable_of_one_domain_is_never_read_as_anothers() -> None:
    backend = InEnvironment({"A__B__C__D": "x", "A__B__C": "y"}.get)  # type: ignore[arg-type]  # None is as good as empty
    assert (await backend.get("a", SecretRef(domain="b", name="c", field="d"))).reveal() == "x"
    for other in (
        SecretRef(domain="b__c", name="d"),
        SecretRef(domain="b", name="c__d"),
        SecretRef(domain="b", name="c-_d"),
    ):
        with pytest.raises(NoSecret):
            await backend.get("a", other)


@pytest.mark.parametrize("document", ["plain", "[1]", '{"field": 7}', '{"field": ""}', '{"other": "x"}', "[" * 100_000])
def test_a_document_without_the_field_has_no_secret(document: str) -> None:
    with pytest.raises(NoSecret) as caught:
        field_of(document, "example-north", TOKEN.model_copy(update={"field": "field"}))
    assert "plain" not in str(caught.value)


class Stand:
    """Keeper's imitation and the backend in front of it, under one clock."""

    def __init__(self, *, remember_s: float = 300.0) -> None:
        self.clock = Clock()
        self.keeper = imitation.Keeper(self.clock)
        memory = Memory("test", remember_s=remember_s, stale_s=3600.0, clock=self.clock)
        transport = httpx2.MockTransport(self.keeper.handle)
        self.backend = Keeper("test", self.keeper.device(), memory, transport, self.clock)


async def test_a_thousand_steps_in_a_minute_ask_keeper_ten_times_at_most() -> None:
    stand = Stand(remember_s=1.0)
    for number in range(100):
        stand.keeper.put(f"example-north/hr/token-{number}", f"value {number}")
    for number in range(1000):
        reference = SecretRef(domain="hr", name=f"token-{number % 100}")
        found = await stand.backend.get("example-north", reference)
        assert found.reveal() == f"value {number % 100}"
        stand.clock.now += 0.06
    # More than one, so values are looked up anew; and fewer than the vendor allows, which the imitation refuses beyond.
    assert 1 < stand.keeper.requests <= MOST_REQUESTS < stand.keeper.limit == 10
    await stand.backend.aclose()


async def test_two_records_of_one_title_are_none() -> None:
    stand = Stand()
    stand.keeper.put("example-north/hr/token", "one")
    stand.keeper.put("example-north/hr/token", "other", twice=True)
    with pytest.raises(NoSecret, match="2 records"):
        await stand.backend.get("example-north", TOKEN)
    await stand.backend.aclose()


async def test_a_new_record_is_found_without_waiting_for_the_old_answer_to_end() -> None:
    stand = Stand()
    with pytest.raises(NoSecret):
        await stand.backend.get("example-north", TOKEN)
    stand.keeper.put("example-north/hr/token", "new")
    stand.clock.now += 15.0
    assert (await stand.backend.get("example-north", TOKEN)).reveal() == "new"
    await stand.backend.aclose()


async def test_a_revision_pins_a_record_until_it_changes() -> None:
    stand = Stand()
    revision = stand.keeper.put("example-north/hr/token", "one")
    pinned = TOKEN.model_copy(update={"version": str(revision)})
    assert (await stand.backend.get("example-north", pinned)).reveal() == "one"
    stand.keeper.put("example-north/hr/token", "two")
    stand.clock.now += 300.0
    with pytest.raises(NoSecret, match="another revision"):
        await stand.backend.get("example-north", pinned)
    await stand.backend.aclose()


async def test_when_keeper_says_how_long_it_is_left_alone_that_long() -> None:
    answers = [httpx2.Response(403, json={"error": "throttled", "retry_after": 90})]
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return answers[0]

    clock = Clock()
    memory = Memory("test", remember_s=300, stale_s=3600, clock=clock)
    backend = Keeper("test", imitation.Keeper().device(), memory, httpx2.MockTransport(handle), clock)
    for waited_s in (0.0, 60.0, 29.0):
        clock.now += waited_s
        with pytest.raises(Throttled) as caught:
            await backend.get("example-north", TOKEN)
        assert caught.value.after_s is not None
    assert len(seen) == 1
    clock.now += 2.0
    with pytest.raises(Throttled):
        await backend.get("example-north", TOKEN)
    assert len(seen) == 2
    await backend.aclose()


async def test_what_keeper_answers_with_something_else_is_no_end_of_the_gateway() -> None:
    bodies: list[httpx2.Response] = [
        httpx2.Response(200, content=b"no answer"),
        httpx2.Response(200, content=b""),
        httpx2.Response(403, content=b"<html>canary</html>"),
        httpx2.Response(400, json={"error": "key", "key_id": 9999}),
        httpx2.Response(500, json=["canary"]),
    ]
    for body in bodies:
        clock = Clock()
        memory = Memory("test", remember_s=300, stale_s=3600, clock=clock)
        transport = httpx2.MockTransport(lambda _, body=body: body)
        backend = Keeper("test", imitation.Keeper().device(), memory, transport, clock)
        with pytest.raises((AuthFailed, Unavailable, Throttled)) as caught:
            await backend.get("example-north", TOKEN)
        assert "canary" not in str(caught.value)
        await backend.aclose()


@pytest.mark.parametrize("device", ["", "no configuration", "e30=", '{"hostname": "x", "clientKey": "one-time"}'])
def test_a_device_that_was_never_bound_is_refused_at_once(device: str) -> None:
    memory = Memory("test", remember_s=300, stale_s=3600)
    with pytest.raises(AuthFailed):
        Keeper("test", device, memory, httpx2.MockTransport(lambda _: httpx2.Response(500)))


async def test_what_is_remembered_is_not_in_memory_in_clear() -> None:
    canary = "canary-0c6f5e"
    memory = Memory("test", remember_s=300, stale_s=3600)

    async def fetch() -> str:
        return canary

    found = await memory.get("x", fetch, str, None)
    assert found.reveal() == canary
    [place] = memory._places.values()
    assert canary.encode() not in place.sealed


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory("test", remember_s=300, stale_s=3600)

    async def fetch() -> str:
        return "x"

    monkeypatch.setattr("regie.gateway.backends.memory.MOST_PLACES", 10)
    await asyncio.gather(*(memory.get(f"place {number}", fetch, str, None) for number in range(50)))
    await memory.get("last", fetch, str, None)
    assert len(memory._places) <= 11


def test_secrets_are_the_same_by_value() -> None:
    assert SecretText("ż").is_same(SecretText("ż"))
    assert not SecretText("x").is_same(SecretText("y"))


async def test_what_the_gateway_makes_itself_stays_in_the_vault(tmp_path: Path) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    secrets = Secrets(vault, {}, lambda tenant, domain: "elsewhere")
    made = await secrets.vault.make("example-north", TOKEN, lambda: "made")
    assert made.reveal() == (await vault.get("example-north", TOKEN)).reveal() == "made"
