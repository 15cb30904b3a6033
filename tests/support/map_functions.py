"""Functions that the tests of map jobs name."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from careflow_storage import BackblazeStorage, FileInfo, InvalidCredentialsError, NoSuchKeyError
from careflow_storage.models import FileMetadata

NOT_CALLABLE = 1


class Callable:
    """An object that is called as a function."""

    async def __call__(self, storage: BackblazeStorage, file: FileInfo) -> str:
        """Return the key."""
        return file.key


an_object = Callable()


async def nothing(storage: BackblazeStorage, file: FileInfo) -> None:
    """Return nothing."""


reached = asyncio.Event()
"""Set when `three_then_wait` waits; a test replaces it."""


async def three_then_wait(storage: BackblazeStorage, file: FileInfo) -> None:
    """Return for the first three of `numbered`; for the others wait to be cancelled."""
    if file.key > "recordings/CA0003":
        reached.set()
        await asyncio.Event().wait()


async def size(storage: BackblazeStorage, file: FileInfo) -> dict[str, int]:
    """Return what a GET finds."""
    return {"size": len(await storage.get_file(file.key))}


async def metadata(storage: BackblazeStorage, key: str) -> FileMetadata:
    """Return a model; takes the key."""
    return await storage.get_file_metadata(key)


async def by_key(storage, key):  # type: ignore[no-untyped-def]  # as many functions are written
    """Return the key, which no annotation asks for."""
    return key


async def process(storage: BackblazeStorage, file: FileInfo) -> int:
    """Return the ID of the process, and print to where the results go."""
    print("to standard output")  # noqa: T201 - it must do no harm
    sys.stdin.read()
    return os.getpid()


async def environment(storage: BackblazeStorage, file: FileInfo) -> list[str]:
    """Return the command line of the process."""
    command = Path("/proc/self/cmdline").read_bytes()  # noqa: ASYNC240 - not a file on a disk
    return command.decode().split("\0")


async def fails_for_some(storage: BackblazeStorage, file: FileInfo) -> object:
    """Fail in many ways, by the last part of the key."""
    match file.key.rpartition("/")[2]:
        case "value":
            raise ValueError("x-amz-signature=secret is no number")
        case "missing":
            raise NoSuchKeyError("It is gone.", key=file.key)
        case "exit":
            sys.exit(3)
        case "cancelled":
            raise asyncio.CancelledError
        case "object":
            return object()
        case "infinite":
            return float("nan")
        case "large":
            return "x" * 100_000
    return None


async def endless(storage: BackblazeStorage, file: FileInfo) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


async def refused(storage: BackblazeStorage, file: FileInfo) -> None:
    """Fail as every other object will."""
    raise InvalidCredentialsError("The key is unknown.")


async def blocks(storage: BackblazeStorage, file: FileInfo) -> None:
    """Hold the event loop."""
    time.sleep(0.02)  # noqa: ASYNC251 - it is what the test is about


async def waits(storage: BackblazeStorage, file: FileInfo) -> None:
    """Mark that it has begun, then wait for ever."""
    await storage.upload_file(f"begun/{os.getpid()}", b"")
    await asyncio.Event().wait()


async def dies_at_3(storage: BackblazeStorage, file: FileInfo) -> None:
    """End the process at one key."""
    if file.key.endswith("3"):
        os.kill(os.getpid(), signal.SIGKILL)


async def dies(storage: BackblazeStorage, file: FileInfo) -> None:
    """End the process."""
    os.kill(os.getpid(), signal.SIGKILL)


async def dies_once(storage: BackblazeStorage, file: FileInfo) -> int:
    """End the process that is the first to come here."""
    if not await storage.file_exists("died"):
        await storage.upload_file("died", b"")
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def not_async(storage: BackblazeStorage, file: FileInfo) -> None:
    """Is no coroutine function."""


async def one_argument(storage: BackblazeStorage) -> None:
    """Take no file."""
