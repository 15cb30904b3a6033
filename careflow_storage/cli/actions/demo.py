"""``careflow-storage demo``: store, play, download and delete a recording, step by step."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from shlex import quote

import aiohttp
from yarl import URL

from careflow_storage import BackblazeStorage, Progress, StorageError, StorageSettings
from careflow_storage.cli.actions.demo_audio import LongCall
from careflow_storage.cli.actions.serve_local import DIFFERENCES
from careflow_storage.cli.ui.demo_screen import Screen
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.cli.ui.progress import human_size
from careflow_storage.local import LocalServer
from careflow_storage.models import UploadResult

_EXPIRES_IN = 300


async def run_demo(
    output: Output, *, recording: Path | None, size: int, data_dir: Path | None, local: bool
) -> None:
    """Run the demo. If it is cancelled, it erases what it stored.

    Raises:
        StorageError: A step failed, or a byte is wrong.
    """
    with contextlib.ExitStack() as files:
        if recording is None:
            packaged = resources.files("careflow_storage") / "testing/data/greeting.webm"
            recording = files.enter_context(resources.as_file(packaged))
        await _run(Screen(output), recording, LongCall(size), data_dir, local)


async def _run(
    screen: Screen, recording: Path, call: LongCall, data_dir: Path | None, local: bool
) -> None:
    started = time.perf_counter()
    async with contextlib.AsyncExitStack() as opened:
        storage = None if local else BackblazeStorage()
        if storage is None or not storage.is_configured():
            if storage is not None:
                screen.note(_why_not_configured(storage.settings))
            with screen.working("Starting SeaweedFS"):
                server = await opened.enter_async_context(LocalServer(data_dir=data_dir))
            screen.done(f"SeaweedFS is up at {server.endpoint}", time.perf_counter() - started)
            screen.note(DIFFERENCES)
            storage = BackblazeStorage(server.settings())
        else:
            screen.note("BACKBLAZE_* is set: using your bucket. The demo erases what it stores.")
        bucket, endpoint = str(storage.settings.bucket_name), str(storage.settings.endpoint)
        screen.note(f"Bucket {bucket} at {endpoint}")
        await opened.enter_async_context(storage)
        demo = _Demo(screen, storage, recording, call, keep=data_dir is not None)
        await demo.run()
    seconds = time.perf_counter() - started
    screen.finish(
        "Stored, played, verified and cleaned up",
        seconds,
        bucket=bucket,
        endpoint=endpoint,
    )
    if data_dir is not None:
        screen.note(
            "The recording is kept. To serve it: "
            f"careflow-storage serve-local --data-dir {quote(str(data_dir))}"
        )


class _Demo:
    """The steps, and what one step passes to the next."""

    def __init__(
        self,
        screen: Screen,
        storage: BackblazeStorage,
        recording: Path,
        call: LongCall,
        *,
        keep: bool,
    ) -> None:
        self.screen = screen
        self.storage = storage
        self.recording = recording
        self.call = call
        self.keep = keep
        self.call_id = f"demo-{uuid.uuid4().hex[:8]}"
        self.prefix = f"recordings/{self.call_id}/"
        self.stored: list[str] = []

    async def run(self) -> None:
        """Run all steps; erase what they stored, even after a failure."""
        try:
            short = await self.store_a_recording()
            long = await self.stream_a_long_call()
            await self.list_them()
            await self.read_metadata(short)
            await self.play_back(short)
            await self.download(long)
            await self.delete(long)
        except BaseException:
            await self._clean_up_after_failure()
            raise
        await self.erase([long.key] if self.keep else self.stored)

    async def store_a_recording(self) -> UploadResult:
        name = self.recording.name
        with self.screen.step(
            "Store a recording",
            f'await storage.upload_recording("{self.call_id}", Path("{name}"), "{name}")',
        ):
            result = await self.storage.upload_recording(self.call_id, self.recording, name)
            self.stored.append(result.key)
            self.screen.show(result)
        return result

    async def stream_a_long_call(self) -> UploadResult:
        call = self.call
        with self.screen.step(
            f"Stream a call of {call.duration}, whose length is not known before it ends",
            f'await storage.upload_recording("{self.call_id}", audio(), "long-call.wav", '
            "progress=show)",
        ):
            with self.screen.transfer("Uploading", call.size) as moved:

                def show(progress: Progress) -> None:
                    moved(progress.transferred)

                result = await self.storage.upload_recording(
                    self.call_id, call.audio(), "long-call.wav", progress=show
                )
                self.stored.append(result.key)
            self.screen.show(result)
            how = counted(result.parts, "part") if result.parts > 1 else "one request"
            self.screen.say(f"{human_size(result.size)} were sent in {how} during the call.")
        return result

    async def list_them(self) -> None:
        with self.screen.step("List", f'await storage.list_files("{self.prefix}")'):
            self.screen.show_list(await self.storage.list_files(self.prefix))

    async def read_metadata(self, short: UploadResult) -> None:
        with self.screen.step("Read its metadata", "await storage.get_file_metadata(key)"):
            self.screen.show(await self.storage.get_file_metadata(short.key))

    async def play_back(self, short: UploadResult) -> None:
        with self.screen.step(
            "Play it back without a key", f"await storage.get_signed_url(key, {_EXPIRES_IN})"
        ):
            url = await self.storage.get_signed_url(short.key, _EXPIRES_IN)
            self.screen.link(url)
            async with _browser(self.storage.settings) as browser:
                async with browser.get(URL(url, encoded=True)) as response:
                    response.raise_for_status()
                    played = await response.read()
                    kind = response.content_type
                seek = {"Range": "bytes=100-199"}
                async with browser.get(URL(url, encoded=True), headers=seek) as response:
                    part, seek_status = await response.read(), response.status
                async with browser.get(URL(url.partition("?")[0], encoded=True)) as response:
                    unsigned = response.status
            original = await asyncio.to_thread(self.recording.read_bytes)
            self.screen.check(
                played == original, f"a browser gets {human_size(len(played))} of {kind}, identical"
            )
            self.screen.check(part == original[100:200], f"a browser can seek: HTTP {seek_status}")
            self.screen.check(
                unsigned in (401, 403), f"without a signature, access is denied: HTTP {unsigned}"
            )

    async def download(self, long: UploadResult) -> None:
        with (
            self.screen.step(
                "Download and verify", "await storage.download_file(key, path, progress=show)"
            ),
            tempfile.TemporaryDirectory(prefix="careflow-storage-demo-") as directory,
        ):
            path = Path(directory) / "long-call.wav"
            with self.screen.transfer("Downloading", long.size) as moved:

                def show(progress: Progress) -> None:
                    moved(progress.transferred)

                result = await self.storage.download_file(long.key, path, progress=show)
            self.screen.show(result)
            digest = await asyncio.to_thread(_sha256, path)
            same = digest == self.call.sha256.hexdigest()
            self.screen.check(same, f"the SHA-256 is that of the call: {digest[:16]}...")

    async def delete(self, long: UploadResult) -> None:
        with self.screen.step("Delete", "await storage.delete_file(key)"):
            self.screen.show(await self.storage.delete_file(long.key))
            hidden = not await self.storage.file_exists(long.key)
            self.screen.check(hidden, "readers do not find it any more")
            self.screen.say(
                "It is only hidden: B2 keeps and bills all versions until they are erased."
            )

    async def erase(self, keys: list[str]) -> None:
        with self.screen.step("Erase every version", "await storage.purge_file(key)"):
            for key in keys:
                self.screen.show(await self.storage.purge_file(key))

    async def _clean_up_after_failure(self) -> None:
        try:
            keys = {file.key for file in await self.storage.list_files(self.prefix)}
            for key in keys | set(self.stored):
                await self.storage.purge_file(key)
        except StorageError as error:
            self.screen.warn(f"Could not erase {self.prefix} in the bucket: {error}")
        else:
            self.screen.note("Erased what the demo stored.")


def _why_not_configured(settings: StorageSettings) -> str:
    if not settings.model_fields_set:
        return "BACKBLAZE_* is not set: using an embedded server instead."
    missing = ", ".join(settings.missing_variables())
    return f"Using an embedded server instead of your bucket, because these are not set: {missing}."


@contextlib.asynccontextmanager
async def _browser(settings: StorageSettings) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client without credentials, like a browser."""
    tls = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else True
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        yield session


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
