"""``python -m benchmarks.quick``: the ratios that matter, on one screen, in three minutes.

To judge a change, run it before and after, on a quiet machine. It prints theirs divided by ours,
so more than 1 means that ours needs less. Save a run with ``--json``; ``--against`` that file adds
how ours has changed. The null server shows the client's own costs; SeaweedFS and rclone are real
servers that share the processors with the client.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import metrics
from benchmarks.about import about, summary
from benchmarks.budget import Budget
from benchmarks.metrics import Metric
from benchmarks.model import MIB
from benchmarks.options import default_folder
from benchmarks.places import end_cleanly, say
from benchmarks.plan import WORKLOADS, Group, Place, Scale
from benchmarks.report import number, table, times
from benchmarks.results import Report, Results
from benchmarks.rows import ROWS
from benchmarks.run import run_group
from benchmarks.stats import ratio

SCALE = Scale(
    transfer=128 * MIB,
    operations=1000,
    workers=(64,),
    keys=10_000,
    presign_s=0.2,
    urls=(1, 100),
    rounds=2,
)
_CHOSEN = (
    ("small", Place("null"), ("ours md5 (default)", "obstore", "aiobotocore")),
    ("presign", Place("null"), ("ours", "obstore", "aiobotocore")),
    ("listing", Place("null"), ("ours", "obstore", "aiobotocore")),
    ("upload", Place("null", tls=True), ("ours sha256", "obstore", "aioboto3")),
    ("download", Place("null", tls=True), ("ours, part size unknown", "obstore", "aioboto3")),
    ("small", Place("seaweed"), ("ours md5 (default)", "obstore", "aiobotocore")),
    ("upload", Place("rclone", tls=True), ("ours sha256", "obstore", "aioboto3")),
    ("download", Place("seaweed", tls=True), ("ours, part size unknown", "obstore", "aioboto3")),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the screen: a metric of a section."""

    what: str
    workload: str
    section: str
    metric: Metric
    server: str = "null"


LINES = (
    *(
        Line(f"{call} 64 KiB, 64 at once", "small", f"{call} x64", metrics.CPU_US)
        for call in ("put", "get", "head", "delete")
    ),
    Line("presign, one by one", "presign", "1 URLs", metrics.CPU_US_URL),
    Line("presign, 100 in a call", "presign", "100 URLs", metrics.CPU_US_URL),
    Line("list 10,000 keys", "listing", "flat", metrics.CPU_US_KEY),
    *(
        Line(f"{name} 128 MiB, TLS", name, name, metric)
        for name in ("upload", "download")
        for metric in (metrics.CPU_S, metrics.WALL_S, metrics.PEAK, metrics.LAG_P99)
    ),
    *(
        Line(f"{call} 64 KiB, 64 at once", "small", f"{call} x64", metrics.CPU_US, "seaweed")
        for call in ("put", "get", "head", "delete")
    ),
    *(
        Line(f"{name} 128 MiB, TLS", name, name, metric, server)
        for name, server in (("upload", "rclone"), ("download", "seaweed"))
        for metric in (metrics.CPU_S, metrics.WALL_S, metrics.LAG_P99)
    ),
)


def groups() -> list[Group]:
    found = []
    for name, place, labels in _CHOSEN:
        rows = tuple(row for label in labels for row in ROWS[name] if row.label == label)
        # Few but enough: the first round of a transfer has the page faults of all others.
        workload = replace(WORKLOADS[name], rounds=None)
        found.append(Group(workload, place, rows))
    return found


def _middles(results: Results, line: Line) -> list[float | None]:
    return [results.middle(row.label, line.section, line.metric.pick) for row in results.rows]


def screen(report: Report, before: Report | None = None) -> str:
    """Return the table: ours, then each peer with its ratio to ours."""
    lines: list[list[str]] = []
    for line in LINES:
        results = report.of(line.workload, server=line.server)
        if results is None:
            continue
        ours, obstore, aio = _middles(results, line)
        digits = line.metric.digits
        cells = [line.what, line.server, line.metric.head, number(ours, digits)]
        for theirs in (obstore, aio):
            cells += [number(theirs, digits), times(ratio(theirs, ours))]
        if before is not None:
            old = before.of(line.workload, server=line.server)
            cells.append(times(ratio(ours, _middles(old, line)[0] if old else None)))
        lines.append(cells)
    head = [
        "what",
        "server",
        "metric",
        "ours",
        "obstore",
        "/ ours",
        "aiobotocore, aioboto3",
        "/ ours",
    ]
    return table([*head, "ours / before"] if before is not None else head, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=__doc__)
    parser.add_argument("--rounds", type=int, default=SCALE.rounds)
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--against", type=Path, help="results of an earlier run to compare with")
    chosen = parser.parse_args(arguments)
    end_cleanly()
    scale, begun = replace(SCALE, rounds=chosen.rounds), time.monotonic()
    report, planned = Report(about(scale)), groups()
    budget = Budget(planned, scale, None)
    for group in planned:
        say(group.title)
        report.groups.append(run_group(group, scale, default_folder(), budget))
    before = None
    if chosen.against is not None:
        before = Report.from_json(chosen.against.read_text(encoding="utf-8"))
    print(screen(report, before))
    for results in report.groups:
        for label, reason in results.failures.items():
            print(f"FAILED: {results.name}, {label}: {reason}")
    print(f"{time.monotonic() - begun:.0f} s. {summary(report.about)}")
    if chosen.json is not None:
        report.write(chosen.json)


if __name__ == "__main__":
    main()
