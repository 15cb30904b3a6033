"""`B2Server`: an emulator of Backblaze B2's S3-compatible API, in this process."""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Future
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from careflow_storage._uninterrupted import run_to_end
from careflow_storage.errors import InvalidInputError, StorageError
from careflow_storage.settings import StorageSettings
from careflow_storage.testing.b2.emulator import Account, Emulator
from careflow_storage.testing.b2.errors import RefusedError
from careflow_storage.testing.b2.keys import ApplicationKey, expiry
from careflow_storage.testing.b2.limits import CAPS, MAX_PUT_SIZE, MIN_PART_SIZE, check_bucket_name
from careflow_storage.testing.b2.stored import StoredUpload, StoredVersion
from careflow_storage.testing.proxy.exchange import Exchange, Listener, response_head
from careflow_storage.testing.proxy.faults import Faults
from careflow_storage.testing.proxy.rule import Attempt, Rule

T = TypeVar("T")

_FAST_RETRIES = {"retry_base_delay": 0.001, "retry_max_delay": 0.01}
_SECRETS = ("authorization", "x-amz-security-token")
_CUSTOMER_KEY = "-server-side-encryption-customer-key"
_SECRET_PARAMS = re.compile(r"(X-Amz-(?:Signature|Security-Token)=)[^&]*")


class EmulatorError(StorageError):
    """The emulator could not start, or is not running."""


