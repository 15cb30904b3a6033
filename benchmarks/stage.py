"""What happens around the measured processes: files, objects, checks, cleaning up."""

from __future__ import annotations

import filecmp
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import obstore

from benchmarks.clients.obstore_client import open_store
from benchmarks.files import random_file
from benchmarks.model import MIB, Answer, Endpoint, Job
from benchmarks.plan import Group, Row, Scale

_NEUTRAL_PART = 10 * MIB
_ROOT = Path(__file__).resolve().parent.parent


def run_child(job: Job) -> Answer:
    """Measure a job in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child"],
        input=job.to_json(),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=_ROOT,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{job.client} failed in {job.workload}: exit {done.returncode}")
    return Answer.from_json(done.stdout.splitlines()[-1])


class Stage:
    """One workload on its server: ``prepare`` once, then ``play`` each row as often as wanted."""

    def __init__(
        self, group: Group, scale: Scale, folder: Path, endpoint: Endpoint, loop: str
    ) -> None:
        self._group = group
        self._scale = scale
        self._folder = folder
        self._loop = loop
        self._endpoint = endpoint
        self._store = open_store(endpoint)
        self._checked: set[str] = set()
        preparations: dict[str, Callable[[], None]] = {
            "upload": self._files,
            "download": self._files_and_objects,
            "listing": self._many_keys,
        }
        preparations.get(group.name, lambda: None)()

    def play(self, row: Row) -> Answer:
        """Run the row once, check what it did, and remove what it made."""
        try:
            answer = run_child(self._job(row))
            if row.label not in self._checked:
                self._check(row)
                self._checked.add(row.label)
        finally:
            self._clean()
        return answer

    def _job(self, row: Row) -> Job:
        scale, name = self._scale, self._group.name
        job = Job(name, row.client, self._endpoint, options=row.options, loop=self._loop)
        match name:
            case "upload":
                paths = {"main": str(self._folder / "main"), "warm": str(self._folder / "warm")}
                keys = {"main": "up/main.webm", "warm": "up/warm.webm"}
                return replace(job, size=scale.transfer, paths=paths, keys=keys)
            case "download":
                paths = {"main": str(self._folder / "got"), "warm": str(self._folder / "got-warm")}
                keys = {part: f"{row.source}/{part}.webm" for part in ("main", "warm")}
                return replace(job, size=scale.transfer, paths=paths, keys=keys)
            case "small":
                return replace(
                    job,
                    size=scale.small,
                    count=scale.operations,
                    workers=scale.workers,
                    keys={"prefix": "recordings/CA0001/"},
                )
            case "listing":
                return replace(
                    job, size=scale.keys, count=scale.listings, keys={"prefix": "recordings/"}
                )
            case _:
                return replace(job, count=scale.presign_ms)

    def _files(self) -> None:
        # In a virtual machine the first touch of a page is dear, and whoever writes first would
        # pay for it: so touch as much as the files and the server will need.
        random_file(self._folder / "touched", 3 * self._scale.transfer).unlink()
        random_file(self._folder / "main", self._scale.transfer)
        random_file(self._folder / "warm", self._scale.warm)

    def _files_and_objects(self) -> None:
        """Upload what is downloaded: by a neutral client, and by ours where a row asks."""
        self._files()
        paths = {part: self._folder / part for part in ("main", "warm")}
        for part, path in paths.items():
            obstore.put(self._store, f"neutral/{part}.webm", path, chunk_size=_NEUTRAL_PART)
        if any(row.source == "ours" for row in self._group.rows):
            keys = {part: f"ours/{part}.webm" for part in paths}
            names = {part: str(path) for part, path in paths.items()}
            run_child(Job("upload", "ours", self._endpoint, paths=names, keys=keys))

    def _many_keys(self) -> None:
        for number in range(self._scale.keys):
            name = f"recordings/CA{number % 50:032x}/{1_700_000_000_000 + number}-call.webm"
            obstore.put(self._store, name, b"recording")

    def _check(self, row: Row) -> None:
        """The bytes that arrived are the bytes that were sent. Once per row is enough."""
        if self._group.name == "upload":
            size = obstore.head(self._store, "up/main.webm")["size"]
            stored = self._folder / "rclone" / self._endpoint.bucket / "up" / "main.webm"
            same = filecmp.cmp(stored, self._folder / "main", shallow=False)
            if size != self._scale.transfer or not same:
                raise RuntimeError(f"{row.label} stored other bytes than it was given")
        if self._group.name == "download" and not filecmp.cmp(
            self._folder / "got", self._folder / "main", shallow=False
        ):
            raise RuntimeError(f"{row.label} wrote other bytes than are stored")

    def _clean(self) -> None:
        if self._group.name == "upload":
            for key in ("up/main.webm", "up/warm.webm"):
                obstore.delete(self._store, key)
        (self._folder / "got").unlink(missing_ok=True)
        (self._folder / "got-warm").unlink(missing_ok=True)
