"""A whole installation, watched: every metric is told, traces hang together, and nothing says whom a run is about.

Nor is a word of one customer anywhere that another one, an operator of the machine or an auditor looks.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from regie.cli.demo_world import up_demo
from regie.cli.installation import Installation
from regie.cli.story import telling
from regie.notary import bundle
from regie.settings import Settings
from regie.store import logs, sessions
from regie.telemetry import metrics
from regie.web.app import make_web
from regie.web.pages.visitor import COOKIE
from regie_verify.checking import check

from ..pages.test_others_ids import routes  # noqa: TID252  the same
from ..telemetry.receiver import Received, Receiver, receiving  # noqa: TID252  tests are no installed package
from ..verify.test_foreign import need_sigstore, run  # noqa: TID252  the same
from .canaries import TENANTS, Planted, as_keeper, found_in, plant
from .conftest import EMPLOYEE, Stage

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PERSONAL = re.compile(r"janssen|demir|larsen|devries|@example\.com|ITSM-|Sales Team", re.IGNORECASE)
"""Whatever of the story names a person, an address, a ticket or a value."""
PEOPLE = re.compile(rb"janssen|demir|larsen|devries|@example\.", re.IGNORECASE)
PATIENCE_S = 30.0
LINK = re.compile(r'href="(/[^"#]*)"')


@dataclass
class Watched:
    """An installation with one run behind it, and what its processes told."""

    stage: Stage
    receiver: Receiver
    run: dict[str, Any]
    told: dict[metrics.Process, str]
    planted: Planted

    def spans(self) -> list[Received]:
        """Those of the run's trace."""
        [run] = [span for span in self.receiver.spans() if span.attributes.get("regie.run") == self.run["id"]
                 and span.name.startswith("run ")]  # fmt: skip
        return [span for span in self.receiver.spans() if span.trace == run.trace]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory, quick_starts: None) -> AsyncIterator[Watched]:
    home: Path = tmp_path_factory.mktemp("watched") / "home"
    async with AsyncExitStack() as stack:
        receiver = stack.enter_context(receiving())
        settings = Settings(
            home=home,
            port=0,
            database_url="",
            workspace=None,
            crash_at="",
            traces_url=receiver.url,
            worker_metrics_port=0,
            notary_metrics_port=0,
        )
        services = await stack.enter_async_context(up_demo(settings, lambda _: None))
        stage = Stage(await stack.enter_async_context(telling(services)))
        run = (await stage.offboard())["shown"]
        assert run["status"] == "done"
        planted = await plant(stage)
        token = {"Authorization": f"Bearer {settings.metrics_token_file.read_text()}"}
        ready = {process.name: process.ready for process in services.supervisor.processes}
        addresses: dict[metrics.Process, str] = {
            "web": f"{ready['web']['address']}/metrics",
            "gateway": f"{ready['gateway']['address']}/metrics",
            "worker": ready["worker-identity-1"]["metrics"],
            "notary": ready["notary"]["metrics"],
        }
        told = {}
        async with httpx2.AsyncClient(trust_env=False) as http:
            for process, address in addresses.items():
                assert (await http.get(address)).status_code == 401, process
                answer = await http.get(address, headers=token)
                assert answer.status_code == 200, process
                assert answer.headers["Content-Type"] == metrics.MEDIA_TYPE
                told[process] = answer.text
        await has_all(receiver)
        yield Watched(stage, receiver, run, told, planted)


