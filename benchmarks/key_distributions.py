"""Up to a billion keys in order, computed one by one: nothing is stored.

Each distribution says what its n-th key is. The order of its keys and a binary search say the
rest: which key follows another one, and how many keys a range has.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import overload

KeyOf = Callable[[int, int], str]
"""Returns the n-th key of a total."""

_UUIDS = 1 << 128
_START = datetime(2021, 1, 1, tzinfo=UTC)
_YEARS = timedelta(days=5 * 365)
# Of eight calls, how many recordings each has.
_PER_CALL = tuple(accumulate((1, 1, 2, 1, 3, 1, 1, 6), initial=0))
_SMALL_FOLDERS = 0.01
# Tenants of the world, with their shares in percent.
_TENANTS = {
    "acme": 31, "bäckerei-süß": 9, "klinik-münchen": 17, "zahnarzt": 6, "ĳsselmeer": 2,
    "ζωή": 3, "больница": 11, "عيادة": 3, "भारत": 2, "医院": 7, "病院-東京": 6, "📞-support": 3,
}  # fmt: skip
_NAMES = sorted(_TENANTS)
_SHARES = tuple(accumulate((_TENANTS[name] for name in _NAMES), initial=0))


@dataclass(frozen=True, slots=True)
class Keys(Sequence[str]):
    """All keys of a distribution, in order."""

    key_of: KeyOf
    total: int

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(self.total))]
        if not 0 <= place < self.total:
            raise IndexError(place)
        return self.key_of(place, self.total)

    def up_to(self, key: str | None) -> int:
        """Return how many keys are not behind this one."""
        return 0 if key is None else bisect_right(self, key)


def _flat(n: int, total: int) -> str:
    return f"{n:010d}.wav"


def _per_call_folders(n: int, total: int) -> str:
    eights, rest = divmod(n, _PER_CALL[-1])
    call = bisect_right(_PER_CALL, rest) - 1
    calls = total // _PER_CALL[-1] * 8 + 8
    stored = int(_START.timestamp() * 1000) + _milliseconds(n, total)
    return f"recordings/CA{_random(eights * 8 + call, calls):032x}/{stored + rest}-a.webm"


def _giant_folder(n: int, total: int) -> str:
    small = int(total * _SMALL_FOLDERS)
    before = small // 3
    if before <= n < total - (small - before):
        return f"recordings/CA4c0ffee0/{n - before:012d}.webm"
    call = n if n < before else n - (total - small)
    # Calls before and behind the giant one: 3... and 5...
    return f"recordings/CA{3 if n < before else 5}{call:09x}/a.webm"


def _random_uuids(n: int, total: int) -> str:
    digits = f"{_random(n, total):032x}"
    return "recordings/" + "-".join(
        (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    )


def _time_ordered(n: int, total: int) -> str:
    stored = _START + timedelta(milliseconds=_milliseconds(n, total))
    return f"recordings/{stored:%Y/%m/%d/%H%M%S}-{n:010d}.webm"


def _unicode(n: int, total: int) -> str:
    tenant = bisect_right(_SHARES, n * 100 // total) - 1
    return f"{_NAMES[tenant]}/Gespräche/{n:010d}-通話.webm"


def _random(n: int, total: int) -> int:
    """Return the n-th of random numbers of 128 bits in order: one at random in each stride."""
    stride = _UUIDS // total
    return n * stride + (n * 0x9E3779B97F4A7C15F39CC0605CEDC835) % stride


def _milliseconds(n: int, total: int) -> int:
    """Return when the n-th recording was made, if the traffic has grown since the first."""
    return int((_YEARS / timedelta(milliseconds=1)) * (n / total) ** 0.5)


DISTRIBUTIONS: dict[str, KeyOf] = {
    "flat": _flat,
    "per-call folders": _per_call_folders,
    "one giant folder": _giant_folder,
    "random UUIDs": _random_uuids,
    "time-ordered": _time_ordered,
    "Unicode": _unicode,
}
