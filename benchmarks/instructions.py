"""``python -m benchmarks.instructions``: machine instructions of the hot calls, under valgrind.

Time on a shared machine is noise; instructions hardly vary. A call is made N times and then 2N
times in one process, and what the second run needed more, divided by N, is what one call needs:
start-up and whatever else is done once are in neither. The server is the null server, in a
process of its own, which is not counted.

::

    python -m benchmarks.instructions              # measure and record
    python -m benchmarks.instructions --check      # compare with what is recorded
    python -m benchmarks.instructions --check --fail-above 3
    python -m benchmarks.instructions --hooks silent    # compare, with hooks
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.about import versions
from benchmarks.children import ROOT
from benchmarks.hot_calls import CALLS, HOOKS
from benchmarks.model import Endpoint
from benchmarks.places import end_cleanly, serve, work_folder
from benchmarks.plan import Place
from benchmarks.report import number, table

RECORDED = Path(__file__).with_name("instructions.json")
_TIMEOUT_S = 900
# A function of CPython that nothing else calls: when it is entered, valgrind writes what was
# counted since the time before.
_MARK = "gc_get_threshold*"
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def _command(valgrind: str, output: Path, hooks: str) -> list[str]:
    return [
        *(valgrind, "--tool=callgrind", f"--dump-before={_MARK}"),
        *(f"--callgrind-out-file={output}", sys.executable, "-m", "benchmarks.hot_calls", hooks),
    ]


def count(valgrind: str, endpoint: Endpoint, folder: Path, hooks: str) -> dict[str, float]:
    """Return the instructions of one call of each kind."""
    done = subprocess.run(
        _command(valgrind, folder / "callgrind", hooks),
        input=json.dumps(asdict(endpoint)),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=_TIMEOUT_S,
        # Sets of text are walked in the same order each time, and no file is compiled.
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode != 0:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr[-2000:]}")
    return per_call(json.loads(done.stdout.splitlines()[-1]), _dumps(folder))


def _dumps(folder: Path) -> list[int]:
    """Return the counts between the marks, in order. The last file holds the end."""
    counts = []
    for place in range(1, 10_000):
        path = folder / f"callgrind.{place}"
        if not path.exists():
            break
        found = _TOTALS.search(path.read_text(encoding="utf-8", errors="replace"))
        if found is None:
            raise RuntimeError(f"{path.name} holds no total")
        counts.append(int(found[1]))
    return counts


def per_call(runs: Mapping[str, int], counts: Sequence[int]) -> dict[str, float]:
    """Divide the counts between the marks: one before the first call, then two a call and a gap.

    Args:
        runs: How many calls of each kind the shorter run made, in order.
        counts: start-up, short run, long run, what lies between, short run, ...
    """
    if len(counts) != 3 * len(runs):
        raise RuntimeError(f"{len(counts)} counts for {len(runs)} calls")
    found = {}
    for index, (name, calls) in enumerate(runs.items()):
        _, short, long = counts[3 * index : 3 * index + 3]
        found[name] = (long - short) / calls
    return found


def change(now: float, before: float | None) -> float | None:
    """Return by how many percent it rose."""
    return None if not before else 100 * (now - before) / before


def render(
    now: Mapping[str, float], before: Mapping[str, float], spread: Mapping[str, float]
) -> str:
    lines = []
    for name, value in now.items():
        old = before.get(name)
        percent = change(value, old)
        lines.append(
            [
                name,
                number(value, 0),
                number(old, 0),
                "-" if percent is None else f"{percent:+.2f}%",
                f"{spread.get(name, 0.0):.2f}%",
            ]
        )
    return table(("call", "instructions", "recorded", "change", "between runs"), lines)


def least_and_spread(
    runs: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the least of each, from the least disturbed run, and the percent between runs."""
    least = {name: min(run[name] for run in runs) for name in runs[0]}
    apart = {
        name: 100 * (max(run[name] for run in runs) - value) / value
        for name, value in least.items()
    }
    return least, apart


def _measure(valgrind: str, times: int, hooks: str) -> tuple[dict[str, float], dict[str, float]]:
    runs = []
    with (
        work_folder(Path(tempfile.gettempdir())) as folder,
        serve(Place("null"), folder) as endpoint,
    ):
        for turn in range(times):
            output = folder / str(turn)
            output.mkdir()
            runs.append(count(valgrind, endpoint, output, hooks))
            shutil.rmtree(output)
    return least_and_spread(runs)


def _recorded() -> dict[str, float]:
    if not RECORDED.exists():
        return {}
    found: dict[str, float] = json.loads(RECORDED.read_text(encoding="utf-8"))["instructions"]
    return found


def _record(now: Mapping[str, float], apart: Mapping[str, float]) -> None:
    facts = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": versions(("careflow-storage", "aiohttp", "pydantic")),
        "instructions": {name: round(value) for name, value in now.items()},
        "percent_between_runs": {name: round(value, 2) for name, value in apart.items()},
    }
    RECORDED.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, do not record")
    parser.add_argument("--fail-above", type=float, metavar="PERCENT", help="then exit with 1")
    parser.add_argument("--runs", type=int, default=2, help="the least of so many runs counts")
    parser.add_argument("--hooks", choices=HOOKS, default="none", help="any but none compares")
    chosen = parser.parse_args(arguments)
    end_cleanly()
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("valgrind is not installed, so no instructions are counted.")
        return 0
    now, apart = _measure(valgrind, chosen.runs, chosen.hooks)
    before = _recorded()
    print(render(now, before, apart))
    print(f"{len(CALLS)} calls, Python {platform.python_version()}, {platform.machine()}.")
    if not chosen.check and chosen.hooks == "none":
        _record(now, apart)
        return 0
    if chosen.fail_above is None:
        return 0
    grown = [
        name
        for name, value in now.items()
        if (change(value, before.get(name)) or 0) > chosen.fail_above
    ]
    if grown:
        print(f"More than {chosen.fail_above:g}% above what is recorded: {', '.join(grown)}.")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
