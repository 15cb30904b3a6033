"""Routes for Uppy's plugin ``@uppy/aws-s3``, and for pages without Uppy. Extra: ``fastapi``.

::

    app.include_router(uppy_router(broker, authorize=user_id), prefix="/uploads")

Version 5 of the plugin (and version 6 with ``companionEndpoint``) calls the routes of Uppy's
Companion. Version 6 with ``signRequest`` calls ``s3/presign``. No route trusts a key or an upload
ID of the page: the ticket holds them.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from careflow_storage._log_fields import log_fields
from careflow_storage.browser.broker import BrowserUploads
from careflow_storage.browser.errors import UploadIncompleteError
from careflow_storage.browser.models import BrowserUpload, UploadedPart
from careflow_storage.errors import (
    InvalidInputError,
    MissingExtraError,
    NoSuchUploadError,
    StorageError,
)
from careflow_storage.integrations.problems import problem_for
from careflow_storage.models import SignedRequest, UploadResult

try:
    from fastapi import APIRouter
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse
except ImportError as error:
    raise MissingExtraError("fastapi") from error

logger: logging.Logger = logging.getLogger("careflow_storage")

_MAX_BODY = 64 * 1024
_MAX_PARTS_BODY = 2 * 1024 * 1024  # 10,000 parts with their ETags have about 1 MB
_MAX_SIGNED_AT_ONCE = 1000
_NO_STORE = {"Cache-Control": "no-store"}

Authorize = Callable[[Request], "str | Awaitable[str]"]
"""Returns who sends a request, for example the ID of the signed-in user, or raises."""

CallIdOf = Callable[[Request, Mapping[str, str]], "str | Awaitable[str]"]
"""Returns the call that a new upload belongs to, from the file's metadata, or raises."""

OnComplete = Callable[[UploadResult, str], Awaitable[None]]
"""Called with a completed upload and its subject."""

_Handler = Callable[[Request, str], Awaitable[Any]]


def uppy_router(
    broker: BrowserUploads,
    *,
    authorize: Authorize,
    call_id_of: CallIdOf | None = None,
    on_complete: OnComplete | None = None,
) -> APIRouter:
    """Return the routes, for ``FastAPI.include_router`` or a ``Mount`` of Starlette.

    ====== =================================== ==============================================
    POST   ``/create``                         begins an upload, for ``signRequest`` or no Uppy
    POST   ``/s3/presign``                     signs one request (``signRequest``)
    GET    ``/s3/params``                      begins and signs one PUT
    POST   ``/s3/multipart``                   begins an upload in parts
    GET    ``/s3/multipart/{ticket}``          lists its parts
    GET    ``/s3/multipart/{ticket}/{part}``   signs a part
    GET    ``/s3/multipart/{ticket}/batch``    signs several parts
    POST   ``/s3/multipart/{ticket}/complete`` completes and checks an upload of any kind
    DELETE ``/s3/multipart/{ticket}``          aborts an upload of any kind
    ====== =================================== ==============================================

    For Uppy the ticket is the "uploadId". Errors are JSON: ``{"message", "requestId"?}``.

    Args:
        broker: Issues and checks the tickets.
        authorize: Called with each request; returns the subject of the tickets. It may be
            async. ``PermissionError`` is a response 403, a subject that is empty or None is 401,
            and ``HTTPException`` has its own status.
        call_id_of: Returns the call of a new upload and checks that the subject may add to
            it. By default it is ``call_id`` in the file's metadata, unchecked: pass a function
            unless all subjects may upload to all calls. Raises like ``authorize``.
        on_complete: Awaited with the result and the subject when an upload is complete, before
            the page gets its response; for example to record the file in a database. If it
            raises, the file stays stored and the page gets an error: the status of an
            ``HTTPException`` or of a `StorageError`, else 500 and a traceback in the log. A page
            that then completes the upload again causes another call, as does one whose response
            was lost, so do nothing twice: ``key`` and ``version_id`` identify the file. The next
            completion finds only the version that the page has sent: a function that replaces
            it, as `make_seekable` does, does that last and handles its own errors.
    """
    routes = _Routes(broker, authorize, call_id_of or _call_id_in_metadata, on_complete)
    router = APIRouter()
    for method, path, handler in (
        ("POST", "/create", routes.create),
        ("POST", "/s3/presign", routes.presign),
        ("GET", "/s3/params", routes.params),
        ("POST", "/s3/multipart", routes.create_multipart),
        ("GET", "/s3/multipart/{ticket}", routes.list_parts),
        ("GET", "/s3/multipart/{ticket}/batch", routes.sign_parts),
        ("GET", "/s3/multipart/{ticket}/{part}", routes.sign_part),
        ("POST", "/s3/multipart/{ticket}/complete", routes.complete),
        ("DELETE", "/s3/multipart/{ticket}", routes.abort),
    ):
        router.add_route(path, routes.endpoint(handler), methods=[method], include_in_schema=False)
    return router


