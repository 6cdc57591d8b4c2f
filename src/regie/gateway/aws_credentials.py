"""Clients of AWS with a connection's credentials: its own key, or the role of the customer that is taken on with it.

A role is taken on for one run and one capability, with a session policy that allows what the capability declares and
nothing else, so that a step can do no more than its capability even where the role could. The session bears the run's
correlation id: the customer's own CloudTrail says for which run each call was made.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from regie.core.errors import AuthFailed, Denied, Unavailable
from regie.gateway.authentication import Secret
from regie.gateway.guarding import guard_client_of_aws
from regie.gateway.vault import SecretText
from regie.kit.reaching import Dialler

ROLE_S = 900
"""Seconds for which a role is taken on: the least that AWS gives (STS AssumeRole, DurationSeconds)."""
EARLY_S = 120.0
"""Seconds before its end at which a role counts as spent."""
MOST_SESSIONS = 64
"""Sessions of one connection that are kept; one lasts for thirteen minutes."""
NOTHING = ("sts:GetCallerIdentity",)
"""What a session may do that needs nothing: what everybody may do anyway (IAM reference, actions of STS)."""
IAM_VERSION = "2012-10-17"
_NO_NAME = re.compile(r"[^\w+=,.@-]+", re.ASCII)
"""Characters that a session's name and a source identity cannot have (API reference, AssumeRole)."""
_LONGEST_NAME = 64
# No retries of its own: what is tried again, and when, is the gateway's to say.
# No proxies: what the environment names is no way that anybody has checked.
_CONFIG = Config(
    retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30, user_agent_extra="regie", proxies={}
)


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
class Acting:
    """For whom something is done: what a customer's account is told about a session.

    Attributes:
        run, corr: The run and its correlation id; both empty outside of runs.
    """

    tenant: str
    domain: str
    run: str = ""
    corr: str = ""

    @property
    def name(self) -> str:
        """The session's name: the correlation id, as far as AWS takes it."""
        found = _NO_NAME.sub("-", self.corr or self.run)[:_LONGEST_NAME]
        return found if len(found) > 1 else f"regie{found}"

    @property
    def tags(self) -> list[dict[str, str]]:
        """The session's tags."""
        found = {"tenant": self.tenant, "domain": self.domain, "run": self.run}
        return [{"Key": key, "Value": value} for key, value in found.items() if value]


