"""Files to upload."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.model import MIB


def random_file(path: Path, size: int) -> Path:
    """Fill a file with random bytes that repeat with a period that divides no part size."""
    block = os.urandom(4 * MIB + 4099)
    with path.open("wb") as file:
        left = size
        while left > 0:
            left -= file.write(block[:left])
    return path
