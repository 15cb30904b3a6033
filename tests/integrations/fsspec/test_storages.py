"""One storage for each loop, which ends with it; none crosses a fork; no secret is pickled."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import fsspec
import pytest

from careflow_storage import InvalidInputError
from careflow_storage.integrations.fsspec import (
    AsyncReadFile,
    AsyncWriteFile,
    CareflowFileSystem,
)
from careflow_storage.testing import B2Server

OPTIONS = {
    "env_file": "/srv/b2.env",
    "bucket_name": "calls-2026",
    "default_block_size": 1000,
    "listings_expiry_time": 60.0,
}


def secret_of(server: B2Server) -> str:
    return server.key.application_key


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_no_secret_and_opens_a_storage_of_its_own(
    fs: CareflowFileSystem, server: B2Server, protocol: int
) -> None:
    fs.pipe("a", b"1")
    fs.ls("")
    with fs.open("a") as file:
        file.read()
        pickled = [pickle.dumps(each, protocol) for each in (fs, file)]
    for each in pickled:
        for secret in (secret_of(server), server.key.key_id):
            assert secret.encode() not in each
        assert b"BACKBLAZE" not in each
    again = pickle.loads(pickled[0])  # noqa: S301 - made above
    assert again.cat_file("a") == b"1"
    again.close()


def test_its_json_and_its_text_hold_no_secret(fs: CareflowFileSystem, server: B2Server) -> None:
    fs.exists("a")
    for text in (fs.to_json(), repr(fs), repr(vars(fs)), str(fs.to_dict()), fs._fs_token):
        assert secret_of(server) not in text
    again = fsspec.AbstractFileSystem.from_json(fs.to_json())
    assert isinstance(again, CareflowFileSystem)


def test_options_survive_the_pickle_and_equal_ones_are_one_instance() -> None:
    fs = fsspec.filesystem("careflow", **OPTIONS)
    assert pickle.loads(pickle.dumps(fs)) is fs  # noqa: S301
    assert copy.copy(fs) is fs
    assert fsspec.filesystem("careflow", **OPTIONS) is fs
    assert fsspec.filesystem("careflow", **OPTIONS | {"env_file": "/srv/other.env"}) != fs
    assert fs.storage_options == OPTIONS


@pytest.mark.parametrize(
    "name", ["application_key", "key", "secret", "token", "key_id", "aws_secret_access_key"]
)
def test_a_secret_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(InvalidInputError, match=name) as caught:
        fsspec.filesystem("careflow", **{name: "K004very-secret"})
    assert "very-secret" not in str(caught.value)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="anon"):
        fsspec.filesystem("careflow", anon=True)


def test_settings_are_read_from_a_file(
    server: B2Server, tmp_path: Path, fs: CareflowFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.pipe("a", b"1")
    server.create_bucket("another-bucket")
    lines = [f"{name}={value}\n" for name, value in server.environment().items()]
    (tmp_path / "b2.env").write_text("".join(lines), encoding="utf-8")
    for name in server.environment():
        monkeypatch.delenv(name)
    with fsspec.open("careflow://a", env_file=str(tmp_path / "b2.env")) as file:
        assert file.read() == b"1"
    other = CareflowFileSystem(tmp_path / "b2.env", bucket_name="another-bucket")
    assert other.ls("") == []
    for each in (other, fsspec.filesystem("careflow", env_file=str(tmp_path / "b2.env"))):
        each.close()


def test_settings_that_were_missing_can_be_set_later(
    server: B2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = CareflowFileSystem(skip_instance_cache=True)
    with pytest.raises(Exception, match="not configured"):
        fs.ls("")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    assert fs.ls("") == []
    fs.close()


async def test_coroutines_use_it_in_their_own_loop(
    server: B2Server, fs: CareflowFileSystem
) -> None:
    coroutines = CareflowFileSystem(asynchronous=True, skip_instance_cache=True)
    await coroutines._pipe_file("a/b", b"12345")
    assert await coroutines._cat_file("a/b") == b"12345"
    assert await coroutines._find("") == ["a/b"]
    async with await coroutines.open_async("a/c", "wb") as written:
        assert isinstance(written, AsyncWriteFile)
        assert await written.write(b"123") == 3
        assert written.tell() == 3
    async with await coroutines.open_async("a/c") as read:
        assert isinstance(read, AsyncReadFile)
        assert (read.size, await read.read(2)) == (3, b"12")
        assert await read.seek(-1, os.SEEK_END) == 2
        assert await read.read() == b"3"
    with pytest.raises(FileExistsError):
        await coroutines.open_async("a/c", "xb")
    with pytest.raises(FileNotFoundError):
        await coroutines.open_async("missing")
    with pytest.raises(InvalidInputError, match="open_async"):
        coroutines.open("a/b")
    await coroutines.aclose()


async def test_a_coroutine_that_fails_stores_nothing(
    server: B2Server, fs: CareflowFileSystem
) -> None:
    coroutines = CareflowFileSystem(asynchronous=True, skip_instance_cache=True)
    with pytest.raises(ZeroDivisionError):
        await write_and_fail(coroutines)
    assert not await coroutines._exists("broken")
    assert not server.incomplete_uploads()
    await coroutines.aclose()


async def write_and_fail(fs: CareflowFileSystem) -> None:
    async with await fs.open_async("broken", "wb") as file:
        assert isinstance(file, AsyncWriteFile)
        await file.write(bytes(6 * 1024 * 1024))
        raise ZeroDivisionError


def test_each_loop_has_a_storage_which_ends_with_it(
    server: B2Server, fs: CareflowFileSystem
) -> None:
    coroutines = CareflowFileSystem(asynchronous=True, skip_instance_cache=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            asyncio.run(coroutines._pipe_file(f"a/{number}", b"1"))
    assert fs.find("a") == ["a/0", "a/1", "a/2"]


def run(server: B2Server, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        env=os.environ | server.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # asyncio's debug mode reports slow steps.
    errors = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, errors) == (0, [])
    return done.stdout


def test_a_program_ends_without_a_warning(server: B2Server) -> None:
    run(
        server,
        """
import fsspec
fs = fsspec.filesystem("careflow")
fs.pipe("a", b"1" * 1000)
file = fs.open("a")
file.read(1)
assert fs.ls("", detail=False) == ["a"]
""",
    )
    assert [version.key for version in server.versions()] == ["a"]


def test_a_program_that_ends_with_an_open_file_stores_nothing(server: B2Server) -> None:
    run(
        server,
        """
import fsspec
file = fsspec.filesystem("careflow").open("a", "wb")
file.write(bytes(20 * 2**20))
""",
    )
    assert not server.versions()
    assert not server.incomplete_uploads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_opens_its_own_storage(server: B2Server) -> None:
    output = run(
        server,
        """
import os, sys, warnings
import fsspec
warnings.simplefilter("ignore", DeprecationWarning)  # of os.fork with threads
fs = fsspec.filesystem("careflow")
fs.pipe("a", b"parent")
child = os.fork()
if not child:
    assert fs.cat_file("a") == b"parent"
    fs.pipe("b", b"child")
    assert fsspec.filesystem("careflow").cat_file("b") == b"child"
    print("the child is done", flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert fs.cat_file("b") == b"child"
""",
    )
    assert output == "the child is done\n"


def test_without_fsspec_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["fsspec"] = None
import careflow_storage.integrations.fsspec as package
try:
    package.CareflowFileSystem
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 'pip install "careflow-storage[fsspec]"' in done.stdout
