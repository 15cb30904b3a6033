"""Finds a bucket, and the region that it is in."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from careflow_storage._endpoint import b2_endpoint
from careflow_storage._s3.boto.pages import nothing
from careflow_storage._s3.responses.check import is_marked
from careflow_storage._transfer.context import TransferContext
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    NoSuchBucketError,
    NoSuchKeyError,
    NotSupportedError,
    ServerResponseError,
    StorageError,
)

_REGION_HEADER: Final = "x-amz-bucket-region"
_HEAD_DENIED_HINT: Final = (
    "The response to a HEAD gives no reason. The bucket may belong to another account or region, "
    "or the key lacks listBuckets (and listAllBucketNames, if it is limited to a bucket)."
)


async def checked_region(context: TransferContext, bucket: str) -> str | None:
    """Send a HEAD of the bucket; return its region if the server sends it."""
    try:
        return await _head(context, bucket)
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


async def _head(context: TransferContext, bucket: str) -> str | None:
    """Send a HEAD. Send a listing too, if the response could be that of any web server."""
    try:
        region, shown = await context.control.call(
            "head_bucket", None, {}, _region_if_shown, bucket=bucket
        )
    except ServerResponseError:
        await _list_one(context, bucket)
        return None
    if not shown:
        # A server that denies the listing in S3's form is an S3 server.
        with contextlib.suppress(AccessDeniedError):
            await _list_one(context, bucket)
    return region


async def _list_one(context: TransferContext, bucket: str) -> None:
    # Any web server may respond 200 or 404 to this path, but none with a listing.
    await context.control.call("list_objects_v2", None, {"MaxKeys": 1}, nothing, bucket=bucket)


def _region_if_shown(response: Mapping[str, Any]) -> tuple[str | None, bool]:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return _region_of(response), is_marked(headers)


def _region_of(response: Mapping[str, Any]) -> str | None:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = response.get("BucketRegion") or headers.get(_REGION_HEADER)
    return str(region) if region else None


async def location(context: TransferContext, bucket: str) -> str | None:
    """Request the region by itself; return None if the key or the server does not allow it."""
    try:
        return await context.control.call(
            "get_bucket_location",
            None,
            {},
            # S3 sends nothing for its first region.
            lambda response: str(response["LocationConstraint"] or "us-east-1"),
            bucket=bucket,
        )
    except (AccessDeniedError, NotSupportedError):
        return None


def _moved_hint(error: StorageError) -> str | None:
    """Name the endpoint of the region that the server reports, if it does."""
    response = getattr(error.__cause__, "response", None)
    region = _region_of(response) if isinstance(response, dict) else None
    endpoint = b2_endpoint(region) if region else None
    if endpoint is None:
        return None
    return f"The bucket is in another region: its endpoint is {endpoint}."
