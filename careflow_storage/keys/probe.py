"""Try a new key over the S3 API, with its own capabilities only."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging

from careflow_storage._log_fields import log_fields
from careflow_storage._runtime import Runtime
from careflow_storage._s3.requests.objects import S3Requests
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
"""A key with none of these cannot use the S3 API for files: only its sign-in is tried."""

_BODY = b"A key of careflow-storage was tried here while it was rotated.\n"
_CLEAN_UP_SECONDS = 30.0


class Probe:
    """The trial of one key in one bucket.

    Args:
        settings: Settings with the new key and the bucket.
        key: The key, for its capabilities.
        name: The object key of the probe, below the key's prefix. It is the same for all runs of
            one rotation, so that a later run erases the probe of a killed one.
    """

    def __init__(self, settings: StorageSettings, key: KeyInfo, name: str) -> None:
        self._settings = settings
        self._may = frozenset(key.capabilities)
        self._prefix = key.prefix or ""
        self._name = name
        self._versions: list[str] = []

    async def run(self) -> str | None:
        """Try the key; return the probe's object key if it could only be hidden.

        Puts, gets, lists and erases: 3 to 6 requests. A key that may not write lists, and gets
        a missing file. B2 may need some time to make a new key known everywhere, so an unknown
        key is tried again after the pauses of ``settings.retry_*``.

        Raises:
            StorageError: A capability of the key does not work. No visible probe is left.
        """
        runtime = Runtime(self._settings, None)
        try:
            await runtime.open()
            return await self._retry(runtime.context().requests)
        finally:
            await runtime.close()

    async def _retry(self, requests: S3Requests) -> str | None:
        settings, attempt = self._settings, 1
        while True:
            try:
                return await self._try(requests)
            except InvalidCredentialsError as error:
                if error.code != "InvalidAccessKeyId" or attempt >= settings.retry_attempts:
                    raise
            pause = min(settings.retry_max_delay, settings.retry_base_delay * 2.0 ** (attempt - 1))
            logger.info(
                "B2 does not know the new key yet; trying again in %.0f s",
                pause,
                extra=log_fields("key_not_known_yet", delay=pause),
            )
            await asyncio.sleep(pause)
            attempt += 1

    async def _try(self, requests: S3Requests) -> str | None:
        if "writeFiles" not in self._may:
            await self._look(requests)
            return None
        try:
            await self._store_and_read(requests)
        except BaseException as error:
            # An unknown key cannot have stored anything.
            if self._versions or not isinstance(error, InvalidCredentialsError):
                await clean_up_to_end(self._clean_up_after(requests, error))
            raise
        return await self._clean_up(requests)

    async def _store_and_read(self, requests: S3Requests) -> None:
        digest = hashlib.md5(_BODY, usedforsecurity=False).digest()
        # Buckets with object lock require the checksum.
        headers = {
            "content-type": "text/plain",
            "content-md5": base64.b64encode(digest).decode("ascii"),
        }
        stored = await requests.put_object(self._name, _BODY, headers)
        if stored.version_id is not None:
            self._versions.append(stored.version_id)
        if "readFiles" in self._may and await self._read(requests) != _BODY:
            raise ServerResponseError(
                "The probe that was read differs from the stored one.",
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
                # Without listBuckets B2 sends this for a missing file (kopia#5329): the signature
                # was accepted.
                if "listBuckets" in self._may:
                    raise
                return
            await stream.aclose()

    async def _clean_up_after(self, requests: S3Requests, error: BaseException) -> None:
        try:
            async with asyncio.timeout(_CLEAN_UP_SECONDS):
                await self._clean_up(requests)
        except (StorageError, TimeoutError) as failure:
            logger.warning(
                "the probe %s may be left: %s",
                self._name,
                failure,
                extra=log_fields("probes_left", failure, key=self._name),
            )
            error.add_note(f"The probe {self._name} may be left in the bucket.")

    async def _clean_up(self, requests: S3Requests) -> str | None:
        """Erase the probe and those of earlier runs; hide what the key may not erase."""
        if "deleteFiles" in self._may:
            try:
                await self._erase(requests)
            except AccessDeniedError as error:
                logger.info(
                    "the probe %s cannot be erased: %s",
                    self._name,
                    error,
                    extra=log_fields("probe_hidden", error, key=self._name),
                )
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
