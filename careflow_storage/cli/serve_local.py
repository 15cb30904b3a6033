"""``careflow-storage serve-local``: the embedded server in the foreground."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from types import FrameType

from rich.console import Console

from careflow_storage.local import LocalServer, LocalServerError

_LOOK_EVERY = 1.0


def serve(console: Console, *, data_dir: Path | None, port: int | None, bucket: str) -> None:
    """Run the server until Ctrl-C or SIGTERM; the variables go to stdout, all else elsewhere.

    Raises:
        LocalServerError: It did not start, or ended by itself.
    """
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with LocalServer(data_dir=data_dir, port=port, bucket=bucket) as server:
            for name, value in server.environment().items():
                print(f"export {name}={shlex.quote(value)}", flush=True)
            kept = f"kept in {data_dir}" if data_dir else "forgotten at the end (see --data-dir)"
            console.print(
                f"[green]Serving[/] at {server.endpoint}; data is {kept}. Ctrl-C ends it."
            )
            while not server.wait(_LOOK_EVERY):
                pass
    except KeyboardInterrupt:
        console.print("Stopped.")
        return
    raise LocalServerError("The local server has ended by itself.")


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
