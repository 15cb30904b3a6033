"""`B2Server`: an emulator of Backblaze B2's S3-compatible API, in this process."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from careflow_storage._uninterrupted import run_to_end
from careflow_storage.errors import InvalidInputError
from careflow_storage.settings import StorageSettings
from careflow_storage.testing.b2.emulator import Account
from careflow_storage.testing.b2.errors import RefusedError
from careflow_storage.testing.b2.keys import ApplicationKey, expiry
from careflow_storage.testing.b2.limits import CAPS, MIN_PART_SIZE, check_bucket_name
from careflow_storage.testing.b2.server_thread import EmulatorError, ServerThread
from careflow_storage.testing.b2.stored import StoredUpload, StoredVersion
from careflow_storage.testing.proxy.faults import Faults
from careflow_storage.testing.proxy.rule import Attempt, Rule

__all__ = ["B2Server", "EmulatorError"]

_FAST_RETRIES = {"retry_base_delay": 0.001, "retry_max_delay": 0.01}
_SECRETS = ("authorization", "x-amz-security-token")
_CUSTOMER_KEY = "-server-side-encryption-customer-key"
_SECRET_PARAMS = re.compile(r"(X-Amz-(?:Signature|Security-Token)=)[^&]*")


class B2Server:
    """A B2 emulator on a loopback port, with one bucket and one key with all capabilities.

    ``with`` starts it in 1 to 2 seconds, nearly all of it the first import of moto;
    ``async with`` does the same without blocking the loop. It runs in a thread with its own
    event loop, so tests on any loop, or on none, can use it. Everything is in memory, and is
    removed at the end. Several servers are independent of each other.

    Its attributes and methods show the state after all requests that were sent before, also
    those that a client canceled: they wait a moment until the server has handled them.

    Args:
        bucket: The bucket to create. `create_bucket` creates others.
        region: The region for which requests must be signed.
        min_part_size: The minimum size of all parts but the last: 5,000,000 bytes on B2. Less
            makes tests of multipart uploads fast; it is the only rule that can be changed.
        tls: Speak HTTPS, with this context.
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
        self._faults = Faults()
        self._min_part_size = min_part_size
        self._tls = tls
        self._account = Account(region, tls=tls is not None)
        self._key = self._account.keys.create(None, None, "", None)
        self._running: ServerThread | None = None
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
        """The region for which requests must be signed."""
        return self._account.region

    @property
    def faults(self) -> Faults:
        """The injected faults: see `Faults`. Changes do not affect requests sent before."""
        self._settle()
        return self._faults

    @property
    def requests(self) -> list[Attempt]:
        """Every request received, in order; secrets are redacted.

        It is the list itself: ``server.requests.clear()`` empties it.
        """
        self._settle()
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
        """The time by which the server's clock is ahead of this machine's."""
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
            key: A key other than the one with all capabilities.
            fast_retries: Retry after milliseconds instead of up to a minute.
            changes: Other fields of `StorageSettings`.
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
            InvalidInputError: B2 does not allow the name, or the bucket exists.
        """
        running = self._in_service()
        try:
            check_bucket_name(name)
        except RefusedError as refusal:
            raise InvalidInputError(f"{refusal.message}: 6 to 63 of A-Z a-z 0-9 . -") from None
        if running.do(lambda: running.store.has_bucket(name)):
            raise InvalidInputError(f"The bucket {name} exists already.")
        running.do(lambda: running.store.backend.create_bucket(name))

    def create_key(
        self,
        *,
        capabilities: Iterable[str] | None = None,
        bucket: str | None = None,
        name_prefix: str = "",
        expires_in: timedelta | float | None = None,
    ) -> ApplicationKey:
        """Create an application key, to pass to `settings`.

        Args:
            capabilities: B2's names, e.g. ``{"writeFiles"}``; None: all.
            bucket: The only bucket that the key can use; None: any.
            name_prefix: The prefix of all object keys that the key can use.
            expires_in: A timedelta or seconds; None: never.

        Raises:
            InvalidInputError: A capability does not exist.
        """
        ends = expiry(self._account.now(), expires_in)
        only = None if bucket is None else [bucket]
        return self._account.keys.create(capabilities, only, name_prefix, ends)

    def delete_key(self, key: ApplicationKey) -> None:
        """Delete a key: requests and URLs that it signed are refused from now on."""
        self._account.keys.delete(key.key_id)

    def versions(self, key: str | None = None, *, bucket: str | None = None) -> list[StoredVersion]:
        """Return all versions and delete markers of a bucket: by key, then newest first.

        No request is sent. ``key`` None: of all keys. ``bucket`` None: the first one.
        """
        running = self._in_service()
        return running.do(lambda: running.store.versions(bucket or self.bucket, key))

    def incomplete_uploads(self, *, bucket: str | None = None) -> list[StoredUpload]:
        """Return the unfinished multipart uploads, of all buckets if ``bucket`` is None."""
        running = self._in_service()
        return running.do(lambda: running.store.described_uploads(bucket))

    def reset(self) -> None:
        """Reset to one empty bucket and one key, without faults, logged requests, caps or skew."""
        self._faults.clear()
        self._settle()
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
            MissingExtraError: moto is not installed: the extra ``testing``.
            EmulatorError: The server is already running.
        """
        if self._running is not None:
            raise EmulatorError("The emulator is already running.")
        running = ServerThread(
            self._account, self._min_part_size, self._choose, self._tls, self._log
        )
        running.start()
        self._running = running
        self.create_bucket(self.bucket)

    def stop(self) -> None:
        """Stop the server, if it is running, and remove everything stored."""
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

    def _in_service(self) -> ServerThread:
        if self._running is None:
            raise EmulatorError("The emulator is not running: enter its context first.")
        return self._running

    def _settle(self) -> None:
        """Wait until all requests that were sent before are handled."""
        if self._running is not None:
            self._running.do(lambda: None)

    def _choose(self, attempt: Attempt) -> Rule | None:
        for name in attempt.headers:
            if name in _SECRETS or name.endswith(_CUSTOMER_KEY):
                attempt.headers[name] = "REDACTED"
        attempt.target = _SECRET_PARAMS.sub(r"\1REDACTED", attempt.target)
        return self._faults._choose(attempt)
