"""The webhook as a route for FastAPI and Starlette."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, Unpack
from urllib.parse import parse_qsl

from careflow_storage._log_fields import log_fields
from careflow_storage.errors import (
    InvalidInputError,
    MissingExtraError,
    PreconditionFailedError,
    StorageError,
)
from careflow_storage.integrations.twilio.callback import RecordingCallback
from careflow_storage.integrations.twilio.queueing import queue_recording
from careflow_storage.integrations.twilio.signature import SignedParams, verify_signature
from careflow_storage.options import ObjectOptions
from careflow_storage.outbox import Outbox

try:
    from fastapi import APIRouter
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
except ImportError as _missing:
    raise MissingExtraError("fastapi") from _missing

logger: logging.Logger = logging.getLogger("careflow_storage")

OutboxOf: TypeAlias = Outbox | Callable[[Request], Outbox]
"""An outbox, or a function that returns the one of a request."""

CallIdOfRecording: TypeAlias = "Callable[[Request, RecordingCallback], str | Awaitable[str]]"
"""Returns the call that a recording belongs to, or raises ``HTTPException``."""

_MAX_BODY = 64 * 1024
_MAX_FIELDS = 200
_RETRY_SECONDS = 10
_FORM = "application/x-www-form-urlencoded"


def recording_router(
    outbox: OutboxOf,
    *,
    auth_token: str | Iterable[str],
    public_url: str | None = None,
    path: str = "/recording",
    call_id_of: CallIdOfRecording | None = None,
    auth_name: str | None = "twilio",
    format: Literal["wav", "mp3"] = "wav",  # noqa: A002 - what users call it
    media_host: str = "twilio.com",
    allow_private_addresses: bool = False,
    shared_keys: Mapping[str, str] | None = None,
    **options: Unpack[ObjectOptions],
) -> APIRouter:
    """Return a router with one route, for ``recordingStatusCallback``.

    It checks the signature, makes the entry durable and responds with 204, without a request to
    Twilio or the bucket. ``outbox.run()``, in this process or another, fetches the recording.

    ==== =====================================================================================
    204  the recording is queued, or was before, or its status is not ``completed``
    400  these are no parameters of a recording's status, or its URL leads to another host
    403  the signature is missing or wrong; the log has the URL that was checked
    413  the body has more than 64 KiB
    503  the outbox is closed, or its disk is full; Twilio may repeat the webhook
    ==== =====================================================================================

    Args:
        outbox: The outbox, or a function of the request that returns it.
        auth_token: The auth token of the account, which signs. Several while you rotate it.
        public_url: The app's base URL as Twilio knows it, such as ``https://calls.example.com``;
            the path and query of the request are appended. Default: the URL that the server sees,
            which is another one behind most proxies.
        path: The path of the route.
        call_id_of: Returns the call in the recording's key, for example one that begins with a
            tenant of yours. It is called with the request and the checked callback of each
            recording that is ``completed``, and may be async. ``HTTPException`` has its own
            status. Twilio sends a webhook again: return the same call each time. Default: the
            call or the conference of the callback.
        auth_name: As for `queue_recording`; so are ``format``, ``media_host``,
            ``allow_private_addresses`` and ``options``.
        shared_keys: The secrets of Twilio's shared keys by their ID, if a webhook rule signs with
            one.
    """
    read = _CallbackReader(auth_token, public_url, shared_keys)

    async def recording(request: Request) -> Response:
        callback = await read(request)
        box = outbox if isinstance(outbox, Outbox) else outbox(request)
        try:
            call_id = None
            if call_id_of is not None and callback.completed:
                found = call_id_of(request, callback)
                call_id = await found if inspect.isawaitable(found) else found
            await queue_recording(
                box,
                callback,
                call_id=call_id,
                auth_name=auth_name,
                format=format,
                media_host=media_host,
                allow_private_addresses=allow_private_addresses,
                **options,
            )
        except InvalidInputError as error:
            raise HTTPException(400, error.message) from error
        except PreconditionFailedError:
            # The first webhook of this recording had another URL. It stays.
            logger.warning(
                "Another entry has the key of %s.",
                callback.recording_sid,
                extra=log_fields(
                    "recording_not_queued",
                    call_id=callback.call_id,
                    recording_sid=callback.recording_sid,
                ),
            )
        except StorageError as error:
            logger.error(
                "The recording %s was not queued: %s",
                callback.recording_sid,
                error,
                extra=log_fields(
                    "recording_not_queued",
                    error,
                    call_id=callback.call_id,
                    recording_sid=callback.recording_sid,
                ),
            )
            retry = str(math.ceil(error.retry_after or _RETRY_SECONDS))
            raise HTTPException(503, "Try again later.", {"Retry-After": retry}) from error
        return Response(status_code=204)

    router = APIRouter()
    router.add_route(path, recording, methods=["GET", "POST"], include_in_schema=False)
    return router


async def read_callback(
    request: Request,
    *,
    auth_token: str | Iterable[str],
    public_url: str | None = None,
    shared_keys: Mapping[str, str] | None = None,
) -> RecordingCallback:
    """Read and check the webhook of a request, for a route of your own.

    ::

        @app.post("/twilio/recording", status_code=204)
        async def recording(request: Request) -> None:
            callback = await read_callback(request, auth_token=AUTH_TOKEN)
            await queue_recording(outbox, callback)

    Args:
        auth_token: As for `recording_router`; so are ``public_url`` and ``shared_keys``.

    Raises:
        HTTPException: 400, 403 or 413, as for `recording_router`.
    """
    return await _CallbackReader(auth_token, public_url, shared_keys)(request)


class _CallbackReader:
    """Reads callbacks. The repr shows no secret."""

    __slots__ = ("_keys", "_public_url", "_tokens")

    def __init__(
        self,
        auth_token: str | Iterable[str],
        public_url: str | None,
        shared_keys: Mapping[str, str] | None,
    ) -> None:
        self._tokens = [auth_token] if isinstance(auth_token, str) else list(auth_token or ())
        self._public_url = public_url
        self._keys = dict(shared_keys or {})
        # Raises for an empty token now, not at the first webhook.
        verify_signature(self._tokens, "", None, None)

    async def __call__(self, request: Request) -> RecordingCallback:
        signed, params = await _params(request)
        url = _url(request, self._public_url)
        if not self._is_signed(request, url, signed):
            logger.warning(
                "A webhook for %s has no valid X-Twilio-Signature. If it came from Twilio, compare "
                "the URL with the configured one: public_url= sets its beginning.",
                url.partition("?")[0],
                extra=log_fields("webhook_signature_invalid"),
            )
            raise HTTPException(403, "The signature is not valid.")
        try:
            return RecordingCallback.from_params(params)
        except InvalidInputError as error:
            raise HTTPException(400, error.message) from error

    def _is_signed(self, request: Request, url: str, signed: SignedParams) -> bool:
        signature = request.headers.get("x-twilio-signature")
        settings = request.headers.get("x-twilio-webhooks-signature-settings")
        if settings is None:
            return verify_signature(self._tokens, url, signed, signature)
        parts = (part.partition("=") for part in settings.split(","))
        fields = {name.strip(): value.strip() for name, _, value in parts}
        secret = self._keys.get(fields.get("key", ""))
        algorithm: Any = fields.get("algorithm", "HMAC_SHA1")
        if secret is None:
            return False
        try:
            return verify_signature(secret, url, signed, signature, algorithm=algorithm)
        except InvalidInputError:
            return False


async def _params(request: Request) -> tuple[SignedParams, dict[str, str]]:
    """Return what the signature covers beside the URL, and the parameters."""
    if request.method == "GET":
        return None, dict(request.query_params)
    body = await _body(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise HTTPException(400, f"The body must be {_FORM}.")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise HTTPException(400, "The form cannot be read.") from error
    return pairs, dict(pairs)


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                raise HTTPException(413, "The body is too large.")
    except ClientDisconnect as error:
        raise HTTPException(400, "The body is incomplete.") from error
    return bytes(body)


def _url(request: Request, public_url: str | None) -> str:
    """Return the URL that Twilio has requested, byte for byte."""
    # Not `request.url`: some versions of Starlette cannot read it with a malformed Host.
    scope = request.scope
    base = public_url or f"{scope['scheme']}://{request.headers.get('host', '')}"
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    path = raw.partition(b"?")[0].decode("latin-1")
    return base.rstrip("/") + path + (f"?{query.decode('latin-1')}" if query else "")
