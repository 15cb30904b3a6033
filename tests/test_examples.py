"""Every example runs as it stands, against a real server."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import uvicorn

from careflow_storage import (
    BackblazeStorage,
    NoSuchBucketError,
    NotConfiguredError,
    StorageSettings,
)
from careflow_storage.admin import LifecycleRule
from careflow_storage.local import LocalServer
from tests.support.websocket_client import WebSocketClient

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(seaweedfs: LocalServer, seaweed_settings: StorageSettings) -> dict[str, str]:
    """The variables that point to a bucket of this test's own."""
    return seaweedfs.environment() | {"BACKBLAZE_BUCKET_NAME": str(seaweed_settings.bucket_name)}


def test_the_quickstart_tells_what_it_does_and_leaves_nothing(
    seaweedfs: LocalServer, environment: dict[str, str]
) -> None:
    finished = run_script("quickstart.py", **environment)
    assert finished.returncode == 0, finished.stderr
    assert "bytes of audio/webm" in finished.stdout
    assert "verified by composite-md5" in finished.stdout
    assert "X-Amz-Signature=" in finished.stdout
    assert finished.stdout.count("versions=1") == 2
    assert not finished.stderr


@pytest.mark.integration
def test_the_quickstart_names_the_variables_that_are_missing() -> None:
    finished = run_script("quickstart.py", BACKBLAZE_KEY_ID="0041234567890ab0000000001")
    assert finished.returncode == 1
    assert finished.stderr.startswith("NotConfiguredError: ")
    assert "BACKBLAZE_BUCKET_NAME" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_bucket_is_set_up_once_and_a_second_run_changes_nothing(
    environment: dict[str, str],
) -> None:
    new = environment | {"BACKBLAZE_BUCKET_NAME": f"set-up-{uuid.uuid4().hex[:12]}"}
    first = run_script("set_up_bucket.py", "https://app.example", **new)
    assert first.returncode == 0, first.stderr
    assert "was created, private and encrypted" in first.stdout
    assert "https://app.example may upload" in first.stdout
    assert "recordings/: hidden 365 days after upload, erased 30 days after" in first.stdout
    assert "0 files, 0 billed bytes" in first.stdout
    second = run_script("set_up_bucket.py", "https://app.example", **new)
    assert second.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]
    assert not second.stderr


async def test_setting_up_a_bucket_leaves_what_is_set_already(
    environment: dict[str, str], seaweed_storage: BackblazeStorage
) -> None:
    admin = seaweed_storage.admin
    await admin.allow_browser_uploads("https://other.example", preset="multipart")
    (kept,) = await admin.expire_recordings(erase_after_days=3000)
    other = LifecycleRule(prefix="logs/", hide_after_days=7)
    await admin.put_lifecycle_rule(other)
    finished = await asyncio.to_thread(
        run_script, "set_up_bucket.py", "https://app.example", **environment
    )
    assert finished.returncode == 0, finished.stderr
    assert "recordings/: erased 3000 days after being hidden" in finished.stdout
    assert "None" not in finished.stdout
    assert "https://app.example may upload" in finished.stdout
    assert (await admin.check_cors("https://other.example", "DELETE")).allowed
    rules = {rule.prefix: rule for rule in await admin.get_lifecycle_rules()}
    assert rules == {"recordings/": kept, "logs/": other}


async def test_a_bucket_is_not_set_up_for_no_origin(
    environment: dict[str, str], seaweed_storage: BackblazeStorage
) -> None:
    name = f"set-up-{uuid.uuid4().hex[:12]}"
    new = environment | {"BACKBLAZE_BUCKET_NAME": name}
    finished = await asyncio.to_thread(run_script, "set_up_bucket.py", **new)
    assert finished.returncode == 1
    assert finished.stderr.startswith("usage: ")
    assert not finished.stdout
    with pytest.raises(NoSuchBucketError):
        await seaweed_storage.admin.head_bucket(name)


async def test_the_worker_stores_a_recording(
    environment: dict[str, str], seaweed_storage: BackblazeStorage, recordings: dict[str, Path]
) -> None:
    path = recordings["greeting.mp3"]
    finished = await asyncio.to_thread(run_script, "worker.py", str(path), **environment)
    assert finished.returncode == 0, finished.stderr
    (stored,) = await seaweed_storage.list_files("recordings/CA123/")
    assert stored.key in finished.stdout
    assert await seaweed_storage.get_file(stored.key) == path.read_bytes()


