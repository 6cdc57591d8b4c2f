"""Who may ask for what: the grant comes from the pinned release, and every denial is written down."""

from dataclasses import replace
from typing import Any

import pytest

from regie.core.capabilities import identity, ticket
from regie.core.capability import Capability, Record
from regie.core.errors import Denied, FencedOut, InvalidInput, RegieError
from regie.core.run import Parent
from regie.gateway.vault import VaultFile
from regie.gateway_client import StepRef
from regie.store import releases
from regie.store.database import Database
from tests.leaves import read_outside

from .stage import JAN, OPERATOR, Run, Stage, connection, release_of

pytestmark = pytest.mark.slow


async def test_a_capability_that_the_steps_block_does_not_need_is_denied_and_written_down(stage: Stage) -> None:
    run = await stage.start()

    with pytest.raises(Denied, match=r"no use for identity\.disable_account"):
        await stage.client.apply(run.at("enable"), identity.DISABLE_ACCOUNT, JAN)

    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["capability:denied"]


@pytest.mark.parametrize(
    "place", ["nowhere", "close", "close/9", "disable[0]", "each", "each[0.0]", "close/1", "start", "answer", "x" * 200]
)
async def test_a_place_that_the_definition_does_not_have_may_nothing(stage: Stage, place: str) -> None:
    run = await stage.start()

    with pytest.raises(Denied):
        await stage.client.apply(run.at(place), identity.DISABLE_ACCOUNT, JAN)

    assert stage.vendor.reads.total() == 0
    assert await run.leaves() == ["capability:denied"]


@pytest.mark.parametrize(
    ("place", "capability", "want", "kind"),
    [
        # The toy vendor reads no tickets: what is granted fails for want of a connection.
        ("start", ticket.READ, ticket.TicketQuery(ticket="ITSM-1"), "No connection"),
        ("start", ticket.COMMENT, ticket.Comment(ticket="ITSM-1", text="x"), "no use for"),
        ("answer", ticket.READ, ticket.TicketQuery(ticket="ITSM-1"), "no use for"),
        ("approval", identity.LIST_ACCESS, JAN, "no use for"),
    ],
)
async def test_places_around_the_written_steps_have_their_own_grants(
    stage: Stage, place: str, capability: Capability[Any, Any], want: Record, kind: str
) -> None:
    run = await stage.start(ticket="ITSM-1")
    with pytest.raises(Denied, match=kind):
        await stage.client.call(run.at(place), capability, want)


@pytest.mark.parametrize(("own", "asked"), [("ITSM-1", "ITSM-2"), ("", "ITSM-1")])
async def test_the_places_around_the_steps_speak_only_of_the_runs_own_ticket(
    stage: Stage, own: str, asked: str
) -> None:
    run = await stage.start(ticket=own)

    with pytest.raises(Denied, match="own ticket"):
        await stage.client.apply(run.at("answer"), ticket.COMMENT, ticket.Comment(ticket=asked, text="Hello"))
    with pytest.raises(Denied, match="own ticket"):
        await stage.client.call(run.at("start"), ticket.READ, ticket.TicketQuery(ticket=asked))

    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["capability:denied", "capability:denied"]


async def test_the_answer_place_may_comment(stage: Stage) -> None:
    run = await stage.start(ticket="ITSM-1")
    said = ticket.Comment(ticket="ITSM-1", text="What is the last day?")

    assert (await stage.client.apply(run.at("answer"), ticket.COMMENT, said)).state == "received"


async def test_an_approval_may_look_for_managers_and_plan_what_it_covers_and_change_nothing(stage: Stage) -> None:
    run = await stage.start()

    planned = await stage.client.plan(run.at("approval"), identity.DISABLE_ACCOUNT, JAN)
    assert planned.foreseen.enabled is False
    with pytest.raises(RegieError, match="broke"):  # the toy vendor's way of finding managers; it was allowed to try
        await stage.client.call(run.at("approval"), identity.FIND_MANAGER, JAN)
    with pytest.raises(Denied, match="plan and not apply"):
        await stage.client.apply(run.at("approval"), identity.DISABLE_ACCOUNT, JAN)

    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["capability:denied"]


