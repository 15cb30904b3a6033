"""Versions as B2 keeps them: listed, erased one by one, brought back, purged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    FileLockedError,
    InvalidInputError,
    NoSuchBucketError,
    NoSuchKeyError,
    ServerResponseError,
    StorageError,
    StorageSettings,
    StorageTimeoutError,
)
from careflow_storage._s3.requests import versions as version_listing
from careflow_storage.admin import FileVersion, RestoreResult
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from careflow_storage.testing.proxy.rule import Attempt
from tests.support.behind_proxy import storage_behind
from tests.support.bucket import Bucket

pytest_plugins = ["careflow_storage.testing.plugin"]


@pytest.fixture(
    params=["b2_settings", pytest.param("seaweed_settings", marks=pytest.mark.integration)]
)
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[BackblazeStorage]:
    """Open on B2's emulator, then on a real server."""
    async with BackblazeStorage(request.getfixturevalue(request.param)) as opened:
        yield opened


@pytest.fixture
async def b2(b2_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_settings) as opened:
        yield opened


@pytest.fixture
def pages_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_listing, "PAGE_VERSIONS", 3)


async def store(storage: BackblazeStorage, key: str, *bodies: bytes) -> list[str]:
    """Store versions, the oldest first; return their IDs."""
    results = [await storage.upload_file(key, body) for body in bodies]
    return [str(result.version_id) for result in results]


async def hide(storage: BackblazeStorage, key: str) -> str:
    return str((await storage.delete_file(key)).version_id)


async def begin_upload(storage: BackblazeStorage, key: str) -> str:
    client = await storage.client()
    begun = await client.create_multipart_upload(Bucket=storage.settings.bucket_name, Key=key)
    return str(begun["UploadId"])


def short(version: FileVersion) -> tuple[str, str | None, bool, bool, int]:
    return (
        version.key,
        version.version_id,
        version.is_latest,
        version.delete_marker,
        version.size,
    )


# --- listing ----------------------------------------------------------------------------


async def test_given_versions_and_markers_when_listed_then_by_key_and_the_newest_first(
    storage: BackblazeStorage,
) -> None:
    first, second = await store(storage, "a/1", b"one", b"three")
    marker = await hide(storage, "a/1")
    (other,) = await store(storage, "a/2 ä+%&", b"x")
    await store(storage, "b", b"x")
    listed = await storage.admin.list_file_versions("a/")
    assert [short(version) for version in listed] == [
        ("a/1", marker, True, True, 0),
        ("a/1", second, False, False, 5),
        ("a/1", first, False, False, 3),
        ("a/2 ä+%&", other, True, False, 1),
    ]
    assert listed[1].etag == (await storage.get_file_metadata("a/1", version_id=second)).etag
    assert abs(listed[0].last_modified - datetime.now(UTC)) < timedelta(minutes=5)
    assert [version async for version in storage.admin.list_file_versions("a/")] == listed


async def test_given_pages_of_three_when_listed_then_all_come_once_in_order(
    storage: BackblazeStorage, pages_of_three: None
) -> None:
    expected = []
    for key in ("a", "b&<", "c ü"):
        ids = await store(storage, key, b"1", b"2", b"3", b"4")
        expected += [(key, version_id) for version_id in reversed(ids)]
    pages = [page async for page in storage.admin.list_file_versions().pages()]
    assert [len(page) for page in pages] == [3, 3, 3, 3]
    assert [(each.key, each.version_id) for page in pages for each in page] == expected
    some = await storage.admin.list_file_versions("", 7)
    assert [(each.key, each.version_id) for each in some] == expected[:7]


@pytest.mark.slow
@pytest.mark.integration
async def test_given_2500_versions_when_listed_and_purged_then_none_is_missed(
    seaweed_storage: BackblazeStorage,
) -> None:
    waiting = iter(range(2500))

    async def upload() -> None:
        for number in waiting:
            await seaweed_storage.upload_file(f"k/{number % 3}", b"x")

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(upload())
    admin = seaweed_storage.admin
    pages = [page async for page in admin.list_file_versions().pages()]
    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert len({(each.key, each.version_id) for page in pages for each in page}) == 2500
    assert sum(each.is_latest for page in pages for each in page) == 3
    result = await admin.purge_files("k/", confirm="k/")
    assert (result.versions, result.bytes) == (2500, 2500)
    assert await admin.list_file_versions() == []


