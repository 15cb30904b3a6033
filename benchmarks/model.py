"""What the parent and a client process exchange.

Both travel as JSON through the child's stdin and stdout, so that every sample is taken in a
process that has imported one client and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens, and the key for it.

    ``ca_file`` is the PEM file of the authority that a client must trust, where it is https.
    """

    url: str
    bucket: str
    key_id: str
    secret: str
    region: str = "us-east-1"
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """The options that every client gets alike. Sizes are bytes."""

    part_size: int = 8 * MIB
    concurrency: int = 4
    connections: int = 100


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one workload by one client.

    ``options`` are the client's own (a checksum, say); ``paths`` and ``keys`` are named by the
    workload. ``count`` is how many operations are measured, ``workers`` how many run at once: one
    section per number. ``rate`` is operations per second where arrivals are scheduled (or MiB per
    second of live writers) and ``seconds`` for how long (of small calls: no more
    than that many one by one). ``calls`` leaves some of the workload's
    calls out where it is given. ``count_wire`` says that what crosses the loopback interface
    is this client's alone.
    """

    workload: str
    client: str
    endpoint: Endpoint
    tuning: Tuning = Tuning()
    options: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    size: int = 0
    count: int = 0
    workers: tuple[int, ...] = (1,)
    calls: tuple[str, ...] = ()
    rate: float = 0.0
    seconds: float = 0.0
    count_wire: bool = False
    loop: str = "asyncio"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        raw: dict[str, Any] = json.loads(text)
        raw["endpoint"] = Endpoint(**raw["endpoint"])
        raw["tuning"] = Tuning(**raw["tuning"])
        raw["workers"], raw["calls"] = tuple(raw["workers"]), tuple(raw["calls"])
        return cls(**raw)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured section. Times are seconds, lags milliseconds, memory MiB.

    ``user_s`` and ``system_s`` are those of the client process with all its threads.
    ``preempted`` counts involuntary context switches: many of them mean that the machine was
    busy and the wall time says little. ``extra`` is what only some workloads measure, by the
    names of ``metrics.py``.
    """

    wall_s: float
    user_s: float
    system_s: float
    ops: int
    size: int
    base_rss_mib: float
    peak_rss_mib: float
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    lag_max_ms: float | None
    preempted: int
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that one client process measured.

    ``ready_s`` and ``ready_cpu_s`` cover opening the client and its warm-up, after the import.
    ``process_peak_mib`` is the peak of the whole process, import and warm-up included.
    ``note`` is text for the report.
    """

    import_s: float
    import_cpu_s: float
    ready_s: float
    ready_cpu_s: float
    process_peak_mib: float
    sections: dict[str, Sample]
    note: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Measurement:
        sections = {name: Sample(**one) for name, one in raw["sections"].items()}
        return cls(**{**raw, "sections": sections})
