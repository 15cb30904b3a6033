"""``careflow-storage download``: a file, or all below a prefix, out of the bucket."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from careflow_storage import BackblazeStorage, Progress
from careflow_storage.cli.actions.batch import Tally
from careflow_storage.cli.ui.keyfile import read_customer_key
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.progress import Transfers
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import DownloadResult
from careflow_storage.protection import CustomerKey
from careflow_storage.recordings import existing_key, safe_filename


@dataclass(frozen=True)
class DownloadJob:
    """What to fetch, and where to."""

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
        """Download; several files as far as it goes, exit code 1 if not all came."""
        _ = self._encryption  # read before anything is asked
        if self.prefix is not None:
            return await self._download_prefix(storage, output, self.prefix)
        if self.key is None:
            raise InvalidInputError("Nothing to download: give a KEY, or --prefix.")
        return await self._download_one(storage, output, existing_key(self.key))

    async def fetch(
        self,
        storage: BackblazeStorage,
        bars: Transfers,
        key: str,
        size: int | None,
        path: Path,
    ) -> DownloadResult:
        """Fetch one file, with a bar of its own."""
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
            tell(output, key, path)
            return None
        tally = Tally(output, "Downloaded")
        with output.transfers(several=False) as bars:
            result = await self.fetch(storage, bars, key, None, path)
        tally.done(result.size)
        fetched(output, result)
        return tally.summary()

    def _target(self, key: str) -> Path:
        path = self.path or Path()
        if str(path) == "-":
            raise InvalidInputError(
                '"-" is no file.', hint="`careflow-storage cat` writes to stdout."
            )
        return path / safe_filename(key) if path.is_dir() else path

    async def _download_prefix(
        self, storage: BackblazeStorage, output: Output, prefix: str
    ) -> int | None:
        from careflow_storage.cli.download_prefix import PrefixDownload

        if self.path is not None or self.version_id is not None:
            raise InvalidInputError(
                "--prefix takes one FOLDER, and neither a KEY nor --version-id."
            )
        run = PrefixDownload(self, storage, output, prefix, Path(self.key or "."))
        return await run.run()


def refuse_existing(path: Path) -> None:
    """Raise `InvalidInputError` if something is there already."""
    if os.path.lexists(path):
        raise InvalidInputError(f"{str(path)!r} exists already.", hint="--force replaces it.")


def tell(output: Output, key: str, path: Path) -> None:
    """Say what would be done."""
    output.line(f"{key} -> {path}")
    output.item({"key": key, "path": path, "dry_run": True})


def fetched(output: Output, result: DownloadResult) -> None:
    """Say what was done."""
    output.line(str(result.path))
    output.item(result)
