"""From settings or an aioboto3 session to credentials, an HTTP pool and the aioboto3 client.

The only module that touches aioboto3. Importing it takes about a second and creating its
client blocks for a tenth: both happen in a thread, and only when the control plane is needed.
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from careflow_storage._executor import in_thread
from careflow_storage._http.environment_proxy import environment_proxy
from careflow_storage._http.pool import Pool
from careflow_storage._http.proxy import Proxy
from careflow_storage._in_flight import InFlight
from careflow_storage._s3.limiter import Limiter
from careflow_storage._s3.redaction import guard_logs
from careflow_storage._s3.request_counter import RequestCounter
from careflow_storage._s3.signing.signer import Credentials, Signer, host_header
from careflow_storage._s3.tls import tls_context, tls_of_others
from careflow_storage._version import __version__
from careflow_storage.errors import (
    InvalidCredentialsError,
    InvalidInputError,
    NotConfiguredError,
    StorageClosedError,
    StorageError,
)

if TYPE_CHECKING:
    import aioboto3
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3 import S3Client as S3Client

    from careflow_storage._observer import Observer
    from careflow_storage.rate_limit import RateLimit
    from careflow_storage.settings import StorageSettings

    # In quotes: else pyright, looking for incomplete types, finds an unknown one here.
    GivenSession: TypeAlias = "aioboto3.Session | AioSession"

# Backblaze announces Keep-Alive: timeout=5; reusing a connection later races with its close.
_KEEPALIVE_SECONDS = 4.0
_USER_AGENT = f"careflow-storage/{__version__}"
_CREDENTIAL_VARIABLES = ("BACKBLAZE_KEY_ID", "BACKBLAZE_APPLICATION_KEY")


class _WrongSessionError(InvalidInputError, TypeError):
    """What was given as a session is none that asyncio can use."""


def check_session(session: object) -> None:
    """Refuse what cannot give credentials to asyncio, before the first request needs them.

    Raises:
        InvalidInputError: A boto3 or botocore session (they block), a client, a class. It is a
            `TypeError`, too.
    """
    if session is None:
        return
    # An aioboto3 session has boto3's own methods around an aiobotocore session.
    core = getattr(session, "_session", session)
    is_async = inspect.iscoroutinefunction(getattr(core, "get_credentials", None))
    makes_clients = hasattr(session, "client") or hasattr(session, "create_client")
    if is_async and makes_clients and not isinstance(session, type):
        return
    kind = session if isinstance(session, type) else type(session)
    what = "the class " if isinstance(session, type) else ""
    raise _WrongSessionError(
        f"session must be an aioboto3.Session or an aiobotocore AioSession, not {what}"
        f"{kind.__module__}.{kind.__qualname__}.",
        hint="boto3's sessions block the event loop: make an aioboto3.Session() instead.",
    )


def missing_settings(settings: StorageSettings, session: GivenSession | None) -> tuple[str, ...]:
    """Name the variables that are missing; a session brings the credentials itself."""
    return tuple(
        name
        for name in settings.missing_variables()
        if session is None or name not in _CREDENTIAL_VARIABLES
    )


class S3Session:
    """What every request needs: endpoint, bucket, credentials, connections.

    Open it within the event loop that uses it. No request is sent by opening.
    """

    def __init__(
        self,
        settings: StorageSettings,
        session: GivenSession | None = None,
        in_flight: InFlight | None = None,
        counter: RequestCounter | None = None,
        rate: RateLimit | None = None,
        observer: Observer | None = None,
    ) -> None:
        if not settings.endpoint or not settings.region or not settings.bucket_name:
            raise NotConfiguredError(missing_settings(settings, session))
        self.settings = settings
        self.bucket: str = settings.bucket_name
        self.origin: str = settings.endpoint.rstrip("/")
        self.host: str = host_header(self.origin)
        self.signer: Signer = Signer(settings.region)
        self.counter: RequestCounter = counter if counter is not None else RequestCounter()
        self.in_flight: InFlight = in_flight if in_flight is not None else InFlight()
        self.rate: RateLimit | None = rate
        self.observer: Observer | None = observer
        self.limiter: Limiter = Limiter(settings.max_connections, settings.pool_timeout, rate)
        self._given = session
        # The credentials of the settings; None if a session provides them.
        self.static_credentials: Credentials | None = (
            None if session is not None else _static_credentials(settings)
        )
        self._tls: ssl.SSLContext | None = None
        self.proxy: Proxy | None = None
        self._pool: Pool | None = None
        self._client: S3Client | None = None
        self._client_lock = asyncio.Lock()
        self._closed = False
        # Of every request of the data plane.
        self.fixed_headers: str = f"host: {self.host}\r\nuser-agent: {_USER_AGENT}\r\n"

    async def open(self) -> None:
        """Make the connection pool; reading the CA certificates happens in a thread.

        Raises:
            InvalidInputError: The environment names a proxy that is none of HTTP.
        """
        # Once per session: aiohttp's trust_env asks the environment in a thread per request.
        self.proxy = proxy = environment_proxy(self.origin)
        proxy_tls: ssl.SSLContext | None = None
        if proxy is not None and proxy.scheme == "https":
            proxy_tls = await in_thread(tls_of_others, self.settings)
        if self.origin.startswith("https://"):
            self._tls = await in_thread(tls_context, self.settings)
        self._pool = Pool(
            self.origin,
            self._tls,
            connect_timeout=self.settings.connect_timeout,
            idle_timeout=self.settings.idle_timeout,
            keep_alive=_KEEPALIVE_SECONDS,
            limit=self.settings.max_connections,
            proxy=proxy,
            proxy_tls=proxy_tls,
            on_change=None if self.observer is None else self.observer.connections,
        )
        self.fixed_headers += self._pool.proxy_headers

    async def close(self) -> None:
        """Close every connection, and the aioboto3 client if one was made."""
        self._closed = True
        client, self._client = self._client, None
        try:
            # First: it refuses new requests at once.
            if self._pool is not None:
                await self._pool.close()
        finally:
            if client is not None:
                await client.__aexit__(None, None, None)

    def abandon(self) -> None:
        """End the connections without their event loop, which is closed."""
        self._closed = True
        if self._pool is not None:
            self._pool.abandon()

    def same_account(self, other: S3Session) -> bool:
        """Whether both have the same endpoint and the same application key."""
        if self.origin != other.origin:
            return False
        mine, others = self.static_credentials, other.static_credentials
        if mine is None or others is None:
            return mine is others and self._given is other._given
        return mine == others

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How the server's certificate is verified; None for plain http."""
        return self._tls

    @property
    def pool(self) -> Pool:
        """The connections of the data plane."""
        self._refuse_closed()
        if self._pool is None:
            raise StorageClosedError("The storage is not open.")
        return self._pool

    async def credentials(self) -> Credentials:
        """Return the credentials of this moment; a refreshable session may renew them."""
        if self.static_credentials is not None:
            return self.static_credentials
        try:
            provider = await self._given.get_credentials() if self._given is not None else None
            frozen = await provider.get_frozen_credentials() if provider is not None else None
        except Exception as error:
            raise InvalidCredentialsError(
                f"The session could not give credentials ({type(error).__name__}).",
                hint="Look at the exception that caused this one.",
            ) from error
        if frozen is None:
            raise NotConfiguredError(
                ("credentials",), hint="The session that was given holds no credentials."
            )
        # botocore has no public name for it.
        expires_at = getattr(provider, "_expiry_time", None)
        return Credentials(
            frozen.access_key,
            frozen.secret_key,
            frozen.token,
            expires_at if isinstance(expires_at, datetime) and expires_at.tzinfo else None,
        )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StorageClosedError("The storage was closed while it was in use.")

    async def client(self) -> S3Client:
        """Return the aioboto3 S3 client, made on first use and closed with this session."""
        async with self._client_lock:
            self._refuse_closed()
            if self._client is None:
                client = await in_thread(self._make_client)
                self._refuse_closed()
                self._client = client
            return self._client

    def _make_client(self) -> Any:
        # Nothing of a client is bound to a loop before its first request, so a throw-away loop
        # may create it while the caller's loop goes on.
        from aiobotocore.config import AioConfig
        from aiobotocore.httpsession import AIOHTTPSession
        from botocore.exceptions import HTTPClientError

        from careflow_storage._s3.boto.hardening import NoRedirects, control_session, guard_client

        settings, tls, proxy = self.settings, self._tls, self.proxy
        refuse_closed = self._refuse_closed

        class OneShotSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore is untyped
            """Connects as the data plane does: its TLS, proxy, redirects and retries (none)."""

            _guarded: NoRedirects | None = None

            async def _get_session(self, proxy_url: str | None) -> NoRedirects:
                # A call in flight during the close would otherwise open another one.
                refuse_closed()
                if self._guarded is None:
                    http = control_session(
                        settings,
                        tls,
                        user_agent=_USER_AGENT,
                        keep_alive=_KEEPALIVE_SECONDS,
                    )
                    self._guarded = NoRedirects(http, proxy)
                    await self._exit_stack.enter_async_context(http)
                return self._guarded

            async def send(self, request: Any) -> Any:
                try:
                    return await super().send(request)
                except HTTPClientError as error:
                    # It wraps what it does not know: our own refusals too.
                    refusal = error.kwargs.get("error")
                    if isinstance(refusal, StorageError):
                        raise refusal from None
                    raise

        session: Any = self._given
        if session is None:
            session = _session_without_surroundings(_static_credentials(settings))
        create = getattr(session, "client", None) or session.create_client
        context = create(
            "s3",
            region_name=settings.region,
            endpoint_url=self.origin,
            config=AioConfig(
                signature_version="s3v4",
                # All that a given session's own configuration could turn elsewhere.
                s3={
                    "addressing_style": "path",
                    "use_accelerate_endpoint": False,
                    "use_dualstack_endpoint": False,
                },
                use_dualstack_endpoint=False,
                use_fips_endpoint=False,
                ignore_configured_endpoint_urls=True,
                proxies={},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=settings.connect_timeout,
                read_timeout=settings.idle_timeout,
                max_pool_connections=settings.max_connections,
                http_session_cls=OneShotSession,
                user_agent_extra=_USER_AGENT,
            ),
        )

        async def enter() -> Any:
            return await context.__aenter__()

        client = asyncio.run(enter())
        guard_client(client, self.rate, self.observer)
        client.meta.events.register("request-created.s3", self._count)
        guard_logs()
        return client

    def _count(self, operation_name: str, **_: Any) -> None:
        self.counter.count(operation_name)


