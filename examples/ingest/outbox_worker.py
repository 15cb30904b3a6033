"""A worker with an outbox: it fetches what the webhooks announced, and delivers it."""

from __future__ import annotations

import asyncio
import os
import signal

from careflow_storage import BackblazeStorage
from careflow_storage.outbox import Outbox


async def main() -> None:
    credentials = {"twilio": (os.environ["TWILIO_API_KEY"], os.environ["TWILIO_API_SECRET"])}
    async with (
        BackblazeStorage() as storage,
        Outbox(os.environ["OUTBOX"], storage, credentials=credentials, concurrency=8) as outbox,
    ):
        delivering = asyncio.create_task(outbox.run())
        # What it is delivering is released, and the next worker delivers it.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, delivering.cancel)
        await asyncio.wait({delivering})
        if not delivering.cancelled():
            delivering.result()  # raises its error


if __name__ == "__main__":
    asyncio.run(main())
