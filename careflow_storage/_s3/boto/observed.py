"""Reports the calls of the aioboto3 client to hooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from careflow_storage._observer import Observer
from careflow_storage._s3.boto.errors import explain


async def observed_call(
    observer: Observer,
    client: Any,
    operation: str,
    arguments: Mapping[str, Any],
    call: Callable[[], Awaitable[dict[str, Any]]],
    *,
    attempt: int = 1,
) -> dict[str, Any]:
    """Make one call of the client; report it as one request."""
    bucket, key = arguments.get("Bucket"), arguments.get("Key")
    observed = observer.start_request(
        operation,
        client.meta.service_model.operation_model(operation).http["method"],
        bucket=bucket,
        key=key,
        attempt=attempt,
        upload_id=arguments.get("UploadId"),
        part_number=arguments.get("PartNumber"),
    )
    try:
        response = await call()
    except Exception as error:
        where = {"operation": operation, "bucket": bucket, "key": key}
        observed.end(explain(error, where) or error)
        raise
    except BaseException as error:
        observed.end(error)
        raise
    metadata = response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    observed.respond(int(metadata.get("HTTPStatusCode", 0)), headers.get("x-amz-request-id"))
    observed.end(None)
    return response
