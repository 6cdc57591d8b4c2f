"""`regie approve` and `refuse`: with the ids as they are printed, and with a reason when it does not count."""

from __future__ import annotations

import json

import pytest

from regie.store import accounts

from .stage import OPERATOR, Stage

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("answering")]

ANA, SAM = "ana@example.com", "sam@example.com"
PASSWORD = "een lang wachtwoord"


@pytest.fixture
async def approval(stage: Stage) -> dict[str, str]:
    """The approval as it is printed, and the run that waits for it."""
    async with stage.database.transaction() as tx:
        for address in (ANA, SAM):
            await accounts.add(
                tx,
                address=address,
                display_name=address,
                password=PASSWORD,
                roles=(),
                by=OPERATOR,
                cost=accounts.OF_A_MACHINE,
            )
    await stage.ask(ANA)
    listed = await stage.regie("approvals")
    runs = await stage.regie("runs")
    return {"approval": first_word(listed.stdout), "run": first_word(runs.stdout)}


def first_word(table: str) -> str:
    """The id in the first row of a table."""
    return table.splitlines()[1].split()[0]


@pytest.mark.parametrize("which", ["approval", "run"])
async def test_an_id_as_it_is_printed_names_an_approval(stage: Stage, approval: dict[str, str], which: str) -> None:
    done = await stage.regie("approve", approval[which], "--as", ANA, password=PASSWORD)
    assert (done.returncode, done.stdout) == (0, f"Approved by {ANA}.\n"), done.stderr
    [decided] = json.loads((await stage.regie("approvals", "--all", "--json")).stdout)
    assert (decided["status"], decided["decided_by"]) == ("approved", ANA)


@pytest.mark.parametrize("which", ["approval", "run"])
async def test_what_is_decided_says_who_was_first(stage: Stage, approval: dict[str, str], which: str) -> None:
    await stage.regie("approve", approval["approval"], "--as", ANA, password=PASSWORD)
    for person in (ANA, SAM):
        again = await stage.regie("refuse", approval[which], "--as", person, password=PASSWORD)
        assert again.returncode == 3
        assert f"{ANA} has already decided this: approved, 20" in again.stderr


async def test_who_is_not_asked_is_told_who_is(stage: Stage, approval: dict[str, str]) -> None:
    done = await stage.regie("approve", approval["run"], "--as", SAM, password=PASSWORD)
    assert done.returncode == 3
    assert f"{SAM} has not been asked to decide this." in done.stderr
    assert f"Asked so far: {ANA}" in done.stderr


async def test_what_there_is_not_is_no_approval(stage: Stage) -> None:
    done = await stage.regie("approve", "00000000", "--as", ANA, password=PASSWORD)
    assert (done.returncode, "There is no such approval." in done.stderr) == (1, True)
    await stage.start()
    unasked = first_word((await stage.regie("runs")).stdout)
    done = await stage.regie("approve", unasked, "--as", ANA, password=PASSWORD)
    assert (done.returncode, "That run has asked nobody." in done.stderr) == (1, True)


async def test_every_command_about_a_run_takes_its_id_as_it_is_printed(stage: Stage, approval: dict[str, str]) -> None:
    for command in (
        ("show",),
        ("audit", "show"),
        ("audit", "why"),
        ("audit", "find"),
        ("pause",),
        ("resume",),
        ("cancel",),
    ):
        done = await stage.regie(*command, approval["run"])
        assert done.returncode == 0, (command, done.stderr)
        assert "leads to no run" not in done.stdout, command


@pytest.mark.parametrize("person", [ANA, "[/x]"])
async def test_the_question_for_a_password_is_no_part_of_the_answer(
    stage: Stage, approval: dict[str, str], person: str
) -> None:
    done = await stage.regie("approve", approval["approval"], "--as", person, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Password of {person}" in done.stderr
    assert f"The password of {person} is needed." in done.stderr
