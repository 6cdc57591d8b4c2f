"""Answers questions about records from the database. `app.py` asks, for a step whose grant is known."""

from __future__ import annotations

from typing import TypeVar

from pydantic import JsonValue, ValidationError

from regie.core.capabilities import record
from regie.core.capability import Record
from regie.core.effect import attempt_key
from regie.core.errors import InvalidInput
from regie.core.tenant import Grant
from regie.store import records
from regie.store.database import Database, Transaction
from regie.store.records import Shelf

PAGE = 200

Want = TypeVar("Want", bound=Record)


class Records:
    """The records of every domain. A step sees those of its own tenant and domain; a dry run writes none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer(self, grant: Grant, capability: str, want: dict[str, JsonValue]) -> Record:
        """Answer one question.

        Raises:
            InvalidInput: It does not fit the capability, or a record is too large.
        """
        async with self._database.transaction(grant.tenant) as tx:
            if capability == record.PUT.name:
                return await _put(tx, grant, _read(record.Putting, want))
            if capability == record.FIND.name:
                asked = _read(record.RecordQuery, want)
                found = await records.find(tx, _shelf(grant, asked.kind), asked.keys)
                return record.FoundRecords(at=await tx.clock(), records=found)
            if capability == record.LIST.name:
                page = _read(record.RecordPage, want)
                listed, cursor = await records.list_records(
                    tx, _shelf(grant, page.kind), state=page.state, after=page.cursor, most=PAGE
                )
                return record.ListedRecords(at=await tx.clock(), records=listed, cursor=cursor)
            gone = _read(record.RecordQuery, want)
            if grant.dry:
                return record.RemovedRecords(removed=0)
            return record.RemovedRecords(removed=await records.remove(tx, _shelf(grant, gone.kind), gone.keys))


async def _put(tx: Transaction, grant: Grant, want: record.Putting) -> record.PutRecords:
    keys = [each.key for each in want.records]
    if len(set(keys)) < len(keys):
        raise InvalidInput("Two of the records have the same key.")
    for each in want.records:
        if len(each.model_dump_json().encode()) > record.LARGEST_VALUE:
            raise InvalidInput(f"A record is larger than {record.LARGEST_VALUE} bytes.", hint="Keep what is needed.")
    shelf = _shelf(grant, want.kind)
    if grant.dry:
        found = {each.key: each for each in await records.find(tx, shelf, keys)}
        formers = [found.get(key) for key in keys]
    else:
        formers = await records.put(tx, shelf, want.records, by=attempt_key(grant.run, grant.place))
    told = [record.PutRecord(key=key, former=former) for key, former in zip(keys, formers, strict=True)]
    return record.PutRecords(at=await tx.clock(), records=told)


def _shelf(grant: Grant, kind: str) -> Shelf:
    return Shelf(grant.tenant, grant.domain, kind)


def _read(model: type[Want], want: dict[str, JsonValue]) -> Want:
    try:
        return model.model_validate(want)
    except ValidationError as error:
        places = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors()})[:5])
        raise InvalidInput(f"The question about records cannot be used; look at {places}.") from None
