"""The routes of recordings: list, play, delete, restore."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from careflow_storage import DeleteResult
from careflow_storage.integrations.fastapi import file_response

from .accounts import CurrentUser, key_of, prefix_of
from .dependencies import Storage
from .details import details_key

router = APIRouter(prefix="/api/recordings")


class Recording(BaseModel):
    """One recording. ``name`` is unique in its call; ``title`` is the name of the file."""

    call: str
    name: str
    title: str
    size: int
    recorded_at: datetime
    deleted_at: datetime | None = None


class Recordings(BaseModel):
    """A listing, the newest recording first. ``complete`` is False if there are more."""

    recordings: list[Recording]
    complete: bool = True


@router.get("")
async def list_recordings(user: CurrentUser, storage: Storage, request: Request) -> Recordings:
    """List the user's recordings. 1 request to the bucket per 1000 recordings."""
    limit: int = request.app.state.settings.max_recordings
    files = await storage.list_files(prefix_of(user), limit + 1)
    found = (_recording(user, file.key, file.size, file.last_modified) for file in files[:limit])
    return Recordings(recordings=_newest_first(found), complete=len(files) <= limit)


@router.get("/deleted")
async def list_deleted(user: CurrentUser, storage: Storage, request: Request) -> Recordings:
    """List the recordings that were deleted and can be restored."""
    limit: int = request.app.state.settings.max_recordings
    hidden: dict[str, datetime] = {}
    found: dict[str, Recording] = {}
    # The versions of a file follow each other, the newest first.
    async for version in storage.admin.list_file_versions(prefix_of(user)):
        if version.delete_marker and version.is_latest:
            hidden[version.key] = version.last_modified
        elif version.key in hidden and version.key not in found and not version.delete_marker:
            recording = _recording(user, version.key, version.size, version.last_modified)
            recording.deleted_at = hidden[version.key]
            found[version.key] = recording
            if len(found) > limit:
                break
    recordings = _newest_first(list(found.values())[:limit])
    return Recordings(recordings=recordings, complete=len(found) <= limit)


@router.head("/{call}/{name}", include_in_schema=False)
@router.get("/{call}/{name}")
async def play(
    call: str,
    name: str,
    user: CurrentUser,
    storage: Storage,
    request: Request,
    download: bool = False,
) -> Response:
    """Send the recording, or the range that a player asks for."""
    title = _title_of(name) if download else None
    return await file_response(storage, key_of(user, call, name), request, download_as=title)


@router.delete("/{call}/{name}")
async def delete(call: str, name: str, user: CurrentUser, storage: Storage) -> DeleteResult:
    """Hide a recording. Its bytes stay until a lifecycle rule or a purge erases them."""
    key = key_of(user, call, name)
    await storage.get_file_metadata(key)  # a missing recording is a 404: S3 would report success
    await storage.purge_file(details_key(key))
    return await storage.delete_file(key)


@router.post("/{call}/{name}/restore", status_code=204)
async def restore(call: str, name: str, user: CurrentUser, storage: Storage) -> None:
    """Show a deleted recording again."""
    await storage.admin.restore_file(key_of(user, call, name))


def _recording(user: str, key: str, size: int, stored_at: datetime) -> Recording:
    call, _, name = key.removeprefix(prefix_of(user)).partition("/")
    return Recording(
        call=call,
        name=name,
        title=_title_of(name),
        size=size,
        recorded_at=_time_of(name) or stored_at,
    )


def _title_of(name: str) -> str:
    """Return the file's name without the time that the library puts before it."""
    milliseconds, hyphen, title = name.partition("-")
    return title if hyphen and milliseconds.isdigit() else name


def _time_of(name: str) -> datetime | None:
    milliseconds = name.partition("-")[0]
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) < 15):
        return None
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _newest_first(recordings: Iterable[Recording]) -> list[Recording]:
    return sorted(recordings, key=lambda each: each.recorded_at, reverse=True)
