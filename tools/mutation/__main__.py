"""Change the core a little, run the tests, and list the changes that no test notices.

Changes are drawn at random, evenly from every room and every kind. Each is made in a copy of the
tracked files, so the working tree stays as it is. The fast tests that execute the changed line
must notice it; one run of all of them, which is recorded, finds out which these are.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from tools.mutation.changes import KINDS, Change, changes_of
from tools.mutation.tests_of_lines import PACKAGE, PYTEST, TestsOfLines, environment, record_tests

ROOT = Path(__file__).parents[2]
# The tests of faults and of cancellation exercise every room.
ROOMS = {
    "_http": ("tests/http", "tests/s3", "tests/reliability"),
    "_s3": ("tests/s3", "tests/http", "tests/reliability"),
    "_transfer": ("tests/transfer", "tests/reliability"),
    "outbox": ("tests/outbox", "tests/reliability"),
}
AIM = 0.9
_MOST_SECONDS = 300

# "unclear": the run ended without a verdict, since pytest was stopped or found no test.
Outcome = Literal["noticed", "hung", "SURVIVED", "unclear"]
_OUTCOMES: dict[int, Outcome] = {0: "SURVIVED", 1: "noticed"}


def main() -> int:
    """Return 1 if the tests notice too few changes."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder).resolve()
        _copy_tracked(tree)
        record = options.record or tree / "record"
        if not record.exists():
            record_tests(tree, sorted({each for every in ROOMS.values() for each in every}), record)
        tests = TestsOfLines(record)
        outcomes = {}
        for change in _draw(tree, options):
            outcomes[change] = _try(tree, change, tests)
            print(f"{outcomes[change]:9}{_text(change)}", flush=True)
    return _report(outcomes)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument(
        "paths", nargs="*", default=list(ROOMS), help=f"files and folders in {PACKAGE}/"
    )
    parser.add_argument("--changes", type=int, default=80, help="how many to try (default: 80)")
    parser.add_argument("--seed", type=int, default=1, help="selects the changes (default: 1)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--match", default="", help="only lines that contain this text")
    parser.add_argument(
        "--record",
        type=Path,
        help="the file of the record; if it exists, the first run of the tests is skipped",
    )
    return parser.parse_args()


def _copy_tracked(tree: Path) -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)


def _draw(tree: Path, options: argparse.Namespace) -> Iterator[Change]:
    """Yield the changes, one of each room and kind in turn."""
    draw = random.Random(options.seed)  # noqa: S311 - to repeat a run, not to keep a secret
    groups: dict[tuple[str, str], list[Change]] = {}
    for file in _files(tree, options.paths):
        path = file.relative_to(tree).as_posix()
        source = file.read_bytes()
        lines = source.decode().splitlines()
        for change in changes_of(path, source):
            if change.kind in options.kinds and options.match in lines[change.line - 1]:
                groups.setdefault((path.split("/")[1], change.kind), []).append(change)
    for group in groups.values():
        draw.shuffle(group)
    left = options.changes
    while left > 0 and any(groups.values()):
        for group in draw.sample(list(groups.values()), len(groups)):
            if group and left > 0:
                left -= 1
                yield group.pop()


def _files(tree: Path, paths: Iterable[str]) -> Iterator[Path]:
    for name in paths:
        path = tree / PACKAGE / name
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def _try(tree: Path, change: Change, tests: TestsOfLines) -> Outcome:
    """Run the tests of the changed line; if no test executes it, run those of its room."""
    file = tree / change.path
    source = file.read_bytes()
    names = tests.of(change.path, change.line) or ROOMS[change.path.split("/")[1]]
    arguments = tree / "arguments"
    arguments.write_text("\n".join(names), encoding="utf-8")
    try:
        file.write_bytes(change.apply(source))
        # Where a module cannot be imported, pytest ends as it does without any test.
        if _run([sys.executable, "-c", f"import {_module(change.path)}"], tree) == "noticed":
            return "noticed"
        return _run([*PYTEST, "-x", f"@{arguments}"], tree)
    finally:
        file.write_bytes(source)


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _run(command: list[str], tree: Path) -> Outcome:
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment(tree),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return _OUTCOMES.get(process.wait(_MOST_SECONDS), "unclear")
    except subprocess.TimeoutExpired:
        return "hung"
    finally:
        # The workers and servers that the tests started, too.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _text(change: Change) -> str:
    source = (ROOT / change.path).read_bytes()
    before = " ".join(source[change.start : change.end].decode().split())
    return f"{change.path}:{change.line}  {before}  ->  {change.replacement}"


def _report(outcomes: dict[Change, Outcome]) -> int:
    for room in sorted({change.path.split("/")[1] for change in outcomes}):
        found = [outcome for change, outcome in outcomes.items() if f"/{room}/" in change.path]
        print(f"{room}: {_noticed(found)} of {len(found)} changes noticed")
    share = _noticed(outcomes.values()) / max(1, len(outcomes))
    print(f"Together: {share:.0%}; the aim is {AIM:.0%}.")
    return int(share < AIM)


def _noticed(outcomes: Iterable[Outcome]) -> int:
    """Count the changes that made a test fail or hang."""
    return sum(outcome in ("noticed", "hung") for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
