"""Parties outside attest the anchor log: each in its own time, checked, tried again, and never in the notary's way."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from botocore.exceptions import ClientError

from regie.core.errors import AuditBroken, InvalidInput, NotVerified, RegieError, Unavailable
from regie.notary.anchoring import FIRST_RETRY_S, LOOK_EVERY_S, Anchoring, Question, retry_after_s
from regie.notary.depositing import LockedBucket, client_for
from regie.notary.sequencing import Sequencer
from regie.notary.timestamping import TimestampAuthority
from regie.store import attesting, logs
from regie.store.attesting import Attestation, Failing, Kind, Party
from regie.store.database import Database
from regie.store.logs import ANCHOR
from regie.store.sequencing import LogDatabase
from tests.counterparts.aws import REGION
from tests.counterparts.aws import Aws as Cloud
from tests.counterparts.aws import aws as started
from tests.counterparts.here import NOBODYS_PORT
from tests.counterparts.tsa import Tsa, timestamp_authority

from .conftest import Write

pytestmark = pytest.mark.slow

# What is kept is kept until a time that the bucket compares with the machine's clock.
NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251  same
QUESTION = Question(
    "audit.example/anchor", 7, b"audit.example/anchor\n7\nabc=\n\n\xe2\x80\x94 audit.example/anchor c2ln\n", NOW
)
KEEP = timedelta(days=30)
MAY = ("s3:PutObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObjectRetention", "s3:GetObjectRetention")


@dataclass
class Scripted:
    """A party that answers what it is told to: for the pace at which parties are asked, not for what they say."""

    outcomes: list[Exception | None] = field(default_factory=list)
    party: Party = field(default_factory=lambda: Party(Kind.TIMESTAMP, "time.example"))
    asked: list[int] = field(default_factory=list)

    async def attest(self, question: Question) -> bytes:
        self.asked.append(question.size)
        if self.outcomes and (error := self.outcomes.pop(0)) is not None:
            raise error
        return b"proof"


Grow = Callable[[], Awaitable[None]]


@pytest.fixture
def grow(write: Write, sequencer: Sequencer) -> Grow:
    """Write a leaf and have the notary sign it."""

    async def one_more() -> None:
        await write(1)
        assert (await sequencer.step()).leaves == 1

    return one_more


async def attestations(database: Database, tenant: str = "acme") -> list[Attestation]:
    async with database.reading() as tx:
        return await attesting.covering(tx, await logs.find(tx, tenant, "identity"))


async def failing(database: Database) -> list[Failing]:
    async with database.reading() as tx:
        return await attesting.failing(tx)


async def test_a_party_is_asked_when_the_log_has_grown_and_its_time_has_come(
    database: Database, log_database: LogDatabase, grow: Grow
) -> None:
    party = Scripted()
    hourly, always = (Anchoring(log_database, party, every_s) for every_s in (3_600.0, 0.001))
    assert await hourly.step() == LOOK_EVERY_S, "nothing has been signed yet"
    await grow()
    assert await hourly.step() == 3_600.0
    assert await always.step() <= 0.001, "the log has not grown"
    await grow()
    assert 3_500 < await hourly.step() < 3_600
    assert party.asked == [1]
    await always.step()
    assert party.asked == [1, 2]
    assert [each.anchor_size for each in await attestations(database)] == [2], "of one day the last"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("It is closed."), "It is closed."),
        (AuditBroken("Another log."), "Another log."),
        (ZeroDivisionError(), "The answer could not be used: ZeroDivisionError."),
        (TimeoutError(), "There was no answer within 60 s."),
    ],
)
async def test_what_fails_is_shown_and_tried_again_and_the_notary_goes_on(
    database: Database,
    log_database: LogDatabase,
    grow: Grow,
    error: Exception,
    reason: str,
) -> None:
    party = Scripted([error, error])
    anchoring = Anchoring(log_database, party, 3_600.0)
    await grow()
    assert await anchoring.step() == FIRST_RETRY_S
    await grow()
    assert await anchoring.step() == 2 * FIRST_RETRY_S
    [shown] = await failing(database)
    assert (shown.party, shown.failures, shown.reason, shown.done_at) == (party.party, 2, reason, None)
    assert shown.is_broken == isinstance(error, AuditBroken)
    assert await anchoring.step() == 3_600.0
    assert party.asked == [1, 2, 2]
    assert await failing(database) == []
    assert len(await attestations(database)) == 1


async def test_a_bundle_gets_the_oldest_of_what_covers_the_same_records_and_of_a_day_the_last(
    database: Database, database_url: str, grow: Grow, write: Write, sequencer: Sequencer
) -> None:
    await grow()
    await write(1, tenant="umbrella")
    await sequencer.step()
    for _ in range(3):
        await grow()
    async with await psycopg.AsyncConnection.connect(database_url) as owner:
        for size, day in enumerate(("02", "02", "03", "03", "04"), start=1):
            await owner.execute(
                """insert into audit.attestation (kind, party, anchor_size, proof, at)
                   values ('timestamp', 'time.example', %s, 'x', %s)""",
                [size, f"2026-11-{day}T12:00Z"],
            )
    # The second covers what the first does; the third and the fourth are of one day.
    assert [each.anchor_size for each in await attestations(database)] == [1, 4, 5]
    assert [each.anchor_size for each in await attestations(database, "umbrella")] == [2]


async def test_a_checkpoint_that_somebody_has_spoilt_ends_nobody(
    database_url: str, log_database: LogDatabase, grow: Grow
) -> None:
    await grow()
    async with await psycopg.AsyncConnection.connect(database_url) as owner:
        await owner.execute("alter table audit.checkpoint disable trigger all")
        await owner.execute("update audit.checkpoint set note = 'no note'")
    party = Scripted()
    assert await Anchoring(log_database, party, 3_600.0).step() == LOOK_EVERY_S
    assert party.asked == []


def test_it_waits_longer_each_time_but_not_longer_than_its_pace() -> None:
    assert [retry_after_s(n, 300.0) for n in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]
    assert retry_after_s(10_000, 3_600.0) == 3_600.0


async def test_whoever_is_not_asked_any_more_is_forgotten_and_what_they_said_is_not(
    database: Database, log_database: LogDatabase, grow: Grow
) -> None:
    gone, stays = Scripted(), Scripted([Unavailable("no")], Party(Kind.DEPOSIT, "bucket"))
    await grow()
    for party in (gone, stays):
        await Anchoring(log_database, party, 1.0).step()
    async with log_database.turn() as turn:
        await turn.attesters.keep_only([stays.party])
    async with database.reading() as tx:
        assert await attesting.asked(tx) == [stays.party]
    assert [each.party for each in await attestations(database)] == [gone.party]


# --- a timestamp authority ---


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tsa]:
    with timestamp_authority(tmp_path_factory.mktemp("tsa")) as running:
        yield running


async def stamped(tsa: Tsa, ca: Path | None = None, url: str = "") -> bytes:
    async with httpx2.AsyncClient(trust_env=False) as http:
        return await TimestampAuthority(url or tsa.url, ca or tsa.ca, http).attest(QUESTION)


async def test_a_token_is_one_that_openssl_accepts_for_that_checkpoint_and_no_other(tsa: Tsa, tmp_path: Path) -> None:
    (tmp_path / "token.tsr").write_bytes(await stamped(tsa))

    def verified(data: bytes) -> bool:
        (tmp_path / "data").write_bytes(data)
        command = ["openssl", "ts", "-verify", "-in", "token.tsr", "-data", "data", "-CAfile", str(tsa.ca)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert verified(QUESTION.note)
    assert not verified(QUESTION.note + b"\n")


async def test_what_is_no_token_over_the_checkpoint_is_refused(
    tsa: Tsa, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    tsa.over = b"something else"
    try:
        with pytest.raises(NotVerified, match="does not hold"):
            await stamped(tsa)
    finally:
        tsa.over = None
    tsa.status = 503
    try:
        with pytest.raises(Unavailable, match="503"):
            await stamped(tsa)
    finally:
        tsa.status = 0
    with (
        timestamp_authority(tmp_path_factory.mktemp("other-tsa")) as other,
        pytest.raises(NotVerified, match="does not hold"),
    ):
        await stamped(tsa, ca=other.ca)
    with pytest.raises(Unavailable, match="does not answer"):
        await stamped(tsa, url=f"http://127.0.0.1:{NOBODYS_PORT}/")
    with pytest.raises(InvalidInput, match="REGIE_TIMESTAMP_CA"):
        await stamped(tsa, ca=tmp_path / "none")


# --- a bucket with Object Lock ---


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with started(MAY) as running:
        for bucket, is_locked in (("locked", True), ("open", False)):
            running.client("s3").create_bucket(
                Bucket=bucket,
                ObjectLockEnabledForBucket=is_locked,
                CreateBucketConfiguration={"LocationConstraint": REGION},
            )
        yield running


@pytest.fixture
def bucket(cloud: Cloud, tmp_path: Path) -> Iterator[LockedBucket]:
    opened = LockedBucket("locked", client_for(REGION, cloud.endpoint, credentials(cloud, tmp_path)), KEEP)
    yield opened
    opened.close()


def credentials(cloud: Cloud, folder: Path) -> Path:
    file = folder / "credentials"
    file.touch(mode=0o600)
    file.write_text(f"[default]\naws_access_key_id = {cloud.access_key}\naws_secret_access_key = {cloud.secret_key}\n")
    return file


def receipt_of(proof: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(proof)
    return found


async def test_a_deposit_can_be_neither_removed_nor_overwritten(bucket: LockedBucket, cloud: Cloud) -> None:
    receipt = receipt_of(await bucket.attest(QUESTION))
    assert receipt["retained_until"] == f"{NOW + KEEP:%Y-%m-%dT%H:%M:%SZ}"
    place = {"Bucket": receipt["bucket"], "Key": receipt["key"]}
    admin = cloud.client("s3")
    with pytest.raises(ClientError, match="AccessDenied"):
        admin.delete_object(**place, VersionId=receipt["version"])
    with pytest.raises(ClientError, match="AccessDenied"):
        admin.delete_object(**place, VersionId=receipt["version"], BypassGovernanceRetention=True)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        admin.put_object(**place, Body=b"other", IfNoneMatch="*")
    answer = admin.get_object(**place, VersionId=receipt["version"])
    with answer["Body"] as body:
        assert body.read() == QUESTION.note
    held = admin.head_object(**place, VersionId=receipt["version"])
    assert (held["ObjectLockMode"], held["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", NOW + KEEP)


async def test_an_attempt_whose_outcome_nobody_learned_is_found_again(bucket: LockedBucket, cloud: Cloud) -> None:
    question = Question(QUESTION.origin, 8, QUESTION.note, NOW)
    first = receipt_of(await bucket.attest(question))
    assert receipt_of(await bucket.attest(question)) == first
    versions = cloud.client("s3").list_object_versions(Bucket="locked", Prefix=first["key"])["Versions"]
    assert [each["VersionId"] for each in versions] == [first["version"]]


async def test_another_checkpoint_under_the_same_key_is_an_alarm(bucket: LockedBucket) -> None:
    await bucket.attest(Question(QUESTION.origin, 9, QUESTION.note, NOW))
    with pytest.raises(AuditBroken, match="Another checkpoint than ours"):
        await bucket.attest(Question(QUESTION.origin, 9, b"another history", NOW))


async def test_what_does_not_lock_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    async def tried(name: str, file: Path, endpoint: str = cloud.endpoint) -> RegieError:
        opened = LockedBucket(name, client_for(REGION, endpoint, file), KEEP)
        with pytest.raises(RegieError) as caught:
            await opened.attest(QUESTION)
        opened.close()
        return caught.value

    file = credentials(cloud, tmp_path)
    assert "InvalidRequest" in str(await tried("open", file))
    assert "NoSuchBucket" in str(await tried("nowhere", file))
    assert "S3 does not answer" in str(await tried("locked", file, f"http://127.0.0.1:{NOBODYS_PORT}"))
    file.chmod(0o644)
    assert isinstance(await tried("locked", file), InvalidInput)


# --- all together ---


async def test_authority_and_bucket_attest_what_the_notary_signs(
    database: Database,
    log_database: LogDatabase,
    grow: Grow,
    tsa: Tsa,
    bucket: LockedBucket,
) -> None:
    await grow()
    async with httpx2.AsyncClient(trust_env=False) as http:
        parties = (TimestampAuthority(tsa.url, tsa.ca, http), bucket)
        await asyncio.gather(*(Anchoring(log_database, party, 3_600.0).step() for party in parties))
    kept = {each.party.kind: each for each in await attestations(database)}
    assert await failing(database) == []
    async with database.reading() as tx:
        newest = await logs.newest(tx, await logs.find(tx, *ANCHOR))
    assert newest is not None
    assert {each.anchor_size for each in kept.values()} == {newest.size}
    assert receipt_of(kept[Kind.DEPOSIT].proof)["key"].endswith(f"{newest.size:020d}")
    assert kept[Kind.TIMESTAMP].proof[:1] == b"0", "DER begins with a sequence"
