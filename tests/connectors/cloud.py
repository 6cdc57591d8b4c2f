"""Ways to AWS for the tests of its connectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import boto3
from botocore.config import Config

from regie.kit.access import Calls
from regie.kit.aws import Aws
from regie.kit.keys import Material, Resolve
from tests.counterparts.aws import REGION
from tests.counterparts.aws import Aws as Cloud

_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10)


class Asked(Aws):
    """Access that remembers what was asked.

    Attributes:
        operations: Names of the operations, in order; shared with what is derived by `needing`.
        instead: What answers in place of AWS, once, by operation.
    """

    operations: list[str]
    instead: dict[str, Any]

    def needing(self, permissions: tuple[str, ...]) -> Asked:
        """See `Aws`."""
        made = Asked(self._client_for, self._calls, self._resolve, permissions)
        made.operations, made.instead = self.operations, self.instead
        return made

    async def call(self, service: str, operation: str, **arguments: Any) -> Any:
        """See `Aws`."""
        self.operations.append(operation)
        if before := self.instead.pop(operation, None):
            before()
        return await super().call(service, operation, **arguments)


async def _nothing(_: Material) -> bytes:
    raise AssertionError


def access(cloud: Cloud, *, resolve: Resolve = _nothing, keys: Sequence[str] = ()) -> Asked:
    """A connection's way; with the test's account when no keys are given."""
    access_key, secret_key = keys or (cloud.access_key, cloud.secret_key)
    clients: dict[str, Any] = {}

    async def client_for(service: str) -> Any:
        if service not in clients:
            session = boto3.Session(access_key, secret_key, region_name=REGION)
            clients[service] = session.client(service, endpoint_url=cloud.endpoint, config=_CONFIG)
        return clients[service]

    made = Asked(client_for, Calls("AWS"), resolve)
    made.operations, made.instead = [], {}
    return made
