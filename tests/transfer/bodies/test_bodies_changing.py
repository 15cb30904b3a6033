"""Bodies that change while they are read: one consistent state is stored, or nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from gzip import GzipFile, compress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    BodyChangedError,
    ChecksumMismatchError,
    InvalidInputError,
    Progress,
    SizeMismatchError,
)
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server
from tests.support.bodies import MIB, noise, pieces

PART = 5 * MIB
OLD, NEW = b"a" * (3 * PART + 1_000), b"b" * (3 * PART + 1_000)
Change = Callable[[Path], None]


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    """Reads a file part by part, each part after the previous one is stored."""
    settings = server.settings(
        part_size=PART, multipart_threshold=PART, transfer_concurrency=1, memory_budget=8 * MIB
    )
    async with BackblazeStorage(settings) as opened:
        yield opened


class AtFirstProgress:
    """Changes something once the first bytes are on the server."""

    def __init__(self, change: Callable[[], None]) -> None:
        self._change: Callable[[], None] | None = change

    def __call__(self, progress: Progress) -> None:
        change = self._change
        if progress.transferred and change is not None:
            self._change = None
            change()


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(NEW)


def _rewrite_one_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"b")


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"b")


def _truncate(path: Path) -> None:
    os.truncate(path, 2 * PART)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


CHANGES: dict[str, tuple[Change, type[Exception]]] = {
    "rewritten": (_rewrite, BodyChangedError),
    "one byte rewritten": (_rewrite_one_byte, BodyChangedError),
    "grown": (_grow, SizeMismatchError),
    "truncated": (_truncate, SizeMismatchError),
    "emptied": (_empty, SizeMismatchError),
}


class TestFiles:
    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("opened", [False, True], ids=["path", "file"])
    async def test_given_a_file_that_changes_while_it_is_sent_then_nothing_is_stored_or_left(
        self,
        storage: BackblazeStorage,
        server: B2Server,
        change: str,
        tmp_path: Path,
        *,
        opened: bool,
    ) -> None:
        path = tmp_path / "a"
        path.write_bytes(OLD)
        make_change, expected = CHANGES[change]
        progress = AtFirstProgress(lambda: make_change(path))
        with ExitStack() as stack:
            body: Any = stack.enter_context(path.open("rb")) if opened else path
            with pytest.raises(expected) as caught:
                await storage.upload_file("a", body, progress=progress)
        assert str(path) in str(caught.value)
        assert (server.versions(), server.incomplete_uploads()) == ([], [])

    @pytest.mark.parametrize("change", CHANGES)
    async def test_given_a_file_that_changes_while_it_is_resumed_then_it_is_not_completed(
        self, storage: BackblazeStorage, server: B2Server, change: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "a"
        path.write_bytes(OLD)
        make_change, expected = CHANGES[change]
        progress = AtFirstProgress(lambda: make_change(path))
        with pytest.raises(expected):
            await storage.upload_file("a", path, resume=True, progress=progress)
        assert server.versions() == []

    @pytest.mark.parametrize("kind", ["replaced", "removed"])
    async def test_given_a_file_whose_name_goes_to_another_then_the_opened_one_is_stored_whole(
        self, storage: BackblazeStorage, kind: str, tmp_path: Path
    ) -> None:
        path, other = tmp_path / "a", tmp_path / "b"
        path.write_bytes(OLD)
        other.write_bytes(NEW)

        def change() -> None:
            if kind == "replaced":
                other.replace(path)
            else:
                path.unlink()

        await storage.upload_file("a", path, progress=AtFirstProgress(change))
        assert await storage.get_file("a") == OLD

    async def test_given_parts_larger_than_the_memory_budget_then_changes_are_seen_too(
        self, server: B2Server, tmp_path: Path
    ) -> None:
        settings = server.settings(
            part_size=9 * MIB, multipart_threshold=1, memory_budget=8 * MIB, transfer_concurrency=1
        )
        path = tmp_path / "a"
        async with BackblazeStorage(settings) as storage:
            for change, _ in CHANGES.values():
                path.write_bytes(OLD)
                progress = AtFirstProgress(lambda change=change: change(path))  # type: ignore[misc]  # mypy infers no type for its default
                with pytest.raises((BodyChangedError, SizeMismatchError, ChecksumMismatchError)):
                    await storage.upload_file("a", path, progress=progress)
        assert (server.versions(), server.incomplete_uploads()) == ([], [])

    async def test_given_a_small_file_that_was_just_written_then_it_is_stored(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        path = tmp_path / "a"
        for number in range(20):
            path.write_bytes(b"%d" % number)
            await storage.upload_file("a", path)
            assert await storage.get_file("a") == b"%d" % number

    async def test_given_a_file_at_its_beginning_when_its_position_moves_then_all_is_stored(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        path = tmp_path / "a"
        path.write_bytes(OLD)
        with path.open("rb") as file:
            progress = AtFirstProgress(lambda: file.seek(-5, os.SEEK_END))  # type: ignore[arg-type]  # its result is not used
            await storage.upload_file("a", file, progress=progress)
        assert await storage.get_file("a") == OLD

    async def test_given_a_file_that_is_closed_meanwhile_then_all_is_stored(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        path = tmp_path / "a"
        path.write_bytes(OLD)
        with path.open("rb") as file:
            await storage.upload_file("a", file, progress=AtFirstProgress(file.close))
        assert await storage.get_file("a") == OLD


class TestMemory:
    @pytest.mark.parametrize("resume", [False, True])
    async def test_given_memory_that_is_changed_while_it_is_sent_then_nothing_is_stored(
        self, storage: BackblazeStorage, server: B2Server, *, resume: bool
    ) -> None:
        data = bytearray(OLD)

        def change() -> None:
            data[:] = NEW

        with pytest.raises(ChecksumMismatchError):
            await storage.upload_file("a", data, resume=resume, progress=AtFirstProgress(change))
        assert server.versions() == []

    async def test_given_memory_that_is_not_changed_then_it_is_stored(
        self, storage: BackblazeStorage
    ) -> None:
        for body in (bytearray(OLD), memoryview(bytearray(OLD))):
            for resume in (False, True):
                await storage.upload_file("a", body, resume=resume)
                assert await storage.get_file("a") == OLD

    async def test_given_a_file_in_memory_that_is_written_to_then_what_was_there_is_stored(
        self, storage: BackblazeStorage
    ) -> None:
        def write(file: BytesIO) -> None:
            file.seek(0)
            file.write(NEW + b"more")

        file = BytesIO(OLD)
        await storage.upload_file("a", file, progress=AtFirstProgress(lambda: write(file)))
        assert await storage.get_file("a") == OLD

    async def test_given_memory_that_is_changed_while_the_outbox_takes_it_then_it_is_whole_or_not(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        async with Outbox(tmp_path / "outbox", storage) as outbox:
            for _ in range(3):
                data = bytearray(OLD[:PART])
                put = asyncio.create_task(outbox.put_recording("CA1", data, "a.bin"))
                await asyncio.sleep(0)
                while not put.done():
                    data[:] = (NEW if data[0] == OLD[0] else OLD)[:PART]
                    await asyncio.sleep(0)
                try:
                    entry = await put
                except BodyChangedError:
                    continue
                await outbox.drain()
                assert await storage.get_file(entry.key) in (OLD[:PART], NEW[:PART])


class OnceOnly(BytesIO):
    """Claims to rewind, but moves to another position."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return offset

    def tell(self) -> int:
        return 0