@asynccontextmanager
async def plain_client(settings: StorageSettings, **config: Any) -> AsyncIterator[Any]:
    """Give the client that other programs make of these settings: aioboto3's defaults.

    Neither what our own client is configured with, nor what this machine holds for others.
    ``config`` are arguments of botocore's ``Config``. Made in a thread, as ours.
    """
    from aiobotocore.config import AioConfig

    def make() -> Any:
        context = _session_without_surroundings(_static_credentials(settings)).client(
            "s3",
            region_name=settings.region,
            endpoint_url=settings.endpoint,
            verify=None if settings.ca_file is None else str(settings.ca_file),
            config=AioConfig(**config),
        )

        async def enter() -> Any:
            return await context.__aenter__()

        return asyncio.run(enter())

    client = await in_thread(make)
    guard_logs()
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


def _session_without_surroundings(credentials: Credentials) -> Any:
    """Make an aioboto3 session that asks neither ``AWS_*`` nor ``~/.aws`` about anything.

    What a machine holds for other programs (a profile, an endpoint, a proxy's CA, a program
    that makes credentials) must not decide where recordings go, nor break this client.
    """
    import aioboto3
    from aiobotocore.session import AioSession
    from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

    variables = {
        name: (None, None, default, convert)
        for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    nowhere = (None, None, None, None)
    variables |= {"config_file": nowhere, "credentials_file": nowhere}
    return aioboto3.Session(
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key,
        aws_session_token=credentials.session_token,
        botocore_session=AioSession(session_vars=variables),
    )


def _static_credentials(settings: StorageSettings) -> Credentials:
    if settings.key_id is None or settings.application_key is None:
        raise NotConfiguredError(missing_settings(settings, None))
    token = settings.session_token
    return Credentials(
        settings.key_id,
        settings.application_key.get_secret_value(),
        None if token is None else token.get_secret_value(),
    )
