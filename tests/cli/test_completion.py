"""What the shell offers at TAB: keys, prefixes, buckets and IDs; nothing where it cannot know."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, StorageError
from careflow_storage.cli.ui.candidates import Kind, offered
from careflow_storage.jobs import MapJob, run_job
from careflow_storage.testing import B2Server
from tests.support.jobs import location_of

KEYS = (
    "recordings/CA1/one.webm",
    "recordings/CA2/one.webm",
    "recordings/CA2/two.webm",
    "alone/in/its/folder.webm",
    "readme.txt",
    # Words for a shell, which zsh would evaluate, and bash split.
    "blank in it.txt",
    "$(touch pwned).txt",
    r"\$(touch pwned).txt",
    "-option.txt",
    "co:lon.txt",
)
# Waits while the machine is busy; the command itself waits for 2 seconds.
PATIENT = 60


@pytest.fixture
async def filled(server: B2Server, tmp_path: Path) -> AsyncIterator[BackblazeStorage]:
    location_of(server.settings(), tmp_path / ".env")
    async with BackblazeStorage(server.settings()) as storage:
        for key in KEYS:
            await storage.upload_file(key, b"")
        await storage.upload_file("recordings/CA3/hidden.webm", b"")
        await storage.delete_file("recordings/CA3/hidden.webm")
        yield storage


async def complete(kind: Kind, incomplete: str = "", **given: object) -> list[str]:
    given.setdefault("env_file", ".env")
    return await asyncio.to_thread(offered, kind, incomplete, given, timeout=PATIENT)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("incomplete", "expected"),
    [
        ("", ["alone/in/its/folder.webm", "readme.txt", "recordings/"]),
        ("a", ["alone/in/its/folder.webm"]),
        ("rec", ["recordings/CA1/", "recordings/CA2/"]),
        ("recordings/CA2/", ["recordings/CA2/one.webm", "recordings/CA2/two.webm"]),
        ("recordings/CA3/", []),
        ("nothing", []),
    ],
)
async def test_keys_are_offered_up_to_the_next_slash(
    tmp_path: Path, incomplete: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if incomplete == "":
        # "alone/" is not the only one: the shell asks again behind it.
        expected = ["alone/", *expected[1:]]
    assert await complete("keys", incomplete) == expected
    assert await complete("source keys", incomplete, to_env=".env", prefix=None) == expected
    assert await complete("source keys", incomplete, from_env=".env") == expected


async def test_other_things_are_offered(
    filled: BackblazeStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await complete("hidden keys", "recordings/CA3") == ["recordings/CA3/"]
    assert await complete("hidden keys", "recordings/CA3/") == ["recordings/CA3/hidden.webm"]
    versions = await complete("versions", key="readme.txt")
    assert versions == [each.version_id for each in await filled.admin.list_file_versions("readme")]
    client = await filled.client()
    begun = await client.create_multipart_upload(
        Bucket=str(filled.settings.bucket_name), Key="recordings/live.webm"
    )
    assert await complete("upload keys", "rec") == ["recordings/"]
    assert await complete("upload keys", "recordings/") == ["recordings/live.webm"]
    assert await complete("uploads", key="recordings/live.webm") == [begun["UploadId"]]
    assert await complete("uploads", key="recordings/li") == []
    assert await complete("buckets") == [filled.settings.bucket_name]
    assert await complete("buckets", bucket="another") == [filled.settings.bucket_name]
    location = location_of(filled.settings, tmp_path / "records.env")
    job = MapJob("tests.support.job_functions:touch", location=location, prefix="alone/")
    await run_job(job)
    assert await complete("jobs", to_env="records.env") == [job.job_id]


async def test_what_fails_is_an_error_for_the_caller_to_drop(
    server: B2Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError):
        await complete("keys", env_file=None)
    wrong = server.settings(application_key="wrong")
    location_of(wrong, tmp_path / ".env")
    with pytest.raises(StorageError):
        await complete("keys")


# --- in a shell -------------------------------------------------------------------------


def program_in(folder: Path) -> Path:
    """The program under its name, as it is installed."""
    program = folder / "careflow-storage"
    program.write_text(
        f"#!{sys.executable}\nfrom careflow_storage.cli import main\n\nmain()\n", encoding="utf-8"
    )
    program.chmod(0o755)
    return program


def tab(shell: str, line: str, folder: Path, **environment: str) -> tuple[str, str]:
    """What the shell's function prints for a line, to stdout and stderr."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-W", "error", program_in(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "_CAREFLOW_STORAGE_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            **environment,
        },
        check=False,
    )
    assert done.returncode == 0
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("filled")
def test_bash_and_zsh_are_offered_the_keys(tmp_path: Path) -> None:
    for shell, line in (("bash", "recordings/CA1/"), ("zsh", '"recordings/CA1/"')):
        out = ""
        while line not in out.splitlines():
            # On a busy machine the two seconds may be over.
            out, err = tab(shell, "careflow-storage ls rec", tmp_path)
            assert err == ""
            if out.strip() == "_files" or not out.strip():
                continue
            assert "pwned" not in out
            out = out.replace("_arguments '*: :((", "").replace("))'", "")


@pytest.mark.slow
def test_the_installed_function_completes_in_a_real_bash(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    program_in(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    script = """
        careflow-storage --install-completion bash > /dev/null
        source "$HOME/.bashrc"
        COMP_WORDS=(careflow-storage uploads "") COMP_CWORD=2
        function=$(complete -p careflow-storage | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function careflow-storage
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["list", "abort", "keep"], "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"BACKBLAZE_ENDPOINT": "not a url"},
        # Takes connections, and never responds.
        {"BACKBLAZE_ENDPOINT": "silent"},
        {"BACKBLAZE_ENDPOINT": "http://127.0.0.1:1"},
    ],
    ids=["not configured", "malformed", "silent", "refused"],
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_nothing_is_offered_and_nothing_said_if_it_cannot_be_known(
    tmp_path: Path, shell: str, environment: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if environment:
            known = {
                "BACKBLAZE_KEY_ID": "0041234567890ab0000000001",
                "BACKBLAZE_APPLICATION_KEY": "K004secret",
                "BACKBLAZE_BUCKET_NAME": "careflow-recordings",
            }
            environment = {**known, **environment}
            if environment["BACKBLAZE_ENDPOINT"] == "silent":
                address = f"http://127.0.0.1:{silent.getsockname()[1]}"
                environment["BACKBLAZE_ENDPOINT"] = address
        out, err = tab(shell, "careflow-storage ls re", tmp_path, **environment)
        assert (out.strip() in ("", "_files"), err) == (True, "")
