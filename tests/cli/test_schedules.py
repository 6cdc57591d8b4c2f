"""`regie schedules`, and what the doctor says of schedules and polls."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from regie.core.errors import Failure
from regie.core.starts import PollStart, ScheduleStart
from regie.engine.recurring import all_of
from regie.store import polls, releases, schedules
from regie.store.schedules import Planned

from .stage import Stage

pytestmark = pytest.mark.slow

WORKFLOW = """
workflow: identity.watch
title: Watch
owner: team:it
start:
  - schedule: { cron: "30 3 * * *", zone: Europe/Amsterdam }
  - poll: { uses: identity.list_access, with: { user: jan@example.com }, items: groups, every: 5m, key: item.id }
input:
  group: { type: text, from: item.name, default: none }
steps:
  - end: done
"""


@pytest.fixture
async def watching(stage: Stage) -> Stage:
    folder = stage.installation.settings.workspace_folder / "domains" / "watching"
    (folder / "workflows").mkdir(parents=True)
    (folder / "domain.yaml").write_text(
        "domain: watching\ntitle: Watching\nowner: team:it\nclassification: internal\n", encoding="utf-8"
    )
    text = WORKFLOW.replace("identity.watch", "watching.watch")
    (folder / "workflows" / "watch.yaml").write_text(text, encoding="utf-8")
    stage.write_tenant(domains=["identity", "watching"])
    await stage.installation.load(stage.database)
    return stage


@pytest.mark.usefixtures("answering")
async def test_what_starts_as_time_goes_is_listed_before_any_worker_has_looked(watching: Stage) -> None:
    done = await watching.regie("schedules")
    assert done.returncode == 0, done.stderr
    assert "30 3 * * *" in done.stdout
    done = await watching.regie("schedules", "--json")
    found = json.loads(done.stdout)
    assert [(line["kind"], line["tenant"], line["workflow"]) for line in found] == [
        ("poll", "acme", "watching.watch"),
        ("schedule", "acme", "watching.watch"),
    ]


async def test_the_doctor_tells_of_an_overdue_schedule_and_of_a_failing_poll(watching: Stage) -> None:
    async with watching.database.transaction() as tx:
        release = await releases.current(tx)
        now = await tx.clock()
        [(planned, _)] = all_of(release, ["watching"], ScheduleStart)
        [(polled, _)] = all_of(release, ["watching"], PollStart)
        late = now - timedelta(minutes=10)
        await schedules.keep(tx, ["watching"], sorted(release.domains), [Planned(planned, late, late)])
        await polls.keep(tx, ["watching"], sorted(release.domains), [polled])
    assert [finding.check for finding in await watching.bad()] == ["schedules"]
    async with watching.database.transaction() as tx:
        [claimed] = await polls.claim(tx, ["watching"], release=release.digest, hold_s=60, most=1)
        failure = Failure(kind="AuthFailed", message="The directory refuses us.", hint="Renew the secret.")
        await polls.failed(tx, claimed.claim, failure, again_s=300)
    overdue, failing = await watching.bad()
    assert "should have started" in overdue.message
    assert "has failed once" in failing.message
    assert "The directory refuses us." in failing.message
    assert failing.remedy == "Renew the secret."
