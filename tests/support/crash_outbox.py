"""Kill -9 against the outbox: is any recording lost, or stored twice?

    python -m tests.support.crash_outbox [--kills 200] [--workers 3] [--seed 1] [--dir FOLDER]

Worker processes put recordings, and URLs of a server that is not always ready, into one shared
outbox and deliver them to a SeaweedFS. The parent
kills a third of them at random moments. The others kill themselves just before or just after
their n-th step, with n rising from 1: a step is a job in a thread (a write, an fsync, a rename,
an unlink, a hash), an SQL statement or an HTTP request. A worker reports a recording only after
`put_recording` or `put_url` has returned. At the end one last worker delivers what is left, and
the bucket is compared with the reports.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import aiohttp
import aiosqlite

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage._http.connection import Connection as HttpConnection
from careflow_storage._transfer.workers import Workers
from careflow_storage.local import LocalServer
from careflow_storage.outbox import Outbox

_KIB, _MIB = 1024, 1024 * 1024
_DRAIN_SECONDS = 300


@dataclass
class Report:
    """All counts. ``lost`` and everything below it must be 0."""

    kills: int = 0
    kills_by_parent: int = 0
    kills_at_a_step: int = 0
    accepted: int = 0
    accepted_mib: float = 0.0
    delivered: int = 0
    accepted_unreported: int = 0  # put, and killed before the report
    # Killed between creating the upload and its first part; `abort_stale_uploads` removes them.
    empty_uploads: int = 0
    cut_off_versions: int = 0  # the server stored a PUT whose sender died in the middle
    seconds: float = 0.0
    lost: int = 0
    damaged: int = 0
    duplicate_keys: int = 0
    duplicate_versions: int = 0
    dead_letters: int = 0
    spool_files_left: int = 0
    unfinished_uploads: int = 0

    def failures(self) -> int:
        """Return the sum of all counts that must be 0."""
        return (
            self.lost
            + self.damaged
            + self.duplicate_keys
            + self.duplicate_versions
            + self.dead_letters
            + self.spool_files_left
            + self.unfinished_uploads
        )

    def table(self) -> str:
        """Return all counts as a table."""
        lines = [
            f"| {name.replace('_', ' ')} | {value:,.10g} |" for name, value in vars(self).items()
        ]
        return "\n".join(["| what | count |", "|---|---:|", *lines])


# --- the workers ------------------------------------------------------------------------


class KillAtStep:
    """Kills this process at its n-th step: before it if n is odd, after it if n is even."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._seen = 0

    def step(self) -> None:
        self._seen += 1
        if self._seen == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        start: Any = Workers.submit
        execute: Any = aiosqlite.Connection._execute
        clients = ((aiohttp.ClientSession, "_request"), (HttpConnection, "request"))

        def started(workers: Workers, job: Callable[[], Any]) -> Any:
            def surrounded() -> Any:
                self.step()
                result = job()
                self.step()
                return result

            return start(workers, surrounded)

        async def executed(connection: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            def surrounded() -> Any:
                self.step()
                result = function(*args, **kwargs)
                self.step()
                return result

            return await execute(connection, surrounded)

        def counted(request: Any) -> Any:
            async def requested(*args: Any, **kwargs: Any) -> Any:
                self.step()
                response = await request(*args, **kwargs)
                self.step()
                return response

            return requested

        # Through variables of type Any: to a type checker, methods cannot be assigned to.
        workers: Any = Workers
        connection: Any = aiosqlite.Connection
        workers.submit, connection._execute = started, executed
        for client, name in clients:
            setattr(client, name, counted(getattr(client, name)))


def body_for(chance: random.Random) -> bytes:
    """Mostly small, sometimes beyond the 16 MiB from which uploads go in parts."""
    kind = chance.random()
    if kind < 0.85:
        size = chance.randint(0, 64 * _KIB)
    elif kind < 0.96:
        size = chance.randint(64 * _KIB, _MIB)
    else:
        size = chance.randint(16 * _MIB + 1, 20 * _MIB)
    return chance.randbytes(16 + size)


def body_of(seed: int) -> bytes:
    """The body behind a URL of `Source`."""
    return body_for(random.Random(seed))


class Source:
    """Serves ``/SEED``, in a thread; a third of the URLs is not ready at first."""

    def __enter__(self) -> str:
        asked = set[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seed = int(urllib.parse.urlsplit(self.path).path[1:])
                if seed % 3 == 0 and self.path not in asked:
                    asked.add(self.path)
                    self.send_error(404)
                    return
                body = body_of(seed)
                self.send_response(200)
                self.send_header("Content-Type", "audio/wav")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def worker(
    reports: Connection, folder: str, fields: dict[str, Any], source: str, seed: int, at: int
) -> None:
    """Put and deliver until killed."""
    if at:
        KillAtStep(at).install()
    asyncio.run(_work(reports, folder, StorageSettings(**fields), source, random.Random(seed)))


async def _work(
    reports: Connection,
    folder: str,
    settings: StorageSettings,
    source: str,
    chance: random.Random,
) -> None:
    async with (
        BackblazeStorage(settings) as storage,
        Outbox(folder, storage, poll_interval=0.2, retry_base_delay=0.5) as outbox,
    ):
        reports.send(None)
        running = asyncio.create_task(outbox.run())
        for _ in range(25):
            # All for the same call at the same time, so that keys collide if they can.
            if chance.random() < 0.5:
                body = body_for(chance)
                entry = await outbox.put_recording("CA1", body, "recording.webm")
            else:
                seed = chance.getrandbits(48)
                body = body_of(seed)
                entry = await outbox.put_url(
                    "CA1", f"{source}/{seed}", "recording.webm", allow_private_addresses=True
                )
            reports.send((entry.key, hashlib.sha256(body).hexdigest(), len(body)))
            await asyncio.sleep(chance.random() * 0.05)
        await running


# --- the parent -------------------------------------------------------------------------


@dataclass
class Worker:
    """One process; ``deadline`` is when the parent kills it."""

    process: ForkServerProcess
    reports: Connection
    at: int
    born: float = field(default_factory=time.monotonic)
    deadline: float | None = None


class Parent:
    """Starts workers, kills them, and records their reports."""

    def __init__(
        self, folder: Path, settings: StorageSettings, source: str, seed: int, report: Report
    ) -> None:
        self._source = source
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["careflow_storage.outbox.remote.fetch", "careflow_storage.outbox", "aioboto3"]
        )
        self._folder = folder
        self._fields = settings.model_dump(include=settings.model_fields_set)
        self._chance = random.Random(seed)
        self._report = report
        self._numbers = itertools.count(1)
        self._steps = itertools.count(1)
        self.accepted: dict[str, tuple[str, int]] = {}

    def run(self, kills: int, workers: int) -> None:
        """Start and kill workers until there were ``kills``."""
        alive: list[Worker] = []
        while self._report.kills < kills:
            while len(alive) < workers:
                alive.append(self._start())
            self._listen(alive)
            for each in list(alive):
                if self._is_over(each):
                    alive.remove(each)
                    print(f"\r{self._report.kills} kills", end="", file=sys.stderr, flush=True)
        for each in alive:
            each.process.kill()
            self._join(each)
        print(file=sys.stderr)

    def _start(self) -> Worker:
        number = next(self._numbers)
        # Each step is tried twice; beyond a few hundred a worker has put everything.
        at = 0 if number % 3 == 0 else next(self._steps) % 400 + 1
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker,
            args=(
                *(sender, str(self._folder), self._fields, self._source),
                *(self._chance.getrandbits(48), at),
            ),
        )
        process.start()
        sender.close()
        return Worker(process, receiver, at)

    def _listen(self, alive: Sequence[Worker]) -> None:
        for reports in wait([each.reports for each in alive], timeout=0.01):
            each = next(each for each in alive if each.reports is reports)
            self._receive(each)

    def _receive(self, each: Worker) -> bool:
        try:
            report = each.reports.recv()
        except (EOFError, OSError):
            return False
        if report is None:
            each.deadline = time.monotonic() + self._chance.random() * 1.5
        else:
            key, sha256, size = report
            if key in self.accepted:
                self._report.duplicate_keys += 1
            self.accepted[key] = (sha256, size)
        return True

    def _is_over(self, each: Worker) -> bool:
        late = each.at != 0 and time.monotonic() > each.born + 20
        due = each.at == 0 and each.deadline is not None and time.monotonic() > each.deadline
        if each.process.is_alive() and (late or due):
            each.process.kill()
            self._report.kills_by_parent += 1
            self._report.kills_at_a_step -= 1
        elif each.process.is_alive():
            return False
        self._join(each)
        if each.process.exitcode != -signal.SIGKILL:
            raise RuntimeError(f"a worker ended by itself with {each.process.exitcode}")
        self._report.kills += 1
        self._report.kills_at_a_step += 1
        return True

    def _join(self, each: Worker) -> None:
        each.process.join()
        # Its last reports are still in the pipe.
        while self._receive(each):
            pass
        each.reports.close()


