"""Sends the provider's webhooks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import Counter

import aiohttp

AUTH_TOKEN = "demo-token"  # noqa: S105 - of nothing but this example


async def announce(web: str, provider: str, recordings: int) -> Counter[int]:
    """Send all webhooks, each twice; return the statuses of the responses."""
    statuses: Counter[int] = Counter()
    several = asyncio.Semaphore(20)
    url = f"{web}/twilio/recording"

    async def send(session: aiohttp.ClientSession, number: int) -> None:
        params = {
            "CallSid": f"CA{number:04}",
            "RecordingSid": f"RE{number}",
            "RecordingStatus": "completed",
            "RecordingUrl": f"{provider}/recordings/RE{number}",
            "RecordingStartTime": "Mon, 23 Nov 2026 12:00:00 +0000",
        }
        text = url + "".join(f"{name}{params[name]}" for name in sorted(params))
        digest = hmac.new(AUTH_TOKEN.encode(), text.encode(), hashlib.sha1).digest()
        headers = {"X-Twilio-Signature": base64.b64encode(digest).decode()}
        async with several, session.post(url, data=params, headers=headers) as response:
            statuses[response.status] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(send(session, n) for n in [*range(recordings)] * 2))
    return statuses
