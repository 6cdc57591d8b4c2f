"""Every function of the store is called with ids of another tenant, of another domain, and behind the gateway's wall.

Which functions there are is read from the modules: a new one is called too, or has a reason here why it is not.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg.pq import TransactionStatus
from pydantic import ValidationError

from regie import discovery, store
from regie.core.assertion import Agreement, Assertion
from regie.core.audit import Actor, Event, Fact
from regie.core.capabilities.record import NewRecord
from regie.core.effect import EffectState
from regie.core.errors import Failure, RegieError
from regie.core.outside_event import OutsideEvent
from regie.core.run_commands import AwaitEvent, CloseApproval, OpenApproval, Remind
from regie.core.run_events import Cancelled, Paused, Resumed
from regie.core.status import RunStatus, StepStatus
from regie.core.tenant import StartRate
from regie.store import figures, polls, schedules
from regie.store.certificates import Certificate
from regie.store.claims import Claim
from regie.store.commits import StepCommit
from regie.store.database import Database, Transaction
from regie.store.effects import Intent
from regie.store.keys import RunKey
from regie.store.records import Shelf
from regie.store.runs import NewRun
from regie.store.sealer import SealBroken, Sealer
from regie.store.steps import StepRow

from .town import PLACES, RELEASE, Place, places_in, settle

pytestmark = pytest.mark.slow

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
BY = Actor(type="operator", id="operator")
OF_NO_TENANT = {
    "accounts": "the operator's own people",
    "sessions": "their sessions",
    "sign_ins": "nobody has signed in yet",
    "api_tokens": "found by their secret, before it is known which tenants they are about",
    "authenticators": "of the operator's own people",
    "provisioning": "accounts, each found by the tenant of the service's token; tests/people/test_scim.py walks them",
    "rate_budgets": "shared by all tenants",
    "releases": "holds all tenants' definitions",
    "migrating": "about the tables",
    "database": "no rows",
    "watching": "locks and hints, no rows",
    "checkup": "the operator's look at everything",
}
"""Modules whose functions are about no tenant's rows, and why."""
OF_NO_ROW = {
    "audit.blamed",
    "audit.broken",
    "audit.begin",
    "runs.sealed_state",
    "schedules.take_turn",
}
"""Functions that touch no row of a tenant."""
OF_A_ROW = {
    "audit.append_behind",
    "audit.require_written",
    "audit.written_with",
    "effects.opened",
    "events.data_of",
    "events.cause_of",
    "events.set_aside",
    "inbox.opened",
    "key_rotation.check",
    "runs.opened_state",
}
"""Functions that are given a row which somebody else has read; they find none themselves."""
OF_A_LOG = {
    f"logs.{name}"
    for name in ("checkpoints", "newest", "at_size", "span_of", "leaves", "tiles_of_tree", "edge_of", "proof")
} | {"attesting.covering"}
"""Functions that are given a log which `find` has read."""
OF_ALL = {
    "approvals.find",
    "attesting.asked",
    "attesting.failing",
    "runs.find",
    "figures.in_use",
    "liveness.asleep",
    "liveness.unfinished_domains",
    "finding.runs_with",
    "key_rotation.list_keys",
    "logs.list_logs",
    "logs.cosignatures",
    "logs.newest_cosigned",
    "logs.signing_keys",
    "logs.waiting",
    "polls.list_polls",
    "quotas.use",
    "schedules.list_schedules",
    "schedules.overdue",
    "workers.list_workers",
    "workers.rescue",
}
"""Functions that are about everybody's rows, for operators; walls still hold for them."""


def functions() -> dict[str, Callable[..., Any]]:
    """Every public function of the store that is given a transaction."""
    found: dict[str, Callable[..., Any]] = {}
    for module in discovery.modules(store):
        for name, function in vars(module).items():
            if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_"):
                first = next(iter(inspect.signature(function).parameters), "")
                if first in {"tx", "connection", "database"}:
                    found[f"{module.__name__.rpartition('.')[2]}.{name}"] = function
    return found