async def check(
    folder: Path, settings: StorageSettings, accepted: dict[str, tuple[str, int]], report: Report
) -> None:
    """Deliver what is left, and compare the bucket with the reports."""
    async with (
        BackblazeStorage(settings) as storage,
        Outbox(folder, storage, poll_interval=0.2, retry_base_delay=0.5) as outbox,
    ):
        await outbox.retry_all()
        async with asyncio.timeout(_DRAIN_SECONDS):
            status = await outbox.drain()
        entries = {entry.key: entry async for entry in outbox.entries()}
        report.dead_letters = status.dead
        report.spool_files_left = len(os.listdir(folder / "spool"))  # noqa: PTH208
        hashes: dict[str, str] = {}
        for file in await storage.list_files():
            hashes[file.key] = hashlib.sha256(await storage.get_file(file.key)).hexdigest()
        expected = {key: sha256 for key, (sha256, _) in accepted.items()}
        report.accepted = len(accepted)
        report.accepted_mib = sum(size for _, size in accepted.values()) / _MIB
        report.delivered = status.delivered
        report.accepted_unreported = len(entries.keys() - expected.keys())
        report.lost = len((expected.keys() | entries.keys()) - hashes.keys())
        wanted = {key: entry.sha256 or "" for key, entry in entries.items()} | expected
        report.damaged = sum(hashes[key] != wanted.get(key) for key in hashes)
        report.duplicate_keys += sum(count - 1 for count in Counter(hashes.values()).values())
        await _count_versions(storage, wanted, report)


