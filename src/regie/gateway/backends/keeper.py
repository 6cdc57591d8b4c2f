"""Keeper Secrets Manager, through the vendor's SDK: its encryption and its reading of records, our way to the network.

Keeper allows one client device ten requests a minute and says so with 403 and `{"error": "throttled"}` (README of the
SDK, 17.3.0). So every record that the device may see is fetched with one request and remembered; the SDK's own waiting,
up to three minutes inside a call, is kept out by telling a throttle before it sees one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import structlog
from keeper_secrets_manager_core import SecretsManager
from keeper_secrets_manager_core.dto.payload import EncryptedPayload, KSMHttpResponse, TransmissionKey
from keeper_secrets_manager_core.storage import InMemoryKeyValueStorage

from regie.core.errors import AuthFailed, RegieError, Throttled, Unavailable
from regie.core.tenant import SecretRef
from regie.gateway.backends.memory import Memory
from regie.gateway.vault import NoSecret, SecretText

_log = structlog.get_logger(__name__)

MOST_REQUESTS = 8
"""Requests a minute that we make: Keeper allows ten, and `regie secret check` may ask in between."""
MINUTE_S = 60.0
TIMEOUT_S = 15.0
LARGEST = 16 * 1024 * 1024
"""Bytes of an answer: every record that the device may see."""
_NEEDED = ("hostname", "clientId", "privateKey", "appKey")
_ALL = "records"


@dataclass(frozen=True, slots=True)
class _Complaint:
    """An answer as the SDK looks at one that is no success."""

    status_code: int
    text: str
    reason: str = ""


class Keeper:
    """The records that one client device may see. A reference names one by its title, TENANT/DOMAIN/NAME.

    Args:
        name: Of the backend, for messages.
        device: The configuration of the device, as JSON or in base64.
        memory: Remembers the records.
        transport: How Keeper is reached.
        clock: Seconds that only go forward.

    Raises:
        AuthFailed: The configuration is none, or its device was never bound.
    """

    def __init__(
        self,
        name: str,
        device: str,
        memory: Memory,
        transport: httpx2.BaseTransport,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._memory = memory
        self._client = httpx2.Client(transport=transport, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)
        self._clock = clock
        self._asked: deque[float] = deque(maxlen=MOST_REQUESTS)
        self._sdk = SecretsManager(
            config=InMemoryKeyValueStorage(_read_device(name, device)), custom_post_function=self._post
        )

    async def aclose(self) -> None:
        """Close what is open."""
        self._client.close()

    async def get(self, tenant: str, reference: SecretRef, refused: SecretText | None = None) -> SecretText:
        """The value of a tenant's secret; see `SecretBackend`. A version is the revision that a record must have."""

        async def fetch() -> str:
            return await asyncio.to_thread(self._fetch)

        def pick(records: str) -> str:
            return self._picked(json.loads(records), tenant, reference)

        return await self._memory.get(_ALL, fetch, pick, refused)

    def _fetch(self) -> str:
        """Every record, by title, with its revision and its fields."""
        failure: RegieError
        try:
            answer = self._sdk.get_secrets(full_response=True)
        except RegieError:
            raise
        except Exception as error:  # noqa: BLE001  whatever the SDK stumbles over, it is an answer that it cannot read
            failure = Unavailable(
                f"Keeper answers {self._name} with something else than records: {type(error).__name__}."
            )
        else:
            if answer.bad_records or answer.bad_folders:
                count = len(answer.bad_records) + len(answer.bad_folders)
                _log.warning("secret:unreadable_records", backend=self._name, count=count)
            found: dict[str, dict[str, Any]] = {}
            for record in answer.records:
                # A shortcut shows the same record in a second folder.
                found.setdefault(str(record.title), {})[str(record.uid)] = {
                    "revision": str(record.revision or ""),
                    "fields": [*record.dict.get("fields", []), *record.dict.get("custom", [])],
                }
            return json.dumps(found)
        # Raised outside the handlers: what the SDK says may quote an answer.
        raise failure

    def _picked(self, records: dict[str, dict[str, Any]], tenant: str, reference: SecretRef) -> str:
        title = f"{tenant}/{reference.domain}/{reference.name}"
        found = [*records.get(title, {}).values()]
        if len(found) != 1:
            many = f"{len(found)} records" if found else "no record"
            raise NoSecret(
                f"The device of {self._name} sees {many} called {title}.", hint="Share one with its application."
            )
        [record] = found
        if reference.version not in {"", record["revision"]}:
            raise NoSecret(f"{title} has another revision than {reference.version}; Keeper gives the current one only.")
        value = _value_of(record["fields"], reference.field or "password")
        if not value:
            raise NoSecret(f"The record {title} has no text in its field {reference.field or 'password'}.")
        return value

    def _post(self, url: str, key: TransmissionKey, payload: EncryptedPayload, *_: Any) -> KSMHttpResponse:
        """Send one request for the SDK; in a thread.

        Raises:
            RegieError: Whatever the SDK would otherwise wait for or tell with the answer's text.
        """
        self._take_a_place()
        headers = {
            "Content-Type": "application/octet-stream",
            "PublicKeyId": str(key.publicKeyId),
            "TransmissionKey": base64.b64encode(key.encryptedKey).decode(),
            "Authorization": f"Signature {base64.b64encode(payload.signature).decode()}",
        }
        try:
            with self._client.stream("POST", url, headers=headers, content=payload.encrypted_payload) as answer:
                content = bytearray()
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > LARGEST:
                        raise Unavailable(f"Keeper answers {self._name} with more than {LARGEST} bytes.")
        except httpx2.HTTPError as error:
            raise Unavailable(f"Keeper does not answer {self._name}: {type(error).__name__}.") from None
        if answer.status_code == httpx2.codes.OK:
            return KSMHttpResponse(answer.status_code, bytes(content), None)
        return self._judge(answer.status_code, bytes(content), answer.headers)

    def _judge(self, status: int, content: bytes, headers: httpx2.Headers) -> KSMHttpResponse:
        """The one place where a complaint of Keeper becomes one of our errors; one of them the SDK answers itself."""
        try:
            said = json.loads(content)
        except ValueError:
            said = None
        said = said if isinstance(said, dict) else {}
        code = str(said.get("result_code", said.get("error", "")))
        if code == "throttled" or status == httpx2.codes.TOO_MANY_REQUESTS:
            raise Throttled(f"Keeper asks {self._name} to slow down.", after_s=_wait_s(said, headers))
        if code == "key":
            return KSMHttpResponse(status, content, _Complaint(status, content.decode(errors="replace")))
        if status >= httpx2.codes.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"Keeper answers {self._name} with {status}.")
        told = code if code.isidentifier() else ""
        raise AuthFailed(
            f"Keeper does not accept the device of {self._name}: {status} {told}".rstrip(),
            hint="Is the device still there, and not locked to another address?",
        )

    def _take_a_place(self) -> None:
        now = self._clock()
        if len(self._asked) == MOST_REQUESTS and now - self._asked[0] < MINUTE_S:
            wait_s = MINUTE_S - (now - self._asked[0])
            raise Throttled(f"The device of {self._name} has asked {MOST_REQUESTS} times in a minute.", after_s=wait_s)
        self._asked.append(now)


