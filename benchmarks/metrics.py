"""The columns of the tables. Of every compared metric, less is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.model import MIB, Sample
from benchmarks.results import Pick


@dataclass(frozen=True, slots=True)
class Metric:
    """A column. ``rated`` columns carry the ratio to ours; ``charted`` ones are drawn."""

    head: str
    digits: int
    pick: Pick
    rated: bool = True
    charted: bool = False


def _extra(name: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample.extra.get(name)


def _per_op(value: Callable[[Sample], float | None], factor: float) -> Pick:
    def pick(sample: Sample) -> float | None:
        found = value(sample)
        return None if found is None or not sample.ops else factor * found / sample.ops

    return pick


def _cpu(sample: Sample) -> float:
    return sample.cpu_s


def _wire_mib(sample: Sample) -> float | None:
    moved = sample.extra.get("wire_bytes")
    return None if moved is None else moved / MIB


def _rate(sample: Sample) -> float:
    return sample.ops / sample.wall_s


CPU_S = Metric("CPU s", 2, _cpu, charted=True)
SYSTEM_S = Metric("of it system", 2, lambda sample: sample.system_s, rated=False)
WALL_S = Metric("wall s", 2, lambda sample: sample.wall_s, charted=True)
PEAK = Metric("peak RSS MiB", 0, lambda sample: sample.peak_rss_mib, charted=True)
LAG_P50 = Metric("lag p50 ms", 1, lambda sample: sample.lag_p50_ms, rated=False)
LAG_P99 = Metric("lag p99 ms", 1, lambda sample: sample.lag_p99_ms, charted=True)
LAG_MAX = Metric("lag max ms", 0, lambda sample: sample.lag_max_ms)
# Whoever uploads more beside the requests needs more, so this is not compared.
CPU_BESIDE = Metric("CPU s", 2, _cpu, rated=False)
CPU_US = Metric("CPU us/op", 0, _per_op(_cpu, 1e6), charted=True)
CPU_US_URL = Metric("CPU us/URL", 1, _per_op(_cpu, 1e6), charted=True)
CPU_US_KEY = Metric("CPU us/key", 2, _per_op(_cpu, 1e6), charted=True)
WALL_MS = Metric("wall ms", 0, lambda sample: 1000 * sample.wall_s, charted=True)
CPU_MS = Metric("CPU ms", 0, lambda sample: 1000 * sample.cpu_s, charted=True)
OPS = Metric("ops/s", 0, _rate, rated=False)
WIRE_MIB = Metric("wire MiB", 0, _wire_mib, rated=False)
WIRE_OP = Metric("wire B/op", 0, _per_op(_extra("wire_bytes"), 1.0), rated=False)
SMALL_P50 = Metric("small p50 ms", 1, _extra("small_p50_ms"))
SMALL_P99 = Metric("small p99 ms", 1, _extra("small_p99_ms"), charted=True)
SMALL_MAX = Metric("small max ms", 0, _extra("small_max_ms"), charted=True)
UPLOAD_P99 = Metric("2 MiB p99 ms", 0, _extra("upload_p99_ms"))
BESIDE = Metric("beside MiB", 0, _extra("beside_mib"), rated=False)
PLATEAU = Metric("plateau MiB", 1, _extra("plateau_mib"))
GROWN = Metric("grown MiB", 1, _extra("grown_mib"), rated=False, charted=True)
LEAKS = Metric("leaks", 0, _extra("leaks"), rated=False)
MODULES = Metric("modules", 0, _extra("modules"), rated=False)

_TRANSFER = (CPU_S, SYSTEM_S, WALL_S, PEAK, LAG_P50, LAG_P99, LAG_MAX, WIRE_MIB)

METRICS: dict[str, tuple[Metric, ...]] = {
    "upload": _TRANSFER,
    "download": _TRANSFER,
    "stream": _TRANSFER,
    "small": (CPU_US, OPS, LAG_P50, LAG_P99, LAG_MAX, PEAK, WIRE_OP),
    "listing": (CPU_US_KEY, WALL_S, LAG_P50, LAG_P99, LAG_MAX, PEAK),
    "presign": (CPU_US_URL, OPS, LAG_P99, LAG_MAX, PEAK),
    "web": (
        SMALL_P50,
        SMALL_P99,
        SMALL_MAX,
        UPLOAD_P99,
        PEAK,
        LAG_P99,
        LAG_MAX,
        BESIDE,
        CPU_BESIDE,
    ),
    "serve": (CPU_S, SYSTEM_S, WALL_S, PEAK, LAG_P50, LAG_P99, LAG_MAX),
    "live": (CPU_S, PEAK, LAG_P50, LAG_P99, LAG_MAX, WALL_S),
    "cold": (WALL_MS, CPU_MS, PEAK),
    "import": (WALL_MS, CPU_MS, PEAK, MODULES),
    "soak": (PLATEAU, GROWN, LEAKS, CPU_US),
}
"""The columns of each workload's tables, the most telling first."""
