"""The waveform and the duration of each recording, made once and kept in the bucket."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter, Request
from pydantic import BaseModel

from careflow_storage import BackblazeStorage, NoSuchKeyError, PreconditionFailedError
from careflow_storage.media import UnsupportedMediaError, make_seekable, waveform

from .accounts import CurrentUser, key_of

router = APIRouter(prefix="/api/recordings")

_POINTS = 240
_AT_ONCE = 2


class Details(BaseModel):
    """What the list shows of a recording.

    ``peaks`` are 0 to 100; there are none if the file is no audio that can be decoded.

    ``partial`` is True for a recording that was cut off.
    """

    peaks: list[int] = []
    duration: float | None = None
    partial: bool = False
    content_type: str


class DetailsMaker:
    """Makes details, a few at once, and each only once however many pages ask for it."""

    def __init__(self, storage: BackblazeStorage) -> None:
        self._storage = storage
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, key: str) -> Details:
        """Return the details that the bucket holds, or make and store them."""
        kept = details_key(key)
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                try:
                    return Details.model_validate_json(await self._storage.get_file(kept))
                except NoSuchKeyError:
                    pass
                async with self._limit:
                    details = await self._make(key)
                await self._storage.upload_file(kept, details.model_dump_json(), "application/json")
                return details
        finally:
            self._locks.pop(key, None)

    async def _make(self, key: str) -> Details:
        # What a browser recorded has no duration and no index otherwise; all else stays as it is.
        with suppress(UnsupportedMediaError, PreconditionFailedError):
            await make_seekable(self._storage, key)
        file = await self._storage.get_file_metadata(key)
        made = Details(content_type=file.content_type, partial=file.partial)
        try:
            shape = await waveform(self._storage, key, _POINTS, version_id=file.version_id)
        except UnsupportedMediaError:
            return made
        loudest = max(shape.mix.peaks) or 1
        made.peaks = [round(100 * peak / loudest) for peak in shape.mix.peaks]
        made.duration = shape.duration
        return made


def details_key(key: str) -> str:
    """Return the key of the details of a recording."""
    return f"details/{key}.json"


@router.get("/{call}/{name}/details")
async def details(call: str, name: str, user: CurrentUser, request: Request) -> Details:
    """Return the waveform and the duration of a recording."""
    maker: DetailsMaker = request.state.details
    return await maker.of(key_of(user, call, name))
