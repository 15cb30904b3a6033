"""A stand-in for Twilio's media server: recordings behind basic auth, as the real one serves them.

It has two origins on this machine: the API, and the host of the media that the API may redirect to.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

ACCOUNT = "AC" + "0" * 32
API_KEY, API_SECRET, AUTH_TOKEN = "SK" + "1" * 32, "the-api-secret", "the-auth-token"
_PATH = re.compile(rf"/2010-04-01/Accounts/{ACCOUNT}/Recordings/(RE[0-9a-f]{{32}})(\.wav|\.mp3)?")
_TYPES = {"wav": "audio/x-wav", "mp3": "audio/mpeg"}

Fault = Literal["404", "429", "500", "503", "401", "truncated", "reset"]


@dataclass
class Recording:
    """One recording: its files by format, and what happens before they are served.

    ``faults`` are taken one by one, for each request that would be served. ``stall`` holds the
    second half of a file back. ``redirect`` is a status: the file is on the media host.
    """

    files: Mapping[str, bytes]
    dual: bytes | None = None
    faults: list[Fault] = field(default_factory=list)
    redirect: int | None = None
    stall: asyncio.Event | None = None
    half_sent: asyncio.Event = field(default_factory=asyncio.Event)
    served: int = 0


class TwilioMedia:
    """The server. ``asked`` are the requests to the API, ``media_asked`` to the media host."""

    def __init__(self, *, port: int = 0) -> None:
        self.recordings: dict[str, Recording] = {}
        self.asked: list[web.Request] = []
        self.media_asked: list[web.Request] = []
        self._port = port

    async def __aenter__(self) -> Self:
        api, media = web.Application(), web.Application()
        api.router.add_get("/{path:.*}", self._api)
        media.router.add_get("/{path:.*}", self._media)
        self._servers = [TestServer(api, port=self._port or None), TestServer(media)]
        for server in self._servers:
            await server.start_server()
        self.origin, self.media_origin = (
            str(server.make_url("")).rstrip("/") for server in self._servers
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in self._servers:
            await server.close()

    def url(self, sid: str) -> str:
        """The RecordingUrl that a webhook announces."""
        return f"{self.origin}/2010-04-01/Accounts/{ACCOUNT}/Recordings/{sid}"

    def callback(self, sid: str, call_sid: str = "CA" + "2" * 32, **changes: str) -> dict[str, str]:
        """The parameters of the webhook."""
        return {
            "AccountSid": ACCOUNT,
            "CallSid": call_sid,
            "RecordingSid": sid,
            "RecordingUrl": self.url(sid),
            "RecordingStatus": "completed",
            "RecordingDuration": "3",
            "RecordingChannels": "2" if self.recordings[sid].dual else "1",
            "RecordingStartTime": "Mon, 23 Nov 2026 12:00:00 +0000",
            "RecordingSource": "StartCallRecordingAPI",
            "RecordingTrack": "both",
            **changes,
        }

    async def _api(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        found = _PATH.fullmatch(request.path)
        basic = base64.b64encode(f"{API_KEY}:{API_SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {basic}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="Twilio"'})
        recording = self.recordings.get(found[1]) if found else None
        if found is None or recording is None:
            return _not_found()
        if recording.redirect is not None and not recording.faults:
            to = f"{self.media_origin}{request.path_qs}"
            return web.Response(status=recording.redirect, headers={"Location": to})
        return await self._serve(request, recording, (found[2] or ".wav")[1:])

    async def _media(self, request: web.Request) -> web.StreamResponse:
        self.media_asked.append(request)
        found = _PATH.fullmatch(request.path)
        if "Authorization" in request.headers or found is None:
            return web.Response(status=400)
        return await self._serve(request, self.recordings[found[1]], (found[2] or ".wav")[1:])

    async def _serve(
        self, request: web.Request, recording: Recording, kind: str
    ) -> web.StreamResponse:
        data = recording.files[kind]
        if request.query.get("RequestedChannels") == "2":
            if recording.dual is None:
                return web.Response(status=400)
            data = recording.dual
        fault = recording.faults.pop(0) if recording.faults else None
        if fault == "404":
            return _not_found()
        if fault in ("401", "429", "500", "503"):
            return web.Response(status=int(fault), headers={"Retry-After": "0"})
        response = web.StreamResponse(headers={"Content-Type": _TYPES[kind]})
        response.content_length = len(data)
        await response.prepare(request)
        half = len(data) // 2
        await response.write(data[:half])
        if fault is not None:
            if fault == "reset" and request.transport is not None:
                request.transport.abort()
            elif request.transport is not None:
                request.transport.close()
            return response
        recording.half_sent.set()
        if recording.stall is not None:
            await recording.stall.wait()
        try:
            await response.write(data[half:])
        except ConnectionError:
            return response
        recording.served += 1
        return response


def signed(
    url: str, params: Mapping[str, str] | Iterable[tuple[str, str]], token: str = AUTH_TOKEN
) -> dict[str, str]:
    """The header with the signature of a form, as Twilio's servers make it."""
    pairs = params.items() if isinstance(params, Mapping) else params
    text = url + "".join(f"{name}{value}" for name, value in sorted(pairs))
    digest = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    return {"X-Twilio-Signature": base64.b64encode(digest).decode()}


def _not_found() -> web.Response:
    return web.Response(
        status=404, text="<TwilioResponse/>", headers={"Content-Type": "application/xml"}
    )
