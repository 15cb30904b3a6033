"""What parent and child send each other: a length, a kind, and bytes."""

from __future__ import annotations

import pickle
import struct
from io import FileIO
from typing import Final

from careflow_storage.errors import StorageError
from careflow_storage.jobs.errors import JobError

HEAD: Final = struct.Struct(">cI")
"""The kind of a message, and the length of what follows."""

READY: Final = b"r"
"""From the child: it has imported the package."""
TASK: Final = b"t"
"""To the child: a `ShardTask` as JSON."""
RESULT: Final = b"d"
"""From the child: a `ShardResult` as JSON."""
ERROR: Final = b"e"
"""From the child: a pickled `StorageError`, which ended the shard."""
FAULT: Final = b"f"
"""From the child: the traceback of another exception, as text."""


def frame(kind: bytes, payload: bytes) -> bytes:
    """Return a message as bytes."""
    return HEAD.pack(kind, len(payload)) + payload


def read_message(file: FileIO) -> tuple[bytes, bytes] | None:
    """Read the next message; None at the end. Blocks."""
    head = _read(file, HEAD.size)
    if head is None:
        return None
    kind, length = HEAD.unpack(head)
    payload = _read(file, length)
    return None if payload is None else (kind, payload)


def _read(file: FileIO, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        more = file.read(length - len(data))
        if not more:
            return None
        data += more
    return bytes(data)


def dump_error(error: StorageError) -> bytes:
    """Return an error for `load_error`. One of the caller's own classes becomes a `JobError`."""
    if not type(error).__module__.startswith("careflow_storage."):
        error = JobError(f"{type(error).__name__}: {error.message}", hint=error.hint)
    return pickle.dumps(error)


def load_error(payload: bytes) -> StorageError:
    """Return the error that a child has sent, which runs this program's own code."""
    error = pickle.loads(payload)  # noqa: S301
    return error if isinstance(error, StorageError) else JobError(f"{error}")
