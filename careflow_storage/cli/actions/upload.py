"""``careflow-storage upload``: upload files, folders or standard input."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from careflow_storage import BackblazeStorage, Progress
from careflow_storage._transfer.bodies.sources import UploadBody
from careflow_storage.cli.actions.batch import Tally, each
from careflow_storage.cli.actions.local_files import Found, LocalFile, find_files
from careflow_storage.cli.ui.keyfile import chosen_encryption
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.cli.ui.pipes import stdin_body
from careflow_storage.cli.ui.progress import Moved, Transfers, human_size
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import ChecksumAlgorithm, UploadResult
from careflow_storage.options import ObjectOptions
from careflow_storage.recordings import validate_key

_STDIN = "-"


@dataclass(frozen=True)
class UploadTarget:
    """The keys under which files are stored."""

    key: str | None
    prefix: str | None
    call_id: str | None
    name: str | None
    recorded_at: datetime | None

    def check(self) -> None:
        """Raise `InvalidInputError` for options that cannot be used together."""
        values = {"--key": self.key, "--prefix": self.prefix, "--call-id": self.call_id}
        given = [option for option, value in values.items() if value is not None]
        if len(given) > 1:
            raise InvalidInputError(f"{' and '.join(given)} cannot be used together.")
        if self.call_id is None and (self.name is not None or self.recorded_at is not None):
            raise InvalidInputError("--name and --recorded-at need --call-id.")

    def check_files(self, files: Sequence[LocalFile]) -> None:
        """Raise `InvalidInputError` if two files would get the same key."""
        if len(files) != 1 and (self.key is not None or self.name is not None):
            option = "--key" if self.key is not None else "--name"
            raise InvalidInputError(
                f"{option} is for one file, not for {len(files)}.",
                hint="Use --prefix to store several files below a folder.",
            )
        if self.call_id is not None:
            return
        taken: dict[str, Path] = {}
        for file in files:
            other = taken.setdefault(self.key_of(file), file.path)
            if other != file.path:
                raise InvalidInputError(
                    f"{str(other)!r} and {str(file.path)!r} would get the same key, "
                    f"{self.key_of(file)!r}.",
                    hint="Upload them separately, with another --prefix.",
                )

    def key_of(self, file: LocalFile) -> str:
        """Return the key of a file; the time in that of a recording is still open."""
        if self.key is not None:
            return self.key
        if self.call_id is not None:
            return f"recordings/{self.call_id}/TIME-{self.name or file.path.name}"
        folder = f"{self.prefix.rstrip('/')}/" if self.prefix else ""
        return folder + file.name


@dataclass(frozen=True)
class UploadJob:
    """What to upload, where to, and how."""

    sources: list[str]
    target: UploadTarget
    options: ObjectOptions
    overwrite: bool
    resume: bool
    jobs: int
    dry_run: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Upload; return exit code 1 if some of several files failed."""
        self._check()
        if self.sources == [_STDIN]:
            await self._upload_stdin(storage, output)
            return None
        found = await asyncio.to_thread(find_files, self.sources)
        self.target.check_files(found.files)
        if skipped := found.skipped():
            output.note(f"Skipped: {skipped}.")
        if self.dry_run:
            self._print_plan(output, found)
            return None
        if len(found.files) == 1 and not found.unreadable:
            return await self._upload_one(storage, output, found.files[0])
        return await self._upload_several(storage, output, found)

    def _check(self) -> None:
        self.target.check()
        if self.target.call_id is not None and self.target.recorded_at is None:
            self._check_new_time()
        if _STDIN in self.sources:
            self._check_stdin()

    def _check_new_time(self) -> None:
        """Refuse options that need the key of an earlier upload."""
        if self.resume:
            raise InvalidInputError(
                "--resume with --call-id needs --recorded-at.",
                hint="The time is part of the key: another time would start another upload.",
            )
        if not self.overwrite:
            raise InvalidInputError(
                "--no-overwrite with --call-id needs --recorded-at.",
                hint="The time is part of the key: without it every upload gets a new key.",
            )

    def _check_stdin(self) -> None:
        if self.sources != [_STDIN]:
            raise InvalidInputError('"-" cannot be combined with other sources.')
        if self.target.key is None and (self.target.call_id is None or self.target.name is None):
            raise InvalidInputError(
                "Standard input has no name.",
                hint="Use --key, or --call-id and --name.",
            )
        if self.resume:
            raise InvalidInputError("An upload of standard input cannot be resumed.")

    def _print_plan(self, output: Output, found: Found) -> None:
        for file in found.files:
            key = self.target.key_of(file)
            output.line(f"{file.path} -> {key}")
            output.item({"path": file.path, "key": key, "size": file.size, "dry_run": True})
        output.note(f"Would upload {counted(len(found.files), 'file')}, {human_size(found.size)}.")

    # --- sending ------------------------------------------------------------------------

    async def _upload_stdin(self, storage: BackblazeStorage, output: Output) -> None:
        if self.dry_run:
            name = LocalFile(Path(_STDIN), self.target.name or _STDIN, 0)
            output.item({"path": _STDIN, "key": self.target.key_of(name), "dry_run": True})
            output.note("Would upload standard input.")
            return
        if sys.stdin.isatty():
            output.note("Reading from the terminal. Press Ctrl-D to end.")
        tally = Tally(output, "Uploaded")
        with output.transfers(several=False) as bars, bars.file("stdin", None) as moved:
            result = await self._store(
                storage, stdin_body(), self.target.name or "stdin", self.target.key, moved
            )
        tally.done(result.size)
        self._print_result(output, _STDIN, result)
        tally.summary()

    async def _upload_one(
        self, storage: BackblazeStorage, output: Output, file: LocalFile
    ) -> int | None:
        tally = Tally(output, "Uploaded")
        with output.transfers(several=False) as bars:
            await self._upload(storage, output, bars, tally, file)
        return tally.summary()

    async def _upload_several(
        self, storage: BackblazeStorage, output: Output, found: Found
    ) -> int | None:
        tally = Tally(output, "Uploaded")

        def failed(file: LocalFile, error: Exception) -> None:
            fields = {"path": str(file.path), "key": self.target.key_of(file)}
            tally.fail(str(file.path), fields, error)

        for error in found.unreadable:
            tally.fail(str(error.filename), {"path": str(error.filename)}, error)
        with output.transfers(several=True) as bars:
            bars.expect(len(found.files), found.size, complete=True)
            await each(
                _one_by_one(found.files),
                lambda file: self._upload(storage, output, bars, tally, file),
                jobs=self.jobs,
                failed=failed,
            )
        return tally.summary()

    async def _upload(
        self,
        storage: BackblazeStorage,
        output: Output,
        bars: Transfers,
        tally: Tally,
        file: LocalFile,
    ) -> None:
        key = None if self.target.call_id is not None else validate_key(self.target.key_of(file))
        name = self.target.name or file.path.name
        with bars.file(file.path.name, file.size) as moved:
            result = await self._store(storage, file.path, name, key, moved)
        tally.done(result.size)
        self._print_result(output, str(file.path), result)

    async def _store(
        self,
        storage: BackblazeStorage,
        body: UploadBody,
        name: str,
        key: str | None,
        moved: Moved,
    ) -> UploadResult:
        def show(progress: Progress) -> None:
            moved(progress.transferred, progress.total)

        if self.target.call_id is not None:
            return await storage.upload_recording(
                self.target.call_id,
                body,
                name,
                recorded_at=self.target.recorded_at,
                overwrite=self.overwrite,
                resume=self.resume,
                progress=show,
                **self.options,
            )
        return await storage.upload_file(
            str(key),
            body,
            overwrite=self.overwrite,
            resume=self.resume,
            progress=show,
            **self.options,
        )

    def _print_result(self, output: Output, path: str, result: UploadResult) -> None:
        output.line(result.key)
        output.item({"path": path, **result.model_dump(mode="json")})


async def _one_by_one(files: Iterable[LocalFile]) -> AsyncIterator[LocalFile]:
    for file in files:
        yield file


def object_options(
    metadata: Iterable[str],
    encryption: str | None,
    customer_key_file: Path | None,
    *,
    content_type: str | None,
    checksum: ChecksumAlgorithm | None,
) -> ObjectOptions:
    """Read what is stored with an object from the command line.

    Raises:
        InvalidInputError: ``metadata`` is not NAME=VALUE, or the encryption is not clear.
    """
    return {
        "content_type": content_type,
        "metadata": _metadata(metadata),
        "checksum": checksum,
        "encryption": chosen_encryption(encryption, customer_key_file),
    }


def _metadata(pairs: Iterable[str]) -> dict[str, str] | None:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InvalidInputError(f"--metadata {pair!r} is not NAME=VALUE.")
        found[name] = value
    return found or None