def _wait_s(said: dict[str, Any], headers: httpx2.Headers) -> float:
    """Seconds until Keeper may be asked again; a minute where it does not say."""
    for each in (said.get("retry_after"), headers.get("retry-after")):
        try:
            return min(max(float(each or ""), 1.0), 10 * MINUTE_S)
        except (TypeError, ValueError):
            continue
    return MINUTE_S


def _value_of(fields: list[dict[str, Any]], name: str) -> str:
    """A field's first value: by its label, else by its type, as the SDK's own notation looks for them."""
    by_label = [field for field in fields if field.get("label") == name]
    by_type = [field for field in fields if str(field.get("type", "")).lower() == name.lower()]
    for field in by_label or by_type:
        for value in field.get("value", []):
            if isinstance(value, str):
                return value
    return ""


def _read_device(name: str, device: str) -> dict[str, str]:
    text = device.strip()
    try:
        plain = text if text.startswith("{") else base64.b64decode(text, validate=True).decode()
        found = json.loads(plain)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AuthFailed(
            f"The device of {name} is no configuration of Keeper.",
            hint="In Keeper: the application, Devices, Add, as a configuration file.",
        ) from None
    lacking = [part for part in _NEEDED if not found.get(part)]
    if lacking:
        raise AuthFailed(
            f"The device of {name} was never bound: its configuration lacks {', '.join(lacking)}.",
            hint="Have Keeper make a configuration file, not a one-time token.",
        )
    return {part: str(value) for part, value in found.items()}
