"""One fetch: from a URL to a spool file, after which the entry is like that of any recording."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import replace
from functools import partial

from careflow_storage._transfer.bodies.parts import check_size
from careflow_storage._transfer.bodies.sources import open_source
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.remote.checks import CheckedSource, check_source, request_headers
from careflow_storage._transfer.remote.source import RemoteFile
from careflow_storage._transfer.remote.source_request import SourceRequest
from careflow_storage._transfer.threads import Threads
from careflow_storage._uninterrupted import clean_up_to_end, run_to_end
from careflow_storage.errors import InvalidInputError, SourceError
from careflow_storage.options import ObjectOptions
from careflow_storage.outbox.enqueue import SpoolCopy
from careflow_storage.outbox.errors import CredentialsError, OutboxError
from careflow_storage.outbox.files import Spool, SpoolFile
from careflow_storage.outbox.models import OutboxEntry
from careflow_storage.outbox.queue import EntryQueue
from careflow_storage.outbox.remote.credentials import NamedCredentials
from careflow_storage.outbox.rows import Claim
from careflow_storage.outbox.url_source import UrlSource


class Fetcher:
    """Fetches the bytes of entries."""

    def __init__(
        self, queue: EntryQueue, spool: Spool, threads: Threads, credentials: NamedCredentials
    ) -> None:
        self._queue = queue
        self._spool = spool
        self._threads = threads
        self._credentials = credentials

    async def fetch(self, context: TransferContext, claim: Claim, source: UrlSource) -> Claim:
        """Fetch an entry's bytes to the disk; return the claim with their size and SHA-256.

        Each fetch writes a file of its own, which the entry names. So what a fetch still writes
        after it has lost its lease is never taken for the recording.

        Raises:
            CredentialsError: The outbox lacks the credentials that the entry names.
            SourceError: See `BackblazeStorage.upload_from_url`; or ``fetch_timeout`` has passed.
            OutboxFullError: There is no room for the bytes.
            OutboxError: The lease has ended meanwhile.
        """
        checked = await self._checked(source)
        file_id = secrets.token_hex(16)
        if not await self._queue.begin_fetch(claim.entry.id, file_id):
            raise _lease_lost()
        if claim.file != claim.entry.id:
            # A fetch that was killed has left it.
            await self._remove(claim.file)
        file = self._spool.create(file_id)
        entry: OutboxEntry | None = None

        async def commit(sha256: str, content_type: str) -> None:
            nonlocal entry
            entry = await self._queue.end_fetch(
                claim.entry.id, file_id, size=file.size, sha256=sha256, content_type=content_type
            )

        try:
            content_type = await self._read(context, checked, claim, file, source.fetch_timeout)
            sha256 = await self._threads.run(file.finish)
            await run_to_end(commit(sha256, claim.options.get("content_type") or content_type))
            if entry is None:
                raise _lease_lost()
        except BaseException:
            if entry is None:
                await clean_up_to_end(self._undo(file, file_id))
            raise
        options: ObjectOptions = {**claim.options, "content_type": entry.content_type}
        return replace(claim, entry=entry, file=file_id, options=options)

    async def _checked(self, source: UrlSource) -> CheckedSource:
        request = await self._credentials.request(source.url, source.auth_name)
        try:
            request_headers(request.auth, request.headers)
        except InvalidInputError as error:
            # The operator can correct them, so the entry is not given up.
            raise CredentialsError(
                f"The credentials {source.auth_name!r} cannot be sent: {error.message}"
            ) from None
        return check_url_source(request, source)

    async def _read(
        self,
        context: TransferContext,
        checked: CheckedSource,
        claim: Claim,
        file: SpoolFile,
        seconds: float,
    ) -> str:
        """Read the source into a file; return the content type to store."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit, RemoteFile(context, checked.url, checked.rules) as remote:
                content_type = await checked.content_type(remote, claim.entry.key)
                async with open_source(remote, self._threads, size=remote.size) as body:
                    if remote.size is not None:
                        await self._queue.reserve_more(claim.entry.id, remote.size)
                    await self._threads.run(file.open)
                    copy = SpoolCopy(self._queue, self._threads, body, file, claim.entry.id)
                    await copy.run()
                    check_size(body.size, file.size, ended=True)
                return content_type
        except TimeoutError:
            if not limit.expired():
                raise
        raise SourceError(
            f"The source {checked.shown_url} cannot be used: it was not read within {seconds:g} s.",
            retryable=True,
        )

    async def _undo(self, file: SpoolFile, file_id: str) -> None:
        await self._threads.clean_up(file.close)
        await self._remove(file_id)

    async def _remove(self, file_id: str) -> None:
        # A file that stays is deleted by the next clean-up, since no entry needs it.
        with suppress(OSError):
            await self._threads.clean_up(partial(self._spool.remove, file_id))


def check_url_source(request: SourceRequest, source: UrlSource) -> CheckedSource:
    """Check a request under the rules of an entry.

    Raises:
        InvalidInputError: It must not be sent.
    """
    return check_source(
        request,
        max_size=source.max_size,
        content_types=source.content_types,
        allow_private_addresses=source.allow_private_addresses,
        max_redirects=source.max_redirects,
        use_proxy=source.use_proxy,
        # The outbox itself tries again later, and delivers others meanwhile.
        only_resume=True,
    )


def _lease_lost() -> OutboxError:
    return OutboxError("The lease of the entry ended before its source was read.", retryable=True)