async def test_given_an_unversioned_bucket_when_listed_then_versions_have_no_id_and_can_go(
    settings: StorageSettings,
) -> None:
    plain = settings.model_copy(update={"bucket_name": "plain-bucket"})
    async with BackblazeStorage(plain) as storage:
        client = await storage.client()
        await client.create_bucket(Bucket="plain-bucket")
        await storage.upload_file("a", b"x")
        (listed,) = await storage.admin.list_file_versions()
        assert short(listed) == ("a", None, True, False, 1)
        (deleted,) = await storage.admin.delete_file_versions([listed])
        assert deleted.deleted
        await storage.upload_file("a", b"x")
        assert (await storage.admin.delete_file_version("a", "null")).deleted
        await storage.upload_file("a", b"x")
        assert (await storage.admin.purge_file("a", confirm="a")).versions == 1
        assert await storage.admin.list_file_versions() == []


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "10"], ids=repr)
async def test_given_a_limit_that_is_none_then_it_is_refused(
    b2: BackblazeStorage, limit: Any
) -> None:
    with pytest.raises(InvalidInputError, match="max_versions"):
        b2.admin.list_file_versions("", limit)


async def test_given_no_such_bucket_or_no_time_when_listed_then_the_error_says_so(
    b2_server: B2Server,
) -> None:
    async with BackblazeStorage(b2_server.settings(bucket_name="no-such-bucket")) as elsewhere:
        with pytest.raises(NoSuchBucketError):
            await elsewhere.admin.list_file_versions()
    b2_server.faults.always("ListObjectVersions", cut="hang")
    async with BackblazeStorage(b2_server.settings()) as storage:
        with pytest.raises(StorageTimeoutError) as caught:
            await storage.admin.list_file_versions(timeout=0.05)
        assert caught.value.method == "list_file_versions"


# --- pages that cannot be true ----------------------------------------------------------

PAGE = (
    "<ListVersionsResult><IsTruncated>{truncated}</IsTruncated>{more}"
    "<Version><Key>{key}</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest>"
    "<LastModified>2026-11-23T06:36:09Z</LastModified><Size>1</Size></Version>"
    "</ListVersionsResult>"
)
SAME = "<NextKeyMarker>a</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (PAGE.format(truncated="true", more=SAME, key="a"), "same page again"),
        (PAGE.format(truncated="true", more="", key="a"), "no marker to continue"),
        (PAGE.format(truncated="false", more="", key="b"), "do not begin with the prefix"),
        (PAGE.format(truncated="false", more="", key="a").replace("v1", ""), "malformed"),
        ("", "cut off"),
    ],
    ids=["repeated", "no marker", "another key", "no version", "empty"],
)
async def test_given_pages_that_cannot_be_true_then_nothing_is_erased_by_them(
    b2: BackblazeStorage, b2_server: B2Server, page: str, message: str
) -> None:
    await store(b2, "a", b"x")
    await store(b2, "b", b"x")
    lie = {"status": 200, "body": page.encode(), "headers": {"content-type": "application/xml"}}
    b2_server.faults.always("ListObjectVersions", **lie)
    with pytest.raises(ServerResponseError, match=message):
        await b2.admin.list_file_versions("a")
    with pytest.raises(ServerResponseError, match=message):
        await b2.admin.purge_files("a", confirm="a")
    assert [each.key for each in b2_server.versions("b")] == ["b"]


# --- erasing versions -------------------------------------------------------------------


async def test_given_versions_when_one_is_erased_then_the_others_stay(
    storage: BackblazeStorage,
) -> None:
    old, new = await store(storage, "a", b"old", b"new")
    result = await storage.admin.delete_file_version("a", new)
    assert (result.deleted, result.version_id, result.delete_marker) == (True, new, False)
    assert await storage.get_file("a") == b"old"
    assert [each.version_id for each in await storage.admin.list_file_versions()] == [old]


async def test_given_a_hidden_file_when_its_marker_is_erased_then_it_is_back(
    storage: BackblazeStorage,
) -> None:
    await store(storage, "a", b"x")
    marker = await hide(storage, "a")
    result = await storage.admin.delete_file_version("a", marker)
    assert (result.deleted, result.version_id, result.delete_marker) == (True, marker, True)
    assert await storage.get_file("a") == b"x"


