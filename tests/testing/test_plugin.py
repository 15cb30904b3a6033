"""The pytest plugin, as a project that uses this package has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = 'pytest_plugins = ["careflow_storage.testing.plugin"]\n'
TESTS = """
import wave

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server


async def test_given_a_busy_server_then_the_recording_is_stored(
    storage, b2_server, recordings
):
    b2_server.faults.next("PutObject", status=503, code="ServiceUnavailable", times=2)
    result = await storage.upload_recording("CA1", recordings["greeting.webm"], "a.webm")
    assert await storage.get_file(result.key) == recordings["greeting.webm"].read_bytes()
    assert isinstance(storage, BackblazeStorage)
    assert isinstance(b2_server, B2Server)
    b2_server.faults.always(status=500)
    b2_server.capped = {"download"}


async def test_then_the_next_test_finds_it_as_new(storage, b2_server):
    assert await storage.list_files() == []
    assert [attempt.operation for attempt in b2_server.requests] == ["ListObjectsV2"]


def test_a_test_without_a_loop_may_use_it_too(b2_server, b2_settings):
    assert b2_server.versions() == []
    assert b2_settings.endpoint == b2_server.endpoint


def test_the_recordings_are_what_their_names_say(recordings):
    sizes = {name: path.stat().st_size for name, path in recordings.items()}
    assert sizes == {"greeting.ogg": 22683, "greeting.webm": 24688, "tone.wav": 16044}
    assert recordings["greeting.ogg"].read_bytes()[:4] == b"OggS"
    assert recordings["greeting.webm"].read_bytes()[:4] == bytes.fromhex("1A45DFA3")
    with wave.open(str(recordings["tone.wav"])) as tone:
        assert (tone.getframerate(), tone.getnframes()) == (8000, 8000)
"""


def run(folder: Path, *options: str) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "COV_", "BACKBLAZE_"))
    }
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return folder


@pytest.mark.slow
def test_its_fixtures_work_in_the_strict_mode_of_pytest_asyncio(project: Path) -> None:
    tests = TESTS.replace("async def", "@pytest.mark.asyncio\nasync def")
    (project / "test_it.py").write_text(tests)
    assert "4 passed" in run(project)


@pytest.mark.slow
def test_in_auto_mode_too_its_options_and_settings_can_be_overridden(project: Path) -> None:
    (project / "conftest.py").write_text(
        CONFTEST
        + """
import pytest

@pytest.fixture(scope="session")
def b2_server_options():
    return {"bucket": "our-own-bucket", "min_part_size": 1}

@pytest.fixture
def b2_settings(b2_server):
    key = b2_server.create_key(capabilities={"writeFiles"})
    return b2_server.settings(key=key, max_connections=3)
"""
    )
    (project / "test_it.py").write_text(
        """
import pytest
from careflow_storage import AccessDeniedError

async def test_a_write_only_key_does_not_read(storage):
    stored = await storage.upload_file("key", b"hello")
    assert stored.bucket == "our-own-bucket"
    assert storage.settings.max_connections == 3
    with pytest.raises(AccessDeniedError):
        await storage.get_file("key")
"""
    )
    assert "1 passed" in run(project, "-o", "asyncio_mode=auto")


SCOPES = """
import pytest
import pytest_asyncio

from careflow_storage import BackblazeStorage


async def use(storage, b2_server):
    await storage.upload_file("a", b"x")
    assert [version.key for version in b2_server.versions()] == ["a"]


@pytest.mark.asyncio
async def test_in_the_default_loop(storage, b2_server):
    await use(storage, b2_server)


@pytest.mark.asyncio(loop_scope="function")
async def test_in_the_loop_of_a_function(storage, b2_server):
    await use(storage, b2_server)


@pytest.mark.asyncio(loop_scope="module")
async def test_in_the_loop_of_a_module(storage, b2_server):
    await use(storage, b2_server)


@pytest.mark.asyncio(loop_scope="package")
async def test_in_the_loop_of_a_package(storage, b2_server):
    await use(storage, b2_server)


@pytest.mark.asyncio(loop_scope="session")
async def test_in_the_loop_of_the_session(storage, b2_server):
    await use(storage, b2_server)


@pytest.mark.asyncio(loop_scope="class")
class TestOfAClass:
    async def test_one(self, storage, b2_server):
        await use(storage, b2_server)

    async def test_another(self, storage, b2_server):
        await use(storage, b2_server)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def of_the_session(b2_server):
    async with BackblazeStorage(b2_server.settings()) as opened:
        yield opened


@pytest.fixture(scope="module")
def environment(b2_server):
    return b2_server.environment()


@pytest.mark.asyncio(loop_scope="session")
async def test_with_a_storage_of_the_session(of_the_session, b2_server, environment):
    await use(of_the_session, b2_server)
    assert environment["BACKBLAZE_ENDPOINT"] == b2_server.endpoint


@pytest.mark.asyncio(loop_scope="session")
async def test_with_it_again(of_the_session, storage, b2_server):
    await use(of_the_session, b2_server)
    assert await storage.get_file("a") == b"x"
"""

WITH_ANYIO = """
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def seeded(storage):
    await storage.upload_file("seed", b"x")


async def test_it(seeded, storage, b2_server):
    await storage.upload_file("a", b"x")
    assert [version.key for version in b2_server.versions()] == ["a", "seed"]


async def test_the_next_one_finds_it_as_new(storage, b2_server):
    assert await storage.list_files() == []
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "strict"])
@pytest.mark.parametrize("scope", ["function", "module", "session"])
def test_its_storage_is_opened_in_the_loop_of_the_test(
    project: Path, mode: str, scope: str
) -> None:
    (project / "test_it.py").write_text(SCOPES)
    options = {
        "asyncio_mode": mode,
        "asyncio_default_test_loop_scope": scope,
        "asyncio_default_fixture_loop_scope": scope,
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    assert "9 passed" in run(project, *given)


@pytest.mark.slow
@pytest.mark.parametrize("module_scope", [False, True])
def test_its_storage_is_opened_in_the_loop_of_anyio(project: Path, module_scope: bool) -> None:
    pytest.importorskip("anyio")
    tests = WITH_ANYIO
    if module_scope:
        tests = tests.replace("@pytest.fixture\ndef", '@pytest.fixture(scope="module")\ndef')
    (project / "test_it.py").write_text(tests)
    assert "2 passed" in run(project)


def test_it_is_not_loaded_unless_it_is_asked_for(project: Path) -> None:
    (project / "conftest.py").write_text("")
    (project / "test_it.py").write_text(
        "import sys\n\n"
        "def test_it():\n"
        "    assert not any(name.startswith('careflow_storage') for name in sys.modules)\n"
    )
    assert "1 passed" in run(project)
