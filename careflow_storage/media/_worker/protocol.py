"""The messages between the parent process and the child process."""

from __future__ import annotations

import struct
from typing import Final

# Child to parent: the kind, the length, and JSON.
READY: Final = b"R"
"""The child has loaded its libraries and waits for its job."""
MISSING: Final = b"M"
"""The media library is not installed."""
GET: Final = b"G"
"""The child needs bytes of the object: ``[offset, length]``."""
DONE: Final = b"D"
"""The result of the job, the last message."""
UNSUPPORTED: Final = b"U"
"""The bytes cannot be used: ``[message, hint]``, the last message."""
LOCAL: Final = b"L"
"""The output file could not be written: ``[errno, strerror]``, the last message."""
FAILED: Final = b"F"
"""Any other exception: its type and message, the last message."""

MESSAGE: Final = struct.Struct(">cI")

# Parent to child: the length, and the job as JSON or the requested bytes.
DATA: Final = struct.Struct(">I")

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""The longest message of the child that the parent accepts."""

MAX_GET_BYTES: Final = 1024 * 1024
"""The most bytes that the child may request at once."""
