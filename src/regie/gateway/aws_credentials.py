"""Clients of AWS with a connection's credentials: its own key, or the role of the customer that is taken on with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from regie.core.errors import AuthFailed, Denied, Unavailable
from regie.gateway.authentication import Secret

ROLE_S = 900
"""Seconds for which a role is taken on: the least that AWS gives (STS AssumeRole, DurationSeconds)."""
EARLY_S = 120.0
"""Seconds before its end at which a role counts as spent."""
# No retries of its own: what is tried again, and when, is the gateway's to say.
_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30, user_agent_extra="regie")


@dataclass(frozen=True, slots=True)
class AwsPlace:
    """Where and as whom: the connection's settings.

    Attributes:
        endpoint: In place of AWS's own address; empty for that.
        role: ARN of the customer's role; empty for none.
        is_machine: There is no key, for the machine itself has a role. Never for a customer's connection: whoever
            writes one would act as the gateway's machine.
    """

    region: str
    access_key: str
    endpoint: str = ""
    role: str = ""
    external_id: str = ""
    is_machine: bool = False


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session as of some secret, until it is spent."""

    secret: str
    session: boto3.Session
    spent_at: float

    def __repr__(self) -> str:
        return "_Opened(…)"


class AwsClients:
    """Gives clients by service; see `kit.aws.ClientFor`.

    Args:
        secret: The secret access key.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        place: AwsPlace,
        secret: Secret,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._secret = secret
        self._clock = clock
        self._opened: _Opened | None = None
        self._clients: dict[str, Any] = {}
        self._opening = asyncio.Lock()

    async def client(self, service: str) -> Any:
        """The client of a service.

        Raises:
            Denied: A role is to be taken on without an external id: anybody who knows the role could have us do it.
            AuthFailed: AWS does not let us take on the role.
            Unavailable: It does not answer.
        """
        value = (await self._secret()).reveal()
        async with self._opening:
            known = self._opened
            if known is None or known.secret != value or self._clock() >= known.spent_at:
                self._opened = known = await asyncio.to_thread(self._open, value)
                self._clients = {}
            if service not in self._clients:
                self._clients[service] = await asyncio.to_thread(self._client, known.session, service)
            return self._clients[service]

    async def aclose(self) -> None:
        """Close every client."""
        for each in self._clients.values():
            each.close()

    def _open(self, secret: str) -> _Opened:
        place = self._place
        if not place.access_key and not place.is_machine:
            # boto3 would look for one elsewhere on the machine.
            raise Denied("The connection names no access key.")
        own = boto3.Session(place.access_key or None, secret or None, region_name=place.region)
        if not place.role:
            return _Opened(secret, own, float("inf"))
        if not place.external_id:
            raise Denied(
                f"The role {place.role} would be taken on without an external id.",
                hint="Set external_id, and have the customer's role ask for it.",
            )
        began_s = self._clock()
        try:
            answer = self._client(own, "sts").assume_role(
                RoleArn=place.role,
                RoleSessionName="regie",
                ExternalId=place.external_id,
                DurationSeconds=ROLE_S,
            )
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status >= 500 or status == 429:
                raise Unavailable(f"AWS answers {status} when asked for the role {place.role}.") from None
            raise AuthFailed(f"AWS does not let us take on the role {place.role} ({status}).") from None
        except BotoCoreError as error:
            raise Unavailable(f"AWS does not give us the role {place.role}: {type(error).__name__}.") from None
        given = answer["Credentials"]
        taken = boto3.Session(
            given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name=place.region
        )
        return _Opened(secret, taken, began_s + ROLE_S - EARLY_S)

    def _client(self, session: boto3.Session, service: str) -> Any:
        return session.client(service, endpoint_url=self._place.endpoint or None, config=_CONFIG)