class SaysNo(BytesIO):
    """Claims to be seekable, and raises."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise OSError("cannot seek")


class Subclass(BytesIO):
    """Not recognised as memory, but it rewinds."""


class TestGoingBack:
    """A new upload leaves a busy vault, and resume=True reads twice: both rewind the body."""

    async def test_given_a_body_that_only_claims_to_rewind_then_nothing_is_stored(
        self, storage: BackblazeStorage, server: B2Server
    ) -> None:
        data = noise(len(OLD))
        with pytest.raises((BodyChangedError, SizeMismatchError, InvalidInputError)):
            await storage.upload_file("a", OnceOnly(data), resume=True, size=len(data))
        with pytest.raises(InvalidInputError, match="again"):
            await storage.upload_file("a", SaysNo(data), resume=True, size=len(data))
        assert server.versions() == []

    @pytest.mark.parametrize("body", [OnceOnly, SaysNo])
    async def test_given_a_busy_vault_then_a_body_that_cannot_rewind_is_not_stored_in_part(
        self, storage: BackblazeStorage, server: B2Server, body: type[BytesIO]
    ) -> None:
        for _ in range(storage.settings.retry_attempts):
            server.faults.next("UploadPart", status=503, code="ServiceUnavailable")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at below
            await storage.upload_file("a", body(OLD))
        assert type(caught.value).__name__ in {
            "BodyChangedError",
            "SizeMismatchError",
            "ServiceUnavailableError",
        }
        assert (server.versions(), server.incomplete_uploads()) == ([], [])

    async def test_given_a_busy_vault_then_a_file_that_rewinds_is_stored_by_a_new_upload(
        self, storage: BackblazeStorage, server: B2Server
    ) -> None:
        data = noise(len(OLD))
        for body in (GzipFile(fileobj=BytesIO(compress(data))), Subclass(data)):
            for _ in range(storage.settings.retry_attempts):
                server.faults.next("UploadPart", status=503, code="ServiceUnavailable")
            await storage.upload_file("a", body)
            assert await storage.get_file("a") == data
        assert server.incomplete_uploads() == []


async def test_given_the_same_generator_twice_then_the_second_upload_is_refused(
    storage: BackblazeStorage, server: B2Server
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"

    for body in (pieces(b"abc"), chunks()):
        await storage.upload_file("a", body)
        with pytest.raises(InvalidInputError, match="ended"):
            await storage.upload_file("a", body)
    assert len(server.versions()) == 2


async def test_given_one_generator_for_two_uploads_at_once_then_one_is_refused(
    storage: BackblazeStorage, server: B2Server
) -> None:
    begun, going_on = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        begun.set()
        await going_on.wait()
        yield b"abc"

    body = chunks()
    first = asyncio.create_task(storage.upload_file("a", body))
    await begun.wait()
    with pytest.raises(InvalidInputError, match="already"):
        await storage.upload_file("b", body)
    going_on.set()
    await first
    assert [version.body for version in server.versions()] == [b"abc"]
