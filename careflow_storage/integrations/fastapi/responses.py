"""Responses with a stored file: through the app, or a redirect to the bucket."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from careflow_storage._log_fields import log_fields
from careflow_storage.errors import MissingExtraError, StorageError
from careflow_storage.integrations.fastapi.errors import describe

try:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import RedirectResponse, Response
    from starlette.types import Receive, Scope, Send
except ImportError as error:
    raise MissingExtraError("fastapi") from error

if TYPE_CHECKING:
    from careflow_storage._transfer.download.serve import ServedFile
    from careflow_storage.protection import CustomerKey
    from careflow_storage.storage import BackblazeStorage

logger: logging.Logger = logging.getLogger("careflow_storage")


async def file_response(
    storage: BackblazeStorage,
    key: str,
    request: Request,
    download_as: str | None = None,
    *,
    version_id: str | None = None,
    encryption: CustomerKey | None = None,
    timeout: float | None = None,
) -> Response:
    """Return a response that streams a file through the app: 200, 206, 304, 412 or 416.

    ::

        @app.api_route("/recordings/{key:path}", methods=["GET", "HEAD"])
        async def play(key: str, request: Request, storage: Storage) -> Response:
            return await file_response(storage, key, request)

    Evaluates the request's Range and conditions by RFC 9110, so players can seek. 1 request to
    the bucket, or 2 for a 416 and for an If-Range that does not match. The bytes are read as the
    client takes them, in bounded memory. When the client leaves, the file is closed at once and
    one line is logged at level INFO. See `BackblazeStorage.serve_file`.

    If the storage fails after the status was sent, the error is logged, and the connection is
    closed before ``Content-Length`` bytes were sent, so that the client sees the failure.

    Args:
        download_as: The name that a browser saves the file under, in any script.
        version_id: A version of the file.
        encryption: The key of a file that was stored with SSE-C.
        timeout: The most seconds until the status is known.

    Raises:
        NoSuchKeyError: The file does not exist. `install_error_handlers` makes it a 404.
        InvalidInputError: The request is neither GET nor HEAD, or ``download_as`` is no file
            name.
        StorageError: See `careflow_storage.errors`.
    """
    served = await storage.serve_file(
        key,
        method=request.method,
        headers=request.headers,
        download_as=download_as,
        version_id=version_id,
        encryption=encryption,
        timeout=timeout,
    )
    return _StoredFileResponse(served)


async def redirect_response(
    storage: BackblazeStorage,
    key: str,
    expires_in: int = 300,
    *,
    download_as: str | None = None,
    version_id: str | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> Response:
    """Return a redirect (307) to a new presigned URL: the bytes do not pass through the app.

    No cache may store it, since it would outlive its signature. The client's request must be a
    GET.

    Args:
        expires_in: The seconds for which the URL is valid. A player sends a request to it for
            each range, so let it outlive the playback.
        download_as: The name that a browser saves the file under.
        version_id: A version of the file.
        check: Whether to check that the file exists (1 HEAD). With False no request is sent, and
            the client of a missing file gets the bucket's own error page.
        timeout: The most seconds for the check.

    Raises:
        NoSuchKeyError: The file does not exist.
        InvalidInputError: ``expires_in`` is not 1 to 604800 seconds, or ``download_as`` is no file
            name.
    """
    url = await storage.get_signed_url(
        key, expires_in, download_as=download_as, version_id=version_id
    )
    if check:
        await storage.get_file_metadata(key, version_id=version_id, timeout=timeout)
    return RedirectResponse(url, headers={"Cache-Control": "no-store"})


class _StoredFileResponse(Response):
    """Sends a `ServedFile`, and closes it when it is sent or the client leaves."""

    def __init__(self, served: ServedFile) -> None:
        self._served = served
        self.status_code = served.status
        self.background = None
        self.body = b""
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in served.headers.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        # Servers report a client that left only here: `send` goes on without an error.
        leaving = asyncio.create_task(_wait_until_left(receive))
        tasks = (sending, leaving)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            left = not sending.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._served.body.aclose()
        try:
            if left:
                leaving.result()
            else:
                sending.result()
        except StorageError as error:
            # The status is sent. A server closes the connection of an incomplete response.
            logger.error(
                "%s: the response ends early: %s",
                describe(HTTPConnection(scope)),
                error,
                extra=log_fields(
                    "response_cut_off", error, request=describe(HTTPConnection(scope))
                ),
            )
            return
        except OSError:
            left = True
        if left:
            logger.info(
                "%s: the client left.",
                describe(HTTPConnection(scope)),
                extra=log_fields("client_left", request=describe(HTTPConnection(scope))),
            )
        if self.background is not None:
            await self.background()

    async def _send(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        async for chunk in self._served.body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
