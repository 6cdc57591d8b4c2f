"""Groups at the provider give roles, in one tenant and domain, as the tenants' files say now."""

from __future__ import annotations

import pytest

from regie.core.audit import Event
from regie.core.reach import Act
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.policy.cedar import Policies, shipped
from regie.store import audit, releases
from regie.store.accounts import account_of
from regie.store.keys import RunKey

from ..web.stage import OFFBOARD, OPERATOR  # noqa: TID252  as elsewhere in tests
from .conftest import People, customers_whose_forms_one_sees, open_forms

pytestmark = pytest.mark.slow


async def start(people: People, tenant: str) -> RunKey:
    request = StartRequest(tenant=tenant, workflow=OFFBOARD, trigger_key="t", started_by=OPERATOR)
    return (await PostgresEngine(people.database).start(request)).key


async def test_operators_of_one_domain_see_and_steer_that_and_nothing_else(people: People) -> None:
    ours, theirs = await start(people, "acme"), await start(people, "umbrella")
    await people.sign_in("zoe")
    listed = (await people.http.get("/runs")).text
    assert (ours.run in listed, theirs.run in listed) == (True, False)
    page = (await people.http.get(f"/runs/{ours.run}")).text
    assert "/values" in page
    assert "Pause" in page
    assert (await people.http.get(f"/runs/{theirs.run}")).status_code == 404
    assert (await people.http.get(f"/runs/{theirs.run}/values")).status_code == 404
    workflows = (await people.http.get("/workflows")).text
    assert (OFFBOARD in workflows, "finance.pay_invoice" in workflows) == (True, False)
    assert (await people.http.get("/workflows/finance.pay_invoice")).status_code == 404


async def test_viewers_look_and_do_nothing(people: People) -> None:
    ours = await start(people, "acme")
    await people.sign_in("vera")
    page = await people.http.get(f"/runs/{ours.run}")
    assert page.status_code == 200
    assert "/values" not in page.text
    assert "Pause" not in page.text
    assert (await people.http.get(f"/runs/{ours.run}/values")).status_code == 403
    assert (await people.http.get(f"/runs/{ours.run}/pause")).status_code == 403


async def test_who_has_no_group_sees_nothing_and_owners_everything(people: People) -> None:
    keys = [await start(people, "acme"), await start(people, "umbrella")]
    await people.sign_in("wang")
    listed = (await people.http.get("/runs")).text
    assert all(key.run in listed for key in keys)
    people.http.cookies.clear()
    async with people.database.transaction() as tx:
        await tx.change("update regie.account set groups = '{}'", {})
        release = await releases.current(tx)
        tenants = {
            slug: tenant.model_copy(update={"groups": {}}) if slug == "acme" else tenant
            for slug, tenant in release.tenants.items()
        }
        await releases.put(tx, release.model_copy(update={"tenants": tenants}), by=OPERATOR)
    await people.sign_in("zoe")
    listed = (await people.http.get("/runs")).text
    assert not any(key.run in listed for key in keys), "the file counts as it is now"


@pytest.mark.parametrize(
    ("person", "groups", "customers"),
    [
        ("zoe", "{soc}", {"acme"}),
        ("zoe", "{soc-of-hr}", {"acme"}),
        ("vera", "{watchers}", {"acme"}),
        ("vera", "{signers}", {"acme"}),
        ("wang", "{owners}", {"acme", "umbrella"}),
        ("lone", "{}", set()),
        ("lone", "{strangers}", set()),
    ],
)
async def test_a_form_for_everyone_is_for_whom_some_group_gives_a_role_of_its_tenant(
    people: People, person: str, groups: str, customers: set[str]
) -> None:
    await open_forms(people)
    await people.sign_in(person)
    async with people.database.transaction() as tx:
        await tx.change("update regie.account set groups = %(groups)s", {"groups": groups})
    assert await customers_whose_forms_one_sees(people) == customers


async def test_roles_of_the_tenant_are_held_by_groups_too(people: People) -> None:
    await people.sign_in("vera")
    async with people.database.reading() as tx:
        tenants = (await releases.current(tx)).tenants
        row = await tx.row("select * from regie.account where address = 'vera@example.com'")
        assert row is not None
        caller = await people.app.state.means.doorkeeper.caller_of(tx, account_of(row))
    assert caller.holds("security-officer", tenants["acme"])
    assert not caller.holds("security-officer", tenants["umbrella"])
    assert caller.may(Act.LOOK, "acme", "hr")
    assert not caller.may(Act.START, "acme", "hr")


async def test_policies_know_the_roles_that_groups_give(people: People) -> None:
    ours = await start(people, "acme")
    signers = (
        '@id("signers_stop") permit (principal in Role::"acme/security-officer", action == Action::"cancel", resource) '
        'when { resource.tenant == "acme" };'
    )
    async with people.database.transaction() as tx:
        release = await releases.current(tx)
        policies = {**shipped(), "signers.cedar": signers}
        await releases.put(tx, release.model_copy(update={"policies": policies}), by=OPERATOR)
    await people.sign_in("vera")
    assert (await people.http.get(f"/runs/{ours.run}/cancel")).status_code == 200
    assert (await people.http.get(f"/runs/{ours.run}/pause")).status_code == 403
    page = (await people.http.get(f"/runs/{ours.run}")).text
    csrf = page.split('name="csrf" value="')[1].split('"')[0]
    sent = await people.http.post(f"/runs/{ours.run}/cancel", data={"csrf": csrf}, headers={"Origin": "https://web"})
    assert sent.status_code == 303, sent.text
    async with people.database.reading() as tx:
        [leaf] = [leaf for leaf in await audit.read(tx, ours) if leaf.event is Event.RUN_CANCELLED]
    assert leaf.fields["policy"] == {"set_sha256": Policies(policies).sha256, "determining": ["signers_stop"]}
