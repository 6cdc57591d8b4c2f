"""AWS Secrets Manager and Systems Manager Parameter Store.

Every failure becomes one of ours in `kit/aws.py`, as for connectors; here it is only told what it means for a secret.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from regie.core.errors import AuthFailed, InvalidInput, NotFound, Refused
from regie.core.tenant import SecretRef
from regie.gateway.backends.fields import field_of
from regie.gateway.backends.memory import Memory
from regie.gateway.vault import NoSecret, SecretText
from regie.kit.access import Calls
from regie.kit.aws import Aws, ClientFor
from regie.kit.keys import Material

SHORTEST_VERSION_ID = 32
"""Characters of a version's id; shorter ones are stages, such as AWSPREVIOUS (API reference, GetSecretValue)."""
GONE = "InvalidRequestException"
"""How Secrets Manager says that a secret is about to be deleted (API reference, GetSecretValue)."""


class _Backend(ABC):
    """What both have in common.

    Args:
        client_for: Gives authenticated clients.
        prefix: What the names of all secrets begin with.
    """

    title: str
    permission: str

    def __init__(self, client_for: ClientFor, prefix: str, memory: Memory) -> None:
        self._aws = Aws(client_for, Calls(self.title), _no_material, (self.permission,))
        self._prefix = prefix
        self._memory = memory

    async def get(self, tenant: str, reference: SecretRef, refused: SecretText | None = None) -> SecretText:
        """The value of a tenant's secret; see `SecretBackend`."""
        name = f"{self._prefix}{tenant}/{reference.domain}/{reference.name}"

        async def fetch() -> str:
            return await self._found(name, tenant, reference)

        def pick(document: str) -> str:
            return field_of(document, tenant, reference)

        return await self._memory.get(f"{name}@{reference.version}", fetch, pick, refused)

    async def _found(self, name: str, tenant: str, reference: SecretRef) -> str:
        try:
            return await self._ask(name, reference.version)
        except (NotFound, InvalidInput):
            raise NoSecret(f"There is no secret {reference} of {tenant}: {self.title} has no {name}.") from None
        except Refused as error:
            if error.code == GONE:
                raise NoSecret(f"The secret {reference} of {tenant} is about to be deleted: {name}.") from None
            raise AuthFailed(f"{self.title} does not give us {name}: {error.status} {error.code}.") from None

    @abstractmethod
    async def _ask(self, name: str, version: str) -> str:
        """What is kept under a name, as it is answered."""


class SecretsManager(_Backend):
    """AWS Secrets Manager. A version is a version's id or a staging label."""

    title = "AWS Secrets Manager"
    permission = "secretsmanager:GetSecretValue"

    async def _ask(self, name: str, version: str) -> str:
        asked: dict[str, Any] = {"SecretId": name}
        if version:
            asked["VersionId" if len(version) >= SHORTEST_VERSION_ID else "VersionStage"] = version
        answer = await self._aws.call("secretsmanager", "GetSecretValue", **asked)
        if "SecretString" not in answer:
            raise AuthFailed(f"{name} is binary.", hint="Keep it as text; what is binary, in base64.")
        return str(answer["SecretString"])


class ParameterStore(_Backend):
    """AWS Systems Manager Parameter Store. A version is a number or a label."""

    title = "AWS Parameter Store"
    permission = "ssm:GetParameter"

    async def _ask(self, name: str, version: str) -> str:
        selected = f"/{name}:{version}" if version else f"/{name}"
        answer = await self._aws.call("ssm", "GetParameter", Name=selected, WithDecryption=True)
        return str(answer["Parameter"]["Value"])


async def _no_material(_: Material) -> bytes:
    raise InvalidInput("A secret is looked up without any certificate.")
