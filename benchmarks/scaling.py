"""``python -m benchmarks.scaling``: how costs grow with ten and a hundred times the work.

Operations at once, object size, keys and parts grow by tens, for ours and for obstore, on the
null server. What costs the same for each operation, byte, key or part is a level line.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.about import about, summary
from benchmarks.charts import Chart, Lines, Role, Series, label_of
from benchmarks.children import run_child
from benchmarks.model import MIB, Endpoint, Job, Measurement, Tuning
from benchmarks.options import default_folder
from benchmarks.places import end_cleanly, say, serve, work_folder
from benchmarks.plan import FULL, QUICK, Place
from benchmarks.report import number, table, times
from benchmarks.stats import ratio, spread

CLIENTS = ("ours", "obstore")
_PART = 5 * MIB
_GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Axis:
    """A quantity that grows, and the job for each of its values.

    ``per`` is the unit that the cost is told for; ``units`` how many of them a value has.
    """

    name: str
    title: str
    values: tuple[int, ...]
    job: Callable[[Job, int, Path], Job]
    per: str
    units: Callable[[int, int], float]


@dataclass(frozen=True, slots=True)
class Point:
    """The cost of one value for one client: CPU microseconds a unit, and peak memory."""

    axis: str
    client: str
    section: str
    value: int
    cpu_us: float
    peak_rss_mib: float


def _at_once(job: Job, value: int, _: Path) -> Job:
    tuning = Tuning(connections=max(100, value))
    count = max(1000, 2 * value)
    calls = ("put", "get", "head")
    return replace(
        job, workload="small", size=65536, workers=(value,), count=count, calls=calls, tuning=tuning
    )


def _size(job: Job, value: int, _: Path) -> Job:
    # About a second of work each, and at least a few calls.
    count = max(8, min(1000, 512 * MIB // value))
    return replace(
        job, workload="small", size=value, workers=(4,), count=count, calls=("put", "get")
    )


def _keys(job: Job, value: int, _: Path) -> Job:
    keys = {"prefix": "recordings/", "warm": "recordings/CA0"}
    return replace(job, workload="listing", size=value, keys=keys)


def _parts(job: Job, value: int, folder: Path) -> Job:
    paths = {"main": str(folder / f"{value}-parts"), "warm": str(folder / "warm")}
    for name, size in ((paths["main"], value * _PART), (paths["warm"], 2 * _PART)):
        # Holes cost no memory, and reading them costs everyone the same.
        with open(name, "wb") as file:  # noqa: PTH123 - a name is what the job carries
            file.truncate(size)
    keys = {"main": "up/main.webm", "warm": "up/warm.webm"}
    tuning = Tuning(part_size=_PART)
    return replace(
        job, workload="upload", size=value * _PART, paths=paths, keys=keys, tuning=tuning
    )


AXES = (
    Axis(
        "concurrency",
        "64 KiB objects, so many at once",
        (1, 10, 100, 1000),
        _at_once,
        "operation",
        lambda _, ops: ops,
    ),
    Axis(
        "size",
        "objects of so many bytes, 4 at once",
        (1024, 10_240, 102_400, MIB, 10 * MIB, 100 * MIB),
        _size,
        "operation",
        lambda _, ops: ops,
    ),
    Axis("keys", "keys listed", (1000, 10_000, 100_000), _keys, "key", lambda _, ops: ops),
    Axis("parts", "parts of 5 MiB", (10, 100, 1000), _parts, "part", lambda value, _: value),
)


def measure(axis: Axis, rounds: int, folder: Path, values: Sequence[int]) -> Iterator[Point]:
    """Measure all points of an axis: clients and rounds interleaved, medians kept."""
    for value in values:
        keys = value if axis.name == "keys" else 1000
        with serve(Place("null"), folder, keys) as endpoint:
            job = axis.job(_job(endpoint), value, folder)
            measurements: dict[str, list[Measurement]] = {client: [] for client in CLIENTS}
            for _ in range(rounds):
                for client in CLIENTS:
                    measurements[client].append(run_child(replace(job, client=client)))
        for client in CLIENTS:
            yield from points(axis, client, value, measurements[client])


def _job(endpoint: Endpoint) -> Job:
    return Job("", "", endpoint, keys={"prefix": "recordings/CA0001/"})


def points(
    axis: Axis, client: str, value: int, measurements: Sequence[Measurement]
) -> Iterator[Point]:
    """Yield a point for each measured section."""
    for section in measurements[0].sections:
        samples = [measurement.sections[section] for measurement in measurements]
        cpu = spread([1e6 * one.cpu_s / axis.units(value, one.ops) for one in samples])
        peak = spread([one.peak_rss_mib for one in samples])
        if cpu is not None and peak is not None:
            name = section.partition(" ")[0]
            yield Point(axis.name, client, name, value, cpu.middle, peak.middle)


def render(axis: Axis, found: Sequence[Point]) -> str:
    """Return a line for each value: CPU a unit, growth since the line before, obstore."""
    lines: list[list[str]] = []
    for section in dict.fromkeys(point.section for point in found):
        before: dict[str, float] = {}
        for value in dict.fromkeys(point.value for point in found):
            line = [section, f"{value:,}"]
            costs: dict[str, float] = {}
            for point in found:
                if point.section == section and point.value == value:
                    costs[point.client] = point.cpu_us
                    growth = ratio(point.cpu_us, before.get(point.client))
                    line += [number(point.cpu_us, 2), times(growth)]
                    if axis.name == "size":
                        line.append(number(point.cpu_us / 1e6 * _GIB / value, 2))
                    line.append(number(point.peak_rss_mib, 0))
            before = costs
            line.append(times(ratio(costs.get("obstore"), costs.get("ours"))))
            lines.append(line)
    columns = [f"CPU us/{axis.per}", "growth", "peak RSS MiB"]
    if axis.name == "size":
        columns.insert(2, "CPU s/GiB")
    head = ["call", axis.name, *(f"{client} {one}" for client in CLIENTS for one in columns)]
    return f"## {axis.title}\n\n{table([*head, 'obstore / ours'], lines)}"


def chart(found: Sequence[Point]) -> Chart:
    """Return one panel for each axis that was measured."""
    measured = {axis: [point for point in found if point.axis == axis.name] for axis in AXES}
    return Chart(
        "How costs grow, null server over HTTP",
        "A level line: each costs the same, however many there are.",
        [_lines(axis, points) for axis, points in measured.items() if points],
    )


def _lines(axis: Axis, found: Sequence[Point]) -> Lines:
    series = []
    for section in dict.fromkeys(point.section for point in found):
        for client in CLIENTS:
            chosen = [p for p in found if p.client == client and p.section == section]
            # Two digits more than the noise.
            points = [(point.value, float(f"{point.cpu_us:.4g}")) for point in chosen]
            role: Role = "base" if client == "ours" else "peer"
            series.append(Series(f"{label_of(client)}, {section}", role, points))
    return Lines(f"CPU µs per {axis.per}", axis.title, series)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[axis.name for axis in AXES])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, without the largest")
    parser.add_argument("--json", type=Path, help="write all points to this file")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="write scaling.json")
    chosen = parser.parse_args()
    end_cleanly()
    facts = about(QUICK if chosen.quick else FULL)
    found: list[Point] = []
    for axis in AXES:
        if chosen.only and axis.name not in chosen.only:
            continue
        say(f"{axis.title} ...")
        values = axis.values[:-1] if chosen.quick else axis.values
        with work_folder(default_folder()) as folder:
            rounds = 1 if chosen.quick else chosen.rounds
            mine = list(measure(axis, rounds, folder, values))
        found += mine
        print(f"{render(axis, mine)}\n", flush=True)
    print(summary(facts))
    if chosen.json is not None:
        text = json.dumps({"about": facts, "points": [asdict(point) for point in found]}, indent=1)
        chosen.json.write_text(text + os.linesep, encoding="utf-8")
    if chosen.charts is not None:
        say(f"wrote {chart(found).write(chosen.charts, 'scaling')}")


if __name__ == "__main__":
    main()
