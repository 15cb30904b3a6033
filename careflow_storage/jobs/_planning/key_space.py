"""The order of keys, and keys between keys.

S3 lists keys in the order of their UTF-8 bytes. That is the order of their code points, which is
how Python compares strings: ``key < other`` is all that is needed.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from careflow_storage.errors import InvalidInputError
from careflow_storage.recordings import validate_key

# The characters that a made key may have, in order: no control characters, no surrogates. In
# blocks, since the characters at one place of many keys are often of one kind.
_BLOCKS = (
    *((0x20, 0x2F), (ord("0"), ord("9")), (0x3A, 0x40), (ord("A"), ord("Z")), (0x5B, 0x60)),
    *((ord("a"), ord("z")), (0x7B, 0x7E)),
    *((0xA1, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFD)),
)
_STARTS = tuple(first for first, _ in _BLOCKS)
_RANKS = (0, *accumulate(last - first + 1 for first, last in _BLOCKS))
_COUNT = _RANKS[-1]


def shared_length(key: str, other: str) -> int:
    """Return how many characters two keys have in common at their beginnings."""
    pairs = enumerate(zip(key, other, strict=False))
    return next((n for n, (one, two) in pairs if one != two), min(len(key), len(other)))


def midpoint(low: str, end: str | None) -> str | None:
    """Return a key that is at least ``low`` and less than ``end``, about halfway between them.

    Halfway is measured where the two first differ, so a common prefix does not matter. If ``end``
    is None, the range is open. A range that begins with a digit and ends beyond the digits is
    expected to hold digits only; the same goes for capital and small letters and for scripts.

    Returns None if there is none without control characters and within 1,024 bytes.
    """
    if end is not None and end <= low:
        return None
    shared = 0 if end is None else shared_length(low, end)
    above = _COUNT if end is None else _rank(end[shared])
    below = _rank(low[shared]) if shared < len(low) else -1
    if above - below > 1:
        return _made(low, low[:shared], _between(below, above), end)
    if end is not None and shared < len(end) - 1:
        # The characters are neighbours. Divide where the second begins.
        return _made(low, end[:shared], above, end)
    for length in range(shared + 1, len(low) + 1):
        below = _rank(low[length]) if length < len(low) else -1
        if below < _COUNT - 1:
            return _made(low, low[:length], _between(below, _COUNT), end)
    return None


def after_prefix(prefix: str) -> str | None:
    """Return a key that follows the keys with this prefix, or None if there is none.

    It is the least one if that is a valid key.
    """
    for length in range(len(prefix), 0, -1):
        rank = _rank(prefix[length - 1])
        if rank < _COUNT - 1:
            return _made(prefix, prefix[: length - 1], rank + 1, None)
    return None


def _rank(character: str) -> int:
    """Return the place of a character among those allowed; of others, that of the one before."""
    code = ord(character)
    block = bisect_right(_STARTS, code) - 1
    if block < 0:
        return -1
    return _RANKS[block] + min(code, _BLOCKS[block][1]) - _STARTS[block]


def _between(below: int, above: int) -> int:
    """Return a rank between two: in the middle of what is left of the block of the first."""
    if below < 0:
        return above // 2 if above <= _RANKS[1] else _RANKS[1] // 2
    block_end = _RANKS[bisect_right(_RANKS, below)] - 1
    if above <= block_end + 1:
        return (below + above) // 2
    return below + 1 if below == block_end else (below + block_end + 1) // 2


def _made(low: str, prefix: str, rank: int, end: str | None) -> str | None:
    block = bisect_right(_RANKS, rank) - 1
    key = prefix + chr(_STARTS[block] + rank - _RANKS[block])
    if key.endswith((".", "..")):
        # Some programs resolve a segment "." or "..".
        key += "0"
    try:
        validate_key(key)
    except InvalidInputError:
        return None
    return key if low <= key and (end is None or key < end) else None
