"""Every problem is provoked, found, and comes with a remedy; a healthy installation has none."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo

from regie.cli import doctor, doctor_machine, doctor_runs
from regie.cli.demo_world import up_demo
from regie.cli.findings import Finding, Level
from regie.cli.installation import Installation
from regie.cli.running import Services
from regie.core.tenant import SecretRef
from regie.gateway.keeping import keep_secrets
from regie.settings import Settings
from regie.store import accounts, liveness
from regie.store.sealer import Sealer

from .stage import OPERATOR, TENANT, WORKFLOW, Stage, regie

pytestmark = pytest.mark.slow


def levels(findings: list[Finding]) -> set[Level]:
    return {finding.level for finding in findings}


def found(findings: list[Finding], check: str) -> Finding:
    [one] = [finding for finding in findings if finding.check == check]
    return one


def nobody(home: Path, **more: str | None) -> Installation:
    given = {"home": home, "database_url": "", "workspace": None, "port": 0, **more}
    return Installation(Settings.model_validate(given), lambda _: None)


# --- nothing wrong ----------------------------------------------------------------------------------------------------


async def test_where_there_is_no_installation_it_says_how_to_make_one(tmp_path: Path) -> None:
    findings = await doctor.examine(nobody(tmp_path / "none"))
    assert levels(findings) == {Level.OK, Level.INFO}
    assert "regie demo" in found(findings, "home").remedy
    assert not (tmp_path / "none").exists(), "looking changes nothing"


async def test_a_healthy_installation_in_which_nothing_runs(stage: Stage) -> None:
    done = await stage.regie("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems, 0 to look at." in done.stdout
    assert "Nobody outside attests it" in done.stdout
    answer = json.loads((await stage.regie("doctor", "--json")).stdout)
    assert answer["ok"] is True
    assert {"python", "home", "disk", "database", "migrations", "release", "secrets", "runs"} <= {
        each["check"] for each in answer["findings"]
    }
    assert all(set(each) == {"check", "level", "message", "remedy"} for each in answer["findings"])


async def test_a_problem_is_exit_code_1_and_a_warning_is_not(stage: Stage) -> None:
    stage.write_tenant(title="Acme & Sons")
    assert (await stage.regie("doctor")).returncode == 0
    stage.write_tenant(titel="Acme")
    done = await stage.regie("doctor", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False


async def test_a_role_that_nobody_holds_is_found(stage: Stage) -> None:
    stage.write_tenant(roles={"security-officer": []})
    [finding] = [each for each in await stage.bad() if each.check == "roles"]
    assert finding.level is Level.WARNING
    assert finding.message == f"role:security-officer is held by nobody in tenant acme; asked by {WORKFLOW}."
    assert finding.remedy


# --- machine and folders ----------------------------------------------------------------------------------------------


async def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    findings = await doctor.examine(nobody(tmp_path / "home"))
    assert found(findings, "home").level is Level.PROBLEM


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
async def test_a_home_of_another_user(stage: Stage) -> None:
    os.chown(stage.home, 65534, 65534)
    assert "belongs to another user" in (await stage.only()).message


async def test_a_home_in_which_others_may_write(stage: Stage) -> None:
    stage.home.chmod(0o777)
    assert (await stage.only()).remedy == f"chmod go-w {stage.home}"


@pytest.mark.parametrize("name", ["keys/web.token", "vault.sealed", "sign-ins.json"])
async def test_a_secret_file_that_others_may_read(stage: Stage, name: str) -> None:
    file = stage.home / name
    file.touch()
    file.chmod(0o644)
    assert (await stage.only()).remedy == f"chmod 600 {file}"


def test_credentials_for_deposits_that_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.touch(mode=0o644)
    [only] = doctor_machine.private_files(nobody(tmp_path / "home", deposit_credentials=str(file)).settings)
    assert (only.level, only.remedy) == (Level.PROBLEM, f"chmod 600 {file}")


async def test_a_vault_key_that_others_may_read(stage: Stage) -> None:
    key = stage.home / "vault.key"
    key.chmod(0o640)
    assert [each.check for each in await stage.bad()] == ["private files", "secrets"]


async def test_a_key_file_that_is_none(stage: Stage) -> None:
    (stage.home / "keys" / "sealing.json").write_text("{}")
    problems = await stage.bad()
    assert {each.check for each in problems} == {"private files", "database"}
    assert "is not a key file" in problems[0].message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be made here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["/bin/umount", str(folder)], check=True)


def test_a_disk_with_little_room(small_disk: Path) -> None:
    room = doctor_machine.room(small_disk / "home")
    assert room.level is Level.PROBLEM
    assert "Free some space" in room.remedy


# --- processes --------------------------------------------------------------------------------------------------------


async def test_what_is_said_to_run_and_does_not(stage: Stage) -> None:
    ended = await asyncio.create_subprocess_exec("/bin/true")
    await ended.wait()
    (stage.home / "up.json").write_text(json.dumps({"pid": ended.pid}))
    assert "its process is gone" in (await stage.only()).message


async def test_processes_that_do_not_answer_and_a_domain_that_nobody_serves(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        address = f"http://127.0.0.1:{door.getsockname()[1]}"
    with stage.installation.alone():
        stage.installation.write_state(web=address, gateway=address)
        problems = {each.check: each for each in await stage.bad()}
    assert problems.keys() == {"web", "gateway", "workers"}
    assert "web.log" in problems["web"].remedy
    assert "No worker serves identity:" in problems["workers"].message


# --- database ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://regie:geheim@127.0.0.1:1/regie", "does not answer"),
        ("postgresql://[", "no address of a PostgreSQL"),
        ("nonsense", "no address of a PostgreSQL"),
    ],
)
async def test_a_database_that_cannot_be_reached(stage: Stage, url: str, says: str) -> None:
    installation = Installation(stage.installation.settings.model_copy(update={"database_url": url}), lambda _: None)
    findings = await doctor.examine(installation)
    assert found(findings, "database").level is Level.PROBLEM
    assert says in found(findings, "database").message
    assert "geheim" not in str(findings)


async def test_a_database_without_tables(stage: Stage, postgres_dsn: str) -> None:
    empty = make_conninfo(postgres_dsn, dbname="postgres")
    installation = Installation(stage.installation.settings.model_copy(update={"database_url": empty}), lambda _: None)
    findings = await doctor.examine(installation)
    assert "0001_first_tables.sql" in found(findings, "migrations").message
    assert found(findings, "migrations").level is Level.PROBLEM


async def test_a_database_of_a_newer_version(stage: Stage) -> None:
    stage.sql("insert into regie.migration (number, name, sha256) values (999, '0999_later.sql', 'x')")
    assert "0999_later.sql" in (await stage.only()).message


async def test_a_key_file_of_another_database(stage: Stage) -> None:
    file = stage.home / "keys" / "sealing.json"
    file.unlink()
    assert "key file" in (await stage.only()).message
    assert not file.exists(), "looking makes no new one, which would hide the loss"
    Sealer.from_file(file)
    assert "does not belong to this database" in (await stage.only()).message


async def test_a_key_file_of_a_domain_that_is_lost(stage: Stage) -> None:
    async with stage.database.transaction() as tx:
        tx.sealer.seal(b"", tenant="acme", domain="identity", table="any", pk="")
    file = stage.home / "keys" / "domain-identity.json"
    file.rename(file.with_suffix(".away"))
    only = await stage.only()
    assert (only.check, only.level) == ("data keys", Level.PROBLEM)
    assert str(file) in only.message
    assert "backup" in only.remedy


async def test_clocks_that_differ(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_runs, "machine_clock", lambda: datetime.now(tz=UTC) - timedelta(hours=1))  # noqa: TID251  a clock that is wrong
    only = await stage.only()
    assert only.check == "clocks"
    assert "3600 s ahead of this machine's" in only.message


# --- release, connections, secrets ------------------------------------------------------------------------------------


async def test_a_workspace_that_has_changed_and_is_not_loaded(stage: Stage) -> None:
    stage.write_tenant(title="Acme & Sons")
    only = await stage.only()
    assert (only.level, only.remedy) == (Level.WARNING, "regie release load")
    assert "changed tenant acme: title" in only.message


async def test_a_workspace_with_faults_is_shown_fault_by_fault(stage: Stage) -> None:
    connections = {**TENANT["connections"], "graph": {"connector": "grahp", "domains": ["identity"]}}
    stage.write_tenant(connections=connections)
    only = await stage.only()
    assert only.level is Level.PROBLEM
    assert f"{stage.tenant_file}:" in only.message
    assert "did you mean graph?" in only.message


async def test_a_workspace_without_tenants(stage: Stage) -> None:
    stage.tenant_file.unlink()
    assert "has no tenants" in (await stage.only()).message


async def test_a_secret_that_nobody_has_put(stage: Stage) -> None:
    stage.installation.settings.vault_file.unlink()
    keep_secrets(stage.installation.settings.vault_file, "acme", {SecretRef(domain="identity", name="jira-token"): "x"})
    only = await stage.only()
    assert only.remedy == "regie secret put --tenant acme secret://identity/jira-webhook"


# --- runs, workers, approvals -----------------------------------------------------------------------------------------


async def test_a_run_that_nothing_will_wake(stage: Stage) -> None:
    key = await stage.start()
    assert await stage.bad() == [], "it has only just begun to wait"
    await stage.park(key)
    only = await stage.only()
    assert (only.check, only.level) == ("runs", Level.PROBLEM)
    assert key.run in only.message
    assert f"regie wake {key.run}" in only.remedy


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [
        ("SealBroken", "your backup"),
        ("InvalidInput", "read its release"),
        ("Stuck", "regie cancel"),
        ("Fault", "run:dropped"),
    ],
)
async def test_a_run_that_was_set_aside(stage: Stage, cause: str, remedy: str) -> None:
    key = await stage.start()
    await stage.park(key)
    async with stage.database.transaction() as tx:
        await tx.change("update regie.run set set_aside = %(cause)s", {"cause": cause})
    only = await stage.only()
    assert key.run in only.message
    assert remedy in only.remedy


async def test_a_run_that_met_a_fault_and_is_tried_again(stage: Stage) -> None:
    key = await stage.start()
    await stage.park(key)
    stage.sql(
        """update regie.run set dropped_n = 3, dropped_seq = seq, ready_at = null,
                  again_at = timestamptz '2026-11-30T12:00Z'"""
    )
    only = await stage.only()
    assert (only.check, only.level) == ("runs", Level.WARNING)
    assert key.run in only.message
    assert "3 times where it stands; it is tried again at 2026-11-30 12:00" in only.message


async def test_a_run_that_somebody_has_paused_is_no_trouble(stage: Stage) -> None:
    key = await stage.start()
    await stage.park(key)
    stage.sql("update regie.run set status = 'paused'")
    assert await stage.bad() == []


async def test_a_run_that_no_worker_takes(stage: Stage) -> None:
    key = await stage.start()
    stage.sql("update regie.run set ready_at = clock_timestamp() - interval '2 minutes'")
    only = await stage.only()
    assert key.run in only.message
    assert "waited for a worker" in only.message


async def test_a_worker_that_is_gone(stage: Stage) -> None:
    stage.sql("insert into regie.worker (id, name, domains) values (gen_random_uuid(), 'gone-1', '{identity}')")
    assert "gone-1" in (await stage.only()).message


# --- the audit log ----------------------------------------------------------------------------------------------------


async def test_entries_that_wait_long_for_their_signature(stage: Stage) -> None:
    await stage.park(await stage.start())
    stage.sql("update audit.intake set at = clock_timestamp()")
    assert "notary" not in {each.check for each in await stage.bad()}
    for waited, level in (("11 seconds", Level.WARNING), ("31 seconds", Level.PROBLEM)):
        stage.sql("update audit.intake set at = clock_timestamp()")
        stage.sql(f"update audit.intake set at = clock_timestamp() - interval '{waited}' where run_seq = 1")  # noqa: S608  of two texts
        late = found(await stage.examine(), "notary")
        assert (late.level, waited[:2] in late.message) == (level, True)


async def test_parties_outside_that_attest_nothing(stage: Stage) -> None:
    stage.sql(
        """insert into audit.attester (kind, party, failures, failing_since, reason) values
           ('witness', 'witness.example', 1, '2026-11-29T12:00Z', 'It is closed.'),
           ('timestamp', 'time.example', 2, '2026-11-29T12:00Z', 'It is closed.'),
           ('deposit', 'bucket', 3, '2026-11-29T12:00Z', 'It is closed.')"""
    )
    shown = await stage.bad()
    assert [(each.check, each.level) for each in shown] == [("attestations", Level.WARNING)] * 3
    messages = [each.message for each in shown]
    assert messages[0] == "The bucket bucket has taken no deposit since 2026-11-29 12:00 UTC, 3 times: It is closed."
    stage.sql("update audit.attester set is_broken = true where kind = 'deposit'")
    assert [each.level for each in await stage.bad()] == [Level.PROBLEM, Level.WARNING, Level.WARNING]
    stage.sql("update audit.attester set failures = 0, failing_since = null")
    assert found(await stage.examine(), "attestations").level is Level.OK


async def test_an_approval_that_should_have_ended(stage: Stage) -> None:
    await add_account(stage, "ingrid@example.com")
    approval = await stage.ask("ingrid@example.com")
    assert await stage.bad() == []
    stage.sql("update regie.approval set expires_at = clock_timestamp() - interval '2 minutes'")
    assert approval in (await stage.only()).message


async def test_an_approval_that_asks_somebody_without_an_account(stage: Stage) -> None:
    await add_account(stage, "ingrid@example.com")
    await stage.ask("Ingrid@example.com", "nobody@example.com")
    only = await stage.only()
    assert only.level is Level.WARNING
    assert "asks nobody@example.com, who cannot sign in" in only.message


async def test_an_approval_that_nobody_can_answer(stage: Stage) -> None:
    await stage.ask("nobody@example.com")
    assert (await stage.only()).level is Level.PROBLEM


async def add_account(stage: Stage, address: str) -> None:
    async with stage.database.transaction() as tx:
        await accounts.add(tx, address=address, display_name="x", password="x", roles=(), by=OPERATOR)


async def test_looking_is_possible_in_a_database_that_may_only_be_read(stage: Stage) -> None:
    async with stage.database.reading() as tx:
        assert await liveness.asleep(tx) == []


# --- everything runs --------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(tmp_path_factory: pytest.TempPathFactory, quick_starts: None) -> AsyncIterator[Services]:
    settings = Settings(home=tmp_path_factory.mktemp("doctor") / "home", port=0, database_url="", workspace=None)
    async with up_demo(settings, lambda _: None) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_everything_runs_and_every_connection_answers(services: Services) -> None:
    findings = await doctor.examine(Installation(services.settings, lambda _: None), is_online=True)
    assert levels(findings) == {Level.OK, Level.INFO}, findings
    assert found(findings, "connection jira of example").level is Level.OK
    assert found(findings, "connection graph of example").level is Level.OK
    assert found(findings, "workers").message == "1 at work."


@pytest.mark.asyncio(loop_scope="module")
async def test_a_secret_that_the_vendor_does_not_take(services: Services) -> None:
    reference = SecretRef(domain="identity", name="jira-token")
    before = (await doctor.examine(Installation(services.settings, lambda _: None), is_online=True))[-1]
    assert before.level is Level.INFO
    kept = (services.settings.vault_file).read_bytes()
    keep_secrets(services.settings.vault_file, "example", {reference: "revoked"})
    try:
        findings = await doctor.examine(Installation(services.settings, lambda _: None), is_online=True)
    finally:
        services.settings.vault_file.write_bytes(kept)
    jira = found(findings, "connection jira of example")
    assert jira.level is Level.PROBLEM
    assert "401" in jira.message
    assert found(findings, "connection graph of example").level is Level.OK


def test_a_setting_that_cannot_be_read(tmp_path: Path) -> None:
    done = regie(tmp_path / "home", "doctor", port="many")
    assert done.returncode == 2
    assert "REGIE_PORT" in done.stderr
    assert "Traceback" not in done.stderr
