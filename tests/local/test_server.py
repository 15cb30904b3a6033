"""The embedded server through its public API: start, requests, data, limits, stop."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.errors import InvalidInputError
from careflow_storage.local import Identity, LocalServer, LocalServerError, process
from careflow_storage.local.client import SyncClient, SyncResponse
from careflow_storage.settings import StorageSettings
from tests.support.local_probes import (
    client_for,
    is_alive,
    is_listening,
    port_of,
    server_pid,
)

pytestmark = pytest.mark.integration


def test_with_starts_it_with_a_versioned_bucket_and_leaves_nothing(
    temporary: Path,
) -> None:
    with LocalServer(bucket="my-recordings") as server:
        client = client_for(server)
        versioning = client.request("GET", "/my-recordings", {"versioning": ""}).body
        assert b"<Status>Enabled</Status>" in versioning
        versions = client.request("GET", "/my-recordings", {"versions": ""}).body
        assert b"<Version>" not in versions
        assert b"<DeleteMarker>" not in versions
        assert client.request("PUT", "/my-recordings/a b/ü.webm", body=b"voice").status == 200
        assert client.request("GET", "/my-recordings/a b/ü.webm").body == b"voice"
        pid, port = server_pid(server), port_of(server)
        assert len(list(temporary.iterdir())) == 1
    assert not is_alive(pid)
    assert not is_listening(port)
    assert list(temporary.iterdir()) == []
    assert not list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))


async def test_async_with_starts_and_stops_the_server_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: set[int] = set()

    class Recorded(process.Process):
        def __init__(self, *args: Any, **options: Any) -> None:
            threads.add(threading.get_ident())
            super().__init__(*args, **options)

        def stop(self, grace: float) -> None:
            threads.add(threading.get_ident())
            super().stop(grace)

    monkeypatch.setattr("careflow_storage.local.server.Process", Recorded)
    async with LocalServer() as server:
        response = await asyncio.to_thread(client_for(server).request, "GET", f"/{server.bucket}")
        assert response.status == 200
        pid = server_pid(server)
    assert not is_alive(pid)
    assert threads
    assert threading.get_ident() not in threads


async def test_a_cancelled_start_leaves_no_server(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, launched, pids = asyncio.get_running_loop(), asyncio.Event(), []

    def launch(*args: Any, **options: Any) -> process.Process:
        child = process.Process(*args, **options)
        pids.append(child.pid)
        loop.call_soon_threadsafe(launched.set)
        return child

    monkeypatch.setattr("careflow_storage.local.server.Process", launch)
    starting = asyncio.create_task(LocalServer().__aenter__())
    await launched.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_alive(pids[0])
    assert os.listdir(temporary) == []  # noqa: PTH208 - Path would be found blocking here


def test_two_side_by_side_do_not_see_each_other() -> None:
    with LocalServer() as one, LocalServer() as other:
        assert client_for(one).request("PUT", f"/{one.bucket}/a", body=b"1").status == 200
        assert client_for(other).request("GET", f"/{other.bucket}/a").status == 404


def test_many_started_at_once_all_start() -> None:
    servers = [LocalServer() for _ in range(4)]
    threads = [threading.Thread(target=server.start) for server in servers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({server.endpoint for server in servers}) == 4
        for server in servers:
            assert client_for(server).request("HEAD", f"/{server.bucket}").status == 200
    finally:
        for server in servers:
            server.stop()


def test_a_given_data_directory_keeps_versions_and_open_uploads(tmp_path: Path) -> None:
    place = tmp_path / "kept" / "data"
    with LocalServer(data_dir=place) as server:
        client = client_for(server)
        key = f"/{server.bucket}/call.webm"
        versions = [client.request("PUT", key, body=body).version_id for body in (b"1", b"22")]
        client.request("POST", key, {"uploads": ""})
    assert place.is_dir()

    with LocalServer(data_dir=place) as server:
        client = client_for(server)
        assert client.request("GET", key).body == b"22"
        assert versions[0] is not None
        assert client.request("GET", key, {"versionId": versions[0]}).body == b"1"
        uploads = client.request("GET", f"/{server.bucket}", {"uploads": ""}).body
        assert b"<Key>call.webm</Key>" in uploads


def test_a_data_directory_survives_a_killed_server(tmp_path: Path) -> None:
    server = LocalServer(data_dir=tmp_path / "kept")
    with server:
        key = f"/{server.bucket}/call.webm"
        assert client_for(server).request("PUT", key, body=b"voice").status == 200
        os.kill(server_pid(server), signal.SIGKILL)
    with server:
        assert client_for(server).request("GET", key).body == b"voice"


def test_a_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        LocalServer(data_dir=tmp_path),
        pytest.raises(LocalServerError, match="in use by another local server"),
    ):
        LocalServer(data_dir=tmp_path).start()


OF_THE_USER = (
    "m20261/notes.txt",
    "mini.options",
    "m12345/deep/er/call.webm",
    "filerldb2/x",
    "a.txt",
)


def fill(place: Path, names: Sequence[str]) -> dict[Path, bytes]:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(name.encode())
    return {place / name: name.encode() for name in names}


@pytest.mark.parametrize("starts", [1, 2])
def test_other_files_in_the_data_directory_stay_unchanged(tmp_path: Path, starts: int) -> None:
    mine = fill(tmp_path, OF_THE_USER)
    for number in range(starts):
        with LocalServer(data_dir=tmp_path) as server:
            key = f"/{server.bucket}/{number}"
            assert client_for(server).request("PUT", key, body=b"voice").status == 200
            assert client_for(server).request("GET", f"/{server.bucket}/0").body == b"voice"
        assert {path: path.read_bytes() for path in mine} == mine
        assert {path.name for path in tmp_path.iterdir()} == {
            *(Path(name).parts[0] for name in OF_THE_USER),
            "seaweedfs",
        }


@pytest.mark.parametrize("name", ["seaweedfs/mine.txt", "seaweedfs/m20261/x", "seaweedfs"])
def test_a_folder_that_no_server_created_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    mine = fill(tmp_path, [name])
    with pytest.raises(LocalServerError, match="cannot be used"):
        LocalServer(data_dir=tmp_path).start()
    assert {path: path.read_bytes() for path in mine} == mine


def test_a_data_directory_of_an_earlier_release_is_used(tmp_path: Path) -> None:
    with LocalServer(data_dir=tmp_path) as server:
        key = f"/{server.bucket}/call.webm"
        assert client_for(server).request("PUT", key, body=b"voice").status == 200
    for path in (tmp_path / "seaweedfs").iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "seaweedfs").rmdir()
    (tmp_path / "m20261").mkdir()
    with LocalServer(data_dir=tmp_path) as server:
        assert client_for(server).request("GET", key).body == b"voice"
        assert not (tmp_path / "seaweedfs").exists()
        assert not (tmp_path / "m20261").exists()


def test_tls_options_of_one_start_do_not_apply_to_the_next(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    place = tmp_path / "kept"
    with LocalServer(data_dir=place, certificate=certificate[0], private_key=certificate[1]):
        pass
    with LocalServer(data_dir=place) as server:
        assert server.endpoint.startswith("http://")


def test_with_a_certificate_it_uses_https_only(certificate: tuple[Path, Path]) -> None:
    with LocalServer(certificate=certificate[0], private_key=certificate[1]) as server:
        assert server.endpoint.startswith("https://127.0.0.1:")
        assert server.settings().ca_file == certificate[0]
        assert server.environment()["BACKBLAZE_CA_FILE"] == str(certificate[0])
        assert client_for(server).request("HEAD", f"/{server.bucket}").status == 200
        plain = SyncClient(f"http://127.0.0.1:{port_of(server)}", Credentials("a", "b"))
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert plain.request("GET", "/").status == 400


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="private_key"):
        LocalServer(certificate=tmp_path / "certificate.pem")


def test_settings_and_environment_agree(
    seaweedfs: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweedfs.environment().items():
        monkeypatch.setenv(name, value)
    from_environment = StorageSettings()
    assert from_environment.is_configured
    assert from_environment == seaweedfs.settings()
    assert seaweedfs.settings(bucket_name="another-one").bucket_name == "another-one"


def test_a_limited_key_has_only_its_permissions() -> None:
    bucket = "careflow-recordings-local"
    tenant = Identity(
        "tenant-1",
        "tenant-1-key",
        tuple(f"{action}:{bucket}/tenant1/*" for action in ("Read", "Write", "List")),
    )
    with LocalServer(identities=[tenant]) as server:
        client = client_for(server, Credentials(tenant.key_id, tenant.application_key))
        assert client.request("PUT", f"/{bucket}/tenant1/a", body=b"x").status == 200
        assert client.request("GET", f"/{bucket}/tenant1/a").body == b"x"
        for method, path in (
            ("PUT", f"/{bucket}/tenant2/a"),
            ("GET", f"/{bucket}/tenant2/a"),
            ("GET", f"/{bucket}"),
            ("PUT", "/another-bucket"),
        ):
            assert client.request(method, path).status == 403
    assert "tenant-1-key" not in repr(tenant)


def test_wrong_keys_are_refused(seaweedfs: LocalServer) -> None:
    def status(credentials: Credentials) -> SyncResponse:
        return client_for(seaweedfs, credentials).request("GET", f"/{seaweedfs.bucket}")

    assert status(Credentials("unknown", "secret")).status == 403
    assert b"InvalidAccessKeyId" in status(Credentials("unknown", "secret")).body
    assert b"SignatureDoesNotMatch" in status(Credentials("careflow-local", "wrong")).body
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{seaweedfs.endpoint}/{seaweedfs.bucket}")  # noqa: S310


def test_it_listens_on_loopback_only(seaweedfs: LocalServer) -> None:
    pid = server_pid(seaweedfs)
    if not Path(f"/proc/{pid}/net/tcp").exists():
        pytest.skip("reads /proc")
    sockets = set(_sockets(pid))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                assert fields[1].startswith("0100007F:"), line


def _sockets(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(path.readlink())


def test_the_users_own_aws_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUSER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "users-secret")
    monkeypatch.setenv("S3_BUCKET", "users-bucket")
    with LocalServer() as server:
        strangers = client_for(server, Credentials("AKIAUSER", "users-secret"))
        assert strangers.request("GET", f"/{server.bucket}").status == 403
        assert b"users-bucket" not in client_for(server).request("GET", "/").body


def test_it_can_be_started_again_and_stopped_twice() -> None:
    server = LocalServer()
    server.stop()
    with pytest.raises(LocalServerError, match="not running"):
        _ = server.endpoint
    for _ in range(2):
        with server:
            with pytest.raises(LocalServerError, match="running already"):
                server.start()
            assert client_for(server).request("HEAD", f"/{server.bucket}").status == 200
        server.stop()


def test_a_refused_bucket_is_an_error(seaweedfs: LocalServer) -> None:
    with pytest.raises(LocalServerError, match="refused to create the bucket X"):
        seaweedfs.create_bucket("X")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    place = tmp_path_factory.mktemp("tls")
    certificate, key = place / "certificate.pem", place / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=careflow-storage-test -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    )
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    return certificate, key
