"""Buckets: create, list, look at, delete; their default encryption."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC
from typing import Any, Literal

from pydantic import AwareDatetime

from careflow_storage._endpoint import b2_endpoint, bucket_name_problem, host_of, is_b2_host
from careflow_storage._s3.boto.pages import checked_page, nothing
from careflow_storage._s3.responses.check import is_marked
from careflow_storage._transfer.context import TransferContext
from careflow_storage.errors import (
    AccessDeniedError,
    BucketExistsError,
    BucketNotEmptyError,
    CapExceededError,
    InvalidInputError,
    NoSuchBucketError,
    NoSuchConfigurationError,
    NoSuchKeyError,
    NotSupportedError,
    ServerResponseError,
    StorageError,
    check_text,
)
from careflow_storage.models import Model

_OF_ENV = "careflow-recordings-"
_SSE_B2 = "AES256"
_SSE_B2_NAME: Literal["SSE-B2"] = "SSE-B2"
_REGION_HEADER = "x-amz-bucket-region"
_HEAD_DENIED_HINT = (
    "A HEAD has no reason. The bucket may belong to another account or region, or the key lacks "
    "listBuckets (and listAllBucketNames, if it is limited to a bucket)."
)


class BucketInfo(Model):
    """A bucket. ``created`` is told by listings only; ``region`` is None where nobody tells it."""

    name: str
    created: AwareDatetime | None = None
    region: str | None = None


async def create_bucket(
    context: TransferContext,
    name: str | None,
    *,
    env: str | None,
    object_lock: bool,
    encryption: Literal["SSE-B2"] | None,
) -> BucketInfo:
    bucket = _new_name(context, name, env)
    _check_encryption(encryption)
    if not isinstance(object_lock, bool):
        raise InvalidInputError(f"object_lock must be True or False, not {object_lock!r}.")
    parameters: dict[str, Any] = {"ACL": "private"}
    if object_lock:
        parameters["ObjectLockEnabledForBucket"] = True
    try:
        await context.control.call("create_bucket", None, parameters, nothing, bucket=bucket)
    except BucketExistsError as error:
        if error.code == "BucketAlreadyOwnedByYou":
            error.hint = (
                "It is your own; it was not changed. If creating it failed half-way, or a response "
                "was lost, set_bucket_encryption('SSE-B2', name=...) finishes it."
            )
        raise
    if encryption is not None:
        await _encrypt_new(context, bucket)
    return BucketInfo(name=bucket, region=context.settings.region)


async def _encrypt_new(context: TransferContext, bucket: str) -> None:
    try:
        await set_encryption(context, _SSE_B2_NAME, bucket)
    except StorageError as error:
        # The bucket stays: deleting what others may have begun to use is worse.
        error.message = (
            "The bucket was created, but its default encryption could not be set: " + error.message
        )
        error.hint = (
            f"set_bucket_encryption('SSE-B2', name={bucket!r}) finishes it, with a key that has "
            "writeBucketEncryption; or ask for none with encryption=None."
        )
        raise


async def list_buckets(context: TransferContext) -> list[BucketInfo]:
    return await context.control.call("list_buckets", None, {}, _listed, bucket="")


def _listed(response: Mapping[str, Any]) -> list[BucketInfo]:
    return [
        BucketInfo(
            name=bucket["Name"],
            created=bucket["CreationDate"].astimezone(UTC) if "CreationDate" in bucket else None,
            region=bucket.get("BucketRegion"),
        )
        for bucket in response["Buckets"]
    ]


async def head_bucket(context: TransferContext, name: str | None) -> BucketInfo:
    bucket = _existing_name(context, name)
    try:
        region = await _head(context, bucket)
    except NoSuchKeyError as error:
        # Without a body a 404 looks like that of a file.
        raise NoSuchBucketError(
            "There is no such bucket.",
            operation=error.operation,
            bucket=bucket,
            status=error.status,
            request_id=error.request_id,
            hint="Check its name, and that the endpoint is that of its account's region.",
        ) from error
    except NoSuchBucketError as error:
        error.hint = _moved_hint(error) or error.hint
        raise
    except CapExceededError:
        raise
    except AccessDeniedError as error:
        error.hint = _HEAD_DENIED_HINT
        raise
    return BucketInfo(name=bucket, region=region or await _location(context, bucket))


async def _head(context: TransferContext, bucket: str) -> str | None:
    """Ask by a HEAD; by a listing as well where nothing shows that S3 has answered it."""
    try:
        region, shown = await context.control.call(
            "head_bucket", None, {}, _region_if_shown, bucket=bucket
        )
    except ServerResponseError:
        await _list_one(context, bucket)
        return None
    if not shown:
        # A server of S3 that denies the listing has shown what it is.
        with contextlib.suppress(AccessDeniedError):
            await _list_one(context, bucket)
    return region


async def _list_one(context: TransferContext, bucket: str) -> None:
    # Any web server has something, or nothing, at this path. It has no listing.
    await context.control.call("list_objects_v2", None, {"MaxKeys": 1}, nothing, bucket=bucket)


def _region_if_shown(response: Mapping[str, Any]) -> tuple[str | None, bool]:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return _region_of(response), is_marked(headers)


def _region_of(response: Mapping[str, Any]) -> str | None:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = response.get("BucketRegion") or headers.get(_REGION_HEADER)
    return str(region) if region else None


async def _location(context: TransferContext, bucket: str) -> str | None:
    """Ask for the region by a call of its own; None if that is not for this key or server."""
    try:
        return await context.control.call(
            "get_bucket_location",
            None,
            {},
            # S3 says nothing of its first region.
            lambda response: str(response["LocationConstraint"] or "us-east-1"),
            bucket=bucket,
        )
    except (AccessDeniedError, NotSupportedError):
        return None


def _moved_hint(error: StorageError) -> str | None:
    """Name the endpoint of the region in which the server says the bucket lives."""
    response = getattr(error.__cause__, "response", None)
    region = _region_of(response) if isinstance(response, dict) else None
    endpoint = b2_endpoint(region) if region else None
    if endpoint is None:
        return None
    return f"The bucket lives in another region: its endpoint is {endpoint}."


async def delete_bucket(context: TransferContext, name: str | None, *, confirm: str) -> None:
    bucket = _existing_name(context, name)
    if confirm != bucket:
        raise InvalidInputError(
            f"confirm must be the bucket's name, {bucket!r}, not {confirm!r}.",
            bucket=bucket,
            hint="Nothing was deleted.",
        )
    await _refuse_unless_empty(context, bucket)
    attempts = 0

    def count() -> None:
        nonlocal attempts
        attempts += 1

    try:
        await context.control.call(
            "delete_bucket", None, {}, nothing, bucket=bucket, on_attempt=count
        )
    except NoSuchBucketError:
        # Deleted by the attempt before, whose response was lost.
        if attempts < 2:
            raise


async def _refuse_unless_empty(context: TransferContext, bucket: str) -> None:
    """Look first: some servers delete a bucket with all that is in it.

    B2's own response would come without a reason; hidden versions, delete markers and unfinished
    uploads count.
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
                hint="Deleting a file only hides it. A storage of this bucket counts what is there "
                "by purge_files('', dry_run=True), and shows it by list_file_versions() and "
                "list_incomplete_uploads().",
            )


async def get_encryption(
    context: TransferContext, name: str | None = None
) -> Literal["SSE-B2"] | None:
    bucket = _existing_name(context, name)
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
            f"The bucket encrypts with {algorithm}, which B2 does not know.", bucket=bucket
        )
    return _SSE_B2_NAME


def _algorithm(response: Mapping[str, Any]) -> str | None:
    rules = response["ServerSideEncryptionConfiguration"].get("Rules", ())
    defaults = (rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules)
    return next((default["SSEAlgorithm"] for default in defaults if default), None)


async def set_encryption(
    context: TransferContext, encryption: Literal["SSE-B2"] | None, name: str | None = None
) -> None:
    bucket = _existing_name(context, name)
    _check_encryption(encryption)
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
            "encryption must be 'SSE-B2' or None: the default of a bucket cannot be another.",
            hint="B2 has no SSE-KMS. A CustomerKey (SSE-C) is given with each upload.",
        )


def _new_name(context: TransferContext, name: str | None, env: str | None) -> str:
    if name is not None and env is not None:
        raise InvalidInputError("Either name or env can be given, not both.")
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
    return name
