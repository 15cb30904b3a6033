"""``careflow-storage rm``: hide files, or erase them permanently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from careflow_storage import BackblazeStorage, NoSuchKeyError
from careflow_storage.cli.actions.batch import warn_of_folder
from careflow_storage.cli.exit_codes import FAILED, NOT_FOUND
from careflow_storage.cli.ui.confirm import confirm, confirm_by_typing
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.cli.ui.progress import human_size
from careflow_storage.errors import InvalidInputError, StorageError
from careflow_storage.models import DeleteResult, PurgeResult
from careflow_storage.recordings import existing_key


@dataclass(frozen=True)
class Removal:
    """What to hide or erase."""

    keys: list[str]
    prefix: str | None
    all_versions: bool
    version_id: str | None
    yes: bool
    dry_run: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Hide or erase, after asking where needed."""
        self._check()
        if self.version_id is not None:
            await self._erase_version(storage, output, self.keys[0], self.version_id)
            return None
        if self.prefix is None:
            return await self._remove_keys(storage, output)
        if not self.all_versions:
            return await self._hide_prefix(storage, output, self.prefix)
        await self._purge_prefix(storage, output, self.prefix)
        return None

    def _check(self) -> None:
        if bool(self.keys) == (self.prefix is not None):
            raise InvalidInputError("Give either KEY or --prefix.")
        if self.version_id is not None and (
            len(self.keys) != 1 or self.prefix is not None or self.all_versions
        ):
            raise InvalidInputError(
                "--version-id takes one KEY, without --prefix and --all-versions."
            )
        for key in self.keys:
            existing_key(key)

    async def _remove_keys(self, storage: BackblazeStorage, output: Output) -> int | None:
        remove = self._purge if self.all_versions else self._hide
        code = None
        for key in self.keys:
            warn_of_folder(output, key)
            try:
                await remove(storage, output, key)
            except NoSuchKeyError as error:
                # The others may exist.
                output.failed(error)
                code = NOT_FOUND
        return code

    # --- one file -----------------------------------------------------------------------

    async def _hide(self, storage: BackblazeStorage, output: Output, key: str) -> None:
        # The server would report success, and add a delete marker, for a key that does not exist.
        if not await storage.file_exists(key):
            raise NoSuchKeyError(
                "The file does not exist, or is already hidden.",
                bucket=storage.settings.bucket_name,
                key=key,
            )
        if self.dry_run:
            _print_plan(output, f"hide {key}", {"key": key})
            return
        result = await storage.delete_file(key)
        output.item(result)
        output.done(f"Hidden: {key} (its versions are kept; use `restore` to bring it back)")

    async def _erase_version(
        self, storage: BackblazeStorage, output: Output, key: str, version_id: str
    ) -> None:
        found = {"key": key, "version_id": version_id}
        if self.dry_run:
            _print_plan(output, f"erase version {version_id} of {key}", found)
            return
        question = f"Erase version {version_id} of {key} permanently?"
        confirm(output, question, yes=self.yes)
        result = await storage.admin.delete_file_version(key, version_id)
        output.item(result)
        output.done(f"Erased: version {version_id} of {key}")

    async def _purge(self, storage: BackblazeStorage, output: Output, key: str) -> None:
        if self.dry_run:
            # Not counted: the count of a prefix includes every key that begins with this one.
            _print_plan(output, f"erase every version of {key}", {"key": key})
            return
        confirm_by_typing(output, f"Erase every version of {key} permanently?", key, yes=self.yes)
        result = await storage.admin.purge_file(key, confirm=key)
        output.item(result)
        output.done(f"Erased: {key} ({_sums(result)})")

    # --- a prefix -----------------------------------------------------------------------

    async def _hide_prefix(
        self, storage: BackblazeStorage, output: Output, prefix: str
    ) -> int | None:
        files = size = 0
        async for page in storage.list_files(prefix).pages():
            files, size = files + len(page), size + sum(file.size for file in page)
        place = f"below {prefix}" if prefix else f"in the bucket {storage.settings.bucket_name}"
        what = f"{counted(files, 'file')} ({human_size(size)}) {place}"
        if not files:
            output.note(f"No files {place}.")
            return None
        if self.dry_run:
            _print_plan(output, f"hide {what}", {"prefix": prefix, "files": files, "size": size})
            return None
        confirm(output, f"Hide {what}?", yes=self.yes)
        hidden = failed = 0
        async for page in storage.list_files(prefix).pages():
            try:
                results = await storage.delete_files([file.key for file in page])
            except StorageError as error:
                _report_failures(output, error.results)
                output.note(f"Hidden before the error: {counted(hidden, 'file')}")
                raise
            failures = _report_failures(output, results)
            failed += failures
            hidden += len(results) - failures
        output.done(f"Hidden: {counted(hidden, 'file')} (their versions are kept)")
        return FAILED if failed else None

    async def _purge_prefix(self, storage: BackblazeStorage, output: Output, prefix: str) -> None:
        bucket = str(storage.settings.bucket_name)
        found = await storage.admin.purge_files(prefix, dry_run=True)
        place = f"below {prefix}" if prefix else f"in the whole bucket {bucket}"
        if self.dry_run:
            _print_plan(output, f"erase {_sums(found)} {place}", found.model_dump())
            return
        question = f"Erase {_sums(found)} {place} permanently?"
        confirm_by_typing(output, question, prefix or bucket, yes=self.yes)
        result = await storage.admin.purge_files(prefix, confirm=prefix or bucket)
        output.item(result)
        output.done(f"Erased: {_sums(result)} {place}")


def _report_failures(output: Output, results: Iterable[DeleteResult]) -> int:
    failures = 0
    for result in results:
        output.item(result)
        if not result.deleted:
            failures += 1
            output.note(f"{result.key}: {result.error_code} {result.error_message}")
    return failures


def _print_plan(output: Output, what: str, fields: Mapping[str, object]) -> None:
    output.line(f"Would {what}.")
    output.item({**fields, "dry_run": True})


def _sums(result: PurgeResult) -> str:
    return ", ".join(
        (
            counted(result.versions, "version"),
            counted(result.delete_markers, "delete marker"),
            counted(result.uploads, "unfinished upload"),
        )
    )
