"""The jobs that run in this process, each once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from careflow_storage.jobs.errors import JobError

# Of the process, as are the jobs: event loops in other threads run jobs, too.
_lock = threading.Lock()
_job_ids: set[str] = set()


@contextmanager
def running(job_id: str) -> Iterator[None]:
    """Mark a job as running.

    Raises:
        JobError: It runs already.
    """
    with _lock:
        if job_id in _job_ids:
            raise JobError(
                f"The job {job_id} runs in this process already.",
                hint="Wait for it. A new job needs a new ID.",
            )
        _job_ids.add(job_id)
    try:
        yield
    finally:
        with _lock:
            _job_ids.discard(job_id)
