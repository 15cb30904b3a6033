"""The methods of `StorageAdmin` for buckets and their default encryption."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal

from careflow_storage._endpoint import bucket_name_problem, host_of, is_b2_host
from careflow_storage._lazy import LazyModule
from careflow_storage._s3.boto.pages import checked_page, nothing
from careflow_storage._transfer.context import TransferContext
from careflow_storage.admin.base import AdminMethods
from careflow_storage.admin.bucket_region import checked_region, location
from careflow_storage.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    InvalidInputError,
    NoSuchBucketError,
    NoSuchConfigurationError,
    NotSupportedError,
    StorageError,
    check_text,
)

if TYPE_CHECKING:
    from careflow_storage.admin import models
    from careflow_storage.admin.models import BucketInfo
else:
    models = LazyModule("careflow_storage.admin.models")

_NEEDS = (models,)
_is_bucket_name = re.compile(r"[A-Za-z0-9._-]{1,255}").fullmatch
_OF_ENV = "careflow-recordings-"
_SSE_B2 = "AES256"
_SSE_B2_NAME: Literal["SSE-B2"] = "SSE-B2"


class BucketMethods(AdminMethods):
    """Buckets and their default encryption."""

    async def create_bucket(
        self,
        name: str | None = None,
        *,
        env: str | None = None,
        object_lock: bool = False,
        encryption: Literal["SSE-B2"] | None = "SSE-B2",
        timeout: float | None = None,
    ) -> BucketInfo:
        """Create a private bucket: the one of the settings, one by ``name``, or one for an ``env``.

        Needs writeBuckets, and writeBucketEncryption for the encryption. 2 requests, or 1
        without encryption. The bucket is created in the endpoint's region.

        Args:
            env: An environment such as ``prod``: the bucket is ``careflow-recordings-prod``.
            object_lock: Whether files can be locked. It cannot be switched off later.
            encryption: The default encryption of new files.

        Raises:
            InvalidInputError: The name is malformed, or both ``name`` and ``env`` are passed.
            BucketExistsError: The name is taken, perhaps by your own account (the hint says so).
                The existing bucket is not changed.
            StorageError: The bucket was created, but its encryption was refused; the message
                says so. `set_bucket_encryption` with ``name`` completes it.
        """
        async with self._call("create_bucket", _NEEDS, timeout=timeout):
            context = self._context()
            bucket = _new_name(context, name, env)
            _check_encryption(encryption)
            if not isinstance(object_lock, bool):
                raise InvalidInputError(f"object_lock must be True or False, not {object_lock!r}.")
            parameters: dict[str, Any] = {"ACL": "private"}
            if object_lock:
                parameters["ObjectLockEnabledForBucket"] = True
            await _create(context, bucket, parameters)
            if encryption is not None:
                await _encrypt_new(context, bucket)
            return models.BucketInfo(name=bucket, region=context.settings.region)

    async def list_buckets(self, *, timeout: float | None = None) -> list[BucketInfo]:
        """List the buckets of the account. Needs listAllBucketNames. 1 request."""
        async with self._call("list_buckets", _NEEDS, timeout=timeout):
            return await self._context().control.call("list_buckets", None, {}, _listed, bucket="")

    async def head_bucket(
        self, name: str | None = None, *, timeout: float | None = None
    ) -> BucketInfo:
        """Check that a bucket exists and is accessible; return its region.

        Needs listBuckets. 1 request, and a second one if the first response has no region.

        Raises:
            NoSuchBucketError: The bucket does not exist, or is in another region (status 301).
                The hint names the endpoint of that region if the server sends it.
            AccessDeniedError: The bucket belongs to another account, or the key may not see it.
                B2 also sends this for a bucket in another region.
        """
        async with self._call("head_bucket", _NEEDS, timeout=timeout):
            context = self._context()
            bucket = _existing_name(context, name)
            region = await checked_region(context, bucket) or await location(context, bucket)
            return models.BucketInfo(name=bucket, region=region)

    async def delete_bucket(
        self, name: str | None = None, *, confirm: str, timeout: float | None = None
    ) -> None:
        """Delete an empty bucket. ``confirm`` must be its name.

        Needs deleteBuckets and listFiles. 3 requests: two check that the bucket is empty, since
        some servers do not, and one deletes it.

        Raises:
            InvalidInputError: ``confirm`` is another name. No request was sent.
            BucketNotEmptyError: The bucket holds files, hidden versions or unfinished uploads.
        """
        async with self._call("delete_bucket", _NEEDS, timeout=timeout):
            context = self._context()
            bucket = _existing_name(context, name)
            if confirm != bucket:
                raise InvalidInputError(
                    f"confirm must be the bucket's name, {bucket!r}, not {confirm!r}.",
                    bucket=bucket,
                    hint="Nothing was deleted.",
                )
            await _refuse_unless_empty(context, bucket)
            await _delete(context, bucket)

    async def get_bucket_encryption(
        self, *, name: str | None = None, timeout: float | None = None
    ) -> Literal["SSE-B2"] | None:
        """Return the default encryption of new files, or None.

        Needs readBucketEncryption. 1 request. ``name`` selects another bucket than the storage's.

        Raises:
            NotSupportedError: The bucket uses an encryption that B2 does not have, such as
                ``aws:kms``.
        """
        async with self._call("get_bucket_encryption", _NEEDS, timeout=timeout):
            context = self._context()
            return await _get_encryption(context, _existing_name(context, name))

    async def set_bucket_encryption(
        self,
        encryption: Literal["SSE-B2"] | None,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Set the default encryption of new files. Existing files do not change.

        Needs writeBucketEncryption. 1 request. ``name`` selects another bucket than the storage's.
        B2 encrypts buckets created since 2026 by default (its document "Server-Side Encryption").
        """
        async with self._call("set_bucket_encryption", _NEEDS, timeout=timeout):
            context = self._context()
            bucket = _existing_name(context, name)
            _check_encryption(encryption)
            await _set_encryption(context, encryption, bucket)


