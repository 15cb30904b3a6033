"""The methods of `StorageAdmin` that copy and move files on the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from careflow_storage._lazy import LazyModule
from careflow_storage._s3.headers.encryption import encryption_headers, key_headers
from careflow_storage._s3.headers.kept import kept_headers
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.requests.control_plane import CopySource
from careflow_storage._s3.requests.versions import checked_version_id
from careflow_storage._s3.responses.lengths import part_count
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy import copy
from careflow_storage._transfer.copy_checks import copy_marker, verify_copy
from careflow_storage._transfer.upload.existing import find_existing, refuse_existing
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.admin.base import AdminMethods
from careflow_storage.errors import (
    InvalidInputError,
    NoSuchKeyError,
    PreconditionFailedError,
    StorageError,
)
from careflow_storage.options import IfExists
from careflow_storage.protection import CustomerKey, Encryption, check_encryption
from careflow_storage.recordings import existing_key, validate_key

if TYPE_CHECKING:
    from careflow_storage.admin import models
    from careflow_storage.admin.models import CopyResult
else:
    models = LazyModule("careflow_storage.admin.models")

_NEEDS = (models,)
_REPLACE = UploadOptions()


class CopyMethods(AdminMethods):
    """Copies and moves within the bucket."""

    async def copy_file(
        self,
        source: str,
        target: str,
        *,
        version_id: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        overwrite: bool = True,
        if_exists: IfExists | None = None,
        source_encryption: Encryption | None = None,
        encryption: Encryption | None = None,
        timeout: float | None = None,
    ) -> CopyResult:
        """Copy a file within the bucket. The server copies; no bytes pass through this process.

        Keeps the content type, Cache-Control, Content-Disposition, Content-Encoding,
        Content-Language, Expires, and the note that a recording was cut off. A retention or
        legal hold stays with the source.

        Copies exactly one version, even if the source is overwritten meanwhile, and verifies the
        copy: by the ETag, or else by its size (a HEAD). A version copied onto its own key
        becomes the newest. The newest version can be copied onto itself only with a change.

        2 requests up to 5 GB, and 1 more if the ETag proves nothing; above 5 GB 1 more per GiB.
        Needs readFiles and writeFiles. A cancelled copy may still appear.

        Args:
            version_id: An older version; None is the newest.
            metadata: Replaces all of the source's own metadata.
            overwrite: As for ``upload_file``: on B2 False checks first, and misses a file that
                another client stores between the check and the copy.
            if_exists: As for ``upload_file``. With ``"return"`` an existing target is the result,
                whatever it holds, and the source is not looked at (1 request).
            source_encryption: The customer's key of the source, if it has one.
            encryption: The encryption of the copy; None is the bucket's default.

        Raises:
            NoSuchKeyError: The source, or that version of it, does not exist.
            PreconditionFailedError: The target exists and ``overwrite`` is False. Or, on a
                server without versions, the source was overwritten meanwhile.
            SizeMismatchError, ChecksumMismatchError: The copy differs from the source.
        """
        async with self._call("copy_file", _NEEDS, source, timeout):
            context, key = self._context(), existing_key(source)
            target = validate_key(target)
            if version_id is not None:
                version_id = checked_version_id(version_id)
            _check_encryption(context, source_encryption=source_encryption, encryption=encryption)
            changed = UploadOptions(content_type=content_type, metadata=metadata).headers()
            options = UploadOptions(overwrite=overwrite, if_exists=if_exists)
            options.check_if_exists()
            unchanged = not changed and metadata is None and encryption is None
            if key == target and version_id is None and unchanged:
                raise InvalidInputError(
                    "A file cannot be copied onto itself without a change.",
                    hint="Pass a version_id, to put an old version on top, or a new content type.",
                )

            async def copy() -> CopyResult:
                original = await CopyOf.read(
                    context, key, version_id=version_id, encryption=source_encryption
                )
                return await original.copy_to(
                    target,
                    changed,
                    keep_metadata=metadata is None,
                    options=options,
                    encryption=encryption,
                )

            if not options.return_existing:
                return await copy()
            existing = _Existing(context, target, encryption, key, version_id)
            return await existing.result() or await existing.copy_unless_taken(copy)

    async def move_file(
        self,
        source: str,
        target: str,
        *,
        overwrite: bool = True,
        if_exists: IfExists | None = None,
        encryption: Encryption | None = None,
        timeout: float | None = None,
    ) -> CopyResult:
        """Copy a file within the bucket, then hide the source. 4 requests up to 5 GB.

        Copies as `copy_file` does. The source's versions stay until a lifecycle rule or a purge
        erases them. The source is hidden only if the copied version is still its newest. A
        version that is stored between this check and the hiding gets hidden, too;
        `restore_file` brings it back.

        Args:
            overwrite: As for `copy_file`.
            if_exists: As for `copy_file`. With ``"return"`` and an existing target the source,
                if there is one, stays as it is, since the target may hold other bytes.
            encryption: The customer's key of the source, if it has one. The copy is encrypted
                with it, too.

        Raises:
            PreconditionFailedError: The target exists and ``overwrite`` is False. Or the source
                was overwritten meanwhile: the copy exists, and nothing was hidden.
            StorageError: The source could not be hidden; the hint says that the copy exists.
        """
        async with self._call("move_file", _NEEDS, source, timeout):
            context, key = self._context(), existing_key(source)
            target = validate_key(target)
            _check_encryption(context, encryption=encryption)
            options = UploadOptions(overwrite=overwrite, if_exists=if_exists)
            options.check_if_exists()
            if key == target:
                raise InvalidInputError("A file cannot be moved onto itself.")
            original: CopyOf | None = None

            async def copy() -> CopyResult:
                nonlocal original
                source = await CopyOf.read(context, key, encryption=encryption)
                result = await source.copy_to(target, options=options, encryption=encryption)
                original = source
                return result

            if options.return_existing:
                existing = _Existing(context, target, encryption, key, None)
                copied = await existing.result() or await existing.copy_unless_taken(copy)
            else:
                copied = await copy()
            if original is not None:
                await _hide_moved(original, copied)
            return copied


async def _hide_moved(original: CopyOf, copied: CopyResult) -> None:
    try:
        await original.hide()
    except StorageError as error:
        made = f"The copy exists, as {copied.key!r} (version {copied.version_id})."
        error.hint = f"{made} {error.hint}" if error.hint else made
        raise


class _Existing(NamedTuple):
    """The file under the target of a copy with ``if_exists="return"``."""

    context: TransferContext
    target: str
    encryption: Encryption | None
    source: str
    version_id: str | None

    async def result(self) -> CopyResult | None:
        """Return it as the result of the copy; None if there is none. 1 request."""
        head = await find_existing(self.context, self.target, encryption_headers(self.encryption))
        return None if head is None else _existing_copy(self.source, self.version_id, head)

    async def copy_unless_taken(self, copy: Callable[[], Awaitable[CopyResult]]) -> CopyResult:
        """Copy; if another writer was faster, return what it has stored."""
        try:
            return await copy()
        except PreconditionFailedError:
            existing = await self.result()
            if existing is None:
                # The source was overwritten meanwhile.
                raise
            return existing


class CopyOf(NamedTuple):
    """One version of a file, to be copied."""

    context: TransferContext
    head: ObjectHead
    version_id: str | None
    encryption: Encryption | None

    @classmethod
    async def read(
        cls,
        context: TransferContext,
        key: str,
        *,
        version_id: str | None = None,
        encryption: Encryption | None = None,
    ) -> CopyOf:
        """Read the metadata of a version, or of the newest one. 1 request."""
        head = await _head(context, key, version_id, encryption)
        return cls(context, head, version_id or head.file.version_id, encryption)

    async def copy_to(
        self,
        target: str,
        changed: Mapping[str, str] | None = None,
        *,
        keep_metadata: bool = True,
        options: UploadOptions = _REPLACE,
        encryption: Encryption | None = None,
    ) -> CopyResult:
        """Copy exactly this version, and verify the copy.

        With ``if_exists="return"`` the caller has looked the target up, and it does not exist.
        """
        context, file = self.context, self.head.file
        if not (options.replaces or options.return_existing):
            await refuse_existing(context, target, encryption_headers(encryption))
        headers = kept_headers(self.head, with_metadata=keep_metadata)
        headers |= {**(changed or {}), **encryption_headers(encryption)}
        source = CopySource(file.key, self.version_id, file.size, file.etag, self.encryption)
        try:
            copied = await copy(
                context,
                source,
                target,
                headers,
                marker=copy_marker(self.head, headers),
                # B2 implements no conditional writes.
                unless_exists=not options.replaces and not context.settings.is_b2,
            )
        except NoSuchKeyError as error:
            # The request names the target, but the missing file is the source.
            error.key = file.key
            raise
        await verify_copy(context, self.head, target, copied, encryption)
        return models.CopyResult(
            source=file.key,
            source_version_id=file.version_id,
            key=target,
            size=file.size,
            etag=copied.stored.etag,
            version_id=copied.stored.version_id,
            parts=copied.parts,
        )

    async def hide(self) -> None:
        """Delete the file by name, unless another version is the newest by now. 2 requests."""
        key, before = self.head.file.key, self.head.file
        now = (await _head(self.context, key, None, self.encryption)).file
        if (now.version_id, now.etag) != (before.version_id, before.etag):
            raise PreconditionFailedError(
                "The source was overwritten while it was copied: it was not hidden.",
                key=key,
            )
        await self.context.requests.delete_object(key)


def _existing_copy(source: str, version_id: str | None, head: ObjectHead) -> CopyResult:
    return models.CopyResult(
        source=source,
        source_version_id=version_id,
        key=head.file.key,
        size=head.file.size,
        etag=head.file.etag,
        version_id=head.file.version_id,
        parts=part_count(head.file.etag) or 1,
    )


def _check_encryption(context: TransferContext, **given: Encryption | None) -> None:
    for name, encryption in given.items():
        if encryption not in (None, "SSE-B2") and not isinstance(encryption, CustomerKey):
            # The value may be a secret key, so it is not shown.
            raise InvalidInputError(
                f"{name} must be 'SSE-B2' or a CustomerKey, not {type(encryption).__name__}."
            )
        check_encryption(encryption, context.settings.endpoint)


async def _head(
    context: TransferContext, key: str, version_id: str | None, encryption: Encryption | None
) -> ObjectHead:
    return await context.requests.head_object(
        key, version_id=version_id, headers=key_headers(encryption)
    )
