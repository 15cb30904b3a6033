"""Count what is stored, page by page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial

from careflow_storage._s3.requests.listing import checked_prefix
from careflow_storage._s3.requests.versions import version_pages
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.tasks import task_group
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    NoSuchUploadError,
    NotSupportedError,
)
from careflow_storage.models import FileVersion, IncompleteUpload
from careflow_storage.usage.models import UsageReport
from careflow_storage.usage.tally import (
    FILE,
    HIDDEN,
    MARKER,
    UNFINISHED,
    Groups,
    Months,
    Tally,
    call_of,
    folder_of,
    grouped,
)

_MOST_GROUPS = 100_000
_UPLOADS_AT_ONCE = 8

NOT_LISTED = (
    "Unfinished uploads are not counted: {reason}. Their parts are stored and billed. "
    "Use a key with the capability listFiles for the whole bucket."
)
PARTS_NOT_LISTED = (
    "The bytes of {uploads} of the unfinished uploads are not counted: {reason}. They are stored "
    "and billed. Use a key with the capability writeFiles, which B2 requires for ListParts."
)


async def measure(context: TransferContext, prefix: str, *, top: int = 100) -> UsageReport:
    """Count what is stored below a prefix.

    Counts unfinished uploads first, then versions: an upload that is completed in between is
    counted twice, but none is missed. Keeps in memory one page, ``top`` folders and calls, and
    about 0.5 KB for each folder and call with unfinished uploads.

    Raises:
        InvalidInputError: ``prefix`` or ``top`` is invalid.
        AccessDeniedError: The key may not list files. If it only may not list uploads or their
            parts, the rest is counted, and a note says so.
    """
    prefix = checked_prefix(prefix)
    if type(top) is not int or not 1 <= top <= _MOST_GROUPS:
        raise InvalidInputError(f"top must be 1 to {_MOST_GROUPS}, not {top!r}.")
    measured_at, started = datetime.now(UTC), time.monotonic()
    unfinished = _Unfinished(context, prefix)
    await unfinished.count()
    months = unfinished.months
    in_folder = partial(folder_of, prefix=prefix)
    folders, calls = Groups(top, unfinished.folders), Groups(top, unfinished.calls)
    async for page in version_pages(context.requests, prefix):
        rows = _rows(page, months)
        folders.page(grouped(rows, in_folder))
        calls.page(grouped(rows, call_of))
    return UsageReport(
        bucket=context.session.bucket,
        prefix=prefix,
        measured_at=measured_at,
        total=months.total(),
        by_folder=folders.finish(),
        folders=folders.count,
        by_call=calls.finish(),
        calls=calls.count,
        by_month=months.finish(),
        notes=unfinished.notes(),
        took=timedelta(seconds=time.monotonic() - started),
    )


def _rows(page: Sequence[FileVersion], months: Months) -> list[tuple[str, int, int]]:
    rows = []
    for version in page:
        kind = MARKER if version.delete_marker else FILE if version.is_latest else HIDDEN
        size = version.size
        month = months.of(version.last_modified)
        month[kind] += 1
        month[kind + 1] += size
        rows.append((version.key, kind, size))
    return rows


class _Unfinished:
    """Counts the unfinished uploads and their parts."""

    def __init__(self, context: TransferContext, prefix: str) -> None:
        self._context = context
        self._prefix = prefix
        self._refused: str | None = None
        self._parts_refused: str | None = None
        self._unknown = 0
        self.months = Months()
        self.folders: dict[str, Tally] = {}
        self.calls: dict[str, Tally] = {}

    async def count(self) -> None:
        await self._context.control.prepare()
        try:
            async with aclosing(self._context.control.incomplete_pages(self._prefix)) as pages:
                async for page in pages:
                    await self._count_page(page.uploads)
        except (AccessDeniedError, NotSupportedError) as error:
            self._refused = _reason(error)

    def notes(self) -> tuple[str, ...]:
        notes = []
        if self._refused is not None:
            notes.append(NOT_LISTED.format(reason=self._refused))
        if self._parts_refused is not None:
            notes.append(PARTS_NOT_LISTED.format(uploads=self._unknown, reason=self._parts_refused))
        return tuple(notes)

    async def _count_page(self, uploads: Sequence[IncompleteUpload]) -> None:
        window = asyncio.Semaphore(_UPLOADS_AT_ONCE)
        found: list[tuple[str, int, int]] = []

        async def count(upload: IncompleteUpload) -> None:
            async with window:
                size = await self._bytes_of(upload)
            if size is None:
                return
            month = self.months.of(upload.initiated)
            month[UNFINISHED] += 1
            month[UNFINISHED + 1] += size
            found.append((upload.key, UNFINISHED, size))

        async with task_group() as group:
            for upload in uploads:
                group.create_task(count(upload))
        _add_groups(self.folders, grouped(found, partial(folder_of, prefix=self._prefix)))
        _add_groups(self.calls, grouped(found, call_of))

    async def _bytes_of(self, upload: IncompleteUpload) -> int | None:
        """Return the bytes of the stored parts; None if the upload has ended meanwhile."""
        if self._parts_refused is None:
            try:
                parts = await self._context.multipart.list_parts(upload.key, upload.upload_id)
            except NoSuchUploadError:
                return None
            except (AccessDeniedError, NotSupportedError) as error:
                self._parts_refused = _reason(error)
            else:
                # SeaweedFS lists a part that was sent twice two times.
                return sum({part.number: part.size for part in parts}.values())
        self._unknown += 1
        return 0


def _add_groups(total: dict[str, Tally], page: dict[str, Tally]) -> None:
    for name, tally in page.items():
        if (before := total.get(name)) is None:
            total[name] = tally
            continue
        for index, count in enumerate(tally):
            before[index] += count


def _reason(error: AccessDeniedError | NotSupportedError) -> str:
    if isinstance(error, NotSupportedError):
        return "the server cannot list them"
    return f"the key may not list them ({error.code or error.status or 'AccessDenied'})"