class _Routes:
    """The handlers; each returns the content of a JSON response."""

    def __init__(
        self,
        broker: BrowserUploads,
        authorize: Authorize,
        call_id_of: CallIdOf,
        on_complete: OnComplete | None,
    ) -> None:
        self._broker = broker
        self._authorize = authorize
        self._call_id_of = call_id_of
        self._on_complete = on_complete

    def endpoint(self, handler: _Handler) -> Callable[[Request], Awaitable[JSONResponse]]:
        async def respond(request: Request) -> JSONResponse:
            try:
                subject = await _allowed(self._authorize, request)
                if not isinstance(subject, str) or not subject:
                    raise HTTPException(401, "Sign in to upload files.")
                content = await handler(request, subject)
            except HTTPException as error:
                headers = {**(error.headers or {}), **_NO_STORE}
                return JSONResponse({"message": str(error.detail)}, error.status_code, headers)
            except StorageError as error:
                return _failure(error)
            except ClientDisconnect:
                # No client reads it.
                return JSONResponse({"message": "The request is incomplete."}, 400)
            return JSONResponse(content, headers=_NO_STORE)

        return respond

    async def create(self, request: Request, subject: str) -> Any:
        body = await _json_body(request, _MAX_BODY)
        multipart, page = body.get("multipart"), body.get("begunByPage", False)
        if multipart not in (None, True, False) or page not in (True, False):
            raise InvalidInputError("multipart and begunByPage must be true or false.")
        metadata = _metadata(body)
        metadata.setdefault("size", str(body.get("size")))
        upload = await self._begin(
            request, subject, body, metadata, multipart=multipart, begun_by_page=page
        )
        return {
            "key": upload.key,
            "ticket": upload.ticket,
            "multipart": upload.multipart,
            "partSize": upload.part_size,
            "partCount": upload.part_count,
            "expiresAt": upload.expires_at.isoformat(),
        }

    async def params(self, request: Request, subject: str) -> Any:
        query = request.query_params
        metadata = {
            name[len("metadata[") : -1]: value
            for name, value in query.items()
            if name.startswith("metadata[") and name.endswith("]")
        }
        upload = await self._begin(request, subject, query, metadata, multipart=False)
        signed = await self._broker.sign(upload.ticket, subject=subject)
        return {
            "method": signed.method,
            "url": signed.url,
            "headers": signed.headers,
            "fields": {"key": upload.key},
            "ticket": upload.ticket,
        }

    async def create_multipart(self, request: Request, subject: str) -> Any:
        body = await _json_body(request, _MAX_BODY)
        upload = await self._begin(request, subject, body, _metadata(body), multipart=True)
        return {"key": upload.key, "uploadId": upload.ticket}

    async def list_parts(self, request: Request, subject: str) -> Any:
        parts = await self._broker.list_parts(request.path_params["ticket"], subject=subject)
        return [
            {"PartNumber": part.number, "Size": part.size, "ETag": f'"{part.etag}"'}
            for part in parts
        ]

    async def sign_part(self, request: Request, subject: str) -> Any:
        number = _number(request.path_params["part"], "part")
        ticket = request.path_params["ticket"]
        return _signed(await self._broker.sign(ticket, part=number, subject=subject))

    async def sign_parts(self, request: Request, subject: str) -> Any:
        texts = request.query_params.get("partNumbers", "").split(",")
        if len(texts) > _MAX_SIGNED_AT_ONCE:
            raise InvalidInputError(f"At most {_MAX_SIGNED_AT_ONCE} parts are signed at once.")
        ticket = request.path_params["ticket"]
        urls = {}
        for number in [_number(text, "partNumbers") for text in texts]:
            urls[str(number)] = (await self._broker.sign(ticket, part=number, subject=subject)).url
        return {"presignedUrls": urls}

    async def presign(self, request: Request, subject: str) -> Any:
        body = await _json_body(request, _MAX_BODY)
        signed = await self._broker.sign_request(
            body.get("ticket", ""),
            body.get("method", ""),
            upload_id=body.get("uploadId"),
            part=body.get("partNumber"),
            subject=subject,
        )
        return _signed(signed)

    async def complete(self, request: Request, subject: str) -> Any:
        body = await _json_body(request, _MAX_PARTS_BODY)
        result = await self._broker.complete(
            request.path_params["ticket"], _reported(body.get("parts")), subject=subject
        )
        if self._on_complete is not None:
            await _completed(self._on_complete, result, subject)
        return {
            "location": result.url,
            "bucket": result.bucket,
            "key": result.key,
            "size": result.size,
            "versionId": result.version_id,
        }

    async def abort(self, request: Request, subject: str) -> Any:
        await self._broker.abort(request.path_params["ticket"], subject=subject)
        # Uppy reads JSON from each response, so this is no 204.
        return {}

    async def _begin(
        self,
        request: Request,
        subject: str,
        file: Mapping[str, Any],
        metadata: Mapping[str, str],
        *,
        multipart: bool | None,
        begun_by_page: bool = False,
    ) -> BrowserUpload:
        call_id = await _allowed(self._call_id_of, request, metadata)
        upload = await self._broker.create(
            call_id,
            file.get("filename", ""),
            content_type=file.get("type", ""),
            size=_number(metadata.get("size", ""), "size"),
            subject=subject,
            multipart=multipart,
            begun_by_page=begun_by_page,
        )
        if upload.multipart and not begun_by_page and await request.is_disconnected():
            # The page has left without the ticket, so it cannot abort the upload.
            await self._broker.abort(upload.ticket, subject=subject)
        return upload