FUNCTIONS = functions()
WALKED = sorted(
    name
    for name in FUNCTIONS
    if name.partition(".")[0] not in OF_NO_TENANT
    and name not in OF_NO_ROW | OF_A_ROW | OF_A_LOG | {"workers.registered"}
)


@dataclass(frozen=True)
class Asking:
    """Whose row is meant, and the tenant and domain under which it is asked for."""

    meant: Place
    tenant: str
    domain: str

    @property
    def key(self) -> RunKey:
        return RunKey(self.tenant, self.domain, str(self.meant.id))

    def arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Something for every parameter behind the transaction that has no default, and for those that name a row."""
        hints = typing.get_type_hints(inspect.unwrap(function))
        parameters = list(inspect.signature(function).parameters.values())[1:]
        named = {"tenant", "domain", "approver", "seen_by", "workflow", "ticket"}
        return {
            each.name: self.made(each.name, hints[each.name])
            for each in parameters
            if each.default is inspect.Parameter.empty or each.name in named
        }

    def made(self, name: str, hint: Any) -> Any:
        """A value for a parameter: by its name where that says more than its type."""
        by_name = self.by_name()
        if name in by_name:
            return by_name[name]
        return self.of_type(hint)

    def by_name(self) -> dict[str, Any]:
        mark, key = self.meant.mark, self.key
        return {
            "tenant": self.tenant,
            "domain": self.domain,
            "domains": [self.domain],
            "tenants": [self.tenant],
            "known": [],
            "run": key.run,
            "parent": key.run,
            "approval": key.run,
            "worker": key.run,
            "release": RELEASE,
            "decision": "approved",
            "state": EffectState.FAILED,
            "payload": "{}",
            "payload_json": "{}",
            "state_json": "{}",
            "edges": [AT],
            "after": mark,
            "commands": [
                self.of_type(OpenApproval),
                Remind(place=mark, rung=1),
                CloseApproval(place=mark),
            ],
            "keys": [key],
            "commits": [(key, 1, [mark])],
            "shelf": Shelf(self.tenant, self.domain, mark),
            "triggers": [mark],
            "attempt_keys": [mark],
            "promises": [figures.Promise(RELEASE, mark, 1.0)],
            "events": [(mark, "{}")],
            "facts": [Fact(event=Event.RUN_WOKEN, actor=BY)],
        }

    def of_type(self, hint: Any) -> Any:
        mark, key = self.meant.mark, self.key
        start = schedules.StartKey(self.tenant, self.domain, mark, mark)
        values: dict[Any, Any] = {
            str: mark,
            int: 1,
            float: 1.0,
            datetime: AT,
            Actor: BY,
            RunKey: key,
            Claim: Claim(key, 1, 1),
            StepCommit: StepCommit(state_json="{}", status=RunStatus.RUNNING),
            NewRun: NewRun(
                key=key,
                workflow=mark,
                release=RELEASE,
                definition_digest="d",
                trigger_key=f"by {self.tenant}",
                started_by=BY,
                state_json="{}",
            ),
            schedules.StartKey: start,
            schedules.Planned: schedules.Planned(start, AT, AT),
            polls.Claim: polls.Claim(start, 1),
            Failure: Failure(kind="Terminal", message="m"),
            OpenApproval: OpenApproval(
                place=mark,
                rung=1,
                rungs=1,
                question="q",
                plan=(),
                approvers=("a@example.com",),
                requester="r@example.com",
                expires_after_s=60,
            ),
            CloseApproval: CloseApproval(place=mark),
            Cancelled: Cancelled(by="b"),
            Paused: Paused(by="b"),
            Resumed: Resumed(by="b"),
            Paused | Resumed: Paused(by="b"),
            Intent: Intent(
                key=key,
                place=mark,
                attempt_key=mark,
                effect_key=mark,
                capability=mark,
                target=mark,
                fence=1,
                change=None,
            ),
            Sequence[schedules.Planned]: [],
            Assertion: Assertion(
                agreement=Agreement(approval=key.run, person=mark, plan_sha256=RELEASE, nonce="n"),
                authenticator=mark,
                public_key="k",
                client_data="c",
                authenticator_data="a",
                signature="s",
            ),
            OutsideEvent: OutsideEvent(tenant=self.tenant, domain=self.domain, id=mark, name="contract.sign", data={}),
            Certificate: Certificate(
                tenant=self.tenant, domain=self.domain, reference=mark, serial="s", chain="c", not_after=AT
            ),
            figures.Asked: figures.Asked(window_s=1e9, tenant=self.tenant),
            StartRate | None: None,
            str | None: mark,
            datetime | None: AT,
            Sequence[AwaitEvent]: [AwaitEvent(place=mark, event="contract.sign")],
            Sequence[NewRecord]: [NewRecord(key=mark, state="s", value={})],
            Mapping[str, Any]: {},
            Iterable[bytes]: [mark.encode()],
        }
        return values[hint]


SPECIAL: dict[str, Callable[[Asking], dict[str, Any]]] = {
    "commits.commit_all": lambda ask: {
        "commits": [(Claim(ask.key, 1, 1), StepCommit(state_json="{}", status=RunStatus.RUNNING))]
    },
    "steps.write": lambda ask: {
        "commits": [(ask.key, 1, [StepRow(place=ask.meant.mark, attempt=1, uses="u", status=StepStatus.DONE)])]
    },
    "timers.set_": lambda ask: {"commits": [(ask.key, 1, {ask.meant.mark: 1.0})]},
    "timers.clear": lambda ask: {"commits": [(ask.key, [ask.meant.mark])]},
    "events.forget": lambda ask: {"commits": [(ask.key, [ask.meant.mark])]},
    "records.find": lambda ask: {"keys": [ask.meant.mark]},
    "records.remove": lambda ask: {"keys": [ask.meant.mark]},
    "records.show": lambda ask: {"after": None, "state": ""},
    "records.list_records": lambda ask: {"after": "", "state": ""},
    "polls.keep": lambda ask: {"known": [ask.domain], "keys": []},
    "quotas.keep": lambda ask: {"domains": {}},
}
"""Arguments of those whose types do not say enough."""


async def walk(tx: Transaction, name: str, ask: Asking) -> Any:
    """Call it; what it gives, or the refusal.

    Raises:
        AssertionError: It reached somebody's row: what is in there was never sealed, so it cannot be opened.
    """
    function = FUNCTIONS[name]
    given = {**ask.arguments(function), **(SPECIAL[name](ask) if name in SPECIAL else {})}
    try:
        return await function(tx, **given)
    except (SealBroken, ValidationError) as error:
        raise AssertionError(f"{name} has read another's row") from error
    except (RegieError, psycopg.IntegrityError) as error:
        return error


def rows_of(place: Place, tables: Sequence[str]) -> bytes:
    """A statement that gives a digest of a place's rows in all tables."""
    parts = (
        f"select '{table}' as name, t::text as said from {table} t "  # noqa: S608  names from the catalogue
        f"where (t.tenant, t.domain) = ('{place.tenant}', '{place.domain}')"
        for table in tables
    )
    every = " union all ".join(parts)
    return f"select md5(string_agg(name || said, ';' order by name, said)) as digest from ({every}) a".encode()  # noqa: S608