@pytest.fixture
async def web(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the running web app, which has been through its lifespan."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with (
        served(load("fastapi_app")) as address,
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=20) as client,
    ):
        yield client


@asynccontextmanager
async def served(module: ModuleType) -> AsyncIterator[str]:
    """Run the app in uvicorn; connections wait in the socket until it accepts them."""
    server = uvicorn.Server(uvicorn.Config(module.app, log_config=None, lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            await serving


async def test_the_web_app_stores_plays_lists_and_deletes(
    web: httpx.AsyncClient, recordings: dict[str, Path]
) -> None:
    audio = recordings["greeting.ogg"].read_bytes()

    stored = await web.put("/recordings/CA123/call.ogg", content=audio)
    assert stored.status_code == 201, stored.text
    result = stored.json()
    assert (result["size"], result["content_type"]) == (len(audio), "audio/ogg")

    played = await web.get("/" + result["key"])
    assert played.status_code == 307
    assert played.headers["cache-control"] == "no-store"
    async with httpx.AsyncClient(trust_env=False) as browser:  # as a player does: it seeks
        part = await browser.get(played.headers["location"], headers={"Range": "bytes=4-9"})
        whole = await browser.get(played.headers["location"])
    assert (part.status_code, part.content) == (206, audio[4:10])
    assert whole.content == audio
    assert whole.headers["content-type"] == "audio/ogg"

    listed = (await web.get("/recordings/CA123")).json()
    assert [file["key"] for file in listed] == [result["key"]]

    deleted = await web.delete("/" + result["key"])
    assert deleted.json()["delete_marker"] is True
    assert (await web.get("/" + result["key"])).status_code == 404
    assert (await web.get("/recordings/CA123")).json() == []


async def test_the_web_app_takes_a_form_and_plays_it_itself(
    web: httpx.AsyncClient, recordings: dict[str, Path]
) -> None:
    audio = recordings["greeting.ogg"].read_bytes()
    stored = await web.post("/recordings/CA123", files={"file": ("call.ogg", audio)})
    assert stored.status_code == 201, stored.text
    name = stored.json()["key"].removeprefix("recordings/")
    part = await web.get(f"/through-the-app/{name}", headers={"Range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, audio[4:10])
    head = await web.head(f"/through-the-app/{name}")
    assert head.headers["content-length"] == str(len(audio))


async def test_the_web_app_records_a_call(
    web: httpx.AsyncClient, seaweed_storage: BackblazeStorage
) -> None:
    port = web.base_url.port
    client = WebSocketClient(*await asyncio.open_connection("127.0.0.1", port))
    assert await client.open("/calls/CA123") == (101, b"")
    await client.send(b"call")
    await client.send("end")
    key = (await client.receive_json())["key"]
    assert (await client.closed())[0] == 1000
    await client.leave()
    assert await seaweed_storage.get_file(key) == b"call"
    assert not (await seaweed_storage.get_file_metadata(key)).partial


async def test_the_web_app_takes_a_long_body_of_unknown_length(web: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(1024 * 1024)

    stored = await web.put("/recordings/CA123/live.webm", content=chunks())
    assert stored.status_code == 201, stored.text
    assert (stored.json()["size"], stored.json()["parts"]) == (20 * 1024 * 1024, 3)


async def test_a_client_that_goes_away_leaves_nothing(
    environment: dict[str, str],
    seaweed_storage: BackblazeStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with served(load("fastapi_app")) as address:
        _, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(
            b"PUT /recordings/CA123/cut.webm HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 30000000\r\n\r\n" + bytes(10_000_000)
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    # The app has shut down, so every request of it has ended.
    assert await seaweed_storage.list_files() == []
    client = await seaweed_storage.client()
    uploads = await client.list_multipart_uploads(Bucket=seaweed_storage.settings.bucket_name)
    assert not uploads.get("Uploads")


async def test_input_that_leaves_its_folder_is_refused(web: httpx.AsyncClient) -> None:
    response = await web.put("/recordings/CA123/%2e%2e%5cpasswd", content=b"x")
    assert response.status_code == 422
    assert response.json()["error"] == "InvalidInputError"


@pytest.mark.integration
async def test_the_web_app_does_not_start_without_its_settings() -> None:
    module = load("fastapi_app")
    with pytest.raises(NotConfiguredError) as refused:
        async with module.app.router.lifespan_context(module.app):
            pass
    assert "BACKBLAZE_KEY_ID" in refused.value.missing