async def _create(context: TransferContext, bucket: str, parameters: dict[str, Any]) -> None:
    try:
        await context.control.call("create_bucket", None, parameters, nothing, bucket=bucket)
    except BucketExistsError as error:
        if error.code == "BucketAlreadyOwnedByYou":
            error.hint = (
                "It is your own; it was not changed. If creating it failed half-way, or a response "
                "was lost, set_bucket_encryption('SSE-B2', name=...) completes it."
            )
        raise


async def _encrypt_new(context: TransferContext, bucket: str) -> None:
    try:
        await _set_encryption(context, _SSE_B2_NAME, bucket)
    except StorageError as error:
        # The bucket stays: deleting a bucket that is perhaps in use already would be worse.
        error.message = (
            "The bucket was created, but its default encryption could not be set: " + error.message
        )
        error.hint = (
            f"set_bucket_encryption('SSE-B2', name={bucket!r}) completes it, with a key that has "
            "writeBucketEncryption. Or create it without encryption: encryption=None."
        )
        raise


def _listed(response: Mapping[str, Any]) -> list[BucketInfo]:
    return [
        models.BucketInfo(
            name=bucket["Name"],
            created=bucket["CreationDate"].astimezone(UTC) if "CreationDate" in bucket else None,
            region=bucket.get("BucketRegion"),
        )
        for bucket in response["Buckets"]
    ]


async def _delete(context: TransferContext, bucket: str) -> None:
    attempts = 0

    def count() -> None:
        nonlocal attempts
        attempts += 1

    try:
        await context.control.call(
            "delete_bucket", None, {}, nothing, bucket=bucket, on_attempt=count
        )
    except NoSuchBucketError:
        # An earlier attempt deleted it, and its response was lost.
        if attempts < 2:
            raise


async def _refuse_unless_empty(context: TransferContext, bucket: str) -> None:
    """Check first: some servers delete a bucket together with its content.

    B2 refuses without a reason. Hidden versions, delete markers and unfinished uploads count as
    content.
    """
    for method, limit, entries, what in (
        ("list_object_versions", "MaxKeys", ("Versions", "DeleteMarkers"), "versions of files"),
        ("list_multipart_uploads", "MaxUploads", ("Uploads",), "unfinished uploads"),
    ):
        page = await context.control.call(method, None, {limit: 1}, checked_page, bucket=bucket)
        if any(page.get(name) for name in entries):
            raise BucketNotEmptyError(
                f"The bucket still holds {what}; it was not deleted.",
                bucket=bucket,
                hint="Deleting a file only hides it. purge_files('', dry_run=True) counts the "
                "content of a bucket; list_file_versions() and list_incomplete_uploads() show it.",
            )


async def _get_encryption(context: TransferContext, bucket: str) -> Literal["SSE-B2"] | None:
    try:
        algorithm = await context.control.call(
            "get_bucket_encryption", None, {}, _algorithm, bucket=bucket
        )
    except NoSuchConfigurationError:
        return None
    if algorithm is None:
        return None
    if algorithm != _SSE_B2:
        raise NotSupportedError(
            f"The bucket encrypts with {algorithm}, which B2 does not support.", bucket=bucket
        )
    return _SSE_B2_NAME


def _algorithm(response: Mapping[str, Any]) -> str | None:
    rules = response["ServerSideEncryptionConfiguration"].get("Rules", ())
    defaults = (rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules)
    return next((default["SSEAlgorithm"] for default in defaults if default), None)


async def _set_encryption(
    context: TransferContext, encryption: Literal["SSE-B2"] | None, bucket: str
) -> None:
    if encryption is None:
        await context.control.call("delete_bucket_encryption", None, {}, nothing, bucket=bucket)
        return
    default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": _SSE_B2}}
    await context.control.call(
        "put_bucket_encryption",
        None,
        {"ServerSideEncryptionConfiguration": {"Rules": [default]}},
        nothing,
        bucket=bucket,
    )


def _check_encryption(encryption: object) -> None:
    if encryption not in (None, _SSE_B2_NAME):
        raise InvalidInputError(
            "encryption must be 'SSE-B2' or None.",
            hint="B2 has no SSE-KMS. Pass a CustomerKey (SSE-C) with each upload instead.",
        )


def _new_name(context: TransferContext, name: str | None, env: str | None) -> str:
    if name is not None and env is not None:
        raise InvalidInputError("Pass either name or env, not both.")
    if env is None:
        bucket, field = context.session.bucket if name is None else name, "name"
    else:
        check_text(env, "env")
        bucket, field = _OF_ENV + env, "env"
    check_text(bucket, field)
    problem = bucket_name_problem(bucket, b2=is_b2_host(host_of(context.session.origin)))
    if problem is not None:
        raise InvalidInputError(f"{field}: the bucket's name {bucket!r} {problem}.", bucket=bucket)
    return bucket


def _existing_name(context: TransferContext, name: str | None) -> str:
    if name is None:
        return context.session.bucket
    check_text(name, "name")
    # Older buckets have names that are refused for new ones.
    if not _is_bucket_name(name) and not name.startswith("arn:"):
        raise InvalidInputError(
            f"name: {name!r} is not the name of a bucket.",
            hint="Names have letters, digits, hyphens, dots and underscores.",
        )
    return name
