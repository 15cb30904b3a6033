"""The methods of `StorageAdmin` that list, erase and restore versions."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal, NamedTuple

from careflow_storage._lazy import LazyModule
from careflow_storage._s3.error_codes import error_from_response
from careflow_storage._s3.requests.deletion import NULL_VERSION, delete_targets, explain_denial
from careflow_storage._s3.requests.key_range import checked_range
from careflow_storage._s3.requests.listing import checked_prefix
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.requests.versions import checked_version_id, versions_of_key
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.purge import purge_key, purge_prefix
from careflow_storage.admin.base import AdminMethods
from careflow_storage.admin.copy import CopyOf
from careflow_storage.admin.version_listing import VersionListing
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    NoSuchKeyError,
    TransferError,
)
from careflow_storage.models import DeleteResult, FileVersion, PurgeResult
from careflow_storage.protection import Encryption
from careflow_storage.recordings import existing_key

if TYPE_CHECKING:
    from careflow_storage.admin import models
    from careflow_storage.admin.models import RestoreResult
else:
    models = LazyModule("careflow_storage.admin.models")

_NEEDS = (models,)
# Other clients may hide the file again while it is being restored.
_RESTORE_ROUNDS = 5


class VersionMethods(AdminMethods):
    """The versions of files: list, erase, restore, purge."""

    def list_file_versions(
        self,
        prefix: str = "",
        max_versions: int | None = None,
        *,
        start_after: str | None = None,
        until: str | None = None,
        timeout: float | None = None,
    ) -> VersionListing:
        """List all versions and delete markers. Await the result, or iterate over it.

        Sorted by key; within a key the newest comes first. Needs listFiles. 1 request per 1000.

        Args:
            start_after: List only keys that come after this one; no version of it is listed.
            until: List no keys that come after this one; all versions of it are listed. The
                range is as for ``storage.list_files``.
        """

        def requests() -> S3Requests:
            with self._call("list_file_versions"):
                return self._context().requests

        with self._call("list_file_versions"):
            return VersionListing(
                requests,
                prefix,
                max_versions,
                timeout,
                key_range=checked_range(start_after, until),
            )

    async def delete_file_version(
        self,
        key: str,
        version_id: str,
        *,
        bypass_governance: bool = False,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Erase one version, or remove one delete marker, permanently. 2 requests.

        Lists the key's versions first (1 request per 1000): S3 reports success for a version
        that never existed, so a mistyped ID would look like an erasure.
        `BackblazeStorage.delete_file` with ``version_id`` does without the listing, in 1 request.

        Needs listFiles and deleteFiles, and bypassGovernance to erase what governance locks.

        Args:
            version_id: As in listings; "null" for a version without an ID.
            bypass_governance: Erase the version even if a governance retention locks it.

        Raises:
            NoSuchKeyError: There is no such version.
            FileLockedError: Object lock keeps the version; the message says until when.
            AccessDeniedError: The version may be locked, or the key lacks deleteFiles: the
                response does not say which.
        """
        async with self._call("delete_file_version", (), key, timeout):
            key, version_id = existing_key(key), checked_version_id(version_id)
            requests = self._context().requests
            found = (await _look(requests, key, version_id)).wanted
            if found is None:
                raise _no_such_version(requests, key, version_id)
            try:
                await requests.delete_object(
                    key, version_id=version_id, bypass_governance=bypass_governance
                )
            except NoSuchKeyError:
                pass  # Gone since the listing: by a lost attempt of ours, or by another client.
            except AccessDeniedError as denied:
                raise await explain_denial(requests, key, version_id, denied) from denied
            return DeleteResult(
                key=key,
                deleted=True,
                version_id=found.version_id,
                delete_marker=found.delete_marker,
            )

    async def delete_file_versions(
        self,
        targets: Iterable[FileVersion | tuple[str, str]],
        *,
        bypass_governance: bool = False,
        timeout: float | None = None,
    ) -> list[DeleteResult]:
        """Erase many versions, 1000 per request. Return one result for each, in order.

        A version that could not be erased has ``deleted=False`` and the server's reason
        (AccessDenied for a locked version). Check the results: this method raises only when a
        whole request fails. A version that does not exist counts as erased, as in S3.

        Args:
            targets: From `list_file_versions`, or pairs of a key and a version ID.
        """
        async with self._call("delete_file_versions", timeout=timeout):
            checked = _checked_targets(targets)
            return await delete_targets(
                self._context().requests, checked, bypass_governance=bypass_governance
            )

    async def restore_file(
        self,
        key: str,
        version_id: str | None = None,
        *,
        encryption: Encryption | None = None,
        timeout: float | None = None,
    ) -> RestoreResult:
        """Restore a file: unhide it, or put an old version on top.

        Without ``version_id``, removes the delete markers above the newest version. With it, the
        server copies that version on top of all others, unless it was only hidden. A file that
        is visible already does not change. Reads the versions again after each change, to see
        the changes of other clients.

        1 request per 1000 versions if the file was visible, 3 to unhide it; a copy takes those
        of `copy_file` as well. Needs listFiles and deleteFiles; to copy, readFiles and
        writeFiles.

        Args:
            encryption: The customer's key of the version that is copied, if it has one. The copy
                is encrypted with it, too.

        Raises:
            NoSuchKeyError: The file has no version, or not this one.
        """
        async with self._call("restore_file", _NEEDS, key, timeout):
            if version_id is not None:
                version_id = checked_version_id(version_id)
            return await _restore(self._context(), existing_key(key), version_id, encryption)

    async def purge_file(
        self, key: str, *, confirm: str, timeout: float | None = None
    ) -> PurgeResult:
        """Erase every version of a file and its unfinished uploads, permanently.

        As ``storage.purge_file``, for user interfaces that require a confirmation: ``confirm``
        must be the key.

        Raises:
            InvalidInputError: ``confirm`` is another key. No request was sent.
            FileLockedError: Object lock keeps a version. All others are gone.
            StorageError: A version could not be erased for another reason. Others are gone.
        """
        async with self._call("purge_file", (), key, timeout):
            key = existing_key(key)
            if confirm != key:
                raise InvalidInputError("confirm must be the key that is to be purged.")
            return await purge_key(self._context(), key)

    async def purge_files(
        self,
        prefix: str,
        *,
        confirm: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> PurgeResult:
        """Erase every version of all files below a prefix, and their unfinished uploads.

        Permanently. A prefix is not a folder: ``calls/1`` also matches ``calls/10/a.webm``. Do
        not store files below the prefix meanwhile: a file that is stored behind the position of
        the listing stays.

        2 requests per 1000 versions and 1 per unfinished upload; memory does not grow with their
        number. Needs listFiles, writeFiles and deleteFiles. Safe to run again.

        Args:
            confirm: Must be the prefix, unless ``dry_run``. "" purges the whole bucket; confirm
                it with the name of the bucket.
            dry_run: Only count.

        Raises:
            InvalidInputError: ``confirm`` is wrong. No request was sent.
            FileLockedError: Object lock keeps versions. The message says how many, and when the
                first lock ends. All others are gone.
            StorageError: Versions could not be erased for another reason. Others are gone.
        """
        async with self._call("purge_files", timeout=timeout):
            context, prefix = self._context(), checked_prefix(prefix)
            if not dry_run and confirm != (prefix or context.requests.bucket):
                what = "the prefix that is" if prefix else "the name of the bucket, as all of it is"
                raise InvalidInputError(
                    f"confirm must be {what} to be purged.",
                    hint="dry_run=True counts what would be erased.",
                )
            return await purge_prefix(context, prefix, dry_run=dry_run)


async def _restore(
    context: TransferContext, key: str, version_id: str | None, encryption: Encryption | None
) -> RestoreResult:
    how: Literal["unhidden", "was_there"] = "was_there"
    for _ in range(_RESTORE_ROUNDS):
        # Read again after each change: other clients hide and store, too.
        history = await _look(context.requests, key, version_id)
        wanted = history.wanted if version_id is not None else history.newest
        if wanted is None or wanted.delete_marker:
            raise _nothing_to_restore(context.requests, key, version_id, wanted)
        if wanted != history.newest:
            return await _copy_to_top(context, key, wanted, encryption)
        if not history.markers:
            return models.RestoreResult(key=key, how=how, version_id=wanted.version_id)
        await _unhide(context.requests, key, history.markers)
        how = "unhidden"
    raise TransferError(
        "Other clients keep hiding the file while it is being restored.",
        bucket=context.requests.bucket,
        key=key,
        retryable=True,
    )


def _checked_targets(targets: object) -> list[tuple[str, str]]:
    # A model iterates over pairs of a name and a value, which look like keys and version IDs.
    if isinstance(targets, str | FileVersion) or not isinstance(targets, Iterable):
        raise InvalidInputError(
            f"targets must be several versions, not one {type(targets).__name__}."
        )
    return [_checked_target(target, at) for at, target in enumerate(targets)]


def _checked_target(target: object, at: int) -> tuple[str, str]:
    if isinstance(target, FileVersion):
        return target.key, target.version_id or NULL_VERSION
    if not isinstance(target, tuple) or len(target) != 2:
        raise InvalidInputError(f"targets[{at}] must be a FileVersion, or a key and a version ID.")
    key, version_id = target
    try:
        return existing_key(key), checked_version_id(version_id)
    except InvalidInputError as error:
        error.message = f"targets[{at}]: {error.message}"
        raise


class _History(NamedTuple):
    """What a key holds, as far as it was read.

    ``markers`` are the delete markers above its ``newest`` real version. ``wanted`` is the
    version or delete marker with the ID in question.
    """

    markers: list[FileVersion]
    newest: FileVersion | None
    wanted: FileVersion | None


async def _look(requests: S3Requests, key: str, version_id: str | None) -> _History:
    """Read the versions of a key until the history is complete. 1 request per 1000."""
    markers: list[FileVersion] = []
    newest: FileVersion | None = None
    wanted: FileVersion | None = None
    async with aclosing(versions_of_key(requests, key)) as pages:
        async for page in pages:
            for version in page:
                if newest is None:
                    if version.delete_marker:
                        markers.append(version)
                    else:
                        newest = version
                if (version.version_id or NULL_VERSION) == version_id:
                    wanted = version
            # Checked per page: the rest of a page costs nothing.
            if newest is not None and (version_id is None or wanted is not None):
                break
    return _History(markers, newest, wanted)


async def _unhide(requests: S3Requests, key: str, markers: list[FileVersion]) -> None:
    targets = [(key, marker.version_id or NULL_VERSION) for marker in markers]
    for result in await delete_targets(requests, targets):
        if not result.deleted and result.error_code not in {"NoSuchKey", "NoSuchVersion"}:
            raise error_from_response(
                operation="DeleteObjects",
                bucket=requests.bucket,
                key=key,
                status=200,
                code=result.error_code,
                message=f"A delete marker could not be removed: {result.error_message}",
                headers={},
            )


async def _copy_to_top(
    context: TransferContext, key: str, version: FileVersion, encryption: Encryption | None
) -> RestoreResult:
    source = await CopyOf.read(
        context, key, version_id=version.version_id or NULL_VERSION, encryption=encryption
    )
    copied = await source.copy_to(key, encryption=encryption)
    return models.RestoreResult(key=key, how="copied", version_id=copied.version_id)


def _no_such_version(requests: S3Requests, key: str, version_id: str) -> NoSuchKeyError:
    return NoSuchKeyError(
        f"The file has no version {version_id!r}.",
        bucket=requests.bucket,
        key=key,
        code="NoSuchVersion",
        hint="list_file_versions() lists its versions.",
    )


def _nothing_to_restore(
    requests: S3Requests, key: str, version_id: str | None, found: FileVersion | None
) -> NoSuchKeyError:
    if version_id is None:
        return NoSuchKeyError(
            "The file has no version to restore.",
            bucket=requests.bucket,
            key=key,
            code="NoSuchKey",
            hint="A purge or a lifecycle rule erases versions permanently.",
        )
    error = _no_such_version(requests, key, version_id)
    if found is not None:
        error.message = f"{version_id!r} is a delete marker: it holds no file."
        error.hint = "restore_file() without version_id removes the delete markers on top."
    return error
