"""Does a new key work? Tried over the S3 API, with what the key may do and nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging

from careflow_storage._runtime import Runtime
from careflow_storage._s3.objects import S3Requests
from careflow_storage._uninterrupted import clean_up_to_end
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidCredentialsError,
    NoSuchKeyError,
    ServerResponseError,
    StorageError,
)
from careflow_storage.keys.models import KeyInfo
from careflow_storage.settings import StorageSettings

logger: logging.Logger = logging.getLogger("careflow_storage")

PROVABLE = frozenset({"listFiles", "readFiles", "writeFiles"})
"""A key with none of these cannot use the S3 API for files: signing in must be proof enough."""

_BODY = b"A key of careflow-storage was tried here while it was rotated.\n"
_CLEAN_UP_SECONDS = 30.0


class Probe:
    """One key's trial in one bucket.

    Args:
        settings: With the new key and the bucket.
        key: What it may do.
        name: For the probe, below the key's prefix. It stays the same for all runs of one
            rotation, so that a later run erases what a killed one has left.
    """

    def __init__(self, settings: StorageSettings, key: KeyInfo, name: str) -> None:
        self._settings = settings
        self._may = frozenset(key.capabilities)
        self._prefix = key.prefix or ""
        self._name = name
        self._versions: list[str] = []

    async def run(self) -> str | None:
        """Try the key; return the probe's object key if it could only be hidden.

        Put, get, list, erase: 3 to 6 requests. A key that may not write lists, and gets what
        is not there. B2 may need a while until all its machines know a new key: an unknown key
        is tried again with the pauses of ``settings.retry_*``.

        Raises:
            StorageError: The key does not do what it should. No visible probe is left.
        """
        lifecycle = Runtime(self._settings, None)
        try:
            await lifecycle.open()
            return await self._patiently(lifecycle.context().requests)
        finally:
            await lifecycle.close()

    async def _patiently(self, requests: S3Requests) -> str | None:
        settings, attempt = self._settings, 1
        while True:
            try:
                return await self._try(requests)
            except InvalidCredentialsError as error:
                if error.code != "InvalidAccessKeyId" or attempt >= settings.retry_attempts:
                    raise
            pause = min(settings.retry_max_delay, settings.retry_base_delay * 2.0 ** (attempt - 1))
            logger.info("B2 does not know the new key yet; trying again in %.0f s", pause)
            await asyncio.sleep(pause)
            attempt += 1

    async def _try(self, requests: S3Requests) -> str | None:
        if "writeFiles" not in self._may:
            await self._look(requests)
            return None
        try:
            await self._store_and_read(requests)
        except BaseException as error:
            # An unknown key has stored nothing.
            if self._versions or not isinstance(error, InvalidCredentialsError):
                await clean_up_to_end(self._clean_up_after(requests, error))
            raise
        return await self._clean_up(requests)

    async def _store_and_read(self, requests: S3Requests) -> None:
        digest = hashlib.md5(_BODY, usedforsecurity=False).digest()
        # Buckets with object lock want the checksum.
        headers = {
            "content-type": "text/plain",
            "content-md5": base64.b64encode(digest).decode("ascii"),
        }
        stored = await requests.put_object(self._name, _BODY, headers)
        if stored.version_id is not None:
            self._versions.append(stored.version_id)
        if "readFiles" in self._may and await self._read(requests) != _BODY:
            raise ServerResponseError(
                "The probe did not come back as it was stored.",
                operation="GetObject",
                key=self._name,
            )
        if "listFiles" in self._may:
            await requests.list_objects(self._prefix, max_keys=1)

    async def _read(self, requests: S3Requests) -> bytes:
        stream = await requests.get_object(self._name)
        try:
            return await stream.read_all()
        finally:
            await stream.aclose()

    async def _look(self, requests: S3Requests) -> None:
        if "listFiles" in self._may:
            await requests.list_objects(self._prefix, max_keys=1)
        if "readFiles" in self._may:
            try:
                stream = await requests.get_object(self._name)
            except NoSuchKeyError:
                return
            except AccessDeniedError:
                # Without listBuckets B2 says this of what is missing (kopia#5329). The
                # signature was accepted.
                if "listBuckets" in self._may:
                    raise
                return
            await stream.aclose()

    async def _clean_up_after(self, requests: S3Requests, error: BaseException) -> None:
        try:
            async with asyncio.timeout(_CLEAN_UP_SECONDS):
                await self._clean_up(requests)
        except (StorageError, TimeoutError) as failure:
            logger.warning("the probe %s may be left: %s", self._name, failure)
            error.add_note(f"The probe {self._name} may be left in the bucket.")

    async def _clean_up(self, requests: S3Requests) -> str | None:
        """Erase the probe and those of earlier runs; what cannot be erased is hidden."""
        if "deleteFiles" in self._may:
            try:
                await self._erase(requests)
            except AccessDeniedError as error:
                logger.info("the probe %s cannot be erased: %s", self._name, error)
            else:
                return None
        await requests.delete_object(self._name)
        return self._name

    async def _erase(self, requests: S3Requests) -> None:
        while self._versions:
            await requests.delete_object(self._name, version_id=self._versions[-1])
            self._versions.pop()
        if "listFiles" not in self._may:
            return
        page = await requests.list_versions(self._name)
        for each in page.versions:
            if each.key == self._name and each.version_id is not None:
                await requests.delete_object(self._name, version_id=each.version_id)
