"""Putting a URL: its entry is on the disk when `UrlEnqueuer.put` returns, its bytes are not."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from careflow_storage._transfer.remote.source_request import SourceRequest
from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._uninterrupted import clean_up_to_end
from careflow_storage.errors import PreconditionFailedError
from careflow_storage.options import IfExists, ObjectOptions
from careflow_storage.outbox.enqueue import Enqueuer, Name, check_storable
from careflow_storage.outbox.models import OutboxEntry
from careflow_storage.outbox.queue import EntryQueue
from careflow_storage.outbox.url_source import UrlSource


class UrlEnqueuer:
    """Writes the entries of URLs into the queue."""

    def __init__(self, queue: EntryQueue, enqueuer: Enqueuer, threads: Threads) -> None:
        self._queue = queue
        self._enqueuer = enqueuer
        self._threads = threads

    async def source(
        self,
        request: SourceRequest,
        *,
        auth_name: str | None,
        if_exists: IfExists,
        content_types: Collection[str] | None,
        **rules: Any,
    ) -> UrlSource:
        """Check a URL and its rules, and return them as they are stored.

        Raises:
            InvalidInputError: The URL could never be fetched.
        """
        UploadOptions(if_exists=if_exists).check_if_exists()
        # Its HTTP client is slow to import.
        module = await self._threads.load("careflow_storage.outbox.remote.fetch")
        # Credentials are not sent over http://, whichever the name stands for.
        auth = None if auth_name is None else ("user", "password")
        request = SourceRequest(request.url, auth, None)
        source = UrlSource(
            request.url,
            shown_url="",
            auth_name=auth_name,
            if_exists=if_exists,
            content_types=None if content_types is None else list(content_types),
            **rules,
        )
        return replace(source, shown_url=module.check_url_source(request, source).shown_url)

    async def put(
        self, name: Name, key: str, source: UrlSource, options: ObjectOptions
    ) -> OutboxEntry:
        """Store one entry, unless the same one exists; return the one that is stored."""
        check_storable(options)
        entry_id = secrets.token_hex(16)
        try:
            return await self._insert(entry_id, name, key, source, options)
        except BaseException:
            await clean_up_to_end(self._queue.forget(entry_id))
            raise

    async def _insert(
        self, entry_id: str, name: Name, key: str, source: UrlSource, options: ObjectOptions
    ) -> OutboxEntry:
        intent = _intent(name, source)
        while True:
            entry = await self._queue.insert_url(entry_id, key, intent, source, options)
            if entry is not None:
                return entry
            earlier = await self._queue.find_url(key, intent)
            if earlier is None:
                continue  # it was discarded meanwhile
            entry, url = earlier
            if url == source.url:
                return entry
            if name.recorded_at is None:
                # Another process has put a recording of this call in the same millisecond.
                key = self._enqueuer.key(name)
                continue
            raise PreconditionFailedError(
                "The outbox has another recording of this call, time and filename.",
                status=412,
                hint="The first one stays. Give the second another time or filename.",
            )


def _intent(name: Name, source: UrlSource) -> str | None:
    """Return a digest that a repeated put has, too; None where the key identifies it."""
    if name.recorded_at is not None:
        return None
    parts = json.dumps([name.call_id, name.filename, source.url])
    return hashlib.sha256(parts.encode()).hexdigest()
