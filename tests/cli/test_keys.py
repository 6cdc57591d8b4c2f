"""`regie keys`: new data keys, for everybody or for one customer in one domain."""

from __future__ import annotations

import asyncio
import json

import pytest

from regie.core.audit import Event
from tests.leaves import read_outside

from .stage import Stage

pytestmark = pytest.mark.slow

PLACES = ({"tenant": "acme", "domain": "identity"}, {"tenant": "acme", "domain": "certificates"})
ROW = {"table": "run.state", "pk": "1"}


async def test_new_keys_seal_and_old_ones_open(stage: Stage) -> None:
    async with stage.database.transaction() as tx:
        before = [tx.sealer.seal(b"before", **place, **ROW) for place in PLACES]
    done = await stage.regie("keys", "rotate", "--domain", "identity", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"tenant": "acme", "domain": "identity", "version": 2}]
    listed = await stage.regie("keys", "list", "--json")
    assert {each["domain"]: each["version"] for each in json.loads(listed.stdout)} == {"identity": 2, "certificates": 1}
    # Another process, which has the first one, reads the second when it comes to something that is sealed with it.
    async with stage.installation.running_database() as newer, newer.transaction() as tx:
        after = tx.sealer.seal(b"after", **PLACES[0], **ROW)
    async with stage.database.transaction() as tx:
        assert [tx.sealer.open(each, **place, **ROW) for each, place in zip(before, PLACES, strict=True)] == [
            b"before",
            b"before",
        ]
        assert tx.sealer.open(after, **PLACES[0], **ROW) == b"after"
        assert before[0][:5] < after[:5] == tx.sealer.seal(b"", **PLACES[0], **ROW)[:5]
        leaves = await read_outside(tx, "acme", "identity")
    [rotated] = [leaf for leaf in leaves if leaf.event is Event.DATA_KEY_ROTATED]
    assert rotated.fields["data_key"] == 2
    actor = rotated.fields["actor"]
    assert isinstance(actor, dict)
    assert actor["type"] == "operator"


async def test_what_is_not_there_is_said(stage: Stage) -> None:
    nothing = await stage.regie("keys", "list")
    assert "no data keys yet" in nothing.stdout
    async with stage.database.transaction() as tx:
        tx.sealer.seal(b"", **PLACES[0], **ROW)
    wrong = await stage.regie("keys", "rotate", "--tenant", "nobody")
    assert wrong.returncode == 2
    assert "no data key" in wrong.stderr


async def test_two_people_at_once_make_one_key(stage: Stage) -> None:
    async with stage.database.transaction() as tx:
        tx.sealer.seal(b"", **PLACES[0], **ROW)
    both = await asyncio.gather(*(stage.regie("keys", "rotate") for _ in range(2)))
    assert [done.returncode for done in both] == [0, 0]
    listed = json.loads((await stage.regie("keys", "list", "--json")).stdout)
    async with stage.database.reading() as tx:
        leaves = [leaf.event for leaf in await read_outside(tx, "acme", "identity")]
    assert leaves.count(Event.DATA_KEY_ROTATED) == listed[0]["version"] - 1
