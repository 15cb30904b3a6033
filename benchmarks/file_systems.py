"""``python -m benchmarks.file_systems``: the file system of fsspec for this package, beside s3fs.

Each measurement is a process of its own, and the two take turns, on SeaweedFS. s3fs verifies what
it uploads by a SHA-256 in the signature, and nothing that it reads; this package sends the MD5, and
compares it when it reads a whole object in one call. CPU is that of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.about import about, summary
from benchmarks.model import MIB, Endpoint
from benchmarks.options import default_folder
from benchmarks.places import end_cleanly, say, serve, work_folder
from benchmarks.plan import FULL, Place
from benchmarks.report import number, table

_ROOT = Path(__file__).resolve().parent.parent
_KINDS = ("ours", "s3fs")
_BLOCK = 8 * MIB


class Workloads:
    """What is measured; each method is one measurement."""

    def __init__(self, fs: Any, base: str, sizes: dict[str, int], folder: str) -> None:
        self._fs = fs
        self._base = base
        self._sizes = sizes
        self._folder = Path(folder)

    def prepare(self) -> None:
        """Store the files that both read."""
        for first in range(0, self._sizes["listed"], 1000):
            last = min(first + 1000, self._sizes["listed"])
            self._fs.pipe({f"{self._base}listed/{n:06}": b"" for n in range(first, last)})
        small = range(self._sizes["small"])
        self._fs.pipe({f"{self._base}small/{n:06}": bytes(4096) for n in small})
        self._write("big")

    def _write(self, name: str) -> None:
        block = random.Random(1).randbytes(_BLOCK)
        with self._fs.open(self._base + name, "wb") as file:
            for _ in range(self._sizes["big_blocks"]):
                file.write(block)

    def ls(self) -> None:
        found = self._fs.ls(f"{self._base}listed", refresh=True)
        assert len(found) == self._sizes["listed"]

    def cat(self) -> None:
        names = [f"{self._base}small/{n:06}" for n in range(self._sizes["small"])]
        assert len(self._fs.cat(names)) == self._sizes["small"]

    def pipe(self) -> None:
        small = range(self._sizes["small"])
        self._fs.pipe({f"{self._base}piped/{n:06}": bytes(4096) for n in small})

    def write(self) -> None:
        self._write("written")

    def read(self) -> None:
        size = 0
        with self._fs.open(f"{self._base}big", "rb") as file:
            while block := file.read(_BLOCK):
                size += len(block)
        assert size == self._sizes["big_blocks"] * _BLOCK

    def get(self) -> None:
        target = self._folder / "got"
        self._fs.get_file(f"{self._base}big", str(target))
        assert target.stat().st_size == self._sizes["big_blocks"] * _BLOCK
        target.unlink()

    def scattered(self) -> None:
        """Read 64 KiB at random places, as readers of parquet do."""
        positions = random.Random(2)
        last = self._sizes["big_blocks"] * _BLOCK - 65536
        with self._fs.open(f"{self._base}big", "rb", cache_type="none") as file:
            for _ in range(self._sizes["reads"]):
                file.seek(positions.randrange(last))
                assert len(file.read(65536)) == 65536


MEASURED: dict[str, Callable[[Workloads], None]] = {
    "ls of {listed} files": Workloads.ls,
    "cat of {small} files of 4 KiB": Workloads.cat,
    "pipe of {small} files of 4 KiB": Workloads.pipe,
    "write of {big} MiB": Workloads.write,
    "read of {big} MiB": Workloads.read,
    "get_file of {big} MiB": Workloads.get,
    "{reads} scattered reads of 64 KiB": Workloads.scattered,
}


def file_system(kind: str, endpoint: Endpoint) -> tuple[Any, str]:
    """Return the file system, and what its paths begin with."""
    import fsspec

    if kind == "ours":
        os.environ["BACKBLAZE_KEY_ID"] = endpoint.key_id
        os.environ["BACKBLAZE_APPLICATION_KEY"] = endpoint.secret
        os.environ["BACKBLAZE_ENDPOINT"] = endpoint.url
        os.environ["BACKBLAZE_BUCKET_NAME"] = endpoint.bucket
        return fsspec.filesystem("careflow"), ""
    fs = fsspec.filesystem(
        "s3", key=endpoint.key_id, secret=endpoint.secret, endpoint_url=endpoint.url
    )
    return fs, f"{endpoint.bucket}/"


def child(job: dict[str, Any]) -> dict[str, float]:
    """Run one workload; return what it took."""
    fs, base = file_system(job["kind"], Endpoint(**job["endpoint"]))
    workloads = Workloads(fs, base, job["sizes"], job["folder"])
    if job["name"] == "prepare":
        workloads.prepare()
        return {}
    fs.exists(f"{base}warm")  # imports and the first connection are not measured
    begun, cpu = time.perf_counter(), time.process_time()
    MEASURED[job["name"]](workloads)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "wall": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "peak": peak,
    }


def run(job: dict[str, Any]) -> dict[str, float]:
    """Run `child` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.file_systems", "--child", json.dumps(job)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{job['kind']} {job['name']} failed: {done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def compare(
    endpoint: Endpoint, folder: Path, sizes: dict[str, int], rounds: int
) -> list[list[str]]:
    """Measure every workload with both; return the lines of a table."""
    common = {"endpoint": asdict(endpoint), "sizes": sizes, "folder": str(folder)}
    say("storing the files ...")
    run({**common, "kind": "ours", "name": "prepare"})
    lines = []
    for name in MEASURED:
        shown = name.format(**sizes, big=sizes["big_blocks"] * _BLOCK // MIB)
        say(f"{shown} ...")
        samples: dict[str, list[dict[str, float]]] = {kind: [] for kind in _KINDS}
        for _ in range(rounds):
            for kind in _KINDS:
                samples[kind].append(run({**common, "kind": kind, "name": name}))
        line = [shown]
        for value in ("wall", "cpu", "peak"):
            ours, other = (
                statistics.median(sample[value] for sample in samples[kind]) for kind in _KINDS
            )
            digits = 0 if value == "peak" else 2
            line += [number(ours, digits), number(other, digits)]
            if value != "peak":
                line.append(f"{ours / other:.2f}x")
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.file_systems", description=__doc__)
    parser.add_argument("--listed", type=int, default=10_000, help="files in the listed directory")
    parser.add_argument("--small", type=int, default=1000, help="files of 4 KiB")
    parser.add_argument("--megabytes", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--reads", type=int, default=300, help="scattered reads")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child is not None:
        print(json.dumps(child(chosen.child)))
        return
    end_cleanly()
    sizes = {
        "listed": chosen.listed,
        "small": chosen.small,
        "reads": chosen.reads,
        "big_blocks": max(1, chosen.megabytes * MIB // _BLOCK),
    }
    head = ["", "wall s", "s3fs", "ratio", "CPU s", "s3fs", "ratio", "peak MiB", "s3fs"]
    with work_folder(default_folder()) as folder, serve(Place("seaweed"), folder) as endpoint:
        print(table(head, compare(endpoint, folder, sizes, chosen.rounds)))
    print(summary(about(FULL)))


if __name__ == "__main__":
    main()
