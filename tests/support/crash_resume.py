"""Kill -9 at random moments: how many bytes a resumed transfer moves again.

::

    python -m tests.support.crash_resume --kills 50 --download-kills 20

A child process uploads (or downloads) a file of 200 MiB with ``resume=True``. The server is a
SeaweedFS behind a proxy that limits the rate and counts bytes. The child is killed after a random
time and a new child resumes, until the transfer is complete; then the next transfer begins, until
all kills are done. Every object and file is compared with its source by SHA-256. No unfinished
upload that holds bytes and no file beside the target may be left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from careflow_storage import BackblazeStorage
from careflow_storage.local import LocalServer
from careflow_storage.models import Progress
from careflow_storage.testing.proxy.proxy import FaultProxy

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """Size of a file, number of kills, bytes per second and request, seconds until a kill."""

    size: int
    kills: int
    rate: float
    longest_run: float
    seed: int


@dataclass(frozen=True, slots=True)
class Run:
    """One child: bytes that were there before it, bytes that it moved, whether it was killed."""

    transfer: int
    killed: bool
    before: int
    moved: int
    reused: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """All runs of one direction, and the bytes that are needed without kills."""

    direction: str
    runs: list[Run]
    needed: int

    @property
    def kills(self) -> int:
        return sum(run.killed for run in self.runs)

    @property
    def moved(self) -> int:
        return sum(run.moved for run in self.runs)

    @property
    def overhead(self) -> float:
        """Bytes moved more than once, as a share of what had to be moved."""
        return self.moved / self.needed - 1

    def table(self) -> str:
        """Show every run in MiB."""
        head = "run  transfer  end     there before  moved now  reused"
        lines = [f"{self.direction}, MiB", head]
        for number, run in enumerate(self.runs, start=1):
            reused = "?" if run.reused is None else f"{run.reused / MIB:.1f}"
            lines.append(
                f"{number:3}  {run.transfer:8}  {'kill -9' if run.killed else 'done':7}"
                f" {run.before / MIB:12.1f}  {run.moved / MIB:9.1f}  {reused:>6}"
            )
        lines.append(
            f"{self.kills} kills, {self.needed / MIB:.0f} MiB needed, {self.moved / MIB:.0f} MiB"
            f" moved: {self.overhead:.1%} moved again,"
            f" {(self.moved - self.needed) / MIB / max(1, self.kills):.1f} MiB per kill"
        )
        return "\n".join(lines)


# --- the child ----------------------------------------------------------------------------


async def child(direction: str, key: str, path: Path) -> None:
    """Do one transfer; print its progress."""

    def report(progress: Progress) -> None:
        print(progress.transferred, flush=True)

    async with BackblazeStorage() as storage:
        await storage.client()  # loaded before the transfer, which is what the parent kills
        print(0, flush=True)
        if direction == "upload":
            done = await storage.upload_file(key, path, progress=report, resume=True)
            print(json.dumps({"reused": done.reused}), flush=True)
        else:
            got = await storage.download_file(key, path, progress=report, resume=True)
            print(json.dumps({"reused": got.reused}), flush=True)


# --- the parent ---------------------------------------------------------------------------


async def run_child(
    direction: str, key: str, path: Path, environment: dict[str, str], seconds: float | None
) -> tuple[bool, int, int | None]:
    """Run a child and kill it after ``seconds``; return whether, its last count, its reuse."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.crash_resume", "--child", direction, key, str(path)),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )
    assert process.stdout is not None
    last = await process.stdout.readline()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while line := await process.stdout.readline():
                last = line
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    rest = (await process.stdout.read()).splitlines()
    code = await process.wait()
    last = (rest or [last])[-1]
    if last.startswith(b"{"):
        return False, 0, int(json.loads(last)["reused"])
    if code != -signal.SIGKILL:
        raise RuntimeError(f"the {direction} failed: exit {code}")
    return True, int(last or 0), None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def crash_uploads(
    plan: Plan, server: LocalServer, folder: Path, say: Callable[[str], None]
) -> Outcome:
    """Upload again and again until all kills are done; check everything that was stored."""
    chance = random.Random(plan.seed)
    runs: list[Run] = []
    transfer = kills = 0
    async with FaultProxy(server.endpoint) as proxy, BackblazeStorage(server.settings()) as storage:
        proxy.add(operation="UploadPart", upload_rate=plan.rate)
        environment = _environment(server, proxy)
        while kills < plan.kills:
            transfer += 1
            source = random_file(folder / "source", plan.size)
            key, killed = f"crash/{transfer}", True
            while killed:
                before = await _stored_bytes(storage, key)
                proxy.log.clear()
                seconds = chance.uniform(0, plan.longest_run) if kills < plan.kills else None
                killed, _, reused = await run_child("upload", key, source, environment, seconds)
                moved = sum(a.body_bytes for a in proxy.log if a.operation == "UploadPart")
                runs.append(Run(transfer, killed, before, moved, reused))
                kills += killed
                say(f"upload {transfer}: {kills} kills")
            if left := await _stored_bytes(storage, key):
                raise RuntimeError(f"unfinished uploads of {key} hold {left} bytes")
            await storage.download_file(key, folder / "stored")
            if sha256(folder / "stored") != sha256(source):
                raise RuntimeError(f"{key} is not what was uploaded")
    return Outcome("upload", runs, transfer * plan.size)


