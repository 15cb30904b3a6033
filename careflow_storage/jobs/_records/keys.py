"""The keys of a job's records. No job works on them, its own or those of another."""

from __future__ import annotations

import re

JOBS_PREFIX = "jobs/"
_RECORD = re.compile(r"jobs/([0-9]{8}T[0-9]{6}-[0-9a-f]{8})/")


def folder_of(job_id: str) -> str:
    """Return the prefix of a job's records."""
    return f"{JOBS_PREFIX}{job_id}/"


def is_record(key: str) -> bool:
    """Whether a key is that of a job's record."""
    return key.startswith(JOBS_PREFIX) and _RECORD.match(key) is not None


def job_id_at(key: str) -> str:
    """Return the ID of the job to which a record belongs."""
    found = _RECORD.match(key)
    if found is None:
        raise ValueError(f"{key!r} is no record")
    return found[1]
