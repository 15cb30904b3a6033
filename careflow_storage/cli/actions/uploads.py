"""``careflow-storage uploads``: list, abort and keep unfinished uploads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.text import Text

from careflow_storage import BackblazeStorage
from careflow_storage.cli.exit_codes import NOT_FOUND
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.output import Output, counted, moment
from careflow_storage.cli.ui.progress import human_size
from careflow_storage.errors import AccessDeniedError, InvalidInputError
from careflow_storage.models import IncompleteUpload


async def list_uploads(storage: BackblazeStorage, output: Output, prefix: str) -> None:
    """Print the uploads below their keys."""
    uploads = await storage.list_incomplete_uploads(prefix)
    _print(output, uploads)
    output.note(f"{counted(len(uploads), 'unfinished upload')}.")


def _print(output: Output, uploads: list[IncompleteUpload]) -> None:
    now, key = datetime.now(UTC), None
    for upload in uploads:
        output.item(upload)
        if upload.key != key:
            key = upload.key
            output.line(Text(clean(key), style="bold"))
        age = _age(now - upload.initiated)
        facts = Text.assemble(f"  {moment(upload.initiated)}", (f"  {age:>9}", "cyan"))
        output.entry(facts, upload.upload_id)


def _age(age: timedelta) -> str:
    seconds = age.total_seconds()
    for unit, length in (("days", 86_400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


@dataclass(frozen=True)
class Abort:
    """Uploads to abort."""

    key: str | None
    upload_id: str | None
    older_than: timedelta | None
    prefix: str
    yes: bool
    dry_run: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Abort one, or all that are older, after asking."""
        one = self.key is not None and self.upload_id is not None
        if one == (self.older_than is not None) or (self.key is not None and not one):
            raise InvalidInputError("Give either KEY and UPLOAD_ID, or --older-than.")
        if self.older_than is not None:
            await self._abort_older(storage, output, self.older_than)
            return None
        return await self._abort_one(storage, output, str(self.key), str(self.upload_id))

    async def _abort_one(
        self, storage: BackblazeStorage, output: Output, key: str, upload_id: str
    ) -> int | None:
        found = {"key": key, "upload_id": upload_id}
        if not await _may_exist(storage, key, upload_id):
            output.warn(f"There is no unfinished upload {upload_id} of {key}.")
            return NOT_FOUND
        if self.dry_run:
            output.item({**found, "dry_run": True})
            output.line(f"Would abort {upload_id} of {key}.")
            return None
        confirm(output, f"Abort {upload_id} of {key}, and erase its parts?", yes=self.yes)
        await storage.abort_upload(key, upload_id)
        output.item(found)
        output.done(f"Aborted: {upload_id} of {key}")
        return None

    async def _abort_older(
        self, storage: BackblazeStorage, output: Output, older_than: timedelta
    ) -> None:
        limit = datetime.now(UTC) - older_than
        uploads = await storage.list_incomplete_uploads(self.prefix)
        stale = [upload for upload in uploads if upload.initiated < limit]
        total = counted(len(uploads), "unfinished upload")
        if self.dry_run or not stale:
            _print(output, stale)
            output.note(f"{len(stale):,} of {total} started before that.")
            return
        if not self.yes and not output.as_json:
            _print(output, stale)
        question = f"Abort {len(stale):,} of {total}, and erase their parts?"
        confirm(output, question, yes=self.yes)
        aborted = await storage.abort_stale_uploads(older_than, self.prefix)
        for upload in aborted:
            output.item(upload)
        output.done(f"Aborted: {counted(len(aborted), 'unfinished upload')}")


async def _may_exist(storage: BackblazeStorage, key: str, upload_id: str) -> bool:
    """Whether the upload exists; also True if the application key may not list uploads.

    Servers report success when they abort an upload that does not exist, such as a mistyped ID.
    """
    try:
        uploads = await storage.list_incomplete_uploads(key)
    except AccessDeniedError:
        return True
    return any((each.key, each.upload_id) == (key, upload_id) for each in uploads)


async def keep(storage: BackblazeStorage, output: Output, key: str, upload_id: str) -> None:
    """Complete an upload with the parts that are stored."""
    result = await storage.keep_incomplete_upload(key, upload_id)
    output.item(result)
    output.done(f"Kept: {key} ({human_size(result.size)}, marked as partial)")
