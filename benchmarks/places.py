"""Where a workload runs: the server of a place, and a folder for its data."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.model import Endpoint
from benchmarks.plan import Place
from benchmarks.servers import null_server, rclone_server, seaweed_server


def say(text: str) -> None:
    """Print progress to stderr, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def end_cleanly() -> None:
    """Turn SIGTERM into an exception, so that servers and data are cleared away."""

    def leave(*_: object) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yield a folder and remove it afterwards: files in shared memory cost memory."""
    folder = Path(tempfile.mkdtemp(prefix="careflow-bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(place: Place, folder: Path, keys: int = 1000) -> AbstractContextManager[Endpoint]:
    """Yield the server of a place."""
    match place.server:
        case "rclone":
            return rclone_server(folder, tls=place.tls)
        case "seaweed":
            return seaweed_server(folder, tls=place.tls)
        case "null":
            return null_server(
                folder, tls=place.tls, rtt_ms=place.rtt_ms, mbit=place.mbit, keys=keys
            )
        case _:
            raise ValueError(f"There is no server {place.server}.")