async def _count_versions(
    storage: BackblazeStorage, wanted: dict[str, str], report: Report
) -> None:
    client = await storage.client()
    bucket = storage.settings.bucket_name
    versions: dict[str, list[str]] = {}
    async for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for version in page.get("Versions", ()):
            versions.setdefault(version["Key"], []).append(version["VersionId"])
    for key, ids in versions.items():
        if len(ids) == 1:
            continue
        bodies = [await storage.get_file(key, version_id=each, verify=False) for each in ids]
        whole = sum(hashlib.sha256(body).hexdigest() == wanted.get(key) for body in bodies)
        report.duplicate_versions += whole - 1
        report.cut_off_versions += len(bodies) - whole
    for upload in await storage.list_incomplete_uploads():
        parts = await client.list_parts(Bucket=bucket, Key=upload.key, UploadId=upload.upload_id)
        if parts.get("Parts"):
            report.unfinished_uploads += 1
        else:
            report.empty_uploads += 1


def crash(kills: int, *, workers: int = 3, seed: int = 1, folder: Path | None = None) -> Report:
    """Run the whole test on a new server and folder."""
    report, begun = Report(), time.monotonic()
    with (
        LocalServer() as server,
        Source() as source,
        tempfile.TemporaryDirectory(dir=folder) as home,
    ):
        outbox, settings = Path(home) / "outbox", server.settings(retry_base_delay=0.01)
        parent = Parent(outbox, settings, source, seed, report)
        parent.run(kills, workers)
        asyncio.run(check(outbox, settings, parent.accepted, report))
    report.seconds = round(time.monotonic() - begun, 1)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.crash_outbox", description=__doc__
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="folder for the outbox; a real disk is best")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    chosen = parser.parse_args()
    report = crash(chosen.kills, workers=chosen.workers, seed=chosen.seed, folder=chosen.dir)
    print(json.dumps(asdict(report)) if chosen.json else report.table())
    sys.exit(1 if report.failures() else 0)


if __name__ == "__main__":
    main()
