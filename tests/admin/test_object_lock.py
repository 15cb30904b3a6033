"""Object lock: of the bucket, of what is uploaded, and of files that are there."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    ChecksumMismatchError,
    FileLockedError,
    InvalidInputError,
    NoSuchKeyError,
    Retention,
    TransferError,
)
from careflow_storage._s3.headers.encryption import lock_headers, read_protection, timestamp
from careflow_storage._transfer.live.writer import RecordingWriter
from careflow_storage.admin import DefaultRetention, ObjectLock
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server
from tests.support.bodies import noise, pieces, stream
from tests.support.protected import BOTH, KEY, Place, b2_server, opened, settings_on
from tests.support.url_source import Source

__all__ = ["b2_server"]

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
LATER = TOMORROW + timedelta(days=1)
GOVERNANCE = Retention(mode="governance", retain_until=TOMORROW)
COMPLIANCE = Retention(mode="compliance", retain_until=TOMORROW)


@pytest.fixture(params=BOTH)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Whose bucket can lock files."""
    async with opened(*settings_on(request.param, request)) as found:
        await found.storage.admin.set_object_lock()
        yield found


@pytest.fixture
async def b2(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """On the emulator, whose bucket can lock files."""
    async with opened(*settings_on("emulator", request)) as found:
        await found.storage.admin.set_object_lock()
        yield found


@pytest.fixture
async def unlocked(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """On the emulator, whose bucket cannot."""
    async with opened(*settings_on("emulator", request)) as found:
        yield found


# --- uploads ----------------------------------------------------------------------------


async def upload_small(storage: BackblazeStorage, data: bytes, **lock: Any) -> str:
    return (await storage.upload_file("a", data[:1000], **lock)).key


async def upload_large(storage: BackblazeStorage, data: bytes, **lock: Any) -> str:
    return (await storage.upload_file("a", stream(data), **lock)).key


async def upload_recording(storage: BackblazeStorage, data: bytes, **lock: Any) -> str:
    return (await storage.upload_recording("CA1", data, "a.wav", **lock)).key


async def record_live(storage: BackblazeStorage, data: bytes, **lock: Any) -> str:
    async with storage.open_recording("CA1", "a.wav", **lock) as writer:
        for chunk in pieces(data):
            await writer.write(chunk)
    return writer.result.key


async def record_a_short_call(storage: BackblazeStorage, data: bytes, **lock: Any) -> str:
    async with storage.open_recording("CA1", "a.wav", **lock) as writer:
        await writer.write(data[:1000])
    return writer.result.key


async def upload_from_url(storage: BackblazeStorage, data: bytes, **lock: Any) -> str:
    async with Source(data, headers={"Content-Type": "audio/wav"}) as source:
        result = await storage.upload_from_url(
            "CA1", source.url, "a.wav", allow_private_addresses=True, **lock
        )
    return result.key


async def upload_resumable(storage: BackblazeStorage, data: bytes, **lock: Any) -> str:
    return (await storage.upload_file("a", data, resume=True, **lock)).key


async def upload_encrypted(storage: BackblazeStorage, data: bytes, **lock: Any) -> str:
    return (await storage.upload_file("a", data, encryption="SSE-B2", **lock)).key


WAYS_IN = [
    upload_small,
    upload_large,
    upload_recording,
    record_live,
    record_a_short_call,
    upload_from_url,
    upload_resumable,
    upload_encrypted,
]
Upload = Callable[..., Awaitable[str]]


@pytest.mark.parametrize("upload", WAYS_IN)
async def test_whatever_the_way_in_a_retention_keeps_the_version_from_being_erased(
    place: Place, upload: Upload
) -> None:
    storage = place.storage
    key = await upload(storage, noise(place.part + 7), retention=GOVERNANCE, legal_hold=True)
    about = await storage.get_file_metadata(key)
    assert (about.retention, about.legal_hold) == (GOVERNANCE, True)
    assert await storage.admin.get_retention(key) == GOVERNANCE
    assert await storage.admin.get_legal_hold(key)
    with pytest.raises(AccessDeniedError):
        await storage.delete_file(key, version_id=about.version_id)
    assert (await storage.get_file_metadata(key)).version_id == about.version_id


@pytest.mark.parametrize("checksum", ["md5", "crc32", "sha256"])
@pytest.mark.parametrize("upload", [upload_small, upload_large, record_a_short_call])
async def test_whatever_the_checksum_a_locked_upload_has_the_md5_that_b2_demands(
    b2: Place, b2_server: B2Server, upload: Upload, checksum: str
) -> None:
    data = noise(b2.part + 7)
    await upload(b2.storage, data, retention=GOVERNANCE, checksum=checksum)
    sent = [one for one in b2_server.requests if one.operation in ("PutObject", "UploadPart")]
    assert sent
    assert all("content-md5" in one.headers for one in sent)


async def test_in_a_bucket_with_a_default_every_upload_is_locked(place: Place) -> None:
    await place.storage.admin.set_object_lock(DefaultRetention(mode="governance", days=1))
    await place.storage.upload_file("a", b"x")
    found = await place.storage.admin.get_retention("a")
    assert found is not None
    assert found.mode == "governance"
    assert timedelta(hours=23) < found.retain_until - datetime.now(UTC) < timedelta(hours=25)


@pytest.mark.parametrize("checksum", ["crc32", "sha256"])
@pytest.mark.parametrize("upload", WAYS_IN)
async def test_in_a_bucket_with_a_default_any_checksum_falls_back_to_md5_and_it_is_remembered(
    b2: Place, b2_server: B2Server, upload: Upload, checksum: str
) -> None:
    await b2.storage.admin.set_object_lock(DefaultRetention(mode="governance", days=1))
    data = noise(b2.part + 7)
    key = await upload(b2.storage, data, checksum=checksum)
    stored = await b2.storage.get_file_metadata(key)
    assert stored.retention is not None
    b2_server.requests.clear()
    again = await upload(b2.storage, data[::-1], checksum=checksum)
    assert (await b2.storage.get_file_metadata(again)).size == stored.size
    sent = [one for one in b2_server.requests if one.operation in ("PutObject", "UploadPart")]
    assert sent
    assert all("content-md5" in one.headers for one in sent)


@pytest.mark.parametrize("checksum", ["crc32", "sha256"])
async def test_in_a_bucket_with_a_default_the_outbox_and_copies_work_too(
    b2: Place, b2_server: B2Server, tmp_path: Path, checksum: str
) -> None:
    await b2.storage.admin.set_object_lock(DefaultRetention(mode="governance", days=1))
    async with (
        opened(b2_server.settings(), b2.part, checksum=checksum) as place,
        Outbox(tmp_path / "outbox", place.storage) as outbox,
    ):
        for size in (10, b2.part * 2 + 7):
            await outbox.put_recording("CA1", noise(size), f"{size}.wav")
        assert (await outbox.drain()).delivered == 2
        for file in await place.storage.list_files():
            await place.storage.admin.copy_file(file.key, f"{file.key}.copy")
    assert len(b2_server.versions()) == 4


async def test_in_a_bucket_with_a_default_damage_is_still_seen(
    b2: Place, b2_server: B2Server
) -> None:
    await b2.storage.admin.set_object_lock(DefaultRetention(mode="governance", days=1))
    b2_server.faults.always("PutObject", status=400, code="BadDigest")
    with pytest.raises(ChecksumMismatchError):
        await b2.storage.upload_file("a", b"x", checksum="crc32")


async def test_given_a_server_that_always_wants_an_md5_then_the_request_is_repeated_once(
    b2: Place, b2_server: B2Server
) -> None:
    message = "Missing required header for this request: Content-MD5"
    b2_server.faults.always("PutObject", status=400, code="InvalidRequest", message=message)
    with pytest.raises(TransferError, match="Content-MD5"):
        await b2.storage.upload_file("a", b"x", checksum="crc32")
    assert [one.operation for one in b2_server.requests].count("PutObject") == 2


@pytest.mark.parametrize("upload", WAYS_IN)
@pytest.mark.parametrize("field", ["retention", "legal_hold"])
async def test_in_a_bucket_without_lock_an_upload_names_the_field_and_stores_nothing(
    unlocked: Place, b2_server: B2Server, upload: Upload, field: str
) -> None:
    lock = {"retention": GOVERNANCE} if field == "retention" else {"legal_hold": True}
    with pytest.raises(InvalidInputError, match=f"{field}: the bucket cannot lock") as caught:
        await upload(unlocked.storage, noise(unlocked.part + 7), **lock)
    assert "set_object_lock" in str(caught.value)
    assert b2_server.versions() == []
    assert b2_server.incomplete_uploads() == []


async def test_on_another_server_too_a_small_upload_into_a_bucket_without_lock_is_explained(
    seaweed_storage: BackblazeStorage,
) -> None:
    with pytest.raises(InvalidInputError, match="retention"):
        await seaweed_storage.upload_file("a", b"x", retention=GOVERNANCE)
    assert not await seaweed_storage.file_exists("a")


@pytest.mark.parametrize("upload", WAYS_IN)
@pytest.mark.parametrize(
    ("lock", "named"),
    [
        (
            {
                "retention": Retention(
                    mode="governance", retain_until=datetime(2020, 1, 1, tzinfo=UTC)
                )
            },
            "retention.retain_until",
        ),
        (
            {
                "retention": Retention.model_construct(
                    mode="governance",
                    retain_until=datetime(2090, 1, 1),  # noqa: DTZ001
                )
            },
            "time zone",
        ),
        ({"retention": TOMORROW}, "retention must be a Retention"),
        ({"legal_hold": "yes"}, "legal_hold"),
    ],
)
async def test_a_lock_that_locks_nothing_is_refused_before_any_request(
    unlocked: Place, b2_server: B2Server, upload: Upload, lock: Any, named: str
) -> None:
    b2_server.requests.clear()
    with pytest.raises(InvalidInputError, match=named):
        await upload(unlocked.storage, b"x", **lock)
    assert b2_server.requests == []


def test_a_time_without_a_zone_is_refused_and_says_so() -> None:
    with pytest.raises(InvalidInputError, match=r"retention\.retain_until.*timezone"):
        Retention(mode="governance", retain_until=datetime(2030, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("mode", ["eternal", "", None, 1])
def test_a_mode_that_is_none_is_refused_with_an_example(mode: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"retention\.mode.*'governance' or") as caught:
        Retention(mode=mode, retain_until=TOMORROW)
    assert "Retention(mode=" in (caught.value.hint or "")


def test_a_retention_is_read_from_what_it_is_written_as() -> None:
    lock = Retention(mode="compliance", retain_until=TOMORROW)
    assert Retention.model_validate_json(lock.model_dump_json()) == lock
    assert pickle.loads(pickle.dumps(lock)) == copy.deepcopy(lock) == lock  # noqa: S301
    with pytest.raises(ValidationError, match="governance"):
        Retention.model_validate({"mode": "eternal", "retain_until": TOMORROW})


async def test_without_the_permission_to_lock_the_error_names_the_capability(
    b2: Place, b2_server: B2Server
) -> None:
    key = b2_server.create_key(capabilities=["listBuckets", "readFiles", "writeFiles"])
    async with opened(b2_server.settings(key=key), b2.part) as found:
        with pytest.raises(AccessDeniedError, match="writeFileRetentions"):
            await found.storage.upload_file("a", b"x", retention=GOVERNANCE)
        with pytest.raises(AccessDeniedError, match="writeFileLegalHolds"):
            await found.storage.upload_file("a", b"x", legal_hold=True)
        await b2.storage.upload_file("a", b"x", retention=GOVERNANCE, legal_hold=True)
        about = await found.storage.get_file_metadata("a")
        assert (about.retention, about.legal_hold) == (None, False)


async def break_off(writer: RecordingWriter, data: bytes) -> None:
    async with writer:
        await writer.write(data)
        raise RuntimeError("the call broke off")


async def test_a_cut_off_call_is_kept_locked_with_its_mark_and_without(
    b2: Place, b2_server: B2Server
) -> None:
    data = noise(b2.part + 7)
    writer = b2.storage.open_recording("CA1", "a.wav", on_error="keep", retention=GOVERNANCE)
    with pytest.raises(RuntimeError):
        await break_off(writer, data)
    about = await b2.storage.get_file_metadata(writer.key)
    assert (about.partial, about.retention) == (True, GOVERNANCE)
    assert await b2.storage.get_file(writer.key) == data
    versions = b2_server.versions(writer.key)
    assert len(versions) == 2
    for version in versions:
        kept = await b2.storage.admin.get_retention(writer.key, version_id=version.version_id)
        assert kept == GOVERNANCE


async def test_a_resumed_upload_is_locked_until_the_time_of_the_new_call(
    place: Place, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(noise(place.part + 7))
    upload, admin = place.storage.upload_file, place.storage.admin
    await upload("a", path, resume=True, retention=GOVERNANCE)
    longer = Retention(mode="governance", retain_until=LATER)
    again = await upload("a", path, resume=True, retention=longer, legal_hold=True)
    assert again.reused == again.size
    assert await admin.get_retention("a") == longer
    assert await admin.get_legal_hold("a")
    await upload("a", path, resume=True, retention=GOVERNANCE)
    assert await admin.get_retention("a") == longer


# --- the bucket -------------------------------------------------------------------------


@pytest.mark.parametrize("server", BOTH)
async def test_a_bucket_says_whether_it_locks(server: str, request: pytest.FixtureRequest) -> None:
    async with opened(*settings_on(server, request)) as place:
        admin = place.storage.admin
        assert await admin.get_object_lock() == ObjectLock(enabled=False)
        await admin.set_object_lock()
        assert await admin.get_object_lock() == ObjectLock(enabled=True)


@pytest.mark.parametrize("mode", ["governance", "compliance"])
async def test_a_default_is_set_and_taken_away_again(place: Place, mode: Any) -> None:
    admin, default = place.storage.admin, DefaultRetention(mode=mode, days=3000)
    await admin.set_object_lock(default)
    assert await admin.get_object_lock() == ObjectLock(enabled=True, default=default)
    await admin.set_object_lock()
    assert await admin.get_object_lock() == ObjectLock(enabled=True)


@pytest.mark.parametrize("days", [0, -1, 3001, True])
async def test_days_out_of_bounds_are_refused_before_any_request(
    unlocked: Place, b2_server: B2Server, days: int
) -> None:
    b2_server.requests.clear()
    with pytest.raises(InvalidInputError, match=r"default\.days must be from 1 to 3000"):
        await unlocked.storage.admin.set_object_lock(
            DefaultRetention.model_construct(mode="governance", days=days)
        )
    eternal: Any = "eternal"
    with pytest.raises(InvalidInputError, match=r"default\.mode"):
        await unlocked.storage.admin.set_object_lock(
            DefaultRetention.model_construct(mode=eternal, days=1)
        )
    assert b2_server.requests == []


# --- files that are there ---------------------------------------------------------------


async def test_a_file_without_lock_has_neither(place: Place) -> None:
    await place.storage.upload_file("a", b"x")
    assert await place.storage.admin.get_retention("a") is None
    assert await place.storage.admin.get_legal_hold("a") is False
    about = await place.storage.get_file_metadata("a")
    assert (about.retention, about.legal_hold) == (None, False)


async def test_a_missing_file_is_no_file_without_lock(b2: Place) -> None:
    admin = b2.storage.admin
    for call in (
        lambda: admin.get_retention("none"),
        lambda: admin.get_legal_hold("none"),
        lambda: admin.set_retention("none", GOVERNANCE),
        lambda: admin.set_legal_hold("none", True),
    ):
        with pytest.raises(NoSuchKeyError):
            await call()


async def test_a_legal_hold_keeps_a_version_until_it_is_taken_off(place: Place) -> None:
    storage = place.storage
    stored = await storage.upload_file("a", b"x")
    await storage.admin.set_legal_hold("a", True, version_id=stored.version_id)
    assert (await storage.get_file_metadata("a")).legal_hold
    with pytest.raises(AccessDeniedError):
        await storage.delete_file("a", version_id=stored.version_id)
    await storage.admin.set_legal_hold("a", False)
    assert not await storage.admin.get_legal_hold("a")
    await storage.delete_file("a", version_id=stored.version_id)
    assert not await storage.file_exists("a")


async def test_governance_is_made_longer_and_with_the_bypass_shorter(place: Place) -> None:
    storage, admin = place.storage, place.storage.admin
    await storage.upload_file("a", b"x", retention=GOVERNANCE)
    longer = Retention(mode="governance", retain_until=LATER)
    await admin.set_retention("a", longer)
    with pytest.raises(FileLockedError, match="governance retention until") as caught:
        await admin.set_retention("a", GOVERNANCE)
    assert LATER.isoformat() in str(caught.value)
    assert "bypass_governance=True" in str(caught.value)
    await admin.set_retention("a", GOVERNANCE, bypass_governance=True)
    assert await admin.get_retention("a") == GOVERNANCE


async def test_compliance_is_made_longer_and_never_shorter(b2: Place) -> None:
    storage, admin = b2.storage, b2.storage.admin
    await storage.upload_file("a", b"x", retention=COMPLIANCE)
    longer = Retention(mode="compliance", retain_until=LATER)
    await admin.set_retention("a", longer)
    for less in (COMPLIANCE, GOVERNANCE, None):
        with pytest.raises(FileLockedError, match="compliance retention until") as caught:
            await admin.set_retention("a", less, bypass_governance=True)
        assert LATER.isoformat() in str(caught.value)
    assert await admin.get_retention("a") == longer


async def test_a_key_that_may_bypass_governance_removes_a_retention(b2: Place) -> None:
    stored = await b2.storage.upload_file("a", b"x", retention=GOVERNANCE)
    with pytest.raises(FileLockedError):
        await b2.storage.admin.set_retention("a", None)
    await b2.storage.admin.set_retention("a", None, bypass_governance=True)
    assert await b2.storage.admin.get_retention("a") is None
    await b2.storage.delete_file("a", version_id=stored.version_id)
    assert not await b2.storage.file_exists("a")


async def test_without_the_permission_to_bypass_the_error_names_the_capability(
    b2: Place, b2_server: B2Server
) -> None:
    await b2.storage.upload_file("a", b"x", retention=GOVERNANCE)
    may = ["listBuckets", "readFiles", "readFileRetentions", "writeFileRetentions"]
    key = b2_server.create_key(capabilities=may)
    async with BackblazeStorage(b2_server.settings(key=key)) as storage:
        with pytest.raises(AccessDeniedError, match="bypassGovernance"):
            await storage.admin.set_retention("a", None, bypass_governance=True)
        with pytest.raises(AccessDeniedError, match="writeFileLegalHolds"):
            await storage.admin.set_legal_hold("a", True)
        with pytest.raises(AccessDeniedError, match="writeBucketRetentions"):
            await storage.admin.set_object_lock()


async def test_in_a_bucket_without_lock_the_field_is_named(unlocked: Place) -> None:
    await cannot_lock(unlocked.storage)


async def test_on_another_server_too_a_bucket_without_lock_is_explained(
    seaweed_storage: BackblazeStorage,
) -> None:
    # It would say yes to the retention, and keep nothing.
    await cannot_lock(seaweed_storage)


async def cannot_lock(storage: BackblazeStorage) -> None:
    await storage.upload_file("a", b"x")
    admin = storage.admin
    with pytest.raises(InvalidInputError, match="retention: the bucket cannot lock files"):
        await admin.set_retention("a", GOVERNANCE)
    with pytest.raises(InvalidInputError, match="legal_hold: the bucket cannot lock files"):
        await admin.set_legal_hold("a", True)
    assert await admin.get_retention("a") is None
    assert await admin.get_legal_hold("a") is False


async def test_bad_input_is_refused_before_any_request(
    unlocked: Place, b2_server: B2Server
) -> None:
    admin = unlocked.storage.admin
    b2_server.requests.clear()
    past: Any = Retention(mode="governance", retain_until=datetime(2020, 1, 1, tzinfo=UTC))
    yes: Any = "yes"
    calls: list[Callable[[], Awaitable[None]]] = [
        lambda: admin.set_retention("a", past),
        lambda: admin.set_retention("a", yes),
        lambda: admin.set_legal_hold("a", yes),
        lambda: admin.set_object_lock(yes),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError):
            await call()
    assert b2_server.requests == []


async def test_an_encrypted_file_can_be_locked(place: Place) -> None:
    await place.storage.upload_file("a", b"x", encryption=KEY, retention=GOVERNANCE)
    about = await place.storage.get_file_metadata("a", encryption=KEY)
    assert (about.encryption, about.retention) == ("SSE-C", GOVERNANCE)


# --- times ------------------------------------------------------------------------------


@given(
    st.datetimes(
        min_value=datetime(2026, 1, 1),  # noqa: DTZ001 - hypothesis wants it so
        max_value=datetime(9000, 1, 1),  # noqa: DTZ001
        timezones=st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
            lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
        ),
    )
)
def test_a_retention_is_returned_unchanged_or_less_than_a_second_longer(
    until: datetime,
) -> None:
    retention = Retention(mode="compliance", retain_until=until)
    back = read_protection(lock_headers(retention, True))
    assert back.legal_hold
    assert back.retention is not None
    assert back.retention.mode == "compliance"
    assert timedelta() <= back.retention.retain_until - until < timedelta(seconds=1)
    assert timestamp(back.retention.retain_until) == timestamp(until)


@pytest.mark.parametrize(
    "moment",
    [datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))],
    ids=repr,
)
def test_a_time_that_utc_does_not_have_is_refused(moment: datetime) -> None:
    with pytest.raises(InvalidInputError, match="retain_until"):
        Retention(mode="governance", retain_until=moment)
