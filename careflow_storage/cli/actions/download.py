"""``careflow-storage download``: download a file, or all files below a prefix."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from careflow_storage import BackblazeStorage, Progress
from careflow_storage.cli.actions.batch import Tally, each, warn_of_folder
from careflow_storage.cli.actions.local_places import LocalPlaces
from careflow_storage.cli.ui.keyfile import read_customer_key
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.cli.ui.progress import Transfers
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import DownloadResult, FileInfo
from careflow_storage.protection import CustomerKey
from careflow_storage.recordings import existing_key, safe_filename


@dataclass(frozen=True)
class DownloadJob:
    """What to download, and where to."""

    key: str | None
    path: Path | None
    prefix: str | None
    force: bool
    resume: bool
    version_id: str | None
    customer_key_file: Path | None
    jobs: int
    dry_run: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Download; return exit code 1 if some of several files failed."""
        _ = self._encryption  # read before the first request
        if self.prefix is not None:
            return await self._download_prefix(storage, output, self.prefix)
        if self.key is None:
            raise InvalidInputError("Give a KEY or --prefix.")
        warn_of_folder(output, self.key)
        return await self._download_one(storage, output, existing_key(self.key))

    async def fetch(
        self,
        storage: BackblazeStorage,
        bars: Transfers,
        key: str,
        size: int | None,
        path: Path,
    ) -> DownloadResult:
        """Download one file, with a progress bar."""
        with bars.file(path.name, size) as moved:

            def show(progress: Progress) -> None:
                moved(progress.transferred, progress.total)

            return await storage.download_file(
                key,
                path,
                version_id=self.version_id,
                resume=self.resume,
                encryption=self._encryption,
                progress=show,
            )

    @cached_property
    def _encryption(self) -> CustomerKey | None:
        return read_customer_key(self.customer_key_file)

    async def _download_one(
        self, storage: BackblazeStorage, output: Output, key: str
    ) -> int | None:
        path = self._target(key)
        if not self.force:
            await asyncio.to_thread(refuse_existing, path)
        if self.dry_run:
            print_plan(output, key, path)
            return None
        tally = Tally(output, "Downloaded")
        with output.transfers(several=False) as bars:
            result = await self.fetch(storage, bars, key, None, path)
        tally.done(result.size)
        print_result(output, result)
        return tally.summary()

    def _target(self, key: str) -> Path:
        path = self.path or Path()
        if str(path) == "-":
            raise InvalidInputError(
                '"-" is not a file.', hint="To write to stdout, use `careflow-storage cat`."
            )
        return path / safe_filename(key) if path.is_dir() else path

    async def _download_prefix(
        self, storage: BackblazeStorage, output: Output, prefix: str
    ) -> int | None:
        if self.path is not None or self.version_id is not None:
            raise InvalidInputError("--prefix takes one FOLDER, no KEY and no --version-id.")
        run = PrefixDownload(self, storage, output, prefix, Path(self.key or "."))
        return await run.run()


def refuse_existing(path: Path) -> None:
    """Raise `InvalidInputError` if the path exists."""
    if os.path.lexists(path):
        raise InvalidInputError(f"{str(path)!r} already exists.", hint="Use --force to replace it.")


def print_plan(output: Output, key: str, path: Path) -> None:
    """Print what a dry run would do."""
    output.line(f"{key} -> {path}")
    output.item({"key": key, "path": path, "dry_run": True})


def print_result(output: Output, result: DownloadResult) -> None:
    """Print a file that was downloaded."""
    output.line(str(result.path))
    output.item(result)


# Files listed in advance, so that the totals of most downloads are right from the start.
_AHEAD = 10_000


class PrefixDownload:
    """Downloads all files below a prefix to a folder, each to the path in its key."""

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
        # A file below a folder of the bucket goes directly below the local folder.
        self._base = prefix.rfind("/") + 1
        verb = "Would download" if job.dry_run else "Downloaded"
        self._tally = Tally(output, verb, timed=not job.dry_run)
        self._places = LocalPlaces(folder)
        self._kept = 0

    async def run(self) -> int | None:
        """Download the files and report those that failed; return the exit code."""
        await asyncio.to_thread(self._places.detect_case)
        with self._output.transfers(several=True) as bars:
            async with aclosing(self._files(bars)) as files:
                await each(
                    files,
                    lambda file: self._fetch(bars, file),
                    jobs=1 if self._job.dry_run else self._job.jobs,
                    failed=self._failed,
                )
        if self._kept:
            self._output.note(f"Already downloaded: {counted(self._kept, 'file')}.")
        return self._tally.summary()

    async def _files(self, bars: Transfers) -> AsyncGenerator[FileInfo]:
        pending: deque[FileInfo] = deque()
        listed = size = 0
        complete = False
        pages = self._storage.list_files(self._prefix).pages()
        while True:
            while not complete and len(pending) < _AHEAD:
                page = await anext(pages, None)
                complete = page is None
                pending.extend(page or ())
                listed += len(page or ())
                size += sum(file.size for file in page or ())
                bars.expect(listed, size, complete=complete)
            if not pending:
                return
            yield pending.popleft()

    async def _fetch(self, bars: Transfers, file: FileInfo) -> None:
        if file.key.endswith("/") and file.size == 0:
            # Web consoles store this for an empty folder.
            self._kept += 1
            return
        path = self._places.path_of(file.key, self._base)
        dry_run = self._job.dry_run
        await asyncio.to_thread(self._places.make_folders, path, dry_run=dry_run)
        if dry_run:
            print_plan(self._output, file.key, path)
            self._tally.done(file.size)
            return
        if await asyncio.to_thread(self._is_kept, path, file.size):
            self._kept += 1
            return
        result = await self._job.fetch(self._storage, bars, file.key, file.size, path)
        self._tally.done(result.size)
        print_result(self._output, result)

    def _is_kept(self, path: Path, size: int) -> bool:
        """Whether an interrupted run has completed this file. Files appear only when complete."""
        if self._job.resume and path.is_file() and path.stat().st_size == size:
            return True
        if not self._job.force:
            refuse_existing(path)
        return False

    def _failed(self, file: FileInfo, error: Exception) -> None:
        self._tally.fail(file.key, {"key": file.key}, error)