def session_policy(permissions: Iterable[str]) -> str:
    """The policy of a session that may do this and nothing else. Which resources is for the customer's role to say."""
    statement = {"Effect": "Allow", "Action": sorted(permissions) or [*NOTHING], "Resource": "*"}
    return json.dumps({"Version": IAM_VERSION, "Statement": [statement]}, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class _Credentials:
    """Keys as of some secret, until they are spent."""

    secret: SecretText
    access_key: str | None
    key: SecretText
    token: SecretText | None
    spent_at: float

    def keywords(self) -> dict[str, str | None]:
        """The same as boto3 takes them."""
        return {
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.key.reveal() or None,
            "aws_session_token": self.token.reveal() if self.token else None,
        }


@dataclass(slots=True)
class _Session:
    """What is open for one run and capability."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    credentials: _Credentials | None = None
    clients: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Close what is idle; whoever is speaking through a client finishes."""
        for each in self.clients.values():
            each.close()
        self.clients.clear()


class AwsClients:
    """Gives clients by service; see `kit.aws.ClientFor`.

    Args:
        secret: The secret access key.
        dialler: Says where it may go.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, place: AwsPlace, secret: Secret, dialler: Dialler, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._place = place
        self._dialler = dialler
        self._secret = secret
        self._clock = clock
        # One for all sessions: it holds what boto3 knows of the services, which takes long to read.
        self._boto: Any = None
        self._making = asyncio.Lock()
        self._sessions: OrderedDict[tuple[Acting | None, tuple[str, ...]], _Session] = OrderedDict()

    async def client(
        self,
        service: str,
        permissions: tuple[str, ...] = (),
        refused: Any = None,
        *,
        acting: Acting | None = None,
    ) -> Any:
        """The client of a service.

        Args:
            permissions: What the capability declares; a session under a role may do nothing else.
            refused: A client whose credentials AWS has just turned down; the same one comes back if there are no newer.
            acting: For whom; a session under a role is for nobody else.

        Raises:
            Denied: A role is to be taken on without an external id: anybody who knows the role could have us do it.
            AuthFailed: AWS does not let us take on the role.
            Unavailable: It does not answer.
        """
        session = self._session((acting, tuple(sorted(permissions))) if self._place.role else (None, ()))
        async with session.turn:
            known = session.credentials
            is_refused = refused is not None and refused is session.clients.get(service)
            secret = await self._secret(known.secret if known is not None and is_refused else None)
            is_newer = known is None or not known.secret.is_same(secret)
            if known is None or is_newer or self._clock() >= known.spent_at or (is_refused and self._place.role):
                session.credentials = known = await self._opened(secret, permissions, acting)
                session.close()
            if service not in session.clients:
                session.clients[service] = await self._make(service, known)
            return session.clients[service]

    async def aclose(self) -> None:
        """Close every client."""
        for each in self._sessions.values():
            each.close()
        self._sessions.clear()

    def _session(self, key: tuple[Acting | None, tuple[str, ...]]) -> _Session:
        found = self._sessions.setdefault(key, _Session())
        self._sessions.move_to_end(key)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)[1].close()
        return found

    async def _opened(self, secret: SecretText, permissions: tuple[str, ...], acting: Acting | None) -> _Credentials:
        place = self._place
        if not place.access_key and not place.is_machine:
            # boto3 would look for one elsewhere on the machine.
            raise Denied("The connection names no access key.")
        own = _Credentials(secret, place.access_key or None, secret, None, float("inf"))
        if not place.role:
            return own
        if not place.external_id:
            raise Denied(
                f"The role {place.role} would be taken on without an external id.",
                hint="Set external_id, and have the customer's role ask for it.",
            )
        began_s = self._clock()
        try:
            given = await self._taken_on(own, permissions, acting)
        except AuthFailed:
            newer = await self._secret(secret)
            if newer.is_same(secret):
                raise
            secret, own = newer, replace(own, secret=newer, key=newer)
            given = await self._taken_on(own, permissions, acting)
        return _Credentials(
            secret,
            given["AccessKeyId"],
            SecretText(given["SecretAccessKey"]),
            SecretText(given["SessionToken"]),
            began_s + ROLE_S - EARLY_S,
        )

    async def _taken_on(
        self, own: _Credentials, permissions: tuple[str, ...], acting: Acting | None
    ) -> Mapping[str, str]:
        """Take on the role (API reference, AssumeRole)."""
        asked: dict[str, Any] = {
            "RoleArn": self._place.role,
            "ExternalId": self._place.external_id,
            "DurationSeconds": ROLE_S,
            "RoleSessionName": acting.name if acting else "regie",
        }
        if acting is not None:
            asked["Policy"] = session_policy(permissions)
            asked["SourceIdentity"] = acting.name
            asked["Tags"] = acting.tags
            asked["TransitiveTagKeys"] = [each["Key"] for each in acting.tags]
        client = await self._make("sts", own)
        try:
            answer = await asyncio.to_thread(client.assume_role, **asked)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status >= 500 or status == 429:
                raise Unavailable(f"AWS answers {status} when asked for the role {self._place.role}.") from None
            raise AuthFailed(
                f"AWS does not let us take on the role {self._place.role} ({status}).",
                hint="Its trust must allow sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity.",
            ) from None
        except BotoCoreError as error:
            raise Unavailable(f"AWS does not give us the role {self._place.role}: {type(error).__name__}.") from None
        finally:
            client.close()
        found: Mapping[str, str] = answer["Credentials"]
        return found

    async def _make(self, service: str, credentials: _Credentials) -> Any:
        """A client. One at a time, for boto3 makes them in no other way safely."""
        async with self._making:
            made = await asyncio.to_thread(self._made, service, credentials)
        guard_client_of_aws(made, self._dialler)
        return made

    def _made(self, service: str, credentials: _Credentials) -> Any:
        if self._boto is None:
            # A fifth of all that a gateway takes to start, and most installations know no AWS.
            import boto3  # noqa: PLC0415  for whoever has a connection to AWS

            self._boto = boto3.Session(region_name=self._place.region)
        return self._boto.client(
            service, endpoint_url=self._place.endpoint or None, config=_CONFIG, **credentials.keywords()
        )
