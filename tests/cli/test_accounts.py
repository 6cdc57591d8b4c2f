"""`regie account add`: whoever adds somebody is told when that person may not get in."""

from __future__ import annotations

import pytest

from regie.cli.installation import demo_file

from .stage import Stage, regie

pytestmark = pytest.mark.slow

ADD = ("account", "add", "ana@example.com", "--name", "Ana")


@pytest.mark.parametrize("why", ["nothing", "the setting", "the demo"])
async def test_it_is_said_when_local_accounts_may_be_off(stage: Stage, why: str) -> None:
    settings = stage.installation.settings
    if why == "the demo":
        demo_file(settings).write_text("{}")
    more = {"local_accounts": "true"} if why == "the setting" else {}
    done = regie(stage.home, *ADD, stdin="een lang wachtwoord", database_url=settings.database_url, **more)
    assert (done.returncode, done.stdout) == (0, "Added ana@example.com.\n"), done.stderr
    assert ("REGIE_LOCAL_ACCOUNTS" in done.stderr) == (why == "nothing")