class B2Server:
    """B2 on a loopback port, with one bucket and one key that may do everything there.

    ``with`` starts it in 1 to 2 seconds, nearly all of it the first import of moto, and
    ``async with`` does the same without blocking the loop. It runs in a thread with an event
    loop of its own, so tests on any loop, or on none, may use it. Everything is in memory, and
    gone at the end. Several side by side know nothing of each other.

    Args:
        bucket: The bucket to create. Others are made by `create_bucket`.
        region: What requests must be signed for.
        min_part_size: B2's 5,000,000 bytes for all parts but the last. Less makes tests of
            multipart uploads fast; it is the one rule that may be bent.
        tls: Speak HTTPS, with this context.

    Attributes:
        faults: What goes wrong: see `Faults`.
    """

    def __init__(
        self,
        *,
        bucket: str = "careflow-recordings-test",
        region: str = "us-west-004",
        min_part_size: int = MIN_PART_SIZE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.bucket = bucket
        self.faults: Faults = Faults()
        self._min_part_size = min_part_size
        self._tls = tls
        self._account = Account(region, tls=tls is not None)
        self._key = self._account.keys.create(None, None, "", None)
        self._running: _Running | None = None
        self._log: list[Attempt] = []

    @property
    def endpoint(self) -> str:
        """The server's address, e.g. ``http://127.0.0.1:12345``.

        Raises:
            EmulatorError: It is not running.
        """
        return self._in_service().url

    @property
    def region(self) -> str:
        """What requests must be signed for."""
        return self._account.region

    @property
    def requests(self) -> list[Attempt]:
        """Every request that came over the wire, in order; secrets are redacted.

        It is the list itself: ``server.requests.clear()`` forgets them.
        """
        return self._log

    @property
    def key(self) -> ApplicationKey:
        """The key of `settings`: all capabilities, all buckets."""
        return self._key

    @property
    def master_key(self) -> ApplicationKey:
        """The account's master key, which B2's S3 API refuses."""
        return self._account.keys.master

    @property
    def capped(self) -> frozenset[str]:
        """The caps that are used up, out of "download", "storage" and "transaction"."""
        return self._account.capped

    @capped.setter
    def capped(self, caps: Iterable[str]) -> None:
        wanted = frozenset(caps)
        if unknown := sorted(wanted - CAPS):
            raise InvalidInputError(f"B2 has no cap {', '.join(unknown)}, only {sorted(CAPS)}.")
        self._account.capped = wanted

    @property
    def clock_skew(self) -> timedelta:
        """By how much the server's clock is ahead of this machine's."""
        return self._account.clock_skew

    @clock_skew.setter
    def clock_skew(self, skew: timedelta) -> None:
        self._account.clock_skew = skew

    def environment(self, *, fast_retries: bool = True) -> dict[str, str]:
        """The variables that point careflow-storage at this server.

        Args:
            fast_retries: As for `settings`.
        """
        fast = _FAST_RETRIES if fast_retries else {}
        return {
            **{f"BACKBLAZE_{name.upper()}": str(value) for name, value in fast.items()},
            "BACKBLAZE_KEY_ID": self._key.key_id,
            "BACKBLAZE_APPLICATION_KEY": self._key.application_key,
            "BACKBLAZE_BUCKET_NAME": self.bucket,
            "BACKBLAZE_ENDPOINT": self.endpoint,
            "BACKBLAZE_REGION": self.region,
        }

    def settings(
        self, *, key: ApplicationKey | None = None, fast_retries: bool = True, **changes: Any
    ) -> StorageSettings:
        """Settings for this server.

        Args:
            key: Another key than the one that may do everything.
            fast_retries: Let retries wait for milliseconds, not for up to a minute.
            changes: Any fields of `StorageSettings`.
        """
        used = key or self._key
        fields: dict[str, Any] = {
            "key_id": used.key_id,
            "application_key": used.application_key,
            "bucket_name": self.bucket,
            "endpoint": self.endpoint,
            "region": self.region,
            **(_FAST_RETRIES if fast_retries else {}),
        }
        return StorageSettings(**(fields | changes))

    def create_bucket(self, name: str) -> None:
        """Create a bucket. No request is sent.

        Raises:
            InvalidInputError: B2 allows no such name, or there is one already.
        """
        running = self._in_service()
        try:
            check_bucket_name(name)
        except RefusedError as refusal:
            raise InvalidInputError(f"{refusal.message}: 6 to 63 of A-Z a-z 0-9 . -") from None
        if running.do(lambda: running.store.has_bucket(name)):
            raise InvalidInputError(f"There is a bucket {name} already.")
        running.do(lambda: running.store.backend.create_bucket(name))

    def create_key(
        self,
        *,
        capabilities: Iterable[str] | None = None,
        bucket: str | None = None,
        name_prefix: str = "",
        expires_in: timedelta | float | None = None,
    ) -> ApplicationKey:
        """Create an application key; give it to `settings`.

        Args:
            capabilities: B2's names, e.g. ``{"writeFiles"}``; None: all.
            bucket: The only bucket that it may use; None: any.
            name_prefix: With what the keys of all objects must begin that it may use.
            expires_in: A timedelta or seconds; None: never.

        Raises:
            InvalidInputError: There is no such capability.
        """
        ends = expiry(self._account.now(), expires_in)
        only = None if bucket is None else [bucket]
        return self._account.keys.create(capabilities, only, name_prefix, ends)

    def delete_key(self, key: ApplicationKey) -> None:
        """Delete a key: what it signed, presigned URLs too, is refused from now on."""
        self._account.keys.delete(key.key_id)

    def versions(self, key: str | None = None, *, bucket: str | None = None) -> list[StoredVersion]:
        """What the bucket really holds, delete markers too: by key, then newest first.

        No request is sent. ``key`` None: of all keys. ``bucket`` None: the first one.
        """
        running = self._in_service()
        return running.do(lambda: running.store.versions(bucket or self.bucket, key))

    def incomplete_uploads(self, *, bucket: str | None = None) -> list[StoredUpload]:
        """The multipart uploads that are neither completed nor aborted; of all buckets if None."""
        running = self._in_service()
        return running.do(lambda: running.store.described_uploads(bucket))

    def reset(self) -> None:
        """Be as new: empty first bucket, no faults, requests, caps, skew; other keys are gone."""
        self.faults.clear()
        self._account.capped = frozenset()
        self._account.clock_skew = timedelta(0)
        self._account.keys.keep_only(self._key)
        self._log.clear()
        running = self._in_service()

        def clear() -> None:
            running.store.clear()
            running.store.backend.create_bucket(self.bucket)

        running.do(clear)

    def start(self) -> None:
        """Start the server; ``with`` does it for you.

        Raises:
            EmulatorError: moto is not installed, or it runs already.
        """
        if self._running is not None:
            raise EmulatorError("The emulator is running already.")
        running = _Running(self._account, self._min_part_size, self._choose, self._tls, self._log)
        running.start()
        self._running = running
        self.create_bucket(self.bucket)

    def stop(self) -> None:
        """Stop the server, if it runs, and forget everything that is stored."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            await run_to_end(asyncio.to_thread(self.start))
        except asyncio.CancelledError:
            self.stop()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _in_service(self) -> _Running:
        if self._running is None:
            raise EmulatorError("The emulator is not running: enter its context first.")
        return self._running

    def _choose(self, attempt: Attempt) -> Rule | None:
        for name in attempt.headers:
            if name in _SECRETS or name.endswith(_CUSTOMER_KEY):
                attempt.headers[name] = "REDACTED"
        attempt.target = _SECRET_PARAMS.sub(r"\1REDACTED", attempt.target)
        return self.faults.choose(attempt)


class _Running:
    """The thread with its loop, its listener and its store."""

    def __init__(
        self,
        account: Account,
        min_part_size: int,
        choose: Callable[[Attempt], Rule | None],
        tls: ssl.SSLContext | None,
        log: list[Attempt],
    ) -> None:
        self._account = account
        self._min_part_size = min_part_size
        self._choose = choose
        self._tls = tls
        self._log = log
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="b2-server", daemon=True)
        self.url = ""

    def start(self) -> None:
        self._thread.start()
        try:
            self._ready.result()
        except ImportError as error:
            self._thread.join()
            raise EmulatorError(
                f"The emulator needs moto ({error}).",
                hint='Install the extra: pip install "careflow-storage[testing]".',
            ) from error

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def do(self, function: Callable[[], T]) -> T:
        """Run it between two requests; it must not block."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except RefusedError as refusal:
                done.set_exception(InvalidInputError(f"{refusal.message}."))
            except BaseException as error:  # noqa: BLE001 - it comes out at the caller's
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    def _run(self) -> None:
        try:
            # Here, since this import takes a second and is nobody else's need.
            from careflow_storage.testing.b2.store import MotoStore

            self.store = MotoStore(self._min_part_size)
            # Whatever loop the tests use, this one needs nothing but the standard library.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        # In debug mode asyncio would complain of what is nobody's event loop but ours.
        self._loop.slow_callback_duration = 60.0
        emulator = Emulator(self._account, self.store)
        listener = Listener(
            functools.partial(_Emulating, emulator), self._choose, tls=self._tls, log=self._log
        )
        self.url = await listener.start()
        self._ready.set_result(None)
        try:
            await self._stopping.wait()
        finally:
            await listener.stop()
            self.store.clear()


class _Emulating(Exchange):
    """The server is the emulator."""

    def __init__(self, emulator: Emulator, *given: Any) -> None:
        super().__init__(*given)
        self._emulator = emulator

    async def ask_server(self) -> bool:
        too_long = int(self.head.get("Content-Length") or 0) > MAX_PUT_SIZE
        if self.head.get("Expect").lower() == "100-continue" and not too_long:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b"" if too_long else b"".join([chunk async for chunk in self.request_body()])
        method, target, _ = self.head.first.split(" ", 2)
        headers = {name.lower(): value for name, value in self.head.headers}
        response = self._emulator.handle(method, target, headers, body)
        head = response_head(response.status, response.headers)
        is_head = method == "HEAD"
        if not is_head and response.status != 204:
            head.set("Content-Length", str(len(response.body)))
        has_body = not is_head and response.status not in (204, 304)
        keep = await self.relay(head, _once(response.body) if has_body else None)
        return keep and not too_long


async def _once(body: bytes) -> AsyncGenerator[bytes]:
    yield body
