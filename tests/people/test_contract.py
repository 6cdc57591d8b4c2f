"""The API keeps what its OpenAPI document says, whatever is asked: no fault of ours, no answer that is not described.

A short run with a seed. `st run` against a listening web takes the same document for thousands of cases.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from regie.store import releases
from regie.store.database import Database
from regie.store.sealer import Sealer
from regie.web.app import make_web

from ..web.listening import listening  # noqa: TID252  as elsewhere in tests
from ..web.stage import (  # noqa: TID252  as elsewhere in tests
    ANA,
    AS_OPERATOR,
    OPERATOR,
    TOKEN,
    FakeGateway,
    Stage,
    make_release,
)

pytestmark = pytest.mark.slow

SEED = 4711
CASES = 3
"""Of each operation at most; what does not fit its description has tests of its own in tests/bad_input."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
"""That what is well formed is accepted is none of them: tenants, workflows and runs must exist as well."""


@contextmanager
def serving(database_url: str, web_url: str, sealer: Sealer) -> Iterator[tuple[str, dict[str, object]]]:
    """The address of a web in a thread of its own, with two runs and an approval, and the document of its API."""
    is_up, stop = threading.Event(), threading.Event()
    found: list[tuple[str, dict[str, object]]] = []

    async def serve() -> None:
        async with Database(database_url, sealer) as database, Database(web_url, sealer) as web_database:
            app = make_web(web_database, FakeGateway(), operator_token=TOKEN)
            async with listening(app) as address, httpx2.AsyncClient(base_url=address, trust_env=False) as http:
                stage = Stage(database, FakeGateway(), http)
                async with database.transaction() as tx:
                    await releases.put(tx, make_release(), by=OPERATOR)
                await stage.ask(await stage.start(trigger="a"), ANA)
                await stage.start(trigger="b")
                found.append((address, app.state.means.contract()))
                is_up.set()
                await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert is_up.wait(60), "the web does not listen"
        yield found[0]
    finally:
        stop.set()
        thread.join(60)


def test_every_answer_is_one_that_is_described(database_url: str, url_of: Callable[[str], str], sealer: Sealer) -> None:
    with serving(database_url, url_of("web"), sealer) as (address, document):
        schema = schemathesis.openapi.from_dict(document)
        operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
        tried = [_try(operation, address) for operation in operations]
    assert len(operations) >= 20
    assert min(tried) >= 1
    assert sum(tried) > len(operations)


def _try(operation: schemathesis.APIOperation[Any, Any, Any, Any], address: str) -> int:
    """Ask one operation many things, and check every answer; how many that were."""
    count = 0

    @seed(SEED)
    @settings(
        max_examples=CASES,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case[Any]) -> None:
        nonlocal count
        count += 1
        case.call_and_validate(base_url=address, headers=AS_OPERATOR, checks=CHECKS)

    ask()
    return count
