"""A bundle of a whole log is found to be whole, by our verifier and by strangers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from regie.core.audit import Event, Fact
from regie.core.errors import InvalidInput
from regie.store import audit
from regie_verify.checking import check

from .conftest import BEGAN, ENGINE, EVENTS, RUNS, Built, Ground

pytestmark = pytest.mark.slow

SIZE = RUNS * EVENTS


def test_a_whole_bundle_is_whole(built: Built, exported: Path) -> None:
    report = check(exported, built.policy, [built.kept, built.checkpoint], built.tsa)
    assert report.faults == []
    assert report.is_whole
    assert report.witnessed == SIZE
    assert report.checks["runs"] == "100 without gaps"
    assert report.checks["four eyes"].startswith("100 decisions")
    assert report.checks["timestamps"].endswith("Z for the first 700 records")
    assert report.checks["deposits"] == "s3://locked/anchor/11 until 2033-11-29T00:00:00Z for the first 700 records"


def test_without_an_authority_the_time_is_told_and_that_nobody_has_checked_it(built: Built, exported: Path) -> None:
    report = check(exported, built.policy, [built.kept])
    assert report.is_whole
    assert "--tsa" in report.checks["timestamps"]


async def test_a_part_of_the_log_has_the_timestamps_of_all(ground: Ground, tmp_path: Path) -> None:
    await ground.export(tmp_path / "part", BEGAN, BEGAN + timedelta(minutes=5))
    report = check(tmp_path / "part", ground.built.policy, [], ground.built.tsa)
    assert report.faults == []
    assert report.checks["timestamps"].endswith("for the first 700 records")


async def test_a_zip_file_is_as_good_as_a_folder(ground: Ground, tmp_path: Path) -> None:
    await ground.export(tmp_path / "bundle.zip")
    assert check(tmp_path / "bundle.zip", ground.built.policy, [ground.built.kept]).faults == []
    assert (tmp_path / "bundle.zip").stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidInput):
        await ground.export(tmp_path / "bundle.zip")


@pytest.mark.parametrize(("since", "until"), [(10, 20), (None, 30), (60, None), (500, 600)])
async def test_part_of_a_log_can_be_checked_alone(
    ground: Ground, tmp_path: Path, since: int | None, until: int | None
) -> None:
    def moment(minutes: int | None) -> datetime | None:
        return None if minutes is None else BEGAN + timedelta(minutes=minutes)

    done = await ground.export(tmp_path / "part", moment(since), moment(until))
    report = check(tmp_path / "part", ground.built.policy, [ground.built.kept])
    assert report.faults == []
    first, end = min(since or 0, RUNS), min(RUNS if until is None else until, RUNS)
    assert done.span.end - done.span.first == (end - first) * EVENTS


async def test_keys_that_the_old_one_has_named_are_trusted(ground: Ground, tmp_path: Path) -> None:
    from_old = ground.built.policy
    await ground.rotate_key()
    await ground.rotate_key()
    await ground.export(tmp_path / "bundle")
    report = check(tmp_path / "bundle", from_old, [ground.built.kept])
    assert report.faults == []
    assert report.checks["keys"].startswith("3 trusted, 2 of them")


def test_the_command_answers_people_and_programs(built: Built, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text(built.policy)
    (tmp_path / "kept").write_text(built.kept)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "regie-verify"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    whole = run("bundle", "--policy", "policy", "--kept", "kept", "--json")
    assert whole.returncode == 0
    assert json.loads(whole.stdout)["ok"] is True
    assert "Everything holds." in run("bundle").stdout
    assert run("nothing").returncode == 2
    assert run("bundle", "--kept", "policy").returncode == 2
    leaves = exported / "leaves.jsonl"
    leaves.write_bytes(leaves.read_bytes().replace(b"ITSM-42", b"ITSM-43", 1))
    broken = run("bundle", "--json")
    assert broken.returncode == 1
    assert json.loads(broken.stdout)["first_bad_record"] == 42 * EVENTS


def test_the_verifier_needs_nothing_of_regie() -> None:
    code = (
        "import sys, regie_verify.__main__;"
        "print(sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(done.stdout.replace("'", '"')) if not name.startswith(("_", "__editable"))}
    assert loaded - {"cryptography", "regie_verify", "cffi"} <= {"distutils-precedence", "sitecustomize"}


def test_openssl_accepts_the_signature_as_the_page_says(exported: Path) -> None:
    bundle = exported
    page = (bundle / "VERIFY.md").read_text()
    [commands] = [block for block in page.split("```") if "openssl pkeyutl" in block]
    command = commands.removeprefix("text\n")

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["/bin/bash", "-ec", command], cwd=bundle, capture_output=True, text=True, check=False)

    assert "Signature Verified Successfully" in run().stdout
    text = (bundle / "checkpoint").read_text()
    (bundle / "checkpoint").write_text(text.replace("\n700\n", "\n701\n"))
    assert run().returncode != 0


def test_openssl_accepts_the_timestamp_as_the_page_says(built: Built, exported: Path) -> None:
    [commands] = [block for block in (exported / "VERIFY.md").read_text().split("```") if "openssl ts" in block]
    (exported / "CA.pem").write_bytes(built.tsa)

    def run() -> subprocess.CompletedProcess[str]:
        command = ["/bin/bash", "-ec", commands.removeprefix("text\n")]
        return subprocess.run(command, cwd=exported, capture_output=True, text=True, check=False)

    assert "Time stamp: " in run().stdout
    (exported / "attested/0/checkpoint").write_text((exported / "checkpoint").read_text())
    assert run().returncode != 0


def test_the_first_hash_by_hand_is_that_of_the_tile(exported: Path) -> None:
    bundle = exported
    [commands] = [block for block in (bundle / "VERIFY.md").read_text().split("```") if "printf" in block]
    done = subprocess.run(
        ["/bin/bash", "-ec", commands.removeprefix("text\n")], cwd=bundle, capture_output=True, text=True, check=True
    )
    assert bytes.fromhex(done.stdout.split()[0]) == (bundle / "tile/0/000").read_bytes()[:32]


def test_the_products_own_command_gives_the_verifiers_answer(exported: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "regie"), "audit", "verify", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    whole = run(str(exported), "--json")
    assert (whole.returncode, json.loads(whole.stdout)["ok"]) == (0, True)
    (exported / "leaves.jsonl").write_bytes(b"{}\n")
    assert run(str(exported)).returncode == 1
    assert run(str(tmp_path / "nothing")).returncode == 2
    assert run("--kept", str(exported / "checkpoint")).returncode == 2


async def test_all_logs_of_an_installation_are_one_document(ground: Ground, tmp_path: Path) -> None:
    keys = tmp_path / "home" / "keys"
    keys.mkdir(parents=True)
    shutil.copy(ground.folder / "sealing.json", keys)
    async with ground.database.transaction() as tx:
        await audit.append_outside(tx, "acme", "certificates", [Fact(event=Event.RELEASE_LOADED, actor=ENGINE)])
    await ground.sign()

    async def run() -> tuple[int, dict[str, Any]]:
        done = await asyncio.to_thread(
            subprocess.run,
            [str(Path(sys.executable).parent / "regie"), "audit", "verify", "--json"],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.defpath, "REGIE_HOME": str(keys.parent), "REGIE_DATABASE_URL": ground.url},
        )
        return done.returncode, json.loads(done.stdout)

    code, whole = await run()
    assert (code, whole["ok"], whole["faults"]) == (0, True, [])
    assert [(log["size"], log["ok"]) for log in whole["logs"]] == [(1, True), (SIZE, True)]
    with psycopg.connect(ground.superuser_url, autocommit=True) as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute("delete from audit.checkpoint where size = 700")
    code, altered = await run()
    assert (code, altered["ok"]) == (1, False)
    assert [log["size"] for log in altered["logs"]] == [1, 630]
    assert ["700 entries; 630 are left" in fault for fault in altered["faults"]] == [True]
