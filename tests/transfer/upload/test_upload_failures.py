"""Bodies that cannot be stored: a clear error, nothing stored, nothing left behind."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    SizeMismatchError,
    StorageSettings,
)
from tests.support.bodies import MIB, AsyncFile, noise, pieces, stream
from tests.support.unfinished import unfinished_uploads

pytestmark = pytest.mark.slow

PART = 5 * MIB
LARGE = noise(PART + 1000)


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """Whose files above 100 kB go in parts of 5 MiB."""
    small = settings.model_copy(update={"part_size": PART, "multipart_threshold": 100_000})
    async with BackblazeStorage(small) as opened:
        yield opened
        assert await unfinished_uploads(opened.settings) == []
        assert await opened.list_files() == []


class LineDroppedError(Exception):
    """What a body raises midway."""


class FailingFile(AsyncFile):
    async def read(self, size: int = -1) -> bytes:
        if data := await super().read(min(size, MIB)):
            return data
        raise LineDroppedError


def failing_pieces(data: bytes) -> Iterator[bytes]:
    yield from pieces(data)
    raise LineDroppedError


async def failing_stream(data: bytes) -> AsyncIterator[bytes]:
    for piece in pieces(data):
        yield piece
    raise LineDroppedError


class FailingReads(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if data := super().read(size):
            return data[: len(data) // 2 + 1]
        raise LineDroppedError


class TestBodiesThatRaise:
    @pytest.mark.parametrize("size", [10_000, 300_000, len(LARGE)])
    async def test_given_a_body_that_raises_midway_then_its_own_exception_comes_out(
        self, storage: BackblazeStorage, size: int
    ) -> None:
        for make in (failing_pieces, failing_stream, FailingFile, FailingReads):
            body: Any = make(noise(size))
            with pytest.raises(LineDroppedError):
                await storage.upload_file("a.bin", body)

    async def test_given_the_file_before_when_a_new_upload_fails_then_the_old_one_is_still_there(
        self, storage: BackblazeStorage
    ) -> None:
        await storage.upload_file("a.bin", b"old")
        with pytest.raises(LineDroppedError):
            await storage.upload_file("a.bin", failing_stream(LARGE))
        assert await storage.get_file("a.bin") == b"old"
        await storage.purge_file("a.bin")

    async def test_given_a_stop_iteration_raised_by_a_body_then_the_upload_does_not_hang(
        self, storage: BackblazeStorage
    ) -> None:
        class Confused(AsyncFile):
            async def read(self, size: int = -1) -> bytes:
                return next(iter(()))

        with pytest.raises(RuntimeError):
            await storage.upload_file("a.bin", Confused(b""))


class TestBodiesOfAnotherLength:
    @pytest.mark.parametrize("size", [10_000, 300_000, len(LARGE)])
    @pytest.mark.parametrize("difference", [-1, 1])
    async def test_given_a_body_of_another_length_than_declared_then_it_is_refused(
        self, storage: BackblazeStorage, difference: int, size: int
    ) -> None:
        for make in (pieces, stream, AsyncFile):
            body: Any = make(noise(size))
            with pytest.raises(SizeMismatchError) as caught:
                await storage.upload_file("a.bin", body, size=size + difference)
            assert caught.value.key == "a.bin"
            assert str(size + difference) in str(caught.value)

    @pytest.mark.parametrize("size", [-1, 999, 1001])
    async def test_given_bytes_with_another_declared_size_then_they_are_refused_at_once(
        self, storage: BackblazeStorage, size: int
    ) -> None:
        with pytest.raises(InvalidInputError):
            await storage.upload_file("a.bin", noise(1000), size=size)

    @pytest.mark.parametrize("size", [1.5, "1000", True])
    async def test_given_a_declared_size_that_is_no_number_of_bytes_then_it_is_refused(
        self, storage: BackblazeStorage, size: Any
    ) -> None:
        with pytest.raises(InvalidInputError, match="size"):
            await storage.upload_file("a.bin", iter([b"x"]), size=size)

    async def test_given_many_bodies_that_were_too_long_then_later_uploads_still_find_memory(
        self, settings: StorageSettings, tmp_path: Path
    ) -> None:
        # The budget holds two parts: were one lost with each failure, the last would wait.
        scarce = settings.model_copy(
            update={
                "part_size": PART,
                "multipart_threshold": 100_000,
                "memory_budget": 2 * PART,
            }
        )
        (tmp_path / "a.bin").write_bytes(noise(PART))
        async with BackblazeStorage(scarce) as storage, asyncio.timeout(60):
            for _ in range(3):
                with pytest.raises(SizeMismatchError):
                    await storage.upload_file("long", stream(LARGE, MIB), size=PART + 500)
            await storage.upload_file("a.bin", tmp_path / "a.bin")


class TestBodiesOfTheWrongType:
    @pytest.mark.parametrize("body", [None, 5, 1.5, object, {"a": 1}, {b"a": b"b"}, str], ids=repr)
    async def test_given_something_that_is_no_body_then_it_is_refused_with_a_hint(
        self, storage: BackblazeStorage, body: Any
    ) -> None:
        with pytest.raises(InvalidInputError) as caught:
            await storage.upload_file("a.bin", body)
        assert caught.value.hint

    @pytest.mark.parametrize("chunk", ["text", 5, ["nested"]])
    async def test_given_an_iterable_of_other_things_than_bytes_then_it_is_refused(
        self, storage: BackblazeStorage, chunk: Any
    ) -> None:
        async def stream_of_chunks() -> AsyncIterator[Any]:
            yield b"some bytes"
            yield chunk

        with pytest.raises(InvalidInputError, match=type(chunk).__name__):
            await storage.upload_file("a.bin", [b"some bytes", chunk])
        with pytest.raises(InvalidInputError, match=type(chunk).__name__):
            await storage.upload_file("a.bin", stream_of_chunks())

    async def test_given_an_iterable_with_none_in_it_then_it_does_not_end_there_in_silence(
        self, storage: BackblazeStorage
    ) -> None:
        async def stream_of_chunks() -> AsyncIterator[Any]:
            yield b"first half, "
            yield None
            yield b"second half"

        chunks: list[Any] = [b"first half, ", None, b"second half"]
        with pytest.raises(InvalidInputError, match="None"):
            await storage.upload_file("sync", chunks)
        with pytest.raises(InvalidInputError, match="None"):
            await storage.upload_file("async", stream_of_chunks())

    async def test_given_text_that_comes_after_a_whole_part_then_the_upload_is_aborted(
        self, storage: BackblazeStorage
    ) -> None:
        chunks: list[Any] = [LARGE, "text"]
        with pytest.raises(InvalidInputError, match="str"):
            await storage.upload_file("a.bin", chunks)

    async def test_given_a_file_in_text_mode_then_it_is_refused_and_the_hint_says_how_to_open_it(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "a.txt").write_text("words")
        with (tmp_path / "a.txt").open() as file:
            text: Any = file
            with pytest.raises(InvalidInputError, match="binary"):
                await storage.upload_file("a.txt", text)
        memory: Any = io.StringIO("words" * 100_000)
        with pytest.raises(InvalidInputError, match="binary"):
            await storage.upload_file("a.txt", memory)

    async def test_given_a_memoryview_with_gaps_then_it_is_refused(
        self, storage: BackblazeStorage
    ) -> None:
        with pytest.raises(InvalidInputError, match="contiguous"):
            await storage.upload_file("a.bin", memoryview(b"abcdef")[::2])

    async def test_given_text_that_has_no_utf8_then_it_is_refused(
        self, storage: BackblazeStorage
    ) -> None:
        with pytest.raises(InvalidInputError, match="Unicode"):
            await storage.upload_file("a.txt", "half a pair: \ud83d")


class TestPathsThatCannotBeRead:
    async def test_given_a_path_to_nothing_then_the_error_names_it(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        with pytest.raises(InvalidInputError, match=r"missing\.webm.*No such file"):
            await storage.upload_file("a.bin", tmp_path / "missing.webm")

    async def test_given_a_folder_or_a_pipe_then_it_is_refused_and_nothing_waits_for_it(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / "pipe")
        async with asyncio.timeout(60):
            with pytest.raises(InvalidInputError):
                await storage.upload_file("a.bin", tmp_path)
            # Another process holds the pipe open, so that opening it for reading would not wait.
            holder = os.open(tmp_path / "pipe", os.O_RDWR)
            try:
                with pytest.raises(InvalidInputError, match="regular"):
                    await storage.upload_file("a.bin", tmp_path / "pipe")
            finally:
                os.close(holder)


class TestKeysThatCannotBe:
    @pytest.mark.parametrize(
        "key",
        ["", "a" * 1025, "ä" * 513, "a\nb", "a\x00", "a\x7f", "\ud800", "a/../b", "./a", "..", 5],
        ids=lambda key: ascii(key)[:20],
    )
    async def test_given_a_key_that_cannot_be_then_every_method_refuses_it(
        self, storage: BackblazeStorage, key: Any, tmp_path: Path
    ) -> None:
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "upload_file": lambda: storage.upload_file(key, b""),
            "get_file": lambda: storage.get_file(key),
            "stream_file": lambda: storage.stream_file(key).read(),
            "download_file": lambda: storage.download_file(key, tmp_path / "a"),
            "open_file": lambda: storage.open_file(key),
            "delete_file": lambda: storage.delete_file(key),
            "delete_files": lambda: storage.delete_files([key]),
            "purge_file": lambda: storage.purge_file(key),
            "get_file_metadata": lambda: storage.get_file_metadata(key),
            "file_exists": lambda: storage.file_exists(key),
            "get_signed_url": lambda: storage.get_signed_url(key),
            "get_signed_urls": lambda: storage.get_signed_urls([key]),
        }
        accepted = []
        for name, call in calls.items():
            try:
                await call()
            except InvalidInputError:
                continue
            accepted.append(name)
        assert accepted == []
