"""Words that belong in one place only, put into a running installation where people and vendors would put theirs.

Two customers in two domains: each place has a word of its own in inputs, an address of its own, and secrets of its own.
Wherever a word is found later, it is known whose it is.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field

import httpx2
import yaml

from regie.cli.installation import Installation, operator
from regie.cli.worlds.sandbox import asked, jira, secrets_of_desk_and_chat
from regie.core.tenant import SecretRef
from regie.gateway.keeping import keep_secrets
from regie.store import accounts

from .conftest import Stage

TENANTS = ("north", "south")
DOMAINS = ("identity", "desk")
PASSWORD = "a password of the tests"
WORKFLOW = """
workflow: {domain}.keep_word
title: Keep a word
owner: team:desk
input:
  word: {{ type: text, title: Word }}
  person: {{ type: email, title: Person }}
steps:
{record}
  - id: asked
    uses: people.approve
    with:
      question: "Keep ${{{{ input.word }}}} of ${{{{ input.person }}}}?"
      ask:
        - {{ who: "role:keeper", within: 1h }}
      otherwise: deny
  - id: told
    uses: ticket.comment
    with: {{ ticket: ITSM-1, text: "${{{{ input.word }}}} of ${{{{ input.person }}}}" }}
    on-error:
      - fail: "Lost ${{{{ input.word }}}} of ${{{{ input.person }}}}: ${{{{ error.message }}}}"
"""
RECORD = """
  - id: kept
    uses: record.put
    with:
      kind: word
      records:
        - { key: first, state: kept, value: { word: "${{ input.word }}", person: "${{ input.person }}" } }
"""
DOMAIN = """
domain: desk
title: Desk
owner: team:desk
classification: personal
records:
  word:
    title: Words
    about: What was kept.
    fields:
      - { field: word, title: Word, at_a_glance: true }
"""


@dataclass(frozen=True)
class Canary:
    """The words of one tenant in one domain."""

    tenant: str
    domain: str
    word: str = field(default_factory=lambda: f"word{secrets.token_hex(8)}")
    person: str = field(default_factory=lambda: f"person{secrets.token_hex(8)}@example.org")
    comment: str = field(default_factory=lambda: f"comment{secrets.token_hex(8)}")
    secret: str = field(default_factory=lambda: f"secret{secrets.token_hex(16)}")

    @property
    def keeper(self) -> str:
        """Who is asked; everything of that tenant may be seen by nobody else."""
        return f"keeper.{self.tenant}@example.net"

    @property
    def sealed(self) -> tuple[str, ...]:
        """What nobody finds who has no more than the disk, a log or a metric."""
        return self.word, self.comment, self.secret

    @property
    def all(self) -> tuple[str, ...]:
        """Every word of it."""
        return *self.sealed, self.person


@dataclass
class Planted:
    """Words in an installation, and the runs that carry them."""

    canaries: list[Canary]
    runs: dict[Canary, str]

    def others_than(self, tenant: str) -> list[Canary]:
        """Those that a tenant must never see."""
        return [each for each in self.canaries if each.tenant != tenant]


async def plant(stage: Stage) -> Planted:
    """Make the customers, and a run in each place that asks somebody, is answered, and fails at its vendor."""
    canaries = [Canary(tenant, domain) for tenant in TENANTS for domain in DOMAINS]
    await _write(stage, canaries)
    await stage.load_release()
    await _add_keepers(stage)
    runs = await asyncio.gather(*(_run(stage, each) for each in canaries))
    return Planted(canaries, dict(zip(canaries, runs, strict=True)))


async def _write(stage: Stage, canaries: list[Canary]) -> None:
    settings = stage.services.settings
    folder = settings.workspace_folder
    for domain in DOMAINS:
        workflows = folder / "domains" / domain / "workflows"
        workflows.mkdir(parents=True, exist_ok=True)
        record = RECORD if domain == "desk" else ""
        (workflows / "keep_word.yaml").write_text(WORKFLOW.format(domain=domain, record=record))
    (folder / "domains/desk/domain.yaml").write_text(DOMAIN)
    sandbox = stage.services.sandbox
    given = await asked(sandbox, "/sandbox/credentials")
    for tenant in TENANTS:
        own = [each for each in canaries if each.tenant == tenant]
        connections = {}
        for each in own:
            connections[f"jira-{each.domain}"] = jira(each.domain, sandbox, given["jira"])
            # They are put there as an operator would, and none of them is right: what a vendor says about it is told.
            known = secrets_of_desk_and_chat(each.domain, given, "")
            kept: dict[SecretRef, str] = dict.fromkeys(known, each.secret)
            await asyncio.to_thread(keep_secrets, settings.vault_file, tenant, kept)
        written = {
            "tenant": tenant,
            "title": tenant.title(),
            "domains": list(DOMAINS),
            "connections": connections,
            "roles": {"keeper": [own[0].keeper], "security-officer": [own[0].keeper]},
        }
        (folder / "tenants" / f"{tenant}.yaml").write_text(yaml.safe_dump(written))


async def _add_keepers(stage: Stage) -> None:
    async with (
        Installation(stage.services.settings, lambda _: None).database() as database,
        database.transaction() as tx,
    ):
        for tenant in TENANTS:
            await accounts.add(
                tx,
                address=f"keeper.{tenant}@example.net",
                display_name=f"Keeper of {tenant}",
                password=PASSWORD,
                roles=(),
                by=operator(),
            )


async def _run(stage: Stage, canary: Canary) -> str:
    """One run, to its end."""
    wanted = {
        "tenant": canary.tenant,
        "workflow": f"{canary.domain}.keep_word",
        "input": {"word": canary.word, "person": canary.person},
    }
    run = str((await stage.story.operator.post("/v1/runs", wanted))["id"])
    approval = await stage.story.open_approval(run)
    assert approval is not None
    async with as_keeper(stage, canary.tenant) as http:
        answer = await http.post(
            f"/v1/approvals/{approval['id']}/decision",
            json={"decision": "approved", "comment": canary.comment, "plan_sha256": approval["plan_sha256"]},
        )
        answer.raise_for_status()
    shown = await stage.story.end_of(run)
    assert shown["status"] == "failed", shown
    return run


def as_keeper(stage: Stage, tenant: str) -> httpx2.AsyncClient:
    """The web, as whoever may see one customer."""
    auth = httpx2.BasicAuth(f"keeper.{tenant}@example.net", PASSWORD)
    return httpx2.AsyncClient(base_url=stage.services.web, auth=auth, timeout=30, trust_env=False)


def found_in(text: str | bytes, canaries: list[Canary], *, sealed: bool = False) -> list[str]:
    """The words in a text, and whose they are."""
    read = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return [
        f"{each.tenant}/{each.domain}: {word}"
        for each in canaries
        for word in (each.sealed if sealed else each.all)
        if word in read
    ]
