"""``python -m benchmarks.faults``: round trips while a share of all requests fails.

Each round trip uploads, gets back and compares; then another client, past the faults, looks at
what the bucket holds. A call that ends with a `StorageError` is made again, as an application
would: that is an "error", and no loss. "Lost" is what was said to be stored and is not there,
"damaged" what came or lies there with other bytes and without an error.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import hashlib
import logging
import random
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.charts import Bar, Bars, Chart, Role
from benchmarks.model import MIB
from careflow_storage import BackblazeStorage, StorageError, StorageSettings
from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.local import LocalServer
from careflow_storage.local.client import REGION, SyncClient
from careflow_storage.testing import Attempt, B2Server, FaultProxy, Rule

SETTINGS: dict[str, Any] = {
    "retry_attempts": 12,
    "retry_base_delay": 0.01,
    "retry_max_delay": 0.1,
    "idle_timeout": 2.0,
    "part_size": 5 * MIB,
}
AT_ONCE = 6
CALLS_PER_STEP = 20

Make = Callable[[random.Random, Attempt], dict[str, Any] | None]


def _always(**fields: Any) -> Make:
    return lambda dice, attempt: fields


def _in_request(cut: str) -> Make:
    def make(dice: random.Random, attempt: Attempt) -> dict[str, Any] | None:
        size = int(attempt.headers.get("content-length") or 0)
        return {"cut": cut, "at": ("req", dice.randrange(size))} if size else None

    return make


def _in_response(**fields: Any) -> Make:
    def make(dice: random.Random, attempt: Attempt) -> dict[str, Any] | None:
        if attempt.method != "GET":
            return None
        at = dice.choice((0, 100, 10_000, 100_000))
        return {name: at if value is AT else value for name, value in fields.items()} | (
            {"at": ("body", at)} if "cut" in fields else {}
        )

    return make


def _damaged_upload(dice: random.Random, attempt: Attempt) -> dict[str, Any] | None:
    size = int(attempt.headers.get("content-length") or 0)
    return {"corrupt_upload": dice.randrange(size)} if size else None


def _of_objects(make: Make) -> Make:
    # S3 has no checksum of listings; over TLS no bit flips unseen.
    return lambda dice, attempt: make(dice, attempt) if attempt.operation == "GetObject" else None


def _empty_success(body: bytes) -> Make:
    # An response without a body, as that to a deletion, cannot tell this from success.
    return lambda dice, attempt: None if attempt.method in ("DELETE", "HEAD") else {"body": body}


AT = object()
KINDS: dict[str, Make] = {
    "503 no tomes available": _always(
        status=503, code="ServiceUnavailable", message="no tomes available"
    ),
    "503 SlowDown, Retry-After": _always(status=503, code="SlowDown", retry_after=0),
    "500 InternalError": _always(status=500, code="InternalError"),
    "502, 504 of a proxy": lambda dice, attempt: {"status": dice.choice((502, 504)), "body": b""},
    "429 TooManyRequests": _always(status=429, code="TooManyRequests"),
    "408, 400 RequestTimeout": lambda dice, attempt: {
        "status": dice.choice((408, 400)),
        "code": "RequestTimeout",
    },
    "reset before the request": _always(cut="rst", at="head"),
    "end before the request": _always(cut="fin", at="head"),
    "reset in the request": _in_request("rst"),
    "end in the request": _in_request("fin"),
    "lost response": _always(cut="rst", at="resp"),
    "reset in the response": _in_response(cut="rst"),
    "end in the response": _in_response(cut="fin"),
    "response cut, length agrees": _of_objects(_in_response(short=AT)),
    "bit flipped in the response": _of_objects(_in_response(corrupt=AT)),
    "bit flipped in the request": _damaged_upload,
    "silence before": _always(cut="hang", at="head"),
    "silence after": _always(cut="hang", at="resp"),
    "silence in the request": _in_request("hang"),
    "silence in the response": _in_response(cut="hang"),
    "slow drip": lambda dice, attempt: {"rate": 4e6, "upload_rate": 8e6, "delay": 0.05},
    "200 with an Error": _empty_success(b"<Error><Code>InternalError</Code></Error>"),
    "200 and nothing": _empty_success(b""),
    "reset while idle": _always(cut="rst", at="idle"),
}


class Careless(FaultProxy):
    """Makes this share of all requests fail, each in one of these ways."""

    def __init__(self, upstream: str, rate: float, seed: int, kinds: list[str]) -> None:
        super().__init__(upstream)
        self._rate = rate
        self._dice = random.Random(seed)
        self._kinds = kinds
        self.injected: collections.Counter[str] = collections.Counter()

    def _choose(self, attempt: Attempt) -> Rule | None:
        if self._dice.random() >= self._rate:
            return None
        for kind in self._dice.sample(self._kinds, len(self._kinds)):
            fields = KINDS[kind](self._dice, attempt)
            if fields is not None:
                self.injected[kind] += 1
                return Rule(**fields)
        return None


@dataclass
class Tally:
    """The counts of one run."""

    kind: str
    trips: int = 0
    calls: int = 0
    requests: int = 0
    injected: int = 0
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    lost: int = 0
    damaged: int = 0
    left: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.damaged or self.left)


class Server:
    """A server: its settings, and a client that does not pass through the faults."""

    def __init__(self, settings: StorageSettings) -> None:
        self.settings = settings
        secret = settings.application_key
        assert settings.endpoint
        assert settings.key_id
        assert secret
        self._client = SyncClient(
            settings.endpoint,
            Credentials(settings.key_id, secret.get_secret_value()),
        )

    async def content(self, key: str) -> bytes | None:
        path = f"/{self.settings.bucket_name}/{key}"
        response = await asyncio.to_thread(self._client.request, "GET", path)
        return response.body if response.status == 200 else None

    async def unfinished(self) -> int:
        path = f"/{self.settings.bucket_name}"
        response = await asyncio.to_thread(self._client.request, "GET", path, {"uploads": ""})
        return len(re.findall(rb"<UploadId>", response.body))


class Trips:
    """Makes round trips on one storage."""

    def __init__(
        self, storage: BackblazeStorage, server: Server, folder: Path, tally: Tally
    ) -> None:
        self._storage = storage
        self._server = server
        self._folder = folder
        self._tally = tally

    async def run(self, number: int, body: bytes) -> None:
        tally, key = self._tally, f"trip-{number}"
        tally.trips += 1
        digest = hashlib.sha256(body).digest()
        result = await self._insist(lambda: self._upload(number, key, body))
        if result is None:
            tally.lost += 1
            return
        back = await self._insist(lambda: self._get(number, result.key))
        if back is None:
            tally.lost += 1
        elif hashlib.sha256(back).digest() != digest:
            tally.damaged += 1
        kept = await self._server.content(result.key)
        if kept is None:
            tally.lost += 1
        elif hashlib.sha256(kept).digest() != digest:
            tally.damaged += 1
        listed = await self._insist(lambda: self._list(result.key))
        if listed != [(result.key, len(body))]:
            tally.lost += 1

    async def _list(self, key: str) -> list[tuple[str, int]]:
        return [(f.key, f.size) for f in await self._storage.list_files(key) if f.key == key]

    async def _insist(self, call: Callable[[], Any]) -> Any:
        for _ in range(CALLS_PER_STEP):
            self._tally.calls += 1
            try:
                return await call()
            except StorageError as error:
                self._tally.errors[type(error).__name__] += 1
        return None

    async def _upload(self, number: int, key: str, body: bytes) -> Any:
        form = number % 4
        if form == 0:
            return await self._storage.upload_file(key, body)
        if form == 1:
            path = self._folder / key
            await asyncio.to_thread(path.write_bytes, body)
            return await self._storage.upload_file(key, path)
        if form == 2:
            return await self._storage.upload_file(key, _stream(body))
        return await self._storage.upload_recording(key, body, "call.wav")

    async def _get(self, number: int, key: str) -> bytes:
        form = number // 4 % 3
        if form == 0:
            return await self._storage.get_file(key)
        if form == 1:
            return b"".join([chunk async for chunk in self._storage.stream_file(key)])
        path = self._folder / f"back-{number}"
        await self._storage.download_file(key, path)
        data = await asyncio.to_thread(path.read_bytes)
        path.unlink()
        return data


async def _stream(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 60_013):
        yield body[start : start + 60_013]


def sizes(dice: random.Random, count: int, large: int) -> list[int]:
    """Return sizes: half of them large, so sent in parts; the rest from 0 to a few MiB."""
    small = [0, 1, 17, 1000, 64 * 1024, MIB, 4 * MIB, 5 * MIB]
    return [
        dice.randrange(large, large * 3 // 2) if number % 2 else dice.choice(small)
        for number in range(count)
    ]


async def measure(
    server: Server, kinds: list[str], trips: int, large: int, rate: float, seed: int
) -> tuple[Tally, collections.Counter[str]]:
    """Make the round trips under these kinds of faults."""
    dice = random.Random(seed)
    tally = Tally("all kinds" if len(kinds) > 1 else kinds[0])
    folder = Path(tempfile.mkdtemp(prefix="careflow-faults-"))
    begun = time.monotonic()
    try:
        async with Careless(server.settings.endpoint or "", rate, seed, kinds) as proxy:
            settings = server.settings.model_copy(
                update={"endpoint": proxy.url, "multipart_threshold": large, **SETTINGS}
            )
            async with BackblazeStorage(settings) as storage:
                waiting = iter(list(enumerate(sizes(dice, trips, large))))
                work = Trips(storage, server, folder, tally)

                async def worker() -> None:
                    for number, size in waiting:
                        await work.run(number, random.Random(seed + number).randbytes(size))

                async with asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE):
                        group.create_task(worker())
            tally.requests = len(proxy.log)
            tally.injected = proxy.injected.total()
            tally.left = await server.unfinished()
            return tally, proxy.injected
    finally:
        tally.seconds = time.monotonic() - begun
        shutil.rmtree(folder, ignore_errors=True)


def show(tallies: list[Tally]) -> None:
    """Print the table as Markdown."""
    print("| Fault | round trips | calls | requests | injected | errors | lost | damaged | left |")
    print("|---|---:|---:|---:|---:|---|---:|---:|---:|")
    for t in tallies:
        errors = ", ".join(f"{count} {name}" for name, count in sorted(t.errors.items())) or "0"
        print(
            f"| {t.kind} | {t.trips} | {t.calls} | {t.requests} | {t.injected} | {errors} "
            f"| {t.lost} | {t.damaged} | {t.left} |",
            flush=True,
        )


def chart(tallies: list[Tally]) -> Chart:
    """Return the numbers of the chart: a row for each kind of fault."""
    panels: tuple[tuple[str, Role, Callable[[Tally], int]], ...] = (
        ("requests", "peer", lambda tally: tally.requests),
        ("made to fail", "base", lambda tally: tally.injected),
        ("errors of calls", "base", lambda tally: tally.errors.total()),
        ("lost or damaged", "base", lambda tally: tally.lost + tally.damaged),
    )
    trips, injected = sum(t.trips for t in tallies), sum(t.injected for t in tallies)
    return Chart(
        f"{injected:,} faults in {trips} round trips, one kind of fault at a time",
        "A call whose attempts all fail raises an error, and is repeated.",
        [
            Bars(title, 0, [Bar(tally.kind, count(tally), role) for tally in tallies])
            for title, role, count in panels
        ],
    )


@contextlib.contextmanager
def _servers(name: str) -> Any:
    """Return a function that makes a `Server` with a new bucket."""
    if name == "b2":
        with B2Server(region=REGION) as emulator:

            def new_bucket() -> Server:
                bucket = f"faults-{uuid.uuid4().hex[:12]}"
                emulator.create_bucket(bucket)
                return Server(emulator.settings(bucket_name=bucket))

            yield new_bucket
        return
    with LocalServer() as local:

        def new_local_bucket() -> Server:
            bucket = f"faults-{uuid.uuid4().hex[:12]}"
            local.create_bucket(bucket)
            return Server(local.settings(bucket_name=bucket))

        yield new_local_bucket


def main() -> None:
    """Measure and print; the exit status is 1 if anything was lost, damaged or left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("seaweedfs", "b2"), default="seaweedfs")
    parser.add_argument("--rate", type=float, default=0.25)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--trips", type=int, default=80)
    parser.add_argument("--each", type=int, default=20, help="round trips per kind; 0: none")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="write faults.json")
    given = parser.parse_args()
    # What goes wrong here goes wrong by request.
    logging.getLogger("careflow_storage").setLevel(logging.ERROR)
    tallies: list[Tally] = []
    injected: collections.Counter[str] = collections.Counter()
    with _servers(given.server) as new_bucket:
        for kind in KINDS if given.each else ():
            tally, _ = asyncio.run(
                measure(new_bucket(), [kind], given.each, 6 * MIB, given.rate, 1)
            )
            tallies.append(tally)
            show([tally])
        for seed in given.seeds:
            tally, counts = asyncio.run(
                measure(new_bucket(), list(KINDS), given.trips, 16 * MIB, given.rate, seed)
            )
            tally.kind = f"all kinds, seed {seed}"
            injected += counts
            tallies.append(tally)
            print(f"{tally.kind}: {tally.seconds:.0f} s", flush=True)
            show([tally])
    print()
    show(tallies)
    print()
    if given.charts is not None and given.each:
        print(f"wrote {chart(tallies[: len(KINDS)]).write(given.charts, 'faults')}\n")
    for kind, count in injected.most_common():
        print(f"{count:6} {kind}")
    raise SystemExit(not all(tally.is_clean for tally in tallies))


if __name__ == "__main__":
    main()
