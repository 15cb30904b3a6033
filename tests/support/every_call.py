"""One call of every public method that asks the server, and what must be true afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from careflow_storage import BackblazeStorage, IncompleteUpload
from tests.support.bucket import Bucket

OLD = b"what was there before"
OTHER = "other/1", "other/2"
RECORDED_AT = datetime(2026, 11, 23, tzinfo=UTC)


@dataclass
class World:
    """Where a call is made: ``there`` is a key of several parts that holds ``large``."""

    storage: BackblazeStorage
    bucket: Bucket
    folder: Path
    url: str
    small: bytes
    large: bytes
    there: str = "there"
    verifies_uploads: bool = False  # moto does not look at Content-MD5
    notes: dict[str, Any] = field(default_factory=dict)


Prepare = Callable[[World, str], None]
Act = Callable[[World, str], Awaitable[Any]]
Check = Callable[[World, str, Any], None]


@dataclass(frozen=True)
class Call:
    """``act`` after ``prepare``, and what to ``check`` of its result; each sends ``operations``.

    ``survives`` checks what must be true after an error, whatever the error.
    """

    method: str
    operations: tuple[str, ...]
    act: Act
    check: Check
    prepare: Prepare = lambda world, key: None
    survives: Prepare = lambda world, key: None


# --- writing ----------------------------------------------------------------------------


def put_old(world: World, key: str) -> None:
    world.bucket.put(key, OLD)


def stored(body: Callable[[World], bytes]) -> Check:
    def check(world: World, key: str, result: Any) -> None:
        assert world.bucket.content(result.key) == body(world)
        assert world.bucket.content(result.key, result.version_id) == body(world)
        assert result.size == len(body(world))

    return check


def old_or(body: Callable[[World], bytes | None], key_of: Callable[[str], str] = str) -> Prepare:
    def check(world: World, key: str) -> None:
        assert world.bucket.content(key_of(key)) in (OLD, body(world))

    return check


def nothing_or(body: Callable[[World], bytes], key_of: Callable[[str], str]) -> Prepare:
    def check(world: World, key: str) -> None:
        assert world.bucket.content(key_of(key)) in (None, body(world))

    return check


def small(world: World) -> bytes:
    return world.small


def large(world: World) -> bytes:
    return world.large


def recording_of(key: str) -> str:
    return f"recordings/{key}/{int(RECORDED_AT.timestamp() * 1000)}-a.wav"


async def chunks(world: World) -> AsyncIterator[bytes]:
    for start in range(0, len(world.large), 100_000):
        yield world.large[start : start + 100_000]


async def write_live(world: World, key: str, body: bytes) -> Any:
    async with world.storage.open_recording(key, "a.wav", recorded_at=RECORDED_AT) as writer:
        for start in range(0, len(body), 50_000):
            await writer.write(body[start : start + 50_000])
    return writer.result


def from_path(world: World, key: str) -> Awaitable[Any]:
    path = world.folder / "source"
    path.write_bytes(world.large)
    return world.storage.upload_file(key, path, resume=True)


MULTIPART = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
WRITING = {
    "upload_file": Call(
        "upload_file",
        ("PutObject",),
        lambda world, key: world.storage.upload_file(key, world.small),
        stored(small),
        put_old,
        old_or(small),
    ),
    "upload_file, large": Call(
        "upload_file",
        MULTIPART,
        lambda world, key: world.storage.upload_file(key, world.large),
        stored(large),
        put_old,
        old_or(large),
    ),
    "upload_file, stream": Call(
        "upload_file",
        ("UploadPart",),
        lambda world, key: world.storage.upload_file(key, chunks(world)),
        stored(large),
        put_old,
        old_or(large),
    ),
    "upload_file, resumable": Call(
        "upload_file",
        ("ListMultipartUploads", *MULTIPART),
        from_path,
        stored(large),
        put_old,
        old_or(large),
    ),
    "upload_file, not to overwrite": Call(
        "upload_file",
        ("HeadObject", "PutObject"),
        lambda world, key: world.storage.upload_file(key, world.small, overwrite=False),
        stored(small),
        survives=nothing_or(small, str),
    ),
    "upload_recording": Call(
        "upload_recording",
        ("PutObject",),
        lambda world, key: world.storage.upload_recording(
            key, world.small, "a.wav", recorded_at=RECORDED_AT
        ),
        stored(small),
        survives=nothing_or(small, recording_of),
    ),
    "upload_from_url": Call(
        "upload_from_url",
        MULTIPART,
        lambda world, key: world.storage.upload_from_url(
            key, world.url, "a.wav", recorded_at=RECORDED_AT, allow_private_addresses=True
        ),
        stored(large),
        survives=nothing_or(large, recording_of),
    ),
    "open_recording": Call(
        "open_recording",
        MULTIPART,
        lambda world, key: write_live(world, key, world.large),
        stored(large),
        survives=nothing_or(large, recording_of),
    ),
    "open_recording, short": Call(
        "open_recording",
        ("PutObject",),
        lambda world, key: write_live(world, key, world.small),
        stored(small),
        survives=nothing_or(small, recording_of),
    ),
}


# --- reading ----------------------------------------------------------------------------


async def read_stream(world: World, key: str) -> bytes:
    async with world.storage.stream_file(world.there) as stream:
        return await stream.read()


async def serve(world: World, key: str, **request: Any) -> bytes:
    served = await world.storage.serve_file(world.there, **request)
    async with served.body:
        return b"".join([chunk async for chunk in served.body])


async def read_range(world: World, key: str) -> bytes:
    return await world.storage.stream_file(world.there, start=5, end=len(world.large) - 5).read()


async def read_file(world: World, key: str) -> bytes:
    async with await world.storage.open_file(world.there) as reader:
        head = await reader.read(1000)
        return head + await reader.read()


async def download(world: World, key: str, **options: Any) -> bytes:
    path = world.folder / "file"
    result = await world.storage.download_file(world.there, path, **options)
    assert result.size == len(world.large)
    data = path.read_bytes()
    path.unlink()
    return data


def no_file(world: World, key: str) -> None:
    assert not (world.folder / "file").exists()


def is_large(world: World, key: str, result: Any) -> None:
    assert result == world.large


def same_metadata(world: World, key: str, result: Any) -> None:
    latest = next(kept for kept in world.bucket.history(world.there) if kept.is_latest)
    assert (result.key, result.size) == (world.there, len(world.large))
    assert result.version_id == latest.version_id


def same_listing(world: World, key: str, result: Any) -> None:
    assert [(file.key, file.size) for file in result] == [(key, 1) for key in OTHER]


async def list_pages(world: World, key: str) -> list[Any]:
    return [file async for page in world.storage.list_files("other/").pages() for file in page]


async def list_one_folder(world: World, key: str) -> Any:
    return await world.storage.list_folder("other/")


def same_folder(world: World, key: str, result: Any) -> None:
    assert result.common_prefixes == []
    same_listing(world, key, result.files)


async def whether_exist(world: World, key: str) -> tuple[bool, bool]:
    exists = world.storage.file_exists
    return await exists(world.there), await exists("missing")


def they_do(world: World, key: str, result: Any) -> None:
    assert result == (True, False)


READING = {
    "get_file": Call(
        "get_file",
        ("GetObject",),
        lambda world, key: world.storage.get_file(world.there),
        is_large,
    ),
    "stream_file": Call("stream_file", ("GetObject",), read_stream, is_large),
    "stream_file, a range": Call(
        "stream_file",
        ("GetObject",),
        read_range,
        lambda world, key, result: is_large(
            world, key, world.large[:5] + result + world.large[-5:]
        ),
    ),
    "serve_file": Call("serve_file", ("GetObject",), serve, is_large),
    "serve_file, a suffix": Call(
        "serve_file",
        ("GetObject",),
        lambda world, key: serve(world, key, headers={"Range": "bytes=-1000"}),
        lambda world, key, result: is_large(world, key, world.large[:-1000] + result),
    ),
    "open_file": Call("open_file", ("HeadObject", "GetObject"), read_file, is_large),
    "download_file": Call(
        "download_file", ("HeadObject", "GetObject"), download, is_large, survives=no_file
    ),
    "download_file, resumable": Call(
        "download_file",
        ("GetObject",),
        lambda world, key: download(world, key, resume=True),
        is_large,
        survives=no_file,
    ),
    "get_file_metadata": Call(
        "get_file_metadata",
        ("HeadObject",),
        lambda world, key: world.storage.get_file_metadata(world.there),
        same_metadata,
    ),
    "file_exists": Call("file_exists", ("HeadObject",), whether_exist, they_do),
    "list_files": Call("list_files", ("ListObjectsV2",), list_pages, same_listing),
    "list_folder": Call("list_folder", ("ListObjectsV2",), list_one_folder, same_folder),
}


# --- deleting ---------------------------------------------------------------------------


def is_hidden(world: World, key: str, result: Any) -> None:
    assert (result.key, result.deleted, result.delete_marker) == (key, True, True)
    markers = {kept.version_id for kept in world.bucket.history(key) if kept.is_marker}
    assert result.version_id in markers
    assert world.bucket.content(key) is None


def put_two(world: World, key: str) -> None:
    world.bucket.put(key, OLD)
    world.notes[key] = world.bucket.put(key, b"a newer version")


def is_erased(world: World, key: str, result: Any) -> None:
    assert (result.deleted, result.version_id) == (True, world.notes[key])
    assert world.bucket.content(key) == OLD
    assert world.bucket.counts(key) == (1, 0)


def no_worse(world: World, key: str) -> None:
    assert world.bucket.content(key) in (OLD, b"a newer version")


def several(key: str) -> list[str]:
    return [f"{key}/{number}" for number in range(3)]


def put_several(world: World, key: str) -> None:
    for each in several(key):
        world.bucket.put(each, OLD)


def are_hidden(world: World, key: str, results: Any) -> None:
    assert [result.key for result in results] == several(key)
    for result in results:
        is_hidden(world, result.key, result)


def put_many_kinds(world: World, key: str) -> None:
    put_two(world, key)
    world.bucket.begin_upload(key)


def is_purged(world: World, key: str, result: Any) -> None:
    # A repeated request finds nothing left to count.
    assert (result.key, result.versions, result.delete_markers) == (key, 2, 0)
    assert world.bucket.history(key) == []
    assert [upload for upload in world.bucket.unfinished() if upload[0] == key] == []


DELETING = {
    "delete_file": Call(
        "delete_file",
        ("DeleteObject",),
        lambda world, key: world.storage.delete_file(key),
        is_hidden,
        put_old,
        old_or(lambda world: None),
    ),
    "delete_file, a version": Call(
        "delete_file",
        ("DeleteObject",),
        lambda world, key: world.storage.delete_file(key, version_id=world.notes[key]),
        is_erased,
        put_two,
        no_worse,
    ),
    "delete_files": Call(
        "delete_files",
        ("DeleteObjects",),
        lambda world, key: world.storage.delete_files(several(key)),
        are_hidden,
        put_several,
    ),
    "purge_file": Call(
        "purge_file",
        ("ListObjectVersions", "DeleteObjects", "ListMultipartUploads", "AbortMultipartUpload"),
        lambda world, key: world.storage.purge_file(key),
        is_purged,
        put_many_kinds,
    ),
}


# --- unfinished uploads -----------------------------------------------------------------


def begin(world: World, key: str) -> None:
    world.notes[key] = world.bucket.begin_upload(key)
    world.bucket.put_part(key, world.notes[key], 1, world.small)


def begin_empty(world: World, key: str) -> None:
    # moto begins every upload in 2010, but stores its parts now: with one it would not be stale.
    world.notes[key] = world.bucket.begin_upload(key)


def found(world: World, key: str, result: list[IncompleteUpload]) -> None:
    assert [(upload.key, upload.upload_id) for upload in result] == [(key, world.notes[key])]
    world.bucket.abort(key, world.notes[key])


def aborted(world: World, key: str, result: Any) -> None:
    assert (key, world.notes[key]) not in world.bucket.unfinished()


def abort(world: World, key: str) -> None:
    world.bucket.abort(key, world.notes[key])


def kept(world: World, key: str, result: Any) -> None:
    stored(small)(world, key, result)
    assert result.partial
    aborted(world, key, result)


UNFINISHED = {
    "list_incomplete_uploads": Call(
        "list_incomplete_uploads",
        ("ListMultipartUploads",),
        lambda world, key: world.storage.list_incomplete_uploads(key),
        found,
        begin,
        abort,
    ),
    "abort_upload": Call(
        "abort_upload",
        ("AbortMultipartUpload",),
        lambda world, key: world.storage.abort_upload(key, world.notes[key]),
        aborted,
        begin,
        abort,
    ),
    "abort_stale_uploads": Call(
        "abort_stale_uploads",
        ("ListMultipartUploads", "ListParts", "AbortMultipartUpload"),
        lambda world, key: world.storage.abort_stale_uploads(timedelta(days=1), key),
        aborted,
        begin_empty,
        abort,
    ),
    "keep_incomplete_upload": Call(
        "keep_incomplete_upload",
        ("ListParts", "CompleteMultipartUpload"),
        lambda world, key: world.storage.keep_incomplete_upload(key, world.notes[key]),
        kept,
        begin,
        abort,
    ),
}

CALLS = WRITING | READING | DELETING | UNFINISHED
