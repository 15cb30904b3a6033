"""Store a recording, play it back, and read it in three ways.

    python examples/quickstart.py [recording.webm]

Needs BACKBLAZE_KEY_ID, BACKBLAZE_APPLICATION_KEY, BACKBLAZE_BUCKET_NAME and
BACKBLAZE_ENDPOINT in the environment or in a file ``.env``. It erases what it stored.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from careflow_storage import BackblazeStorage, Progress, StorageError

GREETING = Path(__file__).parent.parent / "tests" / "data" / "greeting.webm"


async def live_call(recording: Path) -> AsyncIterator[bytes]:
    """Simulate a call in progress: 20 MiB in chunks, of unknown length."""
    audio = await asyncio.to_thread(recording.read_bytes)
    sent = 0
    while sent < 20 * 1024 * 1024:
        yield audio
        sent += len(audio)


def show(progress: Progress) -> None:
    print(f"\r  {progress.transferred / 1024**2:5.1f} MiB", end="", flush=True)


async def main(recording: Path) -> None:
    async with BackblazeStorage() as storage:
        # A file: the key is recordings/CA123/{milliseconds}-{name}.
        short = await storage.upload_recording("CA123", recording, recording.name)
        print(f"stored {short.key}: {short.size} bytes of {short.content_type}")

        # A stream of unknown length: uploaded in parts, never completely in memory.
        print("streaming a call ...")
        long = await storage.upload_recording(
            "CA123", live_call(recording), "live.webm", progress=show
        )
        print(f"\nstored {long.key}: {long.size} bytes in {long.parts} parts")

        for file in await storage.list_files("recordings/CA123/"):
            print(f"  {file.last_modified:%F %T}  {file.size:>10}  {file.key}")

        # A URL that plays the recording for five minutes.
        print(await storage.get_signed_url(short.key, 300))

        # Read a small file at once, a large one as a stream or to a verified file.
        print(f"read {len(await storage.get_file(short.key))} bytes")
        async with storage.stream_file(long.key, start=0, end=100) as stream:
            print(f"the first bytes of {stream.metadata.size}: {(await stream.read())[:16].hex()}")
        with tempfile.TemporaryDirectory() as folder:
            saved = await storage.download_file(long.key, Path(folder) / "live.webm")
            print(f"downloaded {saved.size} bytes, verified by {saved.verified}")

        # Deleting only hides a file on B2; purging erases every version of it.
        print(await storage.delete_file(short.key))
        for key in (short.key, long.key):
            print(await storage.purge_file(key))


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else GREETING))
    except StorageError as error:
        sys.exit(f"{type(error).__name__}: {error}")
