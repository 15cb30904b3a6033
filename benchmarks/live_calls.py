"""``python -m benchmarks.live_calls``: the cost of a thousand calls in progress.

Each row is a process of its own: so many writers at once, each of which writes 16 KiB chunks at
a steady pace, so that all together write about ``--rate`` MiB per second. The server is another
process that throws all bytes away, since it is the client that is measured here; SeaweedFS with
``--server seaweedfs``, at the rate that the machine's disk has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import LoopProbe, cpu_seconds, peak_rss_mib, reset_peak_rss, rss_mib
from benchmarks.servers import seaweed_server
from careflow_storage import BackblazeStorage, StorageSettings

MIB = 1024 * 1024
CHUNK = 16 * 1024
PROBE_S = 0.001


@dataclass(frozen=True, slots=True)
class Row:
    """The numbers of one process."""

    calls: int
    mib_each: float
    seconds: float
    cpu_s: float
    base_rss_mib: float
    peak_rss_mib: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    spool_mib: float
    descriptors: int
    parts: int


class Watch:
    """Samples every 0.1 s the values of which the system keeps no peak."""

    def __init__(self, storage: BackblazeStorage) -> None:
        self.spool_bytes = 0
        self.descriptors = 0
        self._spool = storage._runtime.context().spool

    async def run(self) -> None:
        while True:
            self.spool_bytes = max(self.spool_bytes, self._spool.size)
            self.descriptors = max(self.descriptors, len(os.listdir("/proc/self/fd")))  # noqa: PTH208
            await asyncio.sleep(0.1)


async def _call(
    storage: BackblazeStorage, number: int, chunks: list[bytes], pause: float, flush: float | None
) -> int:
    # Calls do not begin in the same moment.
    await asyncio.sleep(pause * random.random())
    async with storage.open_recording(f"CA{number}", "call.webm", flush_interval=flush) as writer:
        due = time.perf_counter()
        for chunk in chunks:
            await writer.write(chunk)
            due += pause
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return writer.result.parts


async def _measure(args: argparse.Namespace) -> Row:
    size = round(args.size * MIB)
    noise = random.Random(1).randbytes(MIB)
    chunks = [noise[i % MIB : i % MIB + CHUNK] for i in range(0, size, CHUNK)]
    pause = CHUNK * args.calls / (args.rate * MIB)
    async with BackblazeStorage(StorageSettings(part_size=5 * MIB)) as storage:
        # Connections and lazily imported modules are not what is measured.
        await storage.upload_file("warm", noise * 6, size=None)
        async with storage.open_recording("warm", "warm.webm") as writer:
            await writer.write(noise * 6)
        reset_peak_rss()
        base, cpu = rss_mib(), cpu_seconds()
        watch, probe = Watch(storage), LoopProbe(PROBE_S)
        watching = asyncio.create_task(watch.run())
        await probe.start()
        begun = time.perf_counter()
        parts = await asyncio.gather(
            *(_call(storage, n, chunks, pause, args.flush) for n in range(args.calls))
        )
        seconds = time.perf_counter() - begun
        await probe.stop()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        return Row(
            calls=args.calls,
            mib_each=args.size,
            seconds=seconds,
            cpu_s=cpu_seconds() - cpu,
            base_rss_mib=base,
            peak_rss_mib=peak_rss_mib(),
            lag_p50_ms=probe.quantile_ms(0.5) or 0.0,
            lag_p99_ms=probe.quantile_ms(0.99) or 0.0,
            lag_max_ms=probe.quantile_ms(1.0) or 0.0,
            spool_mib=watch.spool_bytes / MIB,
            descriptors=watch.descriptors,
            parts=sum(parts),
        )


_BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
_COMPLETED = (
    b"<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>"
)


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            found = re.search(r"content-length: (\d+)", head)
            left = int(found[1]) if found else 0
            while left:
                left -= len(await reader.readexactly(min(left, MIB)))
            line = head.partition("\r\n")[0]
            body = _BEGUN if "?uploads" in line else _COMPLETED if line[:4] == "post" else b""
            writer.write(
                b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Type: application/xml\r\n'
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
    writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_swallow, "127.0.0.1", 0, limit=2 * MIB, backlog=1000)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def _nothing(_: Path) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "benchmarks.live_calls", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield {
                "BACKBLAZE_ENDPOINT": process.stdout.readline().strip(),
                "BACKBLAZE_KEY_ID": "benchmark",
                "BACKBLAZE_APPLICATION_KEY": "benchmark",
                "BACKBLAZE_BUCKET_NAME": "benchmark",
            }
        finally:
            process.terminate()


@contextlib.contextmanager
def _seaweed(folder: Path) -> Iterator[dict[str, str]]:
    with seaweed_server(folder) as place:
        yield {
            "BACKBLAZE_ENDPOINT": place.url,
            "BACKBLAZE_KEY_ID": place.key_id,
            "BACKBLAZE_APPLICATION_KEY": place.secret,
            "BACKBLAZE_BUCKET_NAME": place.bucket,
            "BACKBLAZE_REGION": place.region,
        }


def _show(rows: list[Row]) -> None:
    first = rows[0]
    print("| calls | MiB each | s | CPU s | peak RSS MiB | more than one call | lag p50/p99/max ms "
          "| spool MiB | descriptors | parts |")  # fmt: skip
    print("|" + "---|" * 10)
    for row in rows:
        lag = f"{row.lag_p50_ms:.1f} / {row.lag_p99_ms:.1f} / {row.lag_max_ms:.0f}"
        more = row.peak_rss_mib - first.peak_rss_mib
        print(
            f"| {row.calls} | {row.mib_each:g} | {row.seconds:.1f} | {row.cpu_s:.1f} "
            f"| {row.peak_rss_mib:.0f} | {more:+.0f} | {lag} | {row.spool_mib:.0f} "
            f"| {row.descriptors} | {row.parts} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--size", type=float, default=6.0, help="MiB of each call")
    parser.add_argument("--rate", type=float, default=150.0, help="MiB/s of all calls together")
    parser.add_argument("--flush", type=float, default=None, help="flush_interval in seconds")
    parser.add_argument("--server", choices=("none", "seaweedfs"), default="none")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        args.calls = args.calls[0]
        print(json.dumps(asdict(asyncio.run(_measure(args)))))
        return
    if args.serve:
        asyncio.run(_serve())
        return
    rows: list[Row] = []
    server = _seaweed if args.server == "seaweedfs" else _nothing
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as variables:
        for calls in args.calls:
            command = [sys.executable, "-m", "benchmarks.live_calls", "--child"]
            for name in ("size", "rate", "flush"):
                if getattr(args, name) is not None:
                    command += [f"--{name}", str(getattr(args, name))]
            run = subprocess.run(
                [*command, "--calls", str(calls)],
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                check=True,
            )
            rows.append(Row(**json.loads(run.stdout)))
    _show(rows)


if __name__ == "__main__":
    main()
