"""Local accounts: only the right password of a known address, and nobody unrecorded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import psycopg
import pytest

from regie.core.audit import Actor, Event
from regie.core.errors import InvalidInput
from regie.store import accounts, migrating
from regie.store.database import Database
from tests.leaves import read_outside

pytestmark = pytest.mark.slow

MIGRATION = Path(migrating.__file__).parent / "migrations" / "0026_password_costs.sql"
OPERATOR = Actor(type="operator", id="operator")


async def test_only_the_right_password_of_a_known_address(database: Database) -> None:
    async with database.transaction() as tx:
        added = await accounts.add(
            tx,
            address="An.DeVries@example.com",
            display_name="An De Vries",
            password="correct horse",
            roles=["operator"],
            by=OPERATOR,
        )
    async with database.reading() as tx:
        assert await accounts.verify(tx, "an.devries@EXAMPLE.com", "correct horse") == added
        for address, password in (
            ("an.devries@example.com", "Correct horse"),
            ("an.devries@example.com", ""),
            ("nobody@example.com", "correct horse"),
            ("nobody@example.com", ""),
            ("", ""),
        ):
            assert await accounts.verify(tx, address, password) is None
        assert await accounts.list_accounts(tx) == [added]
        assert await accounts.get(tx, "AN.DEVRIES@example.com") == added
        (leaf,) = await read_outside(tx, "", "")
        stored = await tx.row("select password_hash from regie.account")
        log = await tx.row("select origin from audit.log where tenant = '' and domain = ''")
    assert added.roles == ("operator",)
    assert leaf.event is Event.ACCOUNT_ADDED
    assert leaf.fields["account"] == {"id": "an.devries@example.com", "roles": ["operator"]}
    assert stored is not None
    assert "correct horse" not in stored["password_hash"]
    assert log is not None
    assert log["origin"].endswith("/deployment")


async def test_each_password_is_checked_at_its_own_cost_and_that_of_nobody_at_that_of_the_dearest(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent: list[int] = []
    scrypt = hashlib.scrypt

    def counted(*args: Any, n: int, **more: Any) -> bytes:
        spent.append(n)
        return scrypt(*args, n=n, **more)

    async def check(address: str, password: str) -> bool:
        spent.clear()
        async with database.reading() as tx:
            return await accounts.verify(tx, address, password) is not None

    monkeypatch.setattr(hashlib, "scrypt", counted)
    assert not await check("nobody@example.com", "random")
    assert spent == [2**15]
    for address, cost in (("program@example.com", accounts.OF_A_MACHINE), ("an@example.com", accounts.OF_A_PERSON)):
        async with database.transaction() as tx:
            await accounts.add(
                tx, address=address, display_name="A", password="random", roles=[], by=OPERATOR, cost=cost
            )
        # Only where every password is a machine's is nobody's checked as cheaply.
        assert not await check("nobody@example.com", "random")
        assert spent == [2**cost.log_n]
    assert await check("program@example.com", "random")
    assert spent == [2**4]
    assert await check("an@example.com", "random")
    assert spent == [2**15]


async def test_a_password_kept_before_costs_were_told_still_counts(database: Database, database_url: str) -> None:
    async with database.transaction() as tx:
        await accounts.add(
            tx, address="an@example.com", display_name="A", password="correct horse", roles=[], by=OPERATOR
        )
        await tx.change(
            "update regie.account set password_hash = replace(password_hash, %(cost)s, '')",
            {"cost": "$scrypt$ln=15,r=8,p=3$"},
        )
    with psycopg.connect(database_url) as connection:
        connection.execute(MIGRATION.read_bytes())
    async with database.reading() as tx:
        assert await accounts.verify(tx, "an@example.com", "correct horse") is not None


@pytest.mark.parametrize("password", ["", "x" * 1025])
async def test_a_password_has_a_sensible_length(database: Database, password: str) -> None:
    with pytest.raises(InvalidInput):
        async with database.transaction() as tx:
            await accounts.add(tx, address="a@example.com", display_name="A", password=password, roles=[], by=OPERATOR)


async def test_an_address_has_one_account(database: Database) -> None:
    async with database.transaction() as tx:
        await accounts.add(tx, address="a@example.com", display_name="A", password="one", roles=[], by=OPERATOR)
    with pytest.raises(InvalidInput):
        async with database.transaction() as tx:
            await accounts.add(tx, address="A@Example.com", display_name="B", password="two", roles=[], by=OPERATOR)