async def crash_downloads(
    plan: Plan, server: LocalServer, folder: Path, say: Callable[[str], None]
) -> Outcome:
    """Download again and again until all kills are done; check every file."""
    chance = random.Random(plan.seed)
    runs: list[Run] = []
    transfer = kills = 0
    async with FaultProxy(server.endpoint) as proxy, BackblazeStorage(server.settings()) as storage:
        source = random_file(folder / "source", plan.size)
        await storage.upload_file("crash/download", source)
        proxy.add(operation="GetObject", rate=plan.rate)
        environment = _environment(server, proxy)
        place = folder / "place"
        place.mkdir()
        while kills < plan.kills:
            transfer += 1
            killed, target = True, place / f"file-{transfer}"
            while killed:
                before = _journalled_bytes(place)
                seconds = chance.uniform(0, plan.longest_run) if kills < plan.kills else None
                killed, count, reused = await run_child(
                    "download", "crash/download", target, environment, seconds
                )
                moved = max(0, count - before) if killed else plan.size - (reused or 0)
                runs.append(Run(transfer, killed, before, moved, reused))
                kills += killed
                say(f"download {transfer}: {kills} kills")
            if sha256(target) != sha256(source):
                raise RuntimeError(f"{target} is not what was stored")
            target.unlink()
            if left := list(place.iterdir()):
                raise RuntimeError(f"files are left: {left}")
    return Outcome("download", runs, transfer * plan.size)


def _environment(server: LocalServer, proxy: FaultProxy) -> dict[str, str]:
    return {**os.environ, **server.environment(), "BACKBLAZE_ENDPOINT": proxy.url}


async def _stored_bytes(storage: BackblazeStorage, key: str) -> int:
    client = await storage.client()
    total = 0
    for upload in await storage.list_incomplete_uploads(key):
        if upload.key == key:
            parts = await client.list_parts(
                Bucket=storage.settings.bucket_name, Key=key, UploadId=upload.upload_id
            )
            total += sum(part["Size"] for part in parts.get("Parts", ()))
    return total


def _journalled_bytes(folder: Path) -> int:
    """Count the bytes that the journal beside the target lists."""
    total = 0
    for journal in folder.glob(".careflow-*.journal"):
        for line in journal.read_bytes().splitlines(keepends=True)[1:]:
            if line.endswith(b"\n"):
                start, end, _ = line.split()
                total += int(end) - int(start)
    return total


def random_file(path: Path, size: int) -> Path:
    """Fill a file with random bytes that repeat with a period that divides no part size."""
    block = os.urandom(4 * MIB + 4099)
    with path.open("wb") as file:
        left = size
        while left > 0:
            left -= file.write(block[:left])
    return path


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[tuple[LocalServer, Path]]:
    """Yield a server and a folder; remove both afterwards."""
    with tempfile.TemporaryDirectory(prefix="careflow-crash-") as folder:
        async with LocalServer() as server:
            yield server, Path(folder)


async def main(arguments: argparse.Namespace) -> None:
    """Kill, count, and show the tables."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    for crash, kills in (
        (crash_uploads, arguments.kills),
        (crash_downloads, arguments.download_kills),
    ):
        plan = Plan(
            size=int(arguments.size_mib * MIB),
            kills=kills,
            rate=arguments.rate_mib * MIB,
            longest_run=arguments.longest_run,
            seed=arguments.seed,
        )
        if not kills:
            continue
        async with stage() as (server, folder):
            outcome = await crash(plan, server, folder, say)
        print(outcome.table(), end="\n\n", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.crash_resume",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=50, help="of uploads")
    parser.add_argument("--download-kills", type=int, default=20)
    parser.add_argument("--size-mib", type=float, default=200)
    parser.add_argument("--rate-mib", type=float, default=16, help="MiB per second and request")
    parser.add_argument("--longest-run", type=float, default=4, help="seconds until a kill")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=3, metavar=("DIRECTION", "KEY", "PATH"))
    return parser.parse_args()


if __name__ == "__main__":
    given = parse()
    if given.child:
        asyncio.run(child(given.child[0], given.child[1], Path(given.child[2])))
    else:
        asyncio.run(main(given))
