"""What the checks of one diagnosis share: settings, connections, facts, and probes to erase."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp

from careflow_storage._executor import in_thread
from careflow_storage._http.environment_proxy import environment_proxy
from careflow_storage._log_fields import log_fields
from careflow_storage._runtime import Runtime
from careflow_storage._s3.boto.hardening import by_proxy
from careflow_storage._s3.tls import tls_context
from careflow_storage._transfer.context import TransferContext
from careflow_storage._uninterrupted import run_to_end
from careflow_storage.doctor.leftovers import Leftovers
from careflow_storage.doctor.raw_client import RawClient, Reply
from careflow_storage.errors import StorageError
from careflow_storage.settings import StorageSettings

logger: logging.Logger = logging.getLogger("careflow_storage")

REQUEST_SECONDS = 6.0
_CONNECT_SECONDS = 5.0
_CLEANUP_SECONDS = 8.0
_QUICK_RETRIES: dict[str, Any] = {
    # One retry for a busy B2; a dead server must not delay the diagnosis.
    "retry_attempts": 2,
    "retry_base_delay": 0.2,
    "retry_max_delay": 2.0,
}
PROBE = b"A probe of careflow-storage's doctor. It may be erased.\n"
PROBE_MD5 = hashlib.md5(PROBE, usedforsecurity=False).hexdigest()


def new_folder(prefix: str) -> str:
    """Make the name of a new folder that belongs to the doctor.

    Advice asks users to erase this folder with its content, so it must never hold their files:
    the prefix may be one of recordings.
    """
    return f"{prefix}careflow-doctor-{secrets.token_hex(6)}/"


@dataclass(frozen=True, slots=True)
class Unsigned:
    """The response to an unsigned request, and its duration."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


@dataclass
class DoctorContext:
    """One diagnosis while it runs."""

    values: Mapping[str, Any]
    given: StorageSettings | None
    origin: str | None
    live: bool
    probe_prefix: str
    settings: StorageSettings | None = None
    skew: timedelta | None = None
    """How far the server's clock is ahead."""
    listing: Reply | None = None
    """The response to the first signed request."""
    sample: str | None = None
    """An existing key: that of the probe, or else the first of a listing."""
    may: dict[str, bool] = field(default_factory=dict)
    locks: str | None = None
    """The bucket's default retention, in words; None if there is none, or it is unknown."""
    locks_are_unread: bool = False
    """Whether the default retention could not be read; the first upload shows it then."""
    configuration: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The bucket's configuration; empty for what is not configured."""
    unread: dict[str, StorageError] = field(default_factory=dict)
    """Why parts of the configuration could not be read."""
    server_date: str | None = None
    _transfer: TransferContext | None = None
    _runtime: Runtime | None = None
    _raw_client: RawClient | None = None

    def __post_init__(self) -> None:
        self.leftovers: Leftovers = Leftovers(new_folder(self.probe_prefix))

    @property
    def current(self) -> StorageSettings:
        """The settings, for checks that need them."""
        if self.settings is None:
            raise AssertionError("a check without settings")
        return self.settings

    @property
    def endpoint(self) -> str:
        """The endpoint, for checks that need it."""
        if self.current.endpoint is None:
            raise AssertionError("a check without an endpoint")
        return self.current.endpoint

    def quick(self) -> StorageSettings:
        """Return the settings with few retries and short timeouts."""
        settings = self.current
        return settings.model_copy(
            update={
                **_QUICK_RETRIES,
                "connect_timeout": min(settings.connect_timeout, _CONNECT_SECONDS),
                "idle_timeout": min(settings.idle_timeout, REQUEST_SECONDS),
            }
        )

    async def transfer(self) -> TransferContext:
        """Return the context of transfers; open it the first time."""
        if self._transfer is None:
            self._runtime = Runtime(self.quick(), None)
            await self._runtime.open()
            self._transfer = self._runtime.context()
        return self._transfer

    async def raw_client(self) -> RawClient:
        """Return a client for requests that no method of the library sends."""
        if self._raw_client is None:
            transfer = await self.transfer()
            self._raw_client = RawClient(transfer.session, transfer.retry, REQUEST_SECONDS)
        return self._raw_client

    @property
    def folder(self) -> str:
        """The prefix of everything that this diagnosis stores."""
        return self.leftovers.folder

    @property
    def probe(self) -> str:
        """The key of the probe."""
        return f"{self.folder}probe.txt"

    def store(self, name: str) -> str:
        """Return a key below the folder; whatever is stored there is erased at the end."""
        key = f"{self.folder}{name}"
        self.leftovers.expect(key)
        return key

    async def unsigned(self) -> Unsigned:
        """Send two unsigned requests to the endpoint; return the faster response."""
        settings = self.quick()
        tls = await in_thread(tls_context, settings)
        timeout = aiohttp.ClientTimeout(
            total=REQUEST_SECONDS, sock_connect=settings.connect_timeout
        )
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout, auto_decompress=False
        ) as http:
            first = await self._get_unsigned(http)
            # Over an open connection: the round trip alone.
            second = await self._get_unsigned(http)
        return min(first, second, key=lambda response: response.seconds)

    async def _get_unsigned(self, http: aiohttp.ClientSession) -> Unsigned:
        proxy = environment_proxy(self.endpoint)
        started = time.perf_counter()
        options = by_proxy(proxy, self.endpoint, None)
        async with http.get(f"{self.endpoint}/", allow_redirects=False, **options) as response:
            body = await response.content.read(64 * 1024)
        seconds = time.perf_counter() - started
        return Unsigned(response.status, response.headers, body, seconds)

    # --- the end ------------------------------------------------------------------------

    async def clean_up(self) -> list[str]:
        """Erase every probe; describe what is left."""
        return await self.leftovers.erase(await self.transfer(), await self.raw_client())

    async def close(self) -> None:
        """Erase the remaining probes, even when cancelled, and close the connections."""
        try:
            if self.leftovers.keys and self._transfer is not None:
                await run_to_end(self._erase_in_time())
        finally:
            if self._runtime is not None:
                await self._runtime.close()

    async def _erase_in_time(self) -> None:
        try:
            async with asyncio.timeout(_CLEANUP_SECONDS):
                left = await self.clean_up()
        except (StorageError, TimeoutError):
            left = list(self.leftovers.keys)
        if left:
            logger.warning(
                "probes of the doctor are left in the bucket: %s",
                ", ".join(left),
                extra=log_fields("probes_left"),
            )
