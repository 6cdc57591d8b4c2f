"""The gateway asks the policies of the current release before a vendor is spoken with, and before each intent."""

import pytest

from regie.core.audit import Event
from regie.core.capabilities import identity
from regie.core.errors import Denied
from regie.core.release import Release
from regie.policy.cedar import policies_of, shipped
from regie.store import audit, releases

from .stage import APPROVER, JAN, OPERATOR, RELEASE, Run, Stage

pytestmark = pytest.mark.slow

GUARDED = '@id("break_glass") @because("{target} is never changed by us.") '


async def load(stage: Stage, **files: str) -> None:
    """Have other policies count from now on; runs keep the release that they have."""
    policies = {**shipped(), **{f"{name}.cedar": text for name, text in files.items()}}
    async with stage.database.transaction() as tx:
        await releases.put(tx, Release.model_validate({**RELEASE.model_dump(), "policies": policies}), by=OPERATOR)


async def told(run: Run, event: Event) -> list[dict[str, object]]:
    async with run.database.reading() as tx:
        return [dict(leaf.fields) for leaf in await audit.read(tx, run.key) if leaf.event is event]


async def test_each_intent_says_which_policies_allowed_it(stage: Stage) -> None:
    run = await stage.start()
    assert (await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)).state == "received"
    [intent] = await told(run, Event.EFFECT_INTENDED)
    assert intent["policy"] == {
        "set_sha256": policies_of(RELEASE).sha256,
        "determining": ["steps_do_what_they_are_written_for"],
    }


async def test_a_forbidden_target_is_looked_at_and_not_changed(stage: Stage) -> None:
    run = await stage.start()
    planned = await stage.client.plan((await stage.start(dry=True)).at("disable"), identity.DISABLE_ACCOUNT, JAN)
    target = planned.planned.target
    text = f'{GUARDED} forbid (principal, action == Action::"change", resource == Target::"{target}");'
    await load(stage, guarded=text)

    with pytest.raises(Denied, match=f"{target} is never changed by us"):
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)

    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["capability:denied"]
    [leaf] = await told(run, Event.CAPABILITY_DENIED)
    assert leaf["reason"] == "break_glass"
    assert isinstance(leaf["policy"], dict)
    assert leaf["policy"]["determining"] == ["break_glass"]
    assert target not in str(leaf)


async def test_what_is_forbidden_now_is_forbidden_to_runs_of_before(stage: Stage) -> None:
    run = await stage.start()
    assert (await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)).state == "received"
    await load(
        stage, stop='@id("stop") forbid (principal is Step, action, resource) when { principal.place == "join" };'
    )

    member = identity.Membership(user=JAN.user, group="g-1")
    with pytest.raises(Denied, match=r"No policy allows step join of identity\.offboard_employee to apply"):
        await stage.client.apply(run.at("join"), identity.ADD_TO_GROUP, member)
    with pytest.raises(Denied):
        await stage.client.call(run.at("join"), identity.ADD_TO_GROUP, member)

    assert (await run.leaves()).count("capability:denied") == 2


async def test_policies_that_cannot_be_used_allow_nothing(stage: Stage) -> None:
    run = await stage.start()
    await load(stage, broken="permit (")
    with pytest.raises(Denied, match="everything is denied"):
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    assert (stage.vendor.reads.total(), stage.vendor.writes.total()) == (0, 0)


async def test_a_destructive_change_can_be_bound_to_an_approval(stage: Stage) -> None:
    await load(
        stage,
        strict='@id("approved") @because("Nobody has approved it.") forbid (principal, action == Action::"change", '
        "resource) when { context.approved_by.isEmpty() };",
    )
    run = await stage.start()
    with pytest.raises(Denied, match="Nobody has approved it"):
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    plan = await stage.client.plan(run.at("approval"), identity.DISABLE_ACCOUNT, JAN)
    run = await stage.ask(run, [("close/0", plan.planned)])
    assert (await stage.client.apply(run.at("close/0"), identity.DISABLE_ACCOUNT, JAN)).state == "received"
    [intent] = await told(run, Event.EFFECT_INTENDED)
    assert "approval" in intent
    assert APPROVER not in str(intent)