@pytest.fixture(scope="module")
def keyed(owner: psycopg.Connection[Any]) -> list[str]:
    """The walled tables whose rows begin with tenant and domain."""
    found = owner.execute(
        """select s.nspname || '.' || t.relname from pg_class t join pg_namespace s on s.oid = t.relnamespace
           join pg_attribute a on a.attrelid = t.oid and a.attname = 'tenant' and a.attnum = 1
           where s.nspname = 'regie' and t.relrowsecurity order by 1"""
    ).fetchall()
    return [name for (name,) in found]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sealer(town_url: str, tmp_path_factory: pytest.TempPathFactory) -> Sealer:
    """The key of the town, whose rows are all made without it. The owner is the first to use it, as `regie up` is."""
    made = Sealer.from_file(tmp_path_factory.mktemp("keys") / "sealing.json")
    with psycopg.connect(town_url) as owner:
        owner.execute("delete from regie.data_key")
    async with opened(town_url, made) as database, database.transaction() as tx:
        for place in PLACES:
            tx.sealer.seal(b"", tenant=place.tenant, domain=place.domain, table="any", pk="")
    return made


@contextlib.asynccontextmanager
async def opened(url: str, sealer: Sealer) -> typing.AsyncIterator[Database]:
    async with Database(url, sealer, max_connections=1) as database:
        yield database


