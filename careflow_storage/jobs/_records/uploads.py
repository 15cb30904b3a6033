"""Records of multipart uploads that a job begins, so that it leaves none behind.

No server lists the metadata of an unfinished upload, so nothing in it can say whose it is. A
record that is stored before the upload begins does: an upload of the recorded key is the job's own
if the server dates it after the record, and it was not there when the record was made. Dates alone
are not enough, since servers give them in whole seconds.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from pydantic import TypeAdapter

from careflow_storage.jobs._records.keys import folder_of
from careflow_storage.jobs._records.parsing import parsed
from careflow_storage.models import IncompleteUpload, Model
from careflow_storage.storage import BackblazeStorage


class _UploadRecord(Model):
    version: int = 1
    key: str
    others: frozenset[str] = frozenset()


_RECORD = TypeAdapter(_UploadRecord)


class UploadRecords:
    """The keys whose multipart uploads a job may have left unfinished."""

    def __init__(self, storage: BackblazeStorage, job_id: str) -> None:
        self._storage = storage
        self._folder = f"{folder_of(job_id)}uploads/"

    @asynccontextmanager
    async def uploading(self, key: str) -> AsyncIterator[None]:
        """Keep a record of ``key`` while its upload runs, and after it has failed. 3 requests."""
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        name = f"{self._folder}{digest}-{secrets.token_hex(4)}.json"
        others = frozenset([upload.upload_id async for upload in self._unfinished(key)])
        content = _UploadRecord(key=key, others=others).model_dump_json().encode()
        record = await self._storage.upload_file(name, content, "application/json")
        yield
        await self._storage.delete_file(name, version_id=record.version_id)

    async def abort_left(self) -> int:
        """Abort the unfinished uploads of recorded keys; return how many there were.

        1 request if no record is left; for each that is, about 4.
        """
        began: dict[str, datetime] = {}
        others: dict[str, frozenset[str]] = {}
        records: list[tuple[str, str | None]] = []
        for file in await self._storage.list_files(self._folder):
            async with self._storage.stream_file(file.key) as stream:
                record = parsed(file.key, _RECORD, await stream.read())
                metadata = stream.metadata
            # Servers list the start of an upload in whole seconds.
            time = metadata.last_modified.replace(microsecond=0)
            began[record.key] = min(time, began.get(record.key, time))
            # A later record of the key names the uploads of earlier runs, too.
            others[record.key] = others.get(record.key, record.others) & record.others
            records.append((file.key, metadata.version_id))
        aborted = 0
        for key, time in began.items():
            async for upload in self._unfinished(key):
                if upload.initiated >= time and upload.upload_id not in others[key]:
                    await self._storage.abort_upload(key, upload.upload_id)
                    aborted += 1
        for name, version_id in records:
            await self._storage.delete_file(name, version_id=version_id)
        return aborted

    async def _unfinished(self, key: str) -> AsyncIterator[IncompleteUpload]:
        for upload in await self._storage.list_incomplete_uploads(key):
            if upload.key == key:
                yield upload
