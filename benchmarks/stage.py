"""Prepare and clean up around the measured processes: files, objects, checks."""

from __future__ import annotations

import asyncio
import filecmp
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import obstore

from benchmarks.children import run_child
from benchmarks.clients.obstore_client import open_store
from benchmarks.files import random_file
from benchmarks.model import MIB, Endpoint, Job, Measurement, Tuning
from benchmarks.null.content import expected
from benchmarks.plan import Group, Scale
from benchmarks.rows import Row

PER_FOLDER = 50
_NEUTRAL_PART = 10 * MIB
_FIRST_BYTE = 1024
_AT_ONCE = 32
_ONE_BY_ONE_S = 4.0
# A stream hardly ever ends where a part does, and some clients fail where it does.
_UNEVEN = 4099


class Stage:
    """One workload on its server; `play` runs a row, any number of times."""

    def __init__(
        self,
        group: Group,
        scale: Scale,
        folder: Path,
        endpoint: Endpoint,
        pythons: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._group = group
        self._scale = scale
        self._folder = folder
        self._endpoint = endpoint
        self._store = open_store(endpoint)
        self._pythons = pythons
        self._checked: set[str] = set()
        self._null = group.place.server == "null"
        preparations: dict[str, Callable[[], None]] = {
            "upload": self._files,
            "web": self._files,
            "download": self._files_and_objects,
            "serve": self._served_files,
            "listing": self._many_keys,
            "cold": self._first_object,
        }
        preparations.get(group.workload.name, lambda: None)()

    def play(self, row: Row) -> Measurement:
        """Run the row once, check its effect, and remove its objects."""
        try:
            measurement = run_child(self._job(row), self._pythons.get(row.client, sys.executable))
            if row.label not in self._checked:
                self._check(row)
                self._checked.add(row.label)
        finally:
            self._clean()
        return measurement

    def _job(self, row: Row) -> Job:
        group, place = self._group, self._group.place
        job = Job(
            group.workload.name,
            row.client,
            self._endpoint,
            options=row.options,
            loop=group.loop,
            # SeaweedFS talks to itself over the same interface.
            count_wire=place.server != "seaweed",
            paths={"main": str(self._folder / "main"), "warm": str(self._folder / "warm")},
            keys={"main": "up/main.webm", "warm": "up/warm.webm", "prefix": "recordings/CA0001/"},
        )
        shape: dict[str, Callable[[Job, Row], Job]] = {
            "upload": self._transfer,
            "stream": self._stream,
            "download": self._download,
            "small": self._small,
            "listing": self._listing,
            "presign": self._presign,
            "web": self._web,
            "serve": self._serve,
            "live": self._live,
            "cold": self._cold,
            "soak": self._soak,
        }
        return shape[job.workload](job, row)

    def _transfer(self, job: Job, _: Row) -> Job:
        return replace(job, size=self._scale.transfer)

    def _stream(self, job: Job, _: Row) -> Job:
        return replace(job, size=self._scale.transfer + _UNEVEN)

    def _download(self, job: Job, row: Row) -> Job:
        scale = self._scale
        paths = {"main": str(self._folder / "got"), "warm": str(self._folder / "got-warm")}
        keys = {part: f"{row.source}/{part}.webm" for part in ("main", "warm")}
        if self._null:
            sizes = {"main": scale.transfer, "warm": scale.warm}
            keys = {part: f"neutral/size-{size}.webm" for part, size in sizes.items()}
        return replace(job, size=scale.transfer, paths=paths, keys=keys)

    def _small(self, job: Job, _: Row) -> Job:
        scale = self._scale
        # Whoever has fewer connections than workers would be measured waiting for its own pool.
        tuning = Tuning(connections=max(Tuning().connections, *scale.workers))
        # One call at once is no more than one for each round trip: not minutes of waiting.
        rtt_ms = self._group.place.rtt_ms
        return replace(
            job,
            size=scale.small,
            count=scale.operations,
            workers=scale.workers,
            tuning=tuning,
            rate=1000 / rtt_ms if rtt_ms else 0.0,
            seconds=_ONE_BY_ONE_S,
        )

    def _listing(self, job: Job, _: Row) -> Job:
        keys = {"prefix": "recordings/", "warm": "recordings/CA0"}
        return replace(job, size=self._scale.keys, count=self._folders(), keys=keys)

    def _presign(self, job: Job, _: Row) -> Job:
        return replace(job, seconds=self._scale.presign_s, workers=self._scale.urls)

    def _web(self, job: Job, _: Row) -> Job:
        scale = self._scale
        return replace(job, size=scale.transfer, rate=scale.web_rate, seconds=scale.web_s)

    def _serve(self, job: Job, row: Row) -> Job:
        paths = {part: str(self._folder / part) for part in ("main", "warm")}
        return replace(self._download(job, row), paths=paths)

    def _live(self, job: Job, _: Row) -> Job:
        scale = self._scale
        size, tuning = round(scale.live_mib * MIB), Tuning(part_size=5 * MIB)
        return replace(job, size=size, count=scale.live_calls, rate=scale.live_rate, tuning=tuning)

    def _cold(self, job: Job, _: Row) -> Job:
        return replace(job, size=_FIRST_BYTE)

    def _soak(self, job: Job, _: Row) -> Job:
        # Objects of 4 KiB: it is operations that may leave something behind.
        return replace(job, size=4096, count=self._scale.soak, workers=(64,))

    def _files(self) -> None:
        # In a virtual machine the first touch of a page is dear, and whoever writes first would
        # pay for it: so touch as much as the files and the server will need.
        random_file(self._folder / "touched", 3 * self._scale.transfer).unlink()
        random_file(self._folder / "main", self._scale.transfer)
        random_file(self._folder / "warm", self._scale.warm)

    def _files_and_objects(self) -> None:
        """Upload the objects for downloads: with a neutral client, or ours where a row needs it."""
        if self._null:
            return
        self._files()
        paths = {part: self._folder / part for part in ("main", "warm")}
        for part, path in paths.items():
            obstore.put(self._store, f"neutral/{part}.webm", path, chunk_size=_NEUTRAL_PART)
        if any(row.source == "ours" for row in self._group.rows):
            keys = {part: f"ours/{part}.webm" for part in paths}
            names = {part: str(path) for part, path in paths.items()}
            run_child(Job("upload", "ours", self._endpoint, paths=names, keys=keys))

    def _served_files(self) -> None:
        """The same bytes in the bucket and on the disk."""
        self._files_and_objects()
        if self._null:
            sizes = {"main": self._scale.transfer, "warm": self._scale.warm}
            for part, size in sizes.items():
                with (self._folder / part).open("wb") as file:
                    for start in range(0, size, MIB):
                        file.write(expected(start, min(start + MIB, size)))

    def _folders(self) -> int:
        return -(-self._scale.keys // PER_FOLDER)

    def _many_keys(self) -> None:
        """Upload recordings, fifty to a folder. The null server generates its own."""
        if not self._null:
            asyncio.run(self._put_keys())

    async def _put_keys(self) -> None:
        folders, numbers = self._folders(), iter(range(self._scale.keys))

        async def work() -> None:
            for number in numbers:
                folder, moment = number % folders, 1_700_000_000_000 + number
                name = f"recordings/CA{(folder << 32) // folders:08x}{folder:024x}/{moment}-a.webm"
                await obstore.put_async(self._store, name, b"recording")

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())

    def _first_object(self) -> None:
        obstore.put(self._store, "up/main.webm", b"r" * _FIRST_BYTE)

    def _check(self, row: Row) -> None:
        """Compare the bytes that arrived with those that were sent, once per row."""
        match self._group.workload.name:
            case "upload" | "stream":
                right = self._stored_right()
            case "download":
                right = self._got_right()
            case _:
                right = True
        if not right:
            raise RuntimeError(f"{row.label} moved other bytes than it was given")

    def _stored_right(self) -> bool:
        streamed = self._group.workload.name == "stream"
        size = self._scale.transfer + streamed * _UNEVEN
        if obstore.head(self._store, "up/main.webm")["size"] != size:
            return False
        if streamed or self._group.place.server != "rclone":
            return True  # the null server keeps no bytes
        stored = self._folder / "rclone" / self._endpoint.bucket / "up" / "main.webm"
        return filecmp.cmp(stored, self._folder / "main", shallow=False)

    def _got_right(self) -> bool:
        got = self._folder / "got"
        if not self._null:
            return filecmp.cmp(got, self._folder / "main", shallow=False)
        size = got.stat().st_size
        with got.open("rb") as file:
            same = all(
                file.read(MIB) == expected(start, min(start + MIB, size))
                for start in range(0, size, MIB)
            )
        return same and size == self._scale.transfer

    def _clean(self) -> None:
        if self._group.workload.name in ("upload", "stream", "web") and not self._null:
            for key in ("up/main.webm", "up/warm.webm"):
                obstore.delete(self._store, key)
        (self._folder / "got").unlink(missing_ok=True)
        (self._folder / "got-warm").unlink(missing_ok=True)