async def has_all(receiver: Receiver) -> None:
    """Spans come in batches, a process each second: wait until every span's parent is there, the run among them."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            spans = receiver.spans()
            ids = {span.id for span in spans}
            has_ends = {span.name.partition(" ")[0] for span in spans} >= {"run", "take", "graph"}
            if has_ends and all(not span.parent or span.parent in ids for span in spans):
                return
            await asyncio.sleep(0.1)


async def test_every_metric_of_the_reference_is_told_after_a_run(watched: Watched) -> None:
    for described in metrics.DESCRIBED:
        for process in described.processes:
            families = text_string_to_metric_families(watched.told[process])
            [family] = [each for each in families if described.name.removesuffix("_total") == each.name]
            assert family.type == described.kind
            assert family.samples, f"{process} tells nothing of {described.name}"
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert labels == set(described.labels)


async def test_the_run_was_counted(watched: Watched) -> None:
    def sample(process: metrics.Process, name: str, **labels: str) -> float:
        found = [
            sample.value
            for family in text_string_to_metric_families(watched.told[process])
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found)

    run = {"tenant": "example", "domain": "identity", "workflow": "identity.offboard_employee"}
    assert sample("worker", "regie_runs_begun_total", **run) == 1
    assert sample("worker", "regie_runs_ended_total", outcome="done", **run) == 1
    assert sample("worker", "regie_step_attempts_total", outcome="succeeded", **run) == 11
    changes = sample("gateway", "regie_effects_total", outcome="received", tenant="example", domain="identity")
    assert changes == 7
    assert sample("gateway", "regie_vendor_requests_total", connector="graph", outcome="2xx") > 7
    assert sample("web", "regie_workers", domain="identity") == 1


async def test_spans_lead_from_the_delivery_to_the_vendor(watched: Watched) -> None:
    spans = watched.spans()
    by_id = {span.id: span for span in spans}

    def way(span: Received) -> list[str]:
        """From a span up to the root."""
        above = by_id.get(span.parent)
        return [f"{span.process} {span.name}", *(way(above) if above else [])]

    # The vendor finishes later: the step asks again.
    applied = [
        span
        for span in spans
        if span.name == "answer apply" and span.attributes["regie.capability"] == "identity.revoke_sessions"
    ]
    below = [span for span in spans if span.parent in {each.id for each in applied}]
    assert {span.name for span in below} >= {"graph GET", "graph POST"}
    assert way(below[0])[1:] == [
        "regie-gateway answer apply",
        "regie-worker gateway apply",
        "regie-worker step identity.revoke_sessions",
        "regie-worker run identity.offboard_employee",
        "regie-web take delivery",
    ]
    steps = [span for span in spans if span.name.startswith("step ")]
    assert all(span.attributes["regie.corr"] == watched.run["corr"] for span in steps)
    assert {span.attributes["regie.run"] for span in spans if "regie.run" in span.attributes} == {watched.run["id"]}
    [run] = [span for span in spans if span.name.startswith("run ")]
    assert run.took_s >= max(span.took_s for span in steps)


async def test_nothing_told_says_whom_it_is_about(watched: Watched) -> None:
    texts = {
        **{f"metrics of {process}": text for process, text in watched.told.items()},
        "traces": b"".join(watched.receiver.bodies).decode("utf-8", "replace"),
        **{
            file.name: file.read_text()
            for file in (watched.stage.services.settings.home / "logs").glob("*.log")
        },
    }  # fmt: skip
    assert PERSONAL.search(EMPLOYEE)
    for name, text in texts.items():
        assert PERSONAL.search(text) is None, name
        assert found_in(text, watched.planted.canaries) == [], name
    secrets = [
        file.read_text().strip() for file in watched.stage.services.settings.keys.glob("*.token") if file.is_file()
    ]
    assert len(secrets) >= 4
    assert not [name for name, text in texts.items() for secret in secrets if secret in text]


async def test_the_figures_have_the_run(watched: Watched) -> None:
    shown = await watched.stage.story.operator.get("/v1/figures", tenant="example")
    [identity] = [each for each in shown["domains"] if each["domain"] == "identity"]
    assert identity["ended"]["done"] >= 1
    assert identity["success"] == 1
    assert identity["sla"]["on_time"] >= 1
    assert identity["took"]["p95_s"] > 0
    assert sorted(worker["domains"] for worker in shown["workers"]) == [["desk"], ["identity"]]


async def test_each_line_of_a_log_is_json(watched: Watched) -> None:
    for file in (watched.stage.services.settings.home / "logs").glob("*.log"):
        for line in file.read_text().splitlines():
            assert {"event", "level", "timestamp"} <= json.loads(line).keys()


IN_CLEAR = {
    "regie.account": {"address", "display_name"},
    "regie.session": {"address"},
    "regie.run": {"ticket", "trigger_key", "requester", "started_by"},
    "regie.approval": {"requester", "approvers", "decided_by"},
    "regie.effect": {"target"},
    "audit.leaf": {"leaf"},
    "audit.intake": {"leaf"},
}
"""Columns that name people or tickets, because they are looked for by them or are what an auditor gets."""


async def test_the_database_names_people_only_where_they_are_looked_for(watched: Watched) -> None:
    """Every column of every table, as somebody reads it who has the disk; and no secret and no password anywhere."""
    settings = watched.stage.services.settings
    secrets = {file.read_text().strip().encode() for file in settings.keys.glob("*.token")}
    secrets |= {value.encode() for value in json.loads(settings.sign_ins_file.read_text()).values()}
    assert len(secrets) > 10
    found: dict[str, set[str]] = {}
    with psycopg.connect(Installation(settings, lambda _: None).start_database()) as owner:
        tables = owner.execute(
            "select schemaname, tablename from pg_tables where schemaname in ('regie', 'audit') order by 1, 2"
        ).fetchall()
        for schema, table in tables:
            rows = owner.execute(sql.SQL("select * from {}").format(sql.Identifier(schema, table)))
            for row in rows:
                for column, value in zip(rows.description or (), row, strict=True):
                    read = value if isinstance(value, bytes) else str(value).encode()
                    assert not any(secret in read for secret in secrets), f"{schema}.{table}.{column.name}"
                    assert found_in(read, watched.planted.canaries) == [], f"{schema}.{table}.{column.name}"
                    # People stand in the log by a commitment; tickets stand there in clear.
                    assert schema != "audit" or not PEOPLE.search(read), f"{schema}.{table}.{column.name}"
                    if PERSONAL.search(read.decode("utf-8", "replace")):
                        found.setdefault(f"{schema}.{table}", set()).add(column.name)
    assert found["regie.run"] >= {"ticket"}, "the search finds what is there"
    named = {(table, column) for table, columns in found.items() for column in columns}
    assert named <= {(table, column) for table, columns in IN_CLEAR.items() for column in columns}


def addresses_for(planted: Planted, tenant: str) -> Iterator[str]:
    """Every address that can be read, from the app's own list, with the ids of somebody else's runs."""
    for canary in planted.others_than(tenant):
        named = {
            "run": planted.runs[canary],
            "approval": f"{planted.runs[canary]}-asked",
            "tenant": canary.tenant,
            "domain": canary.domain,
            "workflow": f"{canary.domain}.keep_word",
            "kind": "word",
            "connection": f"jira-{canary.domain}",
            "name": "style.css",
            "number": "1",
            "level": "0",
            "path": "000",
            "id_": planted.runs[canary],
        }
        for route in routes(make_web(None, None, operator_token="none").routes):  # type: ignore[arg-type]  # only its list of routes is read
            if "GET" in (route.methods or set()) and not route.path.endswith(("live", "events", "stream")):
                yield route.path_format.format(**named)


async def test_nobody_reads_a_word_of_another_customer(watched: Watched) -> None:
    """As a person of one customer: every page that links lead to, and every address with somebody else's ids."""
    planted = watched.planted
    for tenant in TENANTS:
        own = [each for each in planted.canaries if each.tenant == tenant]
        read: dict[str, str] = {}
        async with as_keeper(watched.stage, tenant) as http:
            for address in addresses_for(planted, tenant):
                if address.startswith(("/v1/", "/health")):
                    read[address] = (await http.get(address)).text
            for each in own:
                read[each.word] = (await http.get(f"/v1/runs/{planted.runs[each]}")).text
        async with signed_in(watched, tenant) as browser:
            waiting = ["/", *addresses_for(planted, tenant), *(f"/runs/{planted.runs[each]}" for each in own)]
            while waiting:
                address = waiting.pop()
                if address not in read and not address.startswith(("/v1/", "/metrics", "/assets")):
                    answer = await browser.get(address)
                    read[address] = answer.text
                    waiting += [
                        link for link in LINK.findall(answer.text) if "sign-out" not in link and "live" not in link
                    ]
        assert len(read) > 50
        everything = "".join(read.values())
        assert {each.word for each in own if each.word in everything} == {each.word for each in own}, (
            "it is shown to its own"
        )
        for address, text in read.items():
            assert found_in(text, planted.others_than(tenant)) == [], address
            assert [each for each in own if each.secret in text] == [], address