@pytest.mark.parametrize(("place", "covers_for"), [("disable", None), ("disable", "approval"), ("close/0", "look")])
async def test_a_step_under_no_approval_is_planned_only_in_a_dry_run(
    stage: Stage, place: str, covers_for: str | None
) -> None:
    run = await stage.start()

    with pytest.raises(Denied, match="neither in a dry run nor under that approval"):
        await stage.client.plan(run.at(place), identity.DISABLE_ACCOUNT, JAN, covers_for=covers_for)

    assert await run.leaves() == ["capability:denied"]


async def test_a_step_is_undone_only_where_this_run_has_changed_something(stage: Stage) -> None:
    run = await stage.start()
    undo = run.at("disable/undo")
    with pytest.raises(Denied, match="has changed nothing in this run"):
        await stage.client.apply(undo, identity.ENABLE_ACCOUNT, JAN)
    assert (await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)).state == "received"
    with pytest.raises(Denied, match="no use for"):
        await stage.client.apply(undo, identity.DISABLE_ACCOUNT, JAN)
    assert (await stage.client.apply(undo, identity.ENABLE_ACCOUNT, JAN)).state == "received"
    # Once, like every step.
    await stage.client.apply(undo, identity.ENABLE_ACCOUNT, JAN)
    assert stage.vendor.writes.total() == 2
    leaves = await run.leaves()
    assert leaves.count("capability:denied") == 2
    assert leaves.count("effect:received") == 2


async def test_what_was_so_before_is_not_undone(stage: Stage) -> None:
    first, second = await stage.start(), await stage.start()
    await stage.client.apply(first.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    assert (await stage.client.apply(second.at("disable"), identity.DISABLE_ACCOUNT, JAN)).state == "unchanged"
    with pytest.raises(Denied, match="has changed nothing in this run"):
        await stage.client.apply(second.at("disable/undo"), identity.ENABLE_ACCOUNT, JAN)


@pytest.mark.parametrize("place", ["enable/undo", "disable/undo[0]", "disable/undo/undo", "/undo", "close/undo"])
async def test_a_step_without_a_way_back_has_none(stage: Stage, place: str) -> None:
    run = await stage.start()
    await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    with pytest.raises(Denied):
        await stage.client.apply(run.at(place), identity.ENABLE_ACCOUNT, JAN)
    assert stage.vendor.writes.total() == 1


# --- whose run --------------------------------------------------------------------------------------------------------


async def test_a_worker_whose_run_went_to_another_is_fenced_out(stage: Stage) -> None:
    old = await stage.start()
    new = await stage.pass_on(old)

    for run in (old, replace(new, claim=new.claim._replace(fence=new.claim.fence + 1))):
        with pytest.raises(FencedOut):
            await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
        with pytest.raises(FencedOut):
            await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)

    assert stage.vendor.reads.total() == 0


async def test_a_run_that_is_over_asks_for_nothing(stage: Stage) -> None:
    run = await stage.start()
    await stage.finish(run)

    with pytest.raises(FencedOut):
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)


async def test_a_run_that_changes_hands_during_the_look_changes_nothing(stage: Stage) -> None:
    run = await stage.start()
    passed_on = []

    async def steal(_: object) -> None:
        passed_on.append(await stage.pass_on(run))

    stage.vendor.on_read = steal
    with pytest.raises(FencedOut):
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)

    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == []
    assert (await stage.client.apply(passed_on[0].at("disable"), identity.DISABLE_ACCOUNT, JAN)).state == "received"


@pytest.mark.parametrize("run", ["3f0c7c1e-5d0e-4c43-9a37-5f2f9d1f0001", "no-uuid", "'; drop table regie.run; --"])
async def test_a_run_that_does_not_exist_asks_for_nothing(stage: Stage, run: str) -> None:
    ref = StepRef(tenant="acme", domain="identity", run=run, place="disable", fence=1)
    with pytest.raises((FencedOut, InvalidInput)):
        await stage.client.apply(ref, identity.DISABLE_ACCOUNT, JAN)


async def test_a_run_is_not_found_under_another_tenant(stage: Stage) -> None:
    run = await stage.start()
    with pytest.raises(FencedOut):
        await stage.client.call(run.at("look").model_copy(update={"tenant": "globex"}), identity.LIST_ACCESS, JAN)


