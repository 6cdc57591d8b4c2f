"""Deposits checkpoints where nobody can change or remove them for years: an S3 bucket with Object Lock.

Each lies under a key of its own, in compliance mode, which not even the account's owner can take back
(docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html). A key is written once (`If-None-Match: *`): when
something else lies under it, somebody has made another history of the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.session
from boto3 import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from regie.core.errors import AuditBroken, InvalidInput, NotVerified, Unavailable
from regie.notary.anchoring import Question
from regie.settings import read_private
from regie.store.attesting import Kind, Party

MOST_BYTES = 65_536
_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30, user_agent_extra="regie")

ClientFor = Callable[[], Any]
"""Opens the boto3 client of S3. Called once, in a thread: it takes half a second."""


class LockedBucket:
    """One bucket.

    Args:
        client_for: With credentials that may put and get objects, their versions and their retention there; no more.
        keep: For how long a deposit is locked.
    """

    def __init__(self, bucket: str, client_for: ClientFor, keep: timedelta) -> None:
        self._bucket = bucket
        self._client_for = client_for
        self._keep = keep
        self._client: Any = None
        self.party = Party(Kind.DEPOSIT, bucket)

    async def attest(self, question: Question) -> bytes:
        """Deposit a checkpoint, look at what holds it there, and give the receipt (JSON).

        Raises:
            Unavailable: S3 does not answer, or refuses.
            NotVerified: The bucket does not lock what is put there.
            AuditBroken: Another checkpoint of that size lies there.
        """
        return await asyncio.to_thread(self._deposit, question)

    def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            self._client.close()

    def _deposit(self, question: Question) -> bytes:
        key = f"{question.origin}/{question.size:020d}"
        until = question.now.astimezone(UTC).replace(microsecond=0) + self._keep
        try:
            if self._client is None:
                self._client = self._client_for()
            version = self._put(key, question.note, until)
            held = self._client.head_object(Bucket=self._bucket, Key=key, VersionId=version)
        except ClientError as error:
            raise Unavailable(f"S3 refuses: {_code(error)} ({error.operation_name}).") from None
        except BotoCoreError as error:
            raise Unavailable(f"S3 does not answer: {type(error).__name__}.") from None
        if held.get("ObjectLockMode") != "COMPLIANCE":
            raise NotVerified(f"Nothing that may be seen shows that {self._bucket} holds {key} in compliance mode.")
        receipt = {
            "bucket": self._bucket,
            "key": key,
            "version": version,
            "sha256": hashlib.sha256(question.note).hexdigest(),
            "retained_until": _written(held["ObjectLockRetainUntilDate"]),
        }
        return json.dumps(receipt, indent=2, sort_keys=True).encode() + b"\n"

    def _put(self, key: str, note: bytes, until: datetime) -> str:
        """Put it under its key, or find it there from an attempt whose outcome nobody learned; gives the version."""
        try:
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=note,
                ContentType="text/plain; charset=utf-8",
                IfNoneMatch="*",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=until,
                # What is locked must come with a digest (PutObject, "Object Lock").
                ChecksumAlgorithm="SHA256",
            )
        except ClientError as error:
            if _code(error) != "PreconditionFailed":
                raise
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with answer["Body"] as body:
                if body.read(MOST_BYTES) != note:
                    raise AuditBroken(
                        f"Another checkpoint than ours lies in {self._bucket} under {key}.",
                        hint="Somebody has made another history of the log, here or there. Keep both.",
                    ) from None
        return _version(answer, self._bucket)


def client_for(region: str, endpoint: str, credentials: Path | None) -> ClientFor:
    """A client with the credentials of a file, or with those that the machine gives.

    Raises:
        InvalidInput: When it is opened: others may read the file.
    """

    def opened() -> Any:
        core = botocore.session.Session()
        if credentials is not None:
            if not read_private(credentials):
                raise InvalidInput(f"{credentials} is not there, is empty, or may be read by others (chmod 600).")
            core.set_config_variable("credentials_file", str(credentials))
        session = Session(botocore_session=core, region_name=region or None)
        return session.client("s3", endpoint_url=endpoint or None, config=_CONFIG)

    return opened


def _version(answer: Mapping[str, Any], bucket: str) -> str:
    version = str(answer.get("VersionId", ""))
    if version in {"", "null"}:
        raise NotVerified(f"The bucket {bucket} keeps no versions, so it locks nothing.")
    return version


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))[:80]


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
