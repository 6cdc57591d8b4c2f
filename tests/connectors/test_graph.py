"""What is particular to Microsoft Graph."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.connectors.graph.connector import Graph
from regie.core.capabilities import identity
from regie.core.errors import AuthFailed, NotFound, OutcomeUnknown, Refused
from regie.core.plan import Change, NoChange, Pending, Receipt
from regie.kit.connector import Write
from regie.kit.session import Session

from .conftest import Recorded

JAN: dict[str, JsonValue] = {"id": "u1", "userPrincipalName": "jan.janssen@example.com", "displayName": "Jan Janssen"}
WANT = identity.UserQuery(user="jan.janssen@example.com")
MEMBERSHIP = identity.Membership(user="jan.janssen@example.com", group="g1")
SALES: JsonValue = {"@odata.type": "#microsoft.graph.group", "id": "g1", "displayName": "Sales"}


class Directory:
    """Answers like Graph about one user and one group; a test sets what it finds."""

    def __init__(self) -> None:
        self.user: dict[str, JsonValue] = dict(JAN)
        self.activity: httpx2.Response = httpx2.Response(200, json={"id": "u1"})
        self.groups: list[JsonValue] = []
        self.has_group = True
        self.write = httpx2.Response(204)
        self.on_write: Callable[[], None] = lambda: None
        self.written: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/v1.0")
        if request.method != "GET":
            self.written.append(f"{request.method} {path}")
            self.on_write()
            return self.write
        if path.endswith("/memberOf"):
            return httpx2.Response(200, json={"value": self.groups})
        if path.startswith("/groups/"):
            return (
                httpx2.Response(200, json={"id": "g1", "displayName": "Sales"})
                if self.has_group
                else httpx2.Response(404)
            )
        if "signInActivity" in request.url.params["$select"]:
            # Only an object id leads to the report.
            return self.activity if path == "/users/u1" else httpx2.Response(400)
        return httpx2.Response(200, json=self.user)

    def signed_in(self, **moments: str | None) -> None:
        self.activity = httpx2.Response(200, json={"id": "u1", "signInActivity": moments or None})


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.mark.parametrize(
    ("valid_from", "moments", "sessions"),
    [
        ("2026-11-21T10:00:00Z", {"lastSuccessfulSignInDateTime": "2026-11-21T09:59:59Z"}, "revoked"),
        ("2026-11-21T10:00:00Z", {"lastSuccessfulSignInDateTime": "2026-11-21T10:00:00Z"}, "live"),
        ("2026-11-21T10:00:00Z", {"lastSuccessfulSignInDateTime": "2026-11-21T10:00:01Z"}, "live"),
        ("2026-11-21T10:00:00Z", {}, "revoked"),
        (None, {"lastSuccessfulSignInDateTime": "2026-11-21T09:00:00Z"}, "live"),
        (None, {}, "revoked"),
        # A client that still tries its revoked token is an attempt, not a session.
        (
            "2026-11-21T10:00:00Z",
            {
                "lastSuccessfulSignInDateTime": "2026-11-21T09:00:00Z",
                "lastNonInteractiveSignInDateTime": "2026-11-21T11:00:00Z",
            },
            "revoked",
        ),
        # Accounts without the newer mark: any attempt may have been a success.
        ("2026-11-21T10:00:00Z", {"lastNonInteractiveSignInDateTime": "2026-11-21T11:00:00Z"}, "live"),
        ("2026-11-21T10:00:00Z", {"lastSignInDateTime": "2026-11-21T09:00:00Z"}, "revoked"),
    ],
)
async def test_whether_a_session_may_be_alive(
    recorded: Callable[[str], Recorded],
    directory: Directory,
    valid_from: str | None,
    moments: dict[str, str],
    sessions: str,
) -> None:
    directory.user["signInSessionsValidFromDateTime"] = valid_from
    directory.signed_in(**moments)
    write = recorded("graph").write("identity.revoke_sessions", directory)
    seen = await write.observe(WANT, "")
    assert write.gives(WANT, seen).model_dump() == {"user": WANT.user, "sessions": sessions}
    assert isinstance(write.plan(WANT, seen), NoChange if sessions == "revoked" else Change)


async def test_without_reports_sessions_count_as_live(
    recorded: Callable[[str], Recorded], directory: Directory
) -> None:
    directory.activity = httpx2.Response(403, json={"error": {"code": "Authorization_RequestDenied"}})
    directory.user["signInSessionsValidFromDateTime"] = "2026-11-21T10:00:00Z"
    directory.write = httpx2.Response(204)
    write = recorded("graph").write("identity.revoke_sessions", directory)
    change = write.plan(WANT, await write.observe(WANT, ""))
    assert isinstance(change, Change)
    pending = await write.apply(WANT, change, "")
    waits = []
    for _ in range(8):
        assert isinstance(pending, Pending)
        waits.append(pending.again_after_s)
        pending = await write.resume(WANT, pending.handle)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert isinstance(pending, Pending)
    directory.user["signInSessionsValidFromDateTime"] = "2026-11-21T10:00:05Z"
    receipt = await write.resume(WANT, pending.handle)
    assert isinstance(receipt, Receipt)
    assert isinstance(write.plan(WANT, await write.confirm(WANT, receipt, "")), NoChange)
    # A new run cannot know, and revokes again.
    assert isinstance(write.plan(WANT, await write.observe(WANT, "")), Change)


async def test_a_second_revocation_within_the_same_second_is_not_waited_for_for_ever(
    recorded: Callable[[str], Recorded], directory: Directory
) -> None:
    directory.user["signInSessionsValidFromDateTime"] = "2026-11-21T10:00:00Z"
    directory.signed_in(lastSignInDateTime="2026-11-21T11:00:00Z")
    directory.write = httpx2.Response(204)
    write = recorded("graph").write("identity.revoke_sessions", directory)
    change = write.plan(WANT, await write.observe(WANT, ""))
    assert isinstance(change, Change)
    # An earlier one becomes visible just before ours, and ours leaves the mark, in whole seconds, where it is.
    directory.user["signInSessionsValidFromDateTime"] = "2026-11-21T12:00:00Z"
    answer = await write.apply(WANT, change, "")
    for _ in range(5):
        assert isinstance(answer, Pending)
        answer = await write.resume(WANT, answer.handle)
        if isinstance(answer, Receipt):
            break
    assert isinstance(answer, Receipt)


async def test_a_failing_report_is_not_taken_for_an_answer(
    recorded: Callable[[str], Recorded], directory: Directory
) -> None:
    directory.activity = httpx2.Response(401)
    write = recorded("graph").write("identity.revoke_sessions", directory)
    with pytest.raises(AuthFailed):
        await write.observe(WANT, "")


@pytest.mark.parametrize("status", [400, 404])
async def test_a_membership_that_is_gone_already_is_gone(
    recorded: Callable[[str], Recorded], directory: Directory, status: int
) -> None:
    directory.groups, directory.write = [SALES], httpx2.Response(status)
    directory.on_write = directory.groups.clear
    write = recorded("graph").write("identity.remove_from_group", directory)
    change = write.plan(MEMBERSHIP, await write.observe(MEMBERSHIP, ""))
    assert isinstance(change, Change)
    assert isinstance(await write.apply(MEMBERSHIP, change, ""), Receipt)
    assert directory.written == ["DELETE /groups/g1/members/u1/$ref"]


async def test_a_membership_that_is_there_already_is_there(
    recorded: Callable[[str], Recorded], directory: Directory
) -> None:
    write = recorded("graph").write("identity.add_to_group", directory)
    change = write.plan(MEMBERSHIP, await write.observe(MEMBERSHIP, ""))
    assert isinstance(change, Change)
    directory.write = httpx2.Response(400, json={"error": {"code": "Request_BadRequest"}})
    with pytest.raises(Refused, match="Request_BadRequest"):
        await write.apply(MEMBERSHIP, change, "")
    directory.on_write = lambda: directory.groups.append(SALES)
    assert isinstance(await write.apply(MEMBERSHIP, change, ""), Receipt)


async def test_a_group_that_is_gone(recorded: Callable[[str], Recorded], directory: Directory) -> None:
    directory.has_group = False
    remove = recorded("graph").write("identity.remove_from_group", directory)
    assert isinstance(remove.plan(MEMBERSHIP, await remove.observe(MEMBERSHIP, "")), NoChange)
    add = recorded("graph").write("identity.add_to_group", directory)
    with pytest.raises(NotFound, match="There is no group g1"):
        await add.observe(MEMBERSHIP, "")


async def test_entries_that_are_no_groups_are_left_out(
    recorded: Callable[[str], Recorded], directory: Directory
) -> None:
    directory.user["accountEnabled"] = True
    directory.groups = [
        {"@odata.type": "#microsoft.graph.administrativeUnit", "id": "a1", "displayName": "Unit"},
        {"@odata.type": "#microsoft.graph.group", "id": "g2", "displayName": None, "groupTypes": None},
    ]
    read = recorded("graph").read("identity.list_access", directory)
    access = await read.read(WANT)
    assert [group.name for group in access.groups] == ["g2"]


async def test_a_manager_who_is_a_contact(recorded: Callable[[str], Recorded]) -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"id": "c1", "displayName": "Zoë Dubois", "mail": "zoe.dubois@example.com"})

    read = recorded("graph").read("identity.find_manager", handler)
    assert (await read.read(WANT)).user == "zoe.dubois@example.com"


async def test_a_revocation_without_an_answer_is_unknown(
    recorded: Callable[[str], Recorded], directory: Directory
) -> None:
    directory.user["signInSessionsValidFromDateTime"] = "2026-11-21T10:00:00Z"
    directory.signed_in(lastSuccessfulSignInDateTime="2026-11-21T10:00:01Z")
    write = recorded("graph").write("identity.revoke_sessions", directory)
    change = write.plan(WANT, await write.observe(WANT, ""))
    assert isinstance(change, Change)

    def lose() -> None:
        raise httpx2.ReadTimeout("lost")

    directory.on_write = lose
    with pytest.raises(OutcomeUnknown):
        await write.apply(WANT, change, "")


@given(enabled=st.booleans(), name=st.text(), user=st.text())
def test_plans_are_pure_and_repeatable(*, enabled: bool, name: str, user: str) -> None:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(500)))
    write = Graph(Session(client, vendor="Graph"), {}).implementation("identity.disable_account")
    assert isinstance(write, Write)
    seen: dict[str, JsonValue] = {"id": "u1", "user": user, "title": name, "enabled": enabled}
    first, second = write.plan(WANT, seen), write.plan(WANT, dict(seen))
    assert first == second
    assert isinstance(first, Change) is enabled
    if isinstance(first, Change):
        # Names are for people: who renames somebody does not make an approval void.
        other = write.plan(WANT, {**seen, "title": "another"})
        assert isinstance(other, Change)
        assert other.digest == first.digest
        assert isinstance(write.plan(WANT, write.foreseen(first, seen)), NoChange)
