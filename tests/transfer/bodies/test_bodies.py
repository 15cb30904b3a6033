"""The contract of docs/bodies.md: each kind of body is stored whole, or refused."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, InvalidInputError, SizeMismatchError, StorageError
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server
from tests.support.bodies import MIB, noise, pieces, stream
from tests.support.body_table import OF_THE_SYSTEM, REFUSED, REUSED, STORED

THRESHOLD = 20_000
SMALL, IN_PARTS = noise(10_002), noise(50_002)
MANY_PARTS = noise(5 * MIB + 60_002)


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    """Uploads files above 20 kB in parts of 5 MiB."""
    settings = server.settings(part_size=5 * MIB, multipart_threshold=THRESHOLD)
    async with BackblazeStorage(settings) as opened:
        yield opened


# All kinds in one test: with a storage for each it would take ten times as long.
@pytest.mark.parametrize("data", [SMALL, pytest.param(IN_PARTS, marks=pytest.mark.slow)], ids=len)
async def test_given_any_kind_of_body_then_its_bytes_are_stored(
    storage: BackblazeStorage, server: B2Server, data: bytes, tmp_path: Path
) -> None:
    damaged = []
    for kind, make in STORED.items():
        with ExitStack() as stack:
            result = await storage.upload_file("a", make(data, tmp_path, stack))
        if result.size != len(data) or await storage.get_file("a") != data:
            damaged.append(kind)
    assert damaged == []
    assert server.incomplete_uploads() == []


@pytest.mark.slow
async def test_given_a_reused_buffer_then_no_part_has_later_bytes(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    damaged = []
    for kind, make in REUSED.items():
        if "ctypes" in kind or "mmap" in kind:
            continue  # two bytes at a time are too slow for megabytes
        with ExitStack() as stack:
            result = await storage.upload_file("a", make(MANY_PARTS, tmp_path, stack))
        if result.parts != 2 or await storage.get_file("a") != MANY_PARTS:
            damaged.append(kind)
    assert damaged == []


@pytest.mark.slow
async def test_given_any_kind_of_body_when_put_in_the_outbox_then_it_delivers_its_bytes(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    keys = {}
    async with Outbox(tmp_path / "outbox", storage) as outbox:
        for number, (kind, make) in enumerate(STORED.items()):
            with ExitStack() as stack:
                body = make(IN_PARTS, tmp_path, stack)
                entry = await outbox.put_recording(f"CA{number}", body, "a.bin")
            keys[kind] = entry.key
        await outbox.drain()
    damaged = [kind for kind, key in keys.items() if await storage.get_file(key) != IN_PARTS]
    assert damaged == []


async def test_given_a_live_recording_then_the_buffer_may_be_used_again_after_each_write(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    damaged = []
    for kind, make in REUSED.items():
        with ExitStack() as stack:
            body = make(IN_PARTS, tmp_path, stack)
            async with storage.open_recording("CA1", "a.bin") as writer:
                async for chunk in _chunks(body):
                    await writer.write(chunk)
        if await storage.get_file(writer.result.key) != IN_PARTS:
            damaged.append(kind)
    assert damaged == []


async def test_given_an_invalid_body_then_it_is_refused_before_any_request(
    storage: BackblazeStorage, server: B2Server, tmp_path: Path
) -> None:
    wrong = {}
    for kind, error in (await _refusals(storage.upload_file, tmp_path)).items():
        of_the_system = isinstance(error, OSError) and bool(error.errno)
        if of_the_system != (kind in OF_THE_SYSTEM) or not _is_refusal(kind, error):
            wrong[kind] = error
    assert wrong == {}
    assert (server.requests, server.versions()) == ([], [])


async def test_given_an_invalid_body_then_the_outbox_keeps_nothing(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    async with Outbox(tmp_path / "outbox", storage) as outbox:

        async def put(key: str, body: Any) -> None:
            await outbox.put_recording("CA1", body, "a.bin")

        errors = await _refusals(put, tmp_path)
        status = await outbox.status()
    assert {kind: error for kind, error in errors.items() if not _is_refusal(kind, error)} == {}
    assert (status.pending, status.bytes) == (0, 0)


async def _refusals(
    upload: Callable[[str, Any], Awaitable[Any]], folder: Path
) -> dict[str, BaseException | None]:
    errors: dict[str, BaseException | None] = {}
    for number, (kind, (make, _)) in enumerate(REFUSED.items()):
        inside = folder / f"refused-{number}"
        inside.mkdir()
        errors[kind] = None
        with ExitStack() as stack:
            body = make(SMALL, inside, stack)
            try:
                await upload("a", body)
            except Exception as error:  # noqa: BLE001 - asserted by the test
                errors[kind] = error
    return errors


def _is_refusal(kind: str, error: BaseException | None) -> bool:
    message = REFUSED[kind][1]
    return isinstance(error, InvalidInputError) and re.search(message, str(error)) is not None


class TestSizes:
    """A body that claims another size than it has."""

    @pytest.mark.parametrize("data", [SMALL, IN_PARTS, MANY_PARTS], ids=len)
    @pytest.mark.parametrize("difference", [-1, 1, -5_000, 5_000])
    async def test_given_a_stream_of_another_size_than_declared_then_nothing_is_stored_or_left(
        self, storage: BackblazeStorage, server: B2Server, data: bytes, difference: int
    ) -> None:
        bodies: list[Any] = [pieces(data), stream(data)]
        for body in bodies:
            with pytest.raises(SizeMismatchError):
                await storage.upload_file("a", body, size=len(data) + difference)
        assert (server.versions(), server.incomplete_uploads()) == ([], [])

    @pytest.mark.parametrize("data", [SMALL, IN_PARTS], ids=len)
    async def test_given_a_body_of_known_size_then_another_declared_size_is_refused_at_once(
        self, storage: BackblazeStorage, server: B2Server, data: bytes, tmp_path: Path
    ) -> None:
        for kind in ("bytes", "path", "file", "file at an offset", "file in memory", "array.array"):
            with ExitStack() as stack:
                body = STORED[kind](data, tmp_path, stack)
                with pytest.raises(InvalidInputError, match="declared"):
                    await storage.upload_file("a", body, size=len(data) + 1)
        assert server.requests == []


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
class TestFilesOfProc:
    async def test_given_a_file_with_a_reported_size_of_0_then_its_content_is_stored(
        self, storage: BackblazeStorage
    ) -> None:
        path = Path("/proc/self/cmdline")
        expected = await asyncio.to_thread(path.read_bytes)
        await storage.upload_file("path", path)
        with await asyncio.to_thread(path.open, "rb") as file:
            await storage.upload_file("file", file)
        assert expected
        assert [await storage.get_file(key) for key in ("path", "file")] == [expected, expected]

    async def test_given_an_unreadable_file_then_the_error_is_an_oserror_too(
        self, storage: BackblazeStorage, server: B2Server
    ) -> None:
        with pytest.raises(StorageError) as caught:
            await storage.upload_file("a", Path("/proc/self/mem"))  # EIO at address 0
        assert isinstance(caught.value, OSError)
        assert caught.value.errno
        assert server.requests == []


async def test_given_a_file_after_its_upload_then_it_is_open_and_at_its_end(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    for kind in ("file", "file at an offset", "file in memory", "spooled file on the disk", "gzip"):
        with ExitStack() as stack:
            body: Any = STORED[kind](SMALL, tmp_path, stack)
            await storage.upload_file("a", body)
            assert body.read() == b""


async def test_given_an_empty_body_then_an_empty_file_is_stored(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    bodies: list[Any] = [b"", "", bytearray(), memoryview(b""), [], iter(()), tmp_path / "empty"]
    for body in bodies:
        assert (await storage.upload_file("a", body)).size == 0


async def _chunks(body: Any) -> AsyncIterator[Any]:
    if hasattr(body, "__aiter__"):
        async for chunk in body:
            yield chunk
    elif hasattr(body, "read"):
        while chunk := body.read(1_000):
            if hasattr(chunk, "__await__"):
                chunk = await chunk
                if not chunk:
                    break
            yield chunk
    else:
        for chunk in body:
            yield chunk
