"""What Dask's workers on this machine load before all else."""

from __future__ import annotations

import signal


def dask_setup(worker: object) -> None:
    """Ignore Ctrl-C, which reaches all processes of a terminal: the client ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
