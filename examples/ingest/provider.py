"""A telephone provider on this machine, with recordings behind basic auth.

As at Twilio, a recording is not ready at once after its webhook: the first request is a 404.
"""

from __future__ import annotations

import base64
import io
import random
import wave
from collections import Counter

from aiohttp import web

API_KEY, API_SECRET = "SK-demo", "demo-secret"


def recording(number: int) -> bytes:
    """Return the WAV file of one call: 1 to 10 seconds of noise."""
    chance = random.Random(number)  # noqa: S311 - the same noise for the same number
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(chance.randbytes(16_000 * chance.randint(1, 10)))
    return buffer.getvalue()


class Provider:
    """Serves ``/recordings/RE{number}.wav``, and counts its responses by their status."""

    def __init__(self) -> None:
        self.responses: Counter[int] = Counter()
        self._asked: set[str] = set()
        basic = base64.b64encode(f"{API_KEY}:{API_SECRET}".encode()).decode()
        self._authorization = f"Basic {basic}"

    async def start(self) -> str:
        """Start it; return its address."""
        app = web.Application()
        app.router.add_get("/recordings/{name}", self._respond)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop it."""
        await self._runner.cleanup()

    async def _respond(self, request: web.Request) -> web.Response:
        response = self._response(request)
        self.responses[response.status] += 1
        return response

    def _response(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != self._authorization:
            return web.Response(status=401)
        name = request.match_info["name"]
        if name not in self._asked:
            self._asked.add(name)
            return web.Response(status=404)
        number = int(name.removeprefix("RE").removesuffix(".wav"))
        return web.Response(body=recording(number), content_type="audio/wav")
