"""``careflow-storage download --prefix``: many files, with their folders."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from careflow_storage import BackblazeStorage
from careflow_storage.cli.actions.batch import Tally, each
from careflow_storage.cli.actions.download import DownloadJob, fetched, refuse_existing, tell
from careflow_storage.cli.actions.local_places import LocalPlaces
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.cli.ui.progress import Transfers
from careflow_storage.models import FileInfo

# So many files may be listed before their turn: the sums are then right from the beginning.
_AHEAD = 10_000


class PrefixDownload:
    """Fetches all files below a prefix into a folder, each where its key says."""

    def __init__(
        self,
        job: DownloadJob,
        storage: BackblazeStorage,
        output: Output,
        prefix: str,
        folder: Path,
    ) -> None:
        self._job = job
        self._storage = storage
        self._output = output
        self._prefix = prefix
        # What is below a folder of the bucket comes below the folder here.
        self._base = prefix.rfind("/") + 1
        verb = "Would download" if job.dry_run else "Downloaded"
        self._tally = Tally(output, verb, timed=not job.dry_run)
        self._places = LocalPlaces(folder)
        self._kept = 0

    async def run(self) -> int | None:
        """Fetch what can be fetched, tell the rest; return the exit code."""
        await asyncio.to_thread(self._places.learn)
        with self._output.transfers(several=True) as bars:
            async with aclosing(self._files(bars)) as files:
                await each(
                    files,
                    lambda file: self._fetch(bars, file),
                    jobs=1 if self._job.dry_run else self._job.jobs,
                    failed=self._failed,
                )
        if self._kept:
            self._output.note(f"Here already: {counted(self._kept, 'file')}.")
        return self._tally.summary()

    async def _files(self, bars: Transfers) -> AsyncGenerator[FileInfo]:
        waiting: deque[FileInfo] = deque()
        listed = size = 0
        complete = False
        pages = self._storage.list_files(self._prefix).pages()
        while True:
            while not complete and len(waiting) < _AHEAD:
                page = await anext(pages, None)
                complete = page is None
                waiting.extend(page or ())
                listed += len(page or ())
                size += sum(file.size for file in page or ())
                bars.expect(listed, size, complete=complete)
            if not waiting:
                return
            yield waiting.popleft()

    async def _fetch(self, bars: Transfers, file: FileInfo) -> None:
        if file.key.endswith("/") and file.size == 0:
            # What consoles store for an empty folder.
            self._kept += 1
            return
        path = self._places.path_of(file.key, self._base)
        dry_run = self._job.dry_run
        await asyncio.to_thread(self._places.make_folders, path, dry_run=dry_run)
        if dry_run:
            tell(self._output, file.key, path)
            self._tally.done(file.size)
            return
        if await asyncio.to_thread(self._is_kept, path, file.size):
            self._kept += 1
            return
        result = await self._job.fetch(self._storage, bars, file.key, file.size, path)
        self._tally.done(result.size)
        fetched(self._output, result)

    def _is_kept(self, path: Path, size: int) -> bool:
        """Whether an interrupted run has finished this file: they appear whole or not at all."""
        if self._job.resume and path.is_file() and path.stat().st_size == size:
            return True
        if not self._job.force:
            refuse_existing(path)
        return False

    def _failed(self, file: FileInfo, error: Exception) -> None:
        self._tally.fail(file.key, {"key": file.key}, error)
