"""`LocalServer`: starts SeaweedFS, waits until it is ready, and stops it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import http.client
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from careflow_storage._file_lock import FileLock
from careflow_storage._s3.signing.signer import Credentials
from careflow_storage._uninterrupted import run_to_end
from careflow_storage.errors import InvalidInputError
from careflow_storage.local.client import REGION, SyncClient, SyncResponse
from careflow_storage.local.data_directory import open_data_directory
from careflow_storage.local.process import (
    LocalServerError,
    Process,
    choose_ports,
    find_binary,
    is_free,
    new_directory,
    remove_directory,
)
from careflow_storage.settings import StorageSettings

_HOST = "127.0.0.1"
FLAGS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-master.telemetry=false",
    "-admin.ui=false",
    "-webdav=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.autoCreateBucket=false",
    "-s3.allowDeleteBucketNotEmpty=false",
    # By default a bucket without CORS rules allows every origin.
    "-s3.allowedOrigins=https://none.invalid",
    # Each bucket has its own volumes. Their files grow with the data, so empty ones cost nothing.
    "-master.volumeSizeLimitMB=1024",
    "-volume.max=10000",
    "-volume.preStopSeconds=0",
)
_PORT_RACE = ("is not available", "address already in use", "reserved for gRPC")
_PORT_ATTEMPTS = 5
_POLL = 0.01
_GRACE = 10.0
_PROBE = ".careflow-storage-probe"


@dataclass(frozen=True, slots=True)
class Identity:
    """An additional key pair, for example one with the limits of a B2 application key.

    ``actions`` are those of SeaweedFS: ``Read``, ``Write`` (includes deletes), ``List``,
    ``Tagging`` or ``Admin``. Limit one with ``Read:bucket`` or ``Read:bucket/prefix/*``.
    """

    key_id: str
    application_key: str = field(repr=False)
    actions: tuple[str, ...]


class LocalServer:
    """A SeaweedFS server on a loopback port, with one versioned bucket.

    ``with`` starts it, which blocks for about a second; ``async with`` starts it in a thread.
    Any number of servers can run at the same time. Each runs in a separate process with 130 to
    400 MB of memory, which ends with this process (on Linux even if this one is killed).

    Args:
        bucket: The bucket to create. `create_bucket` creates more.
        data_dir: The directory that keeps the data, in a folder ``seaweedfs`` that the server
            creates; all other files stay unchanged. Only one server can use it at a time. None:
            a temporary directory, which is deleted when the server stops.
        port: The port to listen on. None: a free one, chosen at every start.
        key_id: The ID of a key with all permissions.
        application_key: The application key of ``key_id``.
        identities: Additional key pairs, which may be limited.
        certificate: A PEM certificate for 127.0.0.1. The server then uses HTTPS only.
        private_key: The PEM key of the certificate.
        start_timeout: The most seconds that the start may take.
    """

    def __init__(
        self,
        *,
        bucket: str = "careflow-recordings-local",
        data_dir: str | os.PathLike[str] | None = None,
        port: int | None = None,
        key_id: str = "careflow-local",
        application_key: str = "careflow-local-application-key",
        identities: Sequence[Identity] = (),
        certificate: Path | None = None,
        private_key: Path | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        if (certificate is None) != (private_key is None):
            raise InvalidInputError("certificate and private_key must be set together.")
        self.bucket = bucket
        self._owner = Identity(key_id, application_key, ("Admin",))
        self._identities = (self._owner, *identities)
        self._data_dir = Path(data_dir).absolute() if data_dir is not None else None
        self._data = Path()
        self._port = port
        self._certificate = certificate
        self._private_key = private_key
        self._start_timeout = start_timeout
        self._process: Process | None = None
        self._cleanup = contextlib.ExitStack()
        self._endpoint: str | None = None
        self._pid = 0

    @property
    def endpoint(self) -> str:
        """The server's address, e.g. ``http://127.0.0.1:12345``.

        Raises:
            LocalServerError: The server is not running.
        """
        if self._endpoint is None:
            raise LocalServerError("The local server is not running: enter its context first.")
        return self._endpoint

    def environment(self) -> dict[str, str]:
        """Return the environment variables that configure careflow-storage for this server."""
        variables = {
            "BACKBLAZE_KEY_ID": self._owner.key_id,
            "BACKBLAZE_APPLICATION_KEY": self._owner.application_key,
            "BACKBLAZE_BUCKET_NAME": self.bucket,
            "BACKBLAZE_ENDPOINT": self.endpoint,
            "BACKBLAZE_REGION": REGION,
        }
        if self._certificate is not None:
            variables["BACKBLAZE_CA_FILE"] = str(self._certificate)
        return variables

    def settings(self, **overrides: Any) -> StorageSettings:
        """Return settings for this server. ``overrides`` replace fields of `StorageSettings`."""
        fields: dict[str, Any] = {
            "key_id": self._owner.key_id,
            "application_key": self._owner.application_key,
            "bucket_name": self.bucket,
            "endpoint": self.endpoint,
            "region": REGION,
            "ca_file": self._certificate,
        }
        return StorageSettings(**(fields | overrides))

    def create_bucket(self, name: str, *, versioned: bool = True) -> None:
        """Create a bucket, by default versioned as in B2. Blocks for two requests, a few ms.

        Raises:
            LocalServerError: The server refused a request.
            OSError: Connecting failed, or the connection broke.
        """
        client = self._client()
        _expect_ok(f"create the bucket {name}", client.create_bucket(name))
        if versioned:
            _expect_ok(f"version the bucket {name}", client.enable_versioning(name))

    def start(self) -> None:
        """Start the server and wait until the bucket accepts objects. Blocks for about 1 s.

        Raises:
            MissingExtraError: The program is not installed: the extra ``local``.
            LocalServerError: The port or the directory is in use, or the server did not start;
                the message ends with the server's error or its last output.
        """
        if self._process is not None:
            raise LocalServerError("The local server is running already.")
        binary = find_binary()
        if self._port is not None and not is_free(self._port):
            raise LocalServerError(
                f"The port {self._port} is taken.",
                hint="Choose another port, or let the server choose one.",
            )
        self._pid = os.getpid()
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            atexit.register(self.stop)
            home, locks = self._prepare_directories()
            deadline = time.monotonic() + self._start_timeout
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                try:
                    process = self._launch(binary, home, locks)
                    self._wait_until_ready(process, deadline)
                    break
                except _PortRaceError:
                    if self._port is not None or attempt == _PORT_ATTEMPTS:
                        raise
            undo.pop_all()

    def stop(self) -> None:
        """Stop the server if it runs: at once, or within 1.3 s if it has a ``data_dir``."""
        if os.getpid() != self._pid:
            return  # this is a forked copy; only the process that started the server stops it
        atexit.unregister(self.stop)
        self._endpoint = None
        if self._process is not None:
            self._process.stop(grace=_GRACE if self._data_dir is not None else 0.0)
            self._process = None
        self._cleanup.close()

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; return whether the server has ended by itself.

        Raises:
            LocalServerError: The server was not started.
        """
        if self._process is None:
            raise LocalServerError("The local server is not running: enter its context first.")
        return self._process.has_exited(within=timeout)

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
            await _run_in_thread(self.start)
        except asyncio.CancelledError:
            await _run_in_thread(self.stop)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _run_in_thread(self.stop)

    def _prepare_directories(self) -> tuple[Path, list[FileLock]]:
        home, lock = new_directory()
        self._cleanup.callback(lock.release)
        self._cleanup.callback(remove_directory, home)
        if self._data_dir is None:
            self._data = home / "data"
            self._data.mkdir()
            return home, [lock]
        try:
            self._data, data_lock = open_data_directory(self._data_dir)
        except BlockingIOError as error:
            raise LocalServerError(
                f"The directory {self._data_dir} is in use by another local server."
            ) from error
        except OSError as error:
            if self._data_dir.exists() and not self._data_dir.is_dir():
                raise LocalServerError(f"{self._data_dir} is not a folder.") from error
            raise LocalServerError(
                f"The directory {self._data_dir} cannot be used: {error.strerror}."
            ) from error
        self._cleanup.callback(data_lock.release)
        return home, [lock, data_lock]

    def _launch(self, binary: Path, home: Path, locks: list[FileLock]) -> Process:
        ports = choose_ports(self._port)
        (home / "ports").write_text(" ".join(map(str, ports.values())))
        config = home / "identities.json"
        config.write_text(json.dumps({"identities": [_identity(i) for i in self._identities]}))
        tls = (
            [f"-s3.cert.file={self._certificate}", f"-s3.key.file={self._private_key}"]
            if self._certificate is not None
            else []
        )
        self._process = process = Process(
            [
                binary,
                f"-logdir={home}",
                "mini",
                f"-dir={self._data}",
                f"-s3.config={config}",
                *FLAGS,
                *tls,
                *(f"-{name}={port}" for name, port in ports.items()),
            ],
            log=home / "output.log",
            cwd=home,
            # Without our variables: weed uses AWS_* as identities and S3_BUCKET as a bucket.
            env={"HOME": str(home), "TMPDIR": str(home), "PATH": os.defpath},
            locks=locks,
        )
        scheme = "http" if self._certificate is None else "https"
        self._endpoint = f"{scheme}://{_HOST}:{ports['s3.port']}"
        return process

    def _client(self) -> SyncClient:
        credentials = Credentials(self._owner.key_id, self._owner.application_key)
        return SyncClient(self.endpoint, credentials, self._certificate)

    def _wait_until_ready(self, process: Process, deadline: float) -> None:
        client = self._client()
        probe = f"/{self.bucket}/{_PROBE}"

        def until_ok(send: Callable[[], SyncResponse]) -> SyncResponse:
            return self._retry_until_ok(send, process, deadline)

        until_ok(lambda: client.create_bucket(self.bucket))
        # The first object of a bucket allocates space, which can fail shortly after the start.
        stored = until_ok(lambda: client.request("PUT", probe, body=b"?"))
        version = {"versionId": stored.version_id} if stored.version_id else {}
        until_ok(lambda: client.request("DELETE", probe, version))
        until_ok(lambda: client.enable_versioning(self.bucket))

    def _retry_until_ok(
        self, send: Callable[[], SyncResponse], process: Process, deadline: float
    ) -> SyncResponse:
        last = "no response"
        while time.monotonic() < deadline:
            if process.has_exited(within=_POLL):
                race = any(sign in process.output() for sign in _PORT_RACE)
                raise (_PortRaceError if race else LocalServerError)(
                    f"The local server ended while starting. {process.reason_of_end()}"
                )
            try:
                response = send()
            except (OSError, http.client.HTTPException) as error:
                last = repr(error)
                continue
            if response.status < 300:
                return response
            last = str(response)
        raise LocalServerError(
            f"The local server was not ready within {self._start_timeout:g} s. Last response: "
            f"{last}. Its last output:\n{process.log_tail()}"
        )


class _PortRaceError(LocalServerError):
    """Another process took a port after `choose_ports` and before the server."""


def _identity(identity: Identity) -> dict[str, Any]:
    return {
        "name": identity.key_id,
        "credentials": [
            {"accessKey": identity.key_id, "secretKey": identity.application_key},
        ],
        "actions": list(identity.actions),
    }


def _expect_ok(intention: str, response: SyncResponse) -> None:
    if response.status >= 300:
        raise LocalServerError(f"The local server refused to {intention}: {response}")


async def _run_in_thread(function: Callable[[], None]) -> None:
    """Run ``function`` in a thread, and wait until it returns even if cancelled."""
    loop = asyncio.get_running_loop()
    try:
        running = loop.run_in_executor(None, function)
    except RuntimeError:
        # The event loop is closing and has stopped its threads. Blocking it delays no other task.
        function()
        return
    await run_to_end(running)