@asynccontextmanager
async def signed_in(watched: Watched, tenant: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser of a person of a customer, after the sign-in: its cookie is for TLS only, which tests do without."""
    settings, web = watched.stage.services.settings, watched.stage.services.web
    async with Installation(settings, lambda _: None).running_database() as database, database.transaction() as tx:
        token = await sessions.begin(tx, f"keeper.{tenant}@example.net", by="password")
    cookie = {"Cookie": f"{COOKIE}={token}"}
    async with httpx2.AsyncClient(base_url=web, headers=cookie, timeout=30, trust_env=False) as http:
        assert f"Keeper of {tenant}" in (await http.get("/")).text
        yield http


async def test_a_bundle_for_an_auditor_has_no_word_of_anybody(watched: Watched, tmp_path: Path) -> None:
    settings = watched.stage.services.settings
    planted = watched.planted
    async with Installation(settings, lambda _: None).running_database() as database:
        for canary in planted.canaries:
            folder = tmp_path / canary.tenant / canary.domain
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    async with database.reading() as tx:
                        if (await logs.waiting(tx))[0] == 0:
                            log = await logs.find(tx, canary.tenant, canary.domain)
                            with bundle.sink(folder) as into:
                                await bundle.export(tx, log, into)
                            break
                    await asyncio.sleep(0.05)
            texts = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
            assert planted.runs[canary].encode() in b"".join(texts.values())
            assert {file.name: found_in(text, planted.canaries) for file, text in texts.items() if
                    found_in(text, planted.canaries)} == {}  # fmt: skip


async def test_a_bundle_of_it_is_whole_for_us_and_for_a_stranger_until_it_is_changed(
    watched: Watched, tmp_path: Path
) -> None:
    folder, kept = tmp_path / "bundle", tmp_path / "kept"
    installation = Installation(watched.stage.services.settings, lambda _: None)
    async with installation.running_database() as database, database.reading() as tx:
        with bundle.sink(folder) as into:
            done = await bundle.export(tx, await logs.find(tx, "example", "identity"), into)
    kept.write_text(done.checkpoint)
    node = need_sigstore()
    assert check(folder).is_whole
    whole = run(f"{node} {folder}/verify.mjs", folder, kept)
    assert whole.stdout.startswith(f"ok {done.size} records"), whole.stderr
    leaves = (folder / "leaves.jsonl").read_bytes()
    at = leaves[: leaves.index(b"approval:granted")].count(b"\n")
    (folder / "leaves.jsonl").write_bytes(leaves.replace(b"approval:granted", b"approval:refused", 1))
    assert check(folder).first_bad_record == at
    assert f"record {at} is not what was logged" in run(f"{node} {folder}/verify.mjs", folder, kept).stderr


async def test_each_process_has_a_login_of_its_own(watched: Watched) -> None:
    processes = {process.name: process for process in watched.stage.services.supervisor.processes}
    names = ("web", "gateway", "worker-identity-1")
    users = [conninfo_to_dict(processes[name].environment["database_url"])["user"] for name in names]
    users.append(conninfo_to_dict(processes["notary"].environment["notary_database_url"])["user"])
    assert [str(user).split("-", 2)[2] for user in users] == ["web", "gateway", "worker-identity", "notary"]
    assert processes["notary"].environment["database_url"] == ""


async def test_a_domain_that_comes_into_use_gets_workers(watched: Watched) -> None:
    stage = watched.stage
    file = stage.services.settings.workspace_folder / "tenants" / "example.yaml"
    tenant = yaml.safe_load(file.read_text(encoding="utf-8"))
    tenant["domains"].append("certificates")
    file.write_text(yaml.safe_dump(tenant, sort_keys=False, allow_unicode=True), encoding="utf-8")
    await stage.load_release()

    def is_there() -> bool:
        return any(process.name == "worker-certificates-1" for process in stage.services.supervisor.processes)

    assert await stage.comes(is_there, within_s=120)
    shown = await stage.story.operator.get("/v1/figures")
    assert sorted(worker["domains"] for worker in shown["workers"]) == [["certificates"], ["desk"], ["identity"]]