def test_every_function_is_walked_or_has_a_reason() -> None:
    assert len(WALKED) > 95
    left_out = OF_NO_ROW | OF_A_ROW | OF_A_LOG | OF_ALL
    assert left_out <= FUNCTIONS.keys(), "none of them is gone"
    assert OF_NO_TENANT.keys() <= {name.partition(".")[0] for name in FUNCTIONS} | {"database"}


async def test_with_ids_of_another_tenant(town_url: str, keyed: list[str], sealer: Sealer) -> None:
    """As the owner, whom no wall holds up: the functions themselves keep tenants apart."""
    meant = Place("acme", "identity")
    digest = rows_of(meant, keyed)
    async with opened(town_url, sealer) as database:
        async with database.reading() as tx:
            before = await (await tx.connection.execute(digest)).fetchall()
        for name in WALKED:
            if name in OF_ALL or _is_of_a_domain(name):
                continue
            ask = Asking(meant, "globex", "identity")
            with contextlib.suppress(_Undone):
                async with database.transaction() as tx:
                    given = await walk(tx, name, ask)
                    assert not _shows(given, ask, meant), (name, given)
                    if tx.connection.info.transaction_status is TransactionStatus.INTRANS:
                        assert await (await tx.connection.execute(digest)).fetchall() == before, name
                    raise _Undone


@pytest.mark.parametrize("process", ["worker-hr", "gateway"])
async def test_behind_a_wall(
    town_login: Callable[[str], str], owner: psycopg.Connection[Any], keyed: list[str], sealer: Sealer, process: str
) -> None:
    """With the very ids of others' rows: a worker asks for another domain's, the gateway for another tenant's."""
    meant = Place("acme", "identity")
    digest = rows_of(meant, keyed)
    before = owner.execute(digest).fetchall()
    refused = 0
    async with opened(town_login(process), sealer) as database:
        for name in WALKED:
            ask = Asking(meant, meant.tenant, meant.domain)
            given: Any = None
            try:
                async with database.transaction("" if process == "worker-hr" else "globex") as tx:
                    given = await walk(tx, name, ask)
            except (RegieError, psycopg.errors.InsufficientPrivilege) as error:
                given = error
            refused += isinstance(given, Exception)
            assert not _shows(given, ask, meant), (name, given)
            assert owner.execute(digest).fetchall() == before, name
    assert refused > 25
    settle(owner)


class _Undone(Exception):
    """Ends a transaction without a trace."""


def _is_of_a_domain(name: str) -> bool:
    """Whether a function works for all tenants of the domains it is given, as workers do."""
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    return bool({"domains", "worker"} & parameters.keys()) and "tenant" not in parameters


def _shows(given: Any, ask: Asking, meant: Place) -> bool:
    """Whether an answer holds anything of a place, beside what the asker has said itself."""
    said = repr([ask.by_name(), *map(repr, (ask.key,))])
    found = places_in([[repr(given)]])
    if isinstance(given, Exception):
        return False
    return meant in found and meant.mark in repr(given) and not _is_echo(given, said)


def _is_echo(given: Any, said: str) -> bool:
    return isinstance(given, Certificate | Claim) or repr(given) in said
