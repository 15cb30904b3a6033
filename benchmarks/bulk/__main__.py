"""``python -m benchmarks.bulk``: copying a bucket to another server, side by side."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.about import about, summary
from benchmarks.bulk.copiers import COPIERS, Copier, Task
from benchmarks.bulk.flips import LOADS, WAYS, flips
from benchmarks.bulk.objects import Load, compare, fill
from benchmarks.bulk.servers import Server, seaweed
from benchmarks.bulk.tree import Cost, run_watched
from benchmarks.model import MIB
from benchmarks.places import end_cleanly, say, work_folder
from benchmarks.plan import FULL
from benchmarks.report import number, table, times
from benchmarks.stats import ratio

_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Run:
    """One copy. ``requests`` are those at both servers, ``again`` says that all was there."""

    load: str
    copier: str
    again: bool
    wall_s: float
    cpu_s: float
    peak_mib: float
    requests: dict[str, int]
    kept: str


def measure(copier: Copier, source: Server, load: Load, folder: Path) -> Iterator[Run]:
    """Copy to a new server, compare, and copy again."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    with seaweed(folder / "target") as target:
        task = Task(source.endpoint, target.endpoint, load, work)
        for again in (False, True):
            before = source.requests() + target.requests()
            costs = [
                run_watched(command.words, command.environment, work, _TIMEOUT_S)
                for command in copier.commands(task)
            ]
            requests = source.requests() + target.requests()
            requests.subtract(before)
            cost = _total(costs)
            kept = asyncio.run(compare(source.endpoint, target.endpoint))
            yield Run(load.title, copier.label, again, *cost, dict(requests), kept)


def _total(costs: Sequence[Cost]) -> tuple[float, float, float]:
    return (
        sum(cost.wall_s for cost in costs),
        sum(cost.cpu_s for cost in costs),
        max(cost.peak_mib for cost in costs),
    )


def render(runs: Sequence[Run]) -> str:
    """Return a table for each load and for copying again. Ratios are to the first line."""
    parts = []
    for load in dict.fromkeys(run.load for run in runs):
        for again in (False, True):
            chosen = [run for run in runs if run.load == load and run.again == again]
            if chosen:
                title = f"{load}, all there already" if again else load
                parts.append(f"## {title}\n\n{_table(chosen)}")
    return "\n\n".join(parts)


def _table(runs: Sequence[Run]) -> str:
    base = runs[0]
    lines = [
        [
            run.copier,
            _rated(run.wall_s, base.wall_s, 1),
            _rated(run.cpu_s, base.cpu_s, 1),
            _rated(run.peak_mib, base.peak_mib, 0),
            _rated(sum(run.requests.values()), sum(base.requests.values()), 0),
            run.kept,
        ]
        for run in runs
    ]
    return table(("", "wall s", "CPU s", "peak MiB", "requests", "kept"), lines)


def _rated(value: float, base: float, digits: int) -> str:
    text = number(value, digits)
    return text if value == base else f"{text} {times(ratio(value, base))}"


def render_flips(results: Sequence[dict[str, str]]) -> str:
    """Return a table of what became of a flipped bit."""
    names = [f"{load.name}, {way}" for load in LOADS for way in WAYS]
    lines = [[result["copier"], *(result[name] for name in names)] for result in results]
    return f"## One bit flipped\n\n{table(('', *names), lines)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    add = parser.add_argument
    add("--small", type=int, default=20_000, help="objects of 4 KiB; 0 for none")
    add("--large", type=int, default=20, help="large objects; 0 for none")
    add("--large-mib", type=int, default=1024, help="the size of each")
    add("--copiers", nargs="+", metavar="WORD", help="those whose label begins so")
    add("--flips", action=argparse.BooleanOptionalAction, default=True, help="flip bits, too")
    add("--json", type=Path, help="write all runs to this file after each")
    add("--read", type=Path, help="show the runs of this file; measure nothing")
    add("--dir", type=Path, default=tempfile.gettempdir(), help="folder for data, a disk")
    return parser.parse_args()


def _chosen(words: Sequence[str] | None) -> list[Copier]:
    return [one for one in COPIERS if words is None or one.label.startswith(tuple(words))]


def main() -> None:
    chosen = _arguments()
    if chosen.read is not None:
        _show(json.loads(chosen.read.read_text(encoding="utf-8")))
        return
    end_cleanly()
    copiers = _chosen(chosen.copiers)
    loads = [
        Load("small", chosen.small, 4096, 64),
        Load("large", chosen.large, chosen.large_mib * MIB, 4),
    ]
    found: dict[str, Any] = {"about": about(FULL), "runs": [], "flips": [], "failures": []}
    with work_folder(chosen.dir) as folder:
        for load in loads:
            if not load.count:
                continue
            with seaweed(folder / "source") as source:
                say(f"{load.title}: filling the source ...")
                asyncio.run(fill(source.endpoint, load, folder))
                for copier in copiers:
                    try:
                        for run in measure(copier, source, load, folder):
                            say(f"  {copier.label}: {run.wall_s:.1f} s, CPU {run.cpu_s:.1f} s")
                            found["runs"].append(asdict(run))
                            _write(found, chosen.json)
                    except RuntimeError as error:
                        found["failures"].append(f"{copier.label}, {load.title}: {error}")
        if chosen.flips:
            say("flipping bits ...")
            found["flips"] = flips(copiers, folder)
            _write(found, chosen.json)
    _show(found)


def _write(found: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + os.linesep, encoding="utf-8")


def _show(found: dict[str, Any]) -> None:
    print(render([Run(**run) for run in found["runs"]]))
    if found["flips"]:
        print(f"\n{render_flips(found['flips'])}")
    for failure in found["failures"]:
        print(f"\nFAILED: {failure}")
    print(f"\n{summary(found['about'])}")


if __name__ == "__main__":
    main()
