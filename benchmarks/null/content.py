"""The bytes of all objects: one block of noise, repeated."""

from __future__ import annotations

import functools
import hashlib
import random
from typing import Final

BLOCK: Final = 1024 * 1024
CHUNK: Final = 256 * 1024
"""The most bytes that are handed to the transport at once."""

_NOISE: Final = random.Random(1).randbytes(BLOCK)
# A chunk may begin anywhere in the block, and is one slice all the same.
_VIEW: Final = memoryview(_NOISE + _NOISE[:CHUNK])


def piece(position: int, size: int) -> memoryview:
    """Return up to a chunk of an object, from a position on."""
    begin = position % BLOCK
    return _VIEW[begin : begin + size]


def expected(start: int, stop: int) -> bytes:
    """Return the bytes of any object from ``start`` to ``stop``, for comparison."""
    begin = start % BLOCK
    size = stop - start
    return (_NOISE * (size // BLOCK + 2))[begin : begin + size]


@functools.lru_cache(maxsize=4096)
def digest(algorithm: str, size: int) -> bytes:
    """Return the hex digest of an object of this size."""
    made = hashlib.new(algorithm, usedforsecurity=False)
    for position in range(0, size, CHUNK):
        made.update(piece(position, min(CHUNK, size - position)))
    return made.hexdigest().encode()
