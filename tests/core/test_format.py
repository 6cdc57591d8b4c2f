"""What is stored has a number that says in which form: nobody adds a field and forgets it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from regie.core import canonical
from regie.core.errors import Unavailable
from regie.core.format import FORMAT, require_readable
from regie.core.release import Release
from regie.core.run import RunState
from regie.core.run_events import EVENT

FIELDS = {
    2: "b9f4688e6786cab594cbfbb8b898779308ad33e233ab142fa0df9c2de53017a5",
    3: "84e3ef7053438132ce3fef428004f7f6b8dafc387ea90264146b5ab3abdc247b",
    4: "76b254c7f25780dee2d638bd4e4177042f0ceb6403aeb5922aa7f11f92edb85e",
    5: "76b254c7f25780dee2d638bd4e4177042f0ceb6403aeb5922aa7f11f92edb85e",
}
"""A digest of every field, by format. Of a format that has been released it never changes again."""


def fields_of(*kinds: TypeAdapter[Any]) -> dict[str, Any]:
    """Every record and word that may be stored, with its fields or the values it can have."""
    found: dict[str, Any] = {}
    for kind in kinds:
        schema = kind.json_schema(mode="serialization")
        for name, each in {"": schema, **schema.get("$defs", {})}.items():
            title = name or each.get("title", "")
            found[title] = sorted(each.get("properties", [])) or each.get("enum", [])
    return found


def test_a_new_field_is_a_new_format() -> None:
    now = canonical.digest(fields_of(TypeAdapter(RunState), EVENT, TypeAdapter(Release)))
    assert now == FIELDS[FORMAT], (
        "What runs, events and releases are made of has changed. If format "
        f"{FORMAT} has been released, add one to FORMAT in core/format.py; then note here, for it: {now}"
    )


def test_what_a_newer_version_has_written_is_left_alone() -> None:
    require_readable("It", FORMAT)
    require_readable("It", 1)
    with pytest.raises(
        Unavailable, match=f"newer version of Regie .format {FORMAT + 1}, this one reads up to {FORMAT}"
    ):
        require_readable("It", FORMAT + 1)