async def _allowed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the application; its ``PermissionError`` is a response 403."""
    try:
        result = function(*arguments)
        return await result if inspect.isawaitable(result) else result
    except StorageError:
        raise
    except PermissionError as error:
        raise HTTPException(403, "You may not upload this file.") from error


async def _completed(function: OnComplete, result: UploadResult, subject: str) -> None:
    """Call the function of the application; an error of its own is a response 500."""
    try:
        await function(result, subject)
    except (HTTPException, StorageError):
        raise
    except Exception as error:
        logger.exception(
            "on_complete failed after the upload of %s.",
            result.key,
            extra=log_fields("on_complete_failed", error, key=result.key),
        )
        raise HTTPException(500, "The file is stored, but the server made an error.") from error


def _call_id_in_metadata(request: Request, metadata: Mapping[str, str]) -> str:
    return metadata.get("call_id", "")


async def _json_body(request: Request, limit: int) -> dict[str, Any]:
    """Read a JSON object of at most ``limit`` bytes."""
    # Without this, the form of another site could send it with the user's cookies.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "The Content-Type must be application/json.")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise HTTPException(413, f"The request has more than {limit} bytes.")
    try:
        body = json.loads(bytes(data) or b"{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The request is no JSON.") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "The request is no JSON object.")
    return body


def _metadata(body: Mapping[str, Any]) -> dict[str, str]:
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InvalidInputError("metadata must be an object.")
    return {name: str(value) for name, value in metadata.items()}


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise InvalidInputError(f"{name} must be a whole number, not {text[:40]!r}.")
    return int(text)


def _reported(parts: Any) -> list[UploadedPart] | None:
    if parts is None:
        return None
    try:
        return [UploadedPart(number=part["PartNumber"], etag=part["ETag"]) for part in parts]
    except (TypeError, KeyError, ValidationError) as error:
        raise InvalidInputError("parts must be a list of {PartNumber, ETag}.") from error


def _signed(signed: SignedRequest) -> dict[str, Any]:
    # The page stops the request after this many seconds.
    left = math.floor((signed.expires_at - datetime.now(UTC)).total_seconds())
    return {
        "method": signed.method,
        "url": signed.url,
        "headers": signed.headers,
        "expires": max(1, left),
    }


def _failure(error: StorageError) -> JSONResponse:
    problem = problem_for(error)
    # A ticket names its upload: where that is gone, the storage did not fail.
    status = 404 if isinstance(error, NoSuchUploadError) else problem.status
    headers = dict(_NO_STORE)
    content: dict[str, Any] = {"message": f"{error.message} {error.hint or ''}".strip()}
    if status >= 500:
        logger.error(
            "A browser upload failed: %s", error, extra=log_fields("browser_upload_failed", error)
        )
        content = {"message": problem.content["detail"]}
        if error.request_id:
            content["requestId"] = error.request_id
        if wait := problem.headers.get("Retry-After"):
            headers["Retry-After"] = wait
    if isinstance(error, UploadIncompleteError):
        content["missing"] = list(error.missing)
    return JSONResponse(content, status, headers)
