"""Start the measured processes, one for each sample."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.model import Job, Measurement

ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 900.0
_SHOWN = 300
# What would change what is measured: uncached imports, other authorities than the benchmark's.
_NOT_OURS = frozenset(
    {"PYTHONDONTWRITEBYTECODE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"}
)


def run_python(
    arguments: Sequence[str],
    text: str = "",
    timeout_s: float = _TIMEOUT_S,
    python: str = sys.executable,
) -> str:
    """Run an interpreter; return the last line that it wrote.

    Raises:
        RuntimeError: It failed or took too long. Whatever it had started is gone, too.
    """
    process = subprocess.Popen(
        [python, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in _NOT_OURS},
        start_new_session=True,
    )
    try:
        output, complaints = process.communicate(text, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"not done after {timeout_s:g} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    lines = output.splitlines()
    if process.returncode != 0 or not lines:
        reason = complaints.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"exit {process.returncode}: {reason[0][:_SHOWN]}")
    return lines[-1]


def run_child(job: Job, python: str = sys.executable) -> Measurement:
    """Measure a job in a new process of this interpreter or another."""
    if job.workload == "import":
        return Measurement.from_json(run_python(["-m", "benchmarks.imports", job.client]))
    if job.workload == "cold":
        # The monotonic clock is the system's, so the child can tell how long ago it was started.
        return Measurement.from_json(
            run_python(["-m", "benchmarks.cold", str(time.monotonic())], job.to_json())
        )
    return Measurement.from_json(
        run_python(["-m", "benchmarks.child"], job.to_json(), python=python)
    )