async def test_given_no_such_version_when_erased_then_the_error_says_so_and_nothing_is_hidden(
    storage: BackblazeStorage,
) -> None:
    await store(storage, "a", b"x")
    (other,) = await store(storage, "ab", b"x")
    for version_id in (other, "no-such-version"):
        with pytest.raises(NoSuchKeyError, match="no version") as caught:
            await storage.admin.delete_file_version("a", version_id)
        assert (caught.value.code, caught.value.key) == ("NoSuchVersion", "a")
    assert len(await storage.admin.list_file_versions()) == 2


@pytest.mark.parametrize("version_id", ["", " v", "v\n", "ä", None, "v" * 1025], ids=repr)
async def test_given_what_is_no_version_id_then_it_is_refused_before_any_request(
    b2: BackblazeStorage, b2_server: B2Server, version_id: Any
) -> None:
    for call in (
        b2.admin.delete_file_version("a", version_id),
        b2.admin.delete_file_versions([("a", "v1"), ("a", version_id)]),
    ):
        with pytest.raises(InvalidInputError, match="version_id"):
            await call
    assert b2_server.requests == []


async def test_given_a_lost_response_when_a_version_is_erased_then_it_is_done(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    (version,) = await store(b2, "a", b"x")
    lost = b2_server.faults.next("DeleteObject", cut="rst", at="resp")
    assert (await b2.admin.delete_file_version("a", version)).deleted
    assert lost.hits == 1
    assert b2_server.versions() == []


async def test_given_many_versions_when_erased_then_each_has_its_result_in_their_order(
    storage: BackblazeStorage,
) -> None:
    first = await store(storage, "a", b"1", b"2", b"3")
    second = await store(storage, "ü & <b>", b"1", b"2")
    listed = await storage.admin.list_file_versions("a")
    targets: list[FileVersion | tuple[str, str]] = [
        ("ü & <b>", second[0]),
        *listed[:2],
        ("ü & <b>", second[1]),
    ]
    results = await storage.admin.delete_file_versions(targets)
    assert [(each.key, each.version_id, each.deleted) for each in results] == [
        ("ü & <b>", second[0], True),
        ("a", first[2], True),
        ("a", first[1], True),
        ("ü & <b>", second[1], True),
    ]
    left = await storage.admin.list_file_versions()
    assert [each.version_id for each in left] == [first[0]]
    assert await storage.admin.delete_file_versions([]) == []


async def test_given_a_response_that_leaves_versions_out_then_they_count_as_not_erased(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    one, two = await store(b2, "a", b"1", b"2")
    response = f"<DeleteResult><Deleted><Key>a</Key><VersionId>{two}</VersionId></Deleted>"
    lie = {"status": 200, "body": f"{response}</DeleteResult>".encode()}
    b2_server.faults.always("DeleteObjects", **lie)
    results = await b2.admin.delete_file_versions([("a", one), ("a", two)])
    assert [each.deleted for each in results] == [False, True]
    assert "does not mention" in str(results[0].error_message)
    with pytest.raises(StorageError, match="One version was not erased") as caught:
        await b2.purge_file("a")
    assert one in caught.value.message


@pytest.mark.parametrize("targets", ["ab", 5, None, [("a",)], ["a"], [("a", "b", "c")]], ids=repr)
async def test_given_invalid_versions_then_they_are_refused(
    b2: BackblazeStorage, targets: Any
) -> None:
    with pytest.raises(InvalidInputError, match="targets"):
        await b2.admin.delete_file_versions(targets)


async def test_given_one_version_that_is_not_in_a_list_then_it_is_refused(
    b2: BackblazeStorage,
) -> None:
    await store(b2, "a", b"1")
    one: Any = (await b2.admin.list_file_versions())[0]
    with pytest.raises(InvalidInputError, match="several"):
        await b2.admin.delete_file_versions(one)


# --- locked versions --------------------------------------------------------------------


@pytest.fixture(
    params=["settings", pytest.param("seaweed_settings", marks=pytest.mark.integration)]
)
async def locking(request: pytest.FixtureRequest) -> AsyncIterator[BackblazeStorage]:
    """A bucket with object lock, on the fast server, then on the real one."""
    made = request.getfixturevalue(request.param)
    name = f"{made.bucket_name}-lock"
    async with BackblazeStorage(made.model_copy(update={"bucket_name": name})) as storage:
        client = await storage.client()
        await client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        yield storage


async def lock(storage: BackblazeStorage, key: str, version_id: str, mode: str) -> None:
    client = await storage.client()
    await client.put_object_retention(
        Bucket=storage.settings.bucket_name,
        Key=key,
        VersionId=version_id,
        Retention={"Mode": mode, "RetainUntilDate": datetime.now(UTC) + timedelta(days=2)},
    )


async def test_given_a_version_under_governance_when_erased_then_the_error_names_its_end(
    locking: BackblazeStorage,
) -> None:
    (version,) = await store(locking, "a", b"x")
    await lock(locking, "a", version, "GOVERNANCE")
    with pytest.raises(FileLockedError, match="governance retention until 20") as caught:
        await locking.admin.delete_file_version("a", version)
    assert caught.value.key == "a"
    assert "bypass_governance=True" in str(caught.value.hint)
    (result,) = await locking.admin.delete_file_versions([("a", version)])
    assert (result.deleted, result.error_code) == (False, "AccessDenied")
    (result,) = await locking.admin.delete_file_versions([("a", version)], bypass_governance=True)
    assert result.deleted
    (version,) = await store(locking, "a", b"x")
    await lock(locking, "a", version, "GOVERNANCE")
    assert (await locking.admin.delete_file_version("a", version, bypass_governance=True)).deleted
    assert await locking.admin.list_file_versions() == []


async def test_given_a_version_under_legal_hold_when_erased_then_the_error_says_so(
    locking: BackblazeStorage,
) -> None:
    (version,) = await store(locking, "a", b"x")
    client = await locking.client()
    where = {"Bucket": locking.settings.bucket_name, "Key": "a", "VersionId": version}
    await client.put_object_legal_hold(**where, LegalHold={"Status": "ON"})
    with pytest.raises(FileLockedError, match="legal hold"):
        await locking.admin.delete_file_version("a", version, bypass_governance=True)
    await client.put_object_legal_hold(**where, LegalHold={"Status": "OFF"})
    assert (await locking.admin.delete_file_version("a", version)).deleted


async def test_given_a_locked_version_when_purged_then_all_others_go_and_the_error_counts(
    locking: BackblazeStorage,
) -> None:
    ids = await store(locking, "a", b"1", b"22", b"3")
    await hide(locking, "a")
    await lock(locking, "a", ids[1], "COMPLIANCE")
    await begin_upload(locking, "a")
    with pytest.raises(FileLockedError, match="compliance retention until") as caught:
        await locking.purge_file("a")
    outcome = "One version was not erased; 2 versions, 1 delete markers, 1 unfinished uploads were."
    assert outcome in caught.value.message
    left = await locking.admin.list_file_versions()
    assert [each.version_id for each in left] == [ids[1]]
    assert await locking.list_incomplete_uploads() == []


async def test_given_a_key_that_may_not_erase_then_the_error_says_that_it_may_be_that(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    (version,) = await store(b2, "a", b"x")
    key = b2_server.create_key(capabilities={"listBuckets", "listFiles", "readFiles"})
    async with BackblazeStorage(b2_server.settings(key=key)) as reader:
        with pytest.raises(AccessDeniedError) as caught:
            await reader.admin.delete_file_version("a", version)
    assert not isinstance(caught.value, FileLockedError)
    assert "deleteFiles" in str(caught.value.hint)
    assert len(b2_server.versions()) == 1


# --- bringing a file back ---------------------------------------------------------------


async def test_given_a_file_hidden_twice_when_restored_then_it_shows_its_newest_version(
    storage: BackblazeStorage,
) -> None:
    await store(storage, "a", b"old")
    await hide(storage, "a")
    new = (await store(storage, "a", b"new"))[0]
    await hide(storage, "a")
    await hide(storage, "a")
    result = await storage.admin.restore_file("a")
    assert result == RestoreResult(key="a", how="unhidden", version_id=new)
    assert await storage.get_file("a") == b"new"
    markers = [each for each in await storage.admin.list_file_versions() if each.delete_marker]
    assert len(markers) == 1, "the marker below belongs to history"
    again = await storage.admin.restore_file("a")
    assert again == RestoreResult(key="a", how="was_there", version_id=new)


@pytest.mark.parametrize("hidden", [False, True], ids=["seen", "hidden"])
async def test_given_an_old_version_when_restored_then_a_copy_of_it_is_on_top(
    storage: BackblazeStorage, hidden: bool
) -> None:
    old = await storage.upload_file(
        "a/ä +.webm",
        b"old",
        "audio/webm",
        metadata={"who": "größe"},
        cache_control="no-store",
        content_disposition="inline",
    )
    await store(storage, "a/ä +.webm", b"new")
    if hidden:
        await hide(storage, "a/ä +.webm")
    result = await storage.admin.restore_file("a/ä +.webm", old.version_id)
    assert result.how == "copied"
    assert result.version_id not in (None, old.version_id)
    assert await storage.get_file("a/ä +.webm") == b"old"
    found = await storage.get_file_metadata("a/ä +.webm")
    assert (found.version_id, found.content_type) == (result.version_id, "audio/webm")
    assert (found.metadata, found.etag) == ({"who": "größe"}, old.etag)
    context = storage._runtime.context()
    headers = (await context.requests.head_object("a/ä +.webm")).headers
    assert (headers["cache-control"], headers["content-disposition"]) == ("no-store", "inline")


async def test_given_the_newest_version_hidden_when_it_is_restored_by_its_id_then_no_copy_is_made(
    storage: BackblazeStorage,
) -> None:
    _, new = await store(storage, "a", b"old", b"new")
    await hide(storage, "a")
    result = await storage.admin.restore_file("a", new)
    assert result == RestoreResult(key="a", how="unhidden", version_id=new)
    assert len(await storage.admin.list_file_versions()) == 2


async def test_given_nothing_to_go_back_to_when_restored_then_the_error_says_so(
    storage: BackblazeStorage,
) -> None:
    await store(storage, "ab", b"x")
    with pytest.raises(NoSuchKeyError, match="no version to restore"):
        await storage.admin.restore_file("a")
    (erased,) = await store(storage, "a", b"x")
    marker = await hide(storage, "a")
    await storage.admin.delete_file_version("a", erased)
    for call in (
        storage.admin.restore_file("a"),
        storage.admin.restore_file("a", "no-such-version"),
    ):
        with pytest.raises(NoSuchKeyError, match="no version"):
            await call
    with pytest.raises(NoSuchKeyError, match="is a delete marker"):
        await storage.admin.restore_file("a", marker)


async def test_given_another_writer_when_restored_by_id_then_the_newest_version_is_a_copy(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    bucket = Bucket(settings)
    async with storage_behind(proxy, settings) as storage:
        (wanted,) = await store(storage, "a", b"wanted")
        await hide(storage, "a")

        def somebody_stores(attempt: Attempt) -> bool:
            if attempt.operation == "DeleteObjects":
                bucket.put("a", b"somebody's")
            return False

        proxy.add(when=somebody_stores)
        result = await storage.admin.restore_file("a", wanted)
    assert (result.how, bucket.content("a")) == ("copied", b"wanted")
    bodies = [bucket.content("a", kept.version_id) for kept in bucket.history("a")]
    assert bodies == [b"wanted", b"somebody's", b"wanted"]


async def test_given_a_writer_that_always_hides_it_when_restored_then_it_ends_with_an_error(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    await store(b2, "a", b"x")
    await hide(b2, "a")
    # The server says that the marker is gone, and it is there again at once.
    marker = b2_server.versions("a")[0].version_id
    response = f"<Deleted><Key>a</Key><VersionId>{marker}</VersionId></Deleted>"
    body = f"<DeleteResult>{response}</DeleteResult>".encode()
    b2_server.faults.always("DeleteObjects", status=200, body=body)
    with pytest.raises(StorageError, match="keep hiding the file") as caught:
        await b2.admin.restore_file("a")
    assert caught.value.retryable


# --- purging ----------------------------------------------------------------------------


async def test_given_a_prefix_when_purged_then_all_below_it_is_gone_and_nothing_else(
    storage: BackblazeStorage, pages_of_three: None
) -> None:
    for number in range(4):
        await store(storage, f"calls/{number}", b"12", b"345")
    await hide(storage, "calls/0")
    await store(storage, "callsign", b"x")
    await begin_upload(storage, "calls/9")
    kept = await begin_upload(storage, "callsign")
    counted = await storage.admin.purge_files("calls/", dry_run=True)
    assert len(await storage.admin.list_file_versions()) == 10
    result = await storage.admin.purge_files("calls/", confirm="calls/")
    assert result == counted
    assert result.model_dump() == {
        "key": "calls/",
        "versions": 8,
        "delete_markers": 1,
        "uploads": 1,
        "bytes": 20,
    }
    assert [each.key for each in await storage.admin.list_file_versions()] == ["callsign"]
    assert [each.upload_id for each in await storage.list_incomplete_uploads()] == [kept]


async def test_given_a_whole_bucket_when_purged_then_its_name_must_confirm_it(
    storage: BackblazeStorage,
) -> None:
    await store(storage, "a", b"x")
    name = str(storage.settings.bucket_name)
    for confirm in (None, "", "a", name.upper()):
        with pytest.raises(InvalidInputError, match="confirm"):
            await storage.admin.purge_files("", confirm=confirm)
    for confirm in (None, "", name):
        with pytest.raises(InvalidInputError, match="confirm"):
            await storage.admin.purge_files("a", confirm=confirm)
    with pytest.raises(InvalidInputError, match="confirm"):
        await storage.admin.purge_file("a", confirm="b")
    assert await storage.get_file("a") == b"x"
    assert (await storage.admin.purge_files("", confirm=name)).versions == 1
    assert await storage.admin.list_file_versions() == []


async def test_given_a_failure_in_the_middle_of_a_purge_then_the_error_tells_what_is_gone(
    b2: BackblazeStorage, b2_server: B2Server, pages_of_three: None
) -> None:
    await store(b2, "a", *[b"x"] * 7)
    listed = 0

    def third(attempt: Attempt) -> bool:
        nonlocal listed
        listed += attempt.operation == "ListObjectVersions"
        return attempt.operation == "ListObjectVersions" and listed == 3

    b2_server.faults.always(when=third, status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError) as caught:
        await b2.purge_file("a")
    assert ["Erased before the error" in note for note in caught.value.__notes__] == [True]
    assert (await b2.purge_file("a")).versions > 0
    assert b2_server.versions() == []


async def test_given_busy_servers_when_purged_then_all_is_gone_in_the_end(
    b2: BackblazeStorage, b2_server: B2Server, pages_of_three: None
) -> None:
    for number in range(5):
        await store(b2, f"k{number}", b"1", b"2")
    b2_server.faults.next("DeleteObjects", status=503, code="SlowDown", times=2)
    b2_server.faults.next("DeleteObjects", cut="rst", at="resp", times=2)
    b2_server.faults.next("ListObjectVersions", cut="rst", at="resp", times=2)
    assert (await b2.admin.purge_files("k", confirm="k")).versions == 10
    assert b2_server.versions() == []


async def test_given_a_cancelled_purge_then_it_stops_and_can_be_run_again(
    b2: BackblazeStorage, b2_server: B2Server, pages_of_three: None
) -> None:
    await store(b2, "a", *[b"x"] * 10)
    hanging = b2_server.faults.next("DeleteObjects", cut="hang")
    purging = asyncio.create_task(b2.purge_file("a"))
    await hanging.fired.wait()
    purging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await purging
    b2_server.faults.clear()
    await b2.purge_file("a")
    assert b2_server.versions() == []


@pytest.mark.integration
async def test_given_lost_responses_on_a_real_server_when_purged_then_nothing_is_left(
    seaweed_settings: StorageSettings, pages_of_three: None
) -> None:
    async with (
        FaultProxy(seaweed_settings.endpoint or "") as proxy,
        storage_behind(proxy, seaweed_settings) as storage,
    ):
        for number in range(5):
            await store(storage, f"k{number}", b"1", b"2")
        proxy.add(operation="DeleteObjects", times=2, cut="rst", at="resp")
        proxy.add(operation="ListObjectVersions", times=2, cut="rst", at="resp")
        assert (await storage.admin.purge_files("k", confirm="k")).versions == 10
        assert await storage.admin.list_file_versions() == []