async def test_another_domains_token_is_denied_and_the_domain_reached_for_is_told(stage: Stage) -> None:
    run = await stage.start()
    for client in (stage.other_domain, stage.web):
        with pytest.raises(Denied):
            await client.call(run.at("look"), identity.LIST_ACCESS, JAN)
        with pytest.raises(Denied):
            await client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)

    assert stage.vendor.reads.total() == 0
    async with stage.database.reading() as tx:
        outside = await read_outside(tx, "acme", "identity")
    denials = [leaf for leaf in outside if leaf.event == "capability:denied"]
    assert {leaf.fields["actor"]["id"] for leaf in denials} == {"worker:support", "web"}  # type: ignore[call-overload, index]  # JSON
    assert len(denials) == 4


async def test_a_tenant_that_does_not_exist_gets_no_log(stage: Stage) -> None:
    run = await stage.start()
    with pytest.raises(Denied):
        await stage.other_domain.call(
            run.at("look").model_copy(update={"tenant": "made-up"}), identity.LIST_ACCESS, JAN
        )
    async with stage.database.reading() as tx:
        assert await read_outside(tx, "made-up", "identity") == []


# --- connections ------------------------------------------------------------------------------------------------------


async def run_with(stage: Stage, **connections: object) -> Run:
    """A run of a release with these connections."""
    async with stage.database.transaction() as tx:
        await releases.put(tx, release_of(connections), by=OPERATOR)  # type: ignore[arg-type]  # each is a Connection
    return await stage.start()


async def test_two_connections_for_one_capability_are_not_chosen_from(stage: Stage) -> None:
    run = await run_with(stage, directory=connection(), spare=connection())
    with pytest.raises(Denied, match=r"More than one connection.*directory, spare"):
        await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)


async def test_a_connection_of_another_domain_does_not_serve(stage: Stage) -> None:
    run = await run_with(stage, directory=connection(domains=("support",)))
    with pytest.raises(Denied, match="No connection of acme serves"):
        await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)


async def test_a_connection_that_is_not_complete_says_what_is_wrong(stage: Stage) -> None:
    run = await run_with(stage, directory=connection(adress="https://api.example.com"))
    with pytest.raises(Denied, match="no setting adress, did you mean address"):
        await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)


async def test_a_secret_of_a_domain_that_the_connection_does_not_serve_is_not_used(
    stage: Stage, vault: VaultFile
) -> None:
    one = connection()
    stolen = {name: ref.model_copy(update={"domain": "hr"}) for name, ref in one.secrets.items()}
    for ref in stolen.values():
        vault.put("acme", ref, "hr-only")
    run = await run_with(stage, directory=one.model_copy(update={"secrets": stolen}))
    with pytest.raises(Denied, match="secrets of domains that it does not serve"):
        await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)


async def test_a_missing_secret_is_named_by_its_reference(stage: Stage) -> None:
    one = connection()
    other = {name: ref.model_copy(update={"name": "lost"}) for name, ref in one.secrets.items()}
    run = await run_with(stage, directory=one.model_copy(update={"secrets": other}))
    with pytest.raises(RegieError, match="secret://identity/lost#client_secret"):
        await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)


async def test_a_run_keeps_the_connections_of_its_release(stage: Stage) -> None:
    run = await stage.start()
    async with stage.database.transaction() as tx:
        await releases.put(tx, release_of({}), by=OPERATOR)

    assert (await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)).enabled


async def test_connections_share_a_token_across_releases_and_not_across_tenants(
    stage: Stage, database: Database
) -> None:
    first = await stage.start()
    await stage.client.call(first.at("look"), identity.LIST_ACCESS, JAN)
    again = await run_with(stage, directory=connection(), desk=connection("unknown"))
    await stage.client.call(again.at("look"), identity.LIST_ACCESS, JAN)
    assert stage.vendor.tokens_issued == 1

    other = await stage.start(tenant="globex")
    await stage.client.call(other.at("look"), identity.LIST_ACCESS, JAN)
    assert stage.vendor.tokens_issued == 2


async def test_what_two_children_do_for_one_ticket_is_told_apart_and_survives_a_second_run(stage: Stage) -> None:
    """Two parents for one ticket, one after the other, each with a child at two places."""
    keys = []
    for _ in range(2):
        over = await stage.start(ticket="ITSM-1")
        for place in ("all[0]", "all[1]"):
            parent = Parent(run=over.key.run, place=place, lineage=(f"identity.outer:{place}",))
            child = await stage.start(ticket="ITSM-1", parent=parent)
            await stage.client.apply(child.at("disable"), identity.DISABLE_ACCOUNT, JAN)
            [effect] = await child.effects()
            keys.append(effect.effect_key)
    assert keys[0] != keys[1]
    assert keys[2:] == keys[:2]
