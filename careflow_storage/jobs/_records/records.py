"""Reads and writes the records of a job, in the bucket of its target."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

from pydantic import TypeAdapter

from careflow_storage.errors import NoSuchKeyError, PreconditionFailedError
from careflow_storage.jobs._records.key_files import error_lines
from careflow_storage.jobs._records.keys import folder_of
from careflow_storage.jobs._records.parsing import JOB, parsed
from careflow_storage.jobs.errors import JobError, NoSuchJobError
from careflow_storage.jobs.models import AnyJob
from careflow_storage.jobs.results import JobReport, ObjectError, ShardResult
from careflow_storage.options import IfExists
from careflow_storage.storage import BackblazeStorage

_ERROR = TypeAdapter(ObjectError)
_KEYS = TypeAdapter(list[str])
_REPORT = TypeAdapter(JobReport)
_SHARD = TypeAdapter(ShardResult)
_AT_ONCE = 32
_JSON = "application/json"
_JSON_LINES = "application/jsonl"


def new_shard_id() -> str:
    """Return a unique ID. IDs sort by the time at which they were made."""
    return f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}"


class JobRecords:
    """The records of one job. Each is an object of its own, written once.

    ::

        jobs/{job_id}/job.json             the job, as it was begun
        jobs/{job_id}/keys.json            the keys of its `keys_file`
        jobs/{job_id}/shards/{id}.json     the result of a finished shard
        jobs/{job_id}/errors/{id}.jsonl    the errors of its objects, one on each line
        jobs/{job_id}/values/{id}.jsonl    what the function of a `MapJob` returned, by key
        jobs/{job_id}/uploads/{id}.json    a key whose multipart upload runs (`UploadRecords`)
        jobs/{job_id}/report.json          the report, when the job has stopped
    """

    def __init__(self, storage: BackblazeStorage, job_id: str) -> None:
        self.folder: str = folder_of(job_id)
        self._storage = storage
        self._job_id = job_id

    # --- the job ------------------------------------------------------------------------

    async def save_job(self, job: AnyJob) -> None:
        """Store the job.

        Raises:
            JobError: The bucket has a job with this ID.
        """
        try:
            await self._save("job.json", JOB.dump_json(job), if_new=True)
        except PreconditionFailedError as error:
            raise JobError(
                f"The bucket has a job {self._job_id} already.",
                bucket=error.bucket,
                key=error.key,
                hint="resume_job() continues it. A new job needs a new ID.",
            ) from None

    async def erase_job(self) -> None:
        """Delete the records of a job that has done nothing."""
        for name in ("report.json", "keys.json", "job.json"):
            key = f"{self.folder}{name}"
            if await self._storage.file_exists(key):
                await self._storage.delete_file(key)

    async def load_job(self) -> tuple[AnyJob, datetime]:
        """Return the job and the time at which it was begun.

        Raises:
            NoSuchJobError: There is none with this ID.
            JobVersionError: Another version wrote it.
        """
        key = f"{self.folder}job.json"
        try:
            metadata = await self._storage.get_file_metadata(key)
            content = await self._storage.get_file(key)
        except NoSuchKeyError as error:
            raise NoSuchJobError(
                f"The bucket has no job {self._job_id}.",
                bucket=error.bucket,
                hint="list_jobs() lists the jobs of a bucket. The records of a copy are in the "
                "bucket of its target.",
            ) from None
        return parsed(key, JOB, content), metadata.last_modified

    async def save_keys(self, keys: Sequence[str]) -> None:
        """Store the keys of a file, so that a resume needs the file no more."""
        await self._save("keys.json", json.dumps(keys).encode())

    async def load_keys(self) -> list[str]:
        """Return the stored keys."""
        key = f"{self.folder}keys.json"
        return parsed(key, _KEYS, await self._storage.get_file(key))

    # --- shards -------------------------------------------------------------------------

    async def save_errors(self, shard_id: str, errors: Sequence[ObjectError]) -> str:
        """Store the errors of a shard; return their key."""
        return await self._save(f"errors/{shard_id}.jsonl", error_lines(errors), _JSON_LINES)

    async def load_errors(self, key: str) -> list[ObjectError]:
        """Return the errors in a file of errors."""
        lines = (await self._storage.get_file(key)).splitlines()
        return [parsed(key, _ERROR, line) for line in lines]

    async def save_values(self, shard_id: str, values: Mapping[str, str]) -> str:
        """Store what a function has returned, JSON by key; return the key of the record."""
        lines = (f'{{"key":{json.dumps(key)},"value":{value}}}\n' for key, value in values.items())
        return await self._save(f"values/{shard_id}.jsonl", "".join(lines).encode(), _JSON_LINES)

    async def save_shard(self, result: ShardResult) -> None:
        """Store the result of a finished shard."""
        content = result.model_dump_json(exclude_none=True, exclude={"errors"})
        await self._save(f"shards/{result.shard_id}.json", content.encode())

    async def shards(self) -> AsyncIterator[ShardResult]:
        """Yield the results of all finished shards in the order in which they ended.

        1 request each, and 1 per 1000 to list them.

        Raises:
            JobVersionError: Another version wrote one.
        """
        async for page in self._storage.list_files(f"{self.folder}shards/").pages():
            for first in range(0, len(page), _AT_ONCE):
                keys = [file.key for file in page[first : first + _AT_ONCE]]
                contents = await asyncio.gather(*(self._storage.get_file(key) for key in keys))
                for key, content in zip(keys, contents, strict=True):
                    yield parsed(key, _SHARD, content)

    # --- the report ---------------------------------------------------------------------

    async def save_report(self, report: JobReport) -> None:
        """Store the report."""
        await self._save("report.json", report.model_dump_json().encode())

    async def load_report(self) -> JobReport | None:
        """Return the stored report, or None if the job has not stopped."""
        key = f"{self.folder}report.json"
        try:
            content = await self._storage.get_file(key)
        except NoSuchKeyError:
            return None
        return parsed(key, _REPORT, content)

    async def erase_report(self) -> None:
        """Delete the report of an earlier run."""
        await self._storage.delete_file(f"{self.folder}report.json")

    async def _save(
        self, name: str, content: bytes, content_type: str = _JSON, *, if_new: bool = False
    ) -> str:
        key = f"{self.folder}{name}"
        if_exists: IfExists = "error" if if_new else "replace"
        await self._storage.upload_file(key, content, content_type, if_exists=if_exists)
        return key
