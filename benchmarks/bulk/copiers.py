"""The programs that copy a bucket."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.bulk.objects import Load, env_file
from benchmarks.clients.processes import executable
from benchmarks.model import Endpoint

_PART_MIB = 8
_PARTS = 4


@dataclass(frozen=True, slots=True)
class Task:
    """What is copied where. ``folder`` is empty at first, and kept for the second time."""

    source: Endpoint
    target: Endpoint
    load: Load
    folder: Path


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments and what it gets in its environment."""

    words: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copier:
    """One line of the table. ``commands`` run one after the other."""

    label: str
    commands: Callable[[Task], list[Command]]


def _ours(*engine: str) -> Callable[[Task], list[Command]]:
    def commands(task: Task) -> list[Command]:
        old = env_file(task.source, task.folder / "old.env")
        new = env_file(task.target, task.folder / "new.env")
        words = (
            *(executable("careflow-storage"), "jobs", "copy", "--json"),
            *("--from-env", str(old), "--to-env", str(new), "--prefix", "recordings/", *engine),
        )
        return [Command(words)]

    return commands


def _rclone(task: Task) -> list[Command]:
    environment = {"RCLONE_CONFIG": "/dev/null"}
    for name, endpoint in (("OLD", task.source), ("NEW", task.target)):
        fields = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": endpoint.url,
            "REGION": endpoint.region,
            "ACCESS_KEY_ID": endpoint.key_id,
            "SECRET_ACCESS_KEY": endpoint.secret,
            "FORCE_PATH_STYLE": "true",
        }
        environment |= {f"RCLONE_CONFIG_{name}_{field}": value for field, value in fields.items()}
    at_once = str(task.load.at_once)
    words = (
        *(executable("rclone"), "copy", "--checksum", "--metadata", "--fast-list"),
        *("--transfers", at_once, "--checkers", at_once),
        *("--s3-chunk-size", f"{_PART_MIB}M", "--s3-upload-cutoff", f"{_PART_MIB}M"),
        *("--s3-upload-concurrency", str(_PARTS), "--s3-no-check-bucket"),
        *(f"OLD:{task.source.bucket}/recordings", f"NEW:{task.target.bucket}/recordings"),
    )
    return [Command(words, environment)]


def _s5cmd(task: Task) -> list[Command]:
    """It speaks to one endpoint at a time, so everything goes through a folder."""
    folder = task.folder / "between"
    folder.mkdir(exist_ok=True)

    def command(endpoint: Endpoint, *places: str) -> Command:
        words = (
            *(executable("s5cmd"), "--endpoint-url", endpoint.url, "--log", "error"),
            # Each of its workers moves one part.
            *("--numworkers", str(task.load.at_once * (_PARTS if task.load.in_parts else 1))),
            *("sync", "--part-size", str(_PART_MIB), "--concurrency", str(_PARTS), *places),
        )
        environment = {
            "AWS_ACCESS_KEY_ID": endpoint.key_id,
            "AWS_SECRET_ACCESS_KEY": endpoint.secret,
            "AWS_REGION": endpoint.region,
        }
        return Command(words, environment)

    return [
        command(task.source, f"s3://{task.source.bucket}/recordings/*", f"{folder}/"),
        command(task.target, f"{folder}/", f"s3://{task.target.bucket}/recordings/"),
    ]


def _aioboto3(task: Task) -> list[Command]:
    given = {
        "source": asdict(task.source),
        "target": asdict(task.target),
        "at_once": task.load.at_once,
    }
    words = (sys.executable, "-m", "benchmarks.bulk.gather", json.dumps(given))
    # The program runs in another folder.
    return [Command(words, {"PYTHONPATH": str(Path(__file__).parents[2])})]


COPIERS = (
    Copier("ours, 1 process", _ours()),
    Copier("ours, Dask 1 worker", _ours("--workers", "1")),
    Copier("ours, Dask 2 workers", _ours("--workers", "2")),
    Copier("rclone copy --checksum", _rclone),
    Copier("s5cmd sync, through a folder", _s5cmd),
    Copier("aioboto3, gather", _aioboto3),
)
