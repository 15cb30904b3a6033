"""Threads for clients that block."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from benchmarks.model import Job

# Starlette's number, and so FastAPI's. asyncio's own would be six on two cores.
_THREADS = "40"


def use_threads(job: Job) -> None:
    """How many blocking calls ``asyncio.to_thread`` runs at once (option ``threads``)."""
    threads = int(job.options.get("threads", _THREADS))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
