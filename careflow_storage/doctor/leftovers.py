"""Keep track of what a diagnosis has stored, and erase it."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.signing.signer import canonical_query
from careflow_storage._transfer.context import TransferContext
from careflow_storage.doctor.raw_client import RawClient
from careflow_storage.errors import NoSuchUploadError, StorageError

# The rest of the time is for the erasing.
_LISTING_SECONDS = 4.0

logger: logging.Logger = logging.getLogger("careflow_storage")


class Leftovers:
    """The probes of one diagnosis, all in one folder.

    Attributes:
        keys: The keys that hold a probe, or may: a response can be lost.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.keys: list[str] = []
        self._versions: list[tuple[str, str]] = []
        self._hidden: set[str] = set()

    def expect(self, key: str) -> None:
        """Note that something is about to be stored under a key."""
        if key not in self.keys:
            self.keys.append(key)

    def refused(self, key: str) -> None:
        """Note that nothing is stored under a key: the server refused, or the probe is gone."""
        self.keys = [each for each in self.keys if each != key]

    def stored(self, key: str, version_id: str | None, *, marker: bool = False) -> None:
        """Note a stored version or delete marker; None on servers without versions."""
        if version_id is not None:
            self._versions.append((key, version_id))
        if marker:
            self._hidden.add(key)

    def version_of(self, key: str) -> str | None:
        """Return the first version that was stored under a key."""
        return next((version for each, version in self._versions if each == key), None)

    def erased(self, key: str, version_id: str) -> None:
        """Note that a version is gone."""
        self._versions.remove((key, version_id))

    async def erase(self, transfer: TransferContext, raw_client: RawClient) -> list[str]:
        """Erase every version and unfinished upload; describe what is left.

        Hides what the key may not erase.
        """
        if not self.keys:
            return []
        kept = await self._erase_listed(transfer)
        if kept is None:
            kept = await self._erase_known(raw_client)
        left = []
        for key in kept:
            hidden = key in self._hidden or await _hide(raw_client, key)
            left.append(f"{key} (hidden)" if hidden else key)
        self.keys.clear()
        return left

    async def _erase_listed(self, transfer: TransferContext) -> list[str] | None:
        """Erase what a listing finds; return the keys that are left, or None without a listing."""
        control = transfer.control
        try:
            async with asyncio.timeout(_LISTING_SECONDS):
                response = await control.call(
                    "list_object_versions", None, {"Prefix": self.folder}, dict
                )
                uploads = await control.list_incomplete(self.folder)
        except (StorageError, TimeoutError) as error:
            logger.debug(
                "the doctor cannot list its probes: %s",
                type(error).__name__,
                extra=log_fields("probes_not_listed", error),
            )
            return None
        for upload in uploads:
            with contextlib.suppress(NoSuchUploadError):
                await transfer.multipart.abort(upload.key, upload.upload_id)
        found = [*response.get("Versions", ()), *response.get("DeleteMarkers", ())]
        targets = [(each["Key"], each["VersionId"]) for each in found]
        failed = (await transfer.requests.delete_objects(targets)).failed if targets else []
        return sorted({each.key for each in failed})

    async def _erase_known(self, raw_client: RawClient) -> list[str]:
        """Erase the known versions; return the keys that may still hold something."""
        left = {key for key in self.keys if self.version_of(key) is None}
        for key, version_id in self._versions:
            query = canonical_query({"versionId": version_id})
            try:
                gone = (await raw_client.ask("DeleteObject", "DELETE", key, query)).ok
            except StorageError:
                gone = False
            if not gone:
                left.add(key)
        return sorted(left)


async def _hide(raw_client: RawClient, key: str) -> bool:
    try:
        return (await raw_client.ask("DeleteObject", "DELETE", key)).ok
    except StorageError:
        return False
