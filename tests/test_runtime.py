"""Opening and closing, on one event loop, in one process; leaving nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    NotConfiguredError,
    Progress,
    StorageClosedError,
    StorageSettings,
    WrongLoopError,
)
from tests.support.behind_proxy import tasks_of_the_library
from tests.support.bodies import MIB, noise, stream
from tests.support.unfinished import unfinished_uploads

VARIABLES = ["BACKBLAZE_KEY_ID", "BACKBLAZE_APPLICATION_KEY", "BACKBLAZE_BUCKET_NAME"]
PART = 5 * MIB


def every_call(storage: BackblazeStorage, folder: Path) -> dict[str, Callable[[], Awaitable[Any]]]:
    return {
        "upload_file": lambda: storage.upload_file("a", b"x"),
        "upload_recording": lambda: storage.upload_recording("CA1", b"x", "a.webm"),
        "get_signed_url": lambda: storage.get_signed_url("a"),
        "get_signed_urls": lambda: storage.get_signed_urls(["a"]),
        "get_file": lambda: storage.get_file("a"),
        "stream_file": lambda: storage.stream_file("a").read(),
        "serve_file": lambda: storage.serve_file("a"),
        "download_file": lambda: storage.download_file("a", folder / "a"),
        "open_file": lambda: storage.open_file("a"),
        "delete_file": lambda: storage.delete_file("a"),
        "delete_files": lambda: storage.delete_files(["a"]),
        "purge_file": lambda: storage.purge_file("a"),
        "list_files": lambda: storage.list_files(),
        "get_file_metadata": lambda: storage.get_file_metadata("a"),
        "file_exists": lambda: storage.file_exists("a"),
        "client": storage.client,
    }


async def not_refused(kind: type[Exception], storage: BackblazeStorage, folder: Path) -> list[str]:
    """The methods that do not raise this error."""
    names = []
    for name, call in every_call(storage, folder).items():
        try:
            await call()
        except kind:
            continue
        except Exception as error:  # noqa: BLE001 - it is reported
            names.append(f"{name} raised {error!r}")
        else:
            names.append(name)
    return names


class TestNotConfigured:
    async def test_given_no_settings_when_initialized_then_it_is_false_with_a_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        storage = BackblazeStorage()
        assert not storage.is_configured()
        with caplog.at_level(logging.WARNING, "careflow_storage"):
            assert await storage.initialize() is False
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        for name in VARIABLES:
            assert name in record.getMessage()

    async def test_given_no_settings_when_entered_then_the_error_names_each_variable(self) -> None:
        with pytest.raises(NotConfiguredError) as caught:
            await BackblazeStorage().__aenter__()
        for name in VARIABLES:
            assert name in str(caught.value)
            assert name in caught.value.missing

    @pytest.mark.parametrize("missing", VARIABLES)
    async def test_given_all_but_one_variable_then_only_that_one_is_named(
        self, monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        values = {
            "BACKBLAZE_KEY_ID": "004a1b2c3d4e5f60000000001",
            "BACKBLAZE_APPLICATION_KEY": "K004" + "x" * 27,
            "BACKBLAZE_BUCKET_NAME": "recordings",
            "BACKBLAZE_REGION": "us-west-004",
        }
        for name, value in values.items():
            if name != missing:
                monkeypatch.setenv(name, value)
        with pytest.raises(NotConfiguredError) as caught:
            await BackblazeStorage().__aenter__()
        assert caught.value.missing == (missing,)

    async def test_given_the_environment_of_a_server_then_nothing_else_is_needed(
        self, monkeypatch: pytest.MonkeyPatch, settings: StorageSettings
    ) -> None:
        monkeypatch.setenv("BACKBLAZE_KEY_ID", "test-key-id")
        monkeypatch.setenv("BACKBLAZE_APPLICATION_KEY", "test-application-key")
        monkeypatch.setenv("BACKBLAZE_BUCKET_NAME", str(settings.bucket_name))
        monkeypatch.setenv("BACKBLAZE_ENDPOINT", str(settings.endpoint))
        storage = BackblazeStorage()
        assert storage.is_configured()
        assert await storage.initialize() is True
        await storage.upload_file("a", b"x")
        await storage.close()

    def test_given_a_malformed_variable_then_the_error_is_ours_and_names_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BACKBLAZE_PART_SIZE", "many")
        with pytest.raises(InvalidInputError, match=r"(?i)part_size"):
            BackblazeStorage()


class TestOpenAndClosed:
    async def test_given_a_storage_that_is_not_open_then_every_method_says_so(
        self, settings: StorageSettings, tmp_path: Path
    ) -> None:
        storage = BackblazeStorage(settings)
        assert await not_refused(StorageClosedError, storage, tmp_path) == []
        assert "not open" in repr(storage)

    async def test_given_a_closed_storage_then_every_method_says_so_and_it_stays_closed(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        await storage.client()
        await storage.close()
        await storage.close()
        assert await not_refused(StorageClosedError, storage, tmp_path) == []
        assert "closed" in repr(storage)
        with pytest.raises(StorageClosedError, match="Make a new"):
            await storage.initialize()
        with pytest.raises(StorageClosedError):
            await storage.__aenter__()

    async def test_given_an_open_storage_when_opened_again_then_nothing_happens(
        self, storage: BackblazeStorage
    ) -> None:
        assert await storage.initialize() is True
        assert await storage.initialize() is True
        await storage.upload_file("a", b"x")

    async def test_given_two_tasks_that_open_it_at_once_then_nothing_leaks(
        self, settings: StorageSettings
    ) -> None:
        # Over https opening takes a moment: the certificates are read in a thread.
        tls = settings.model_copy(update={"endpoint": "https://127.0.0.1:1"})
        storage = BackblazeStorage(tls)
        assert await asyncio.gather(*(storage.initialize() for _ in range(5))) == [True] * 5
        await storage.close()
        del storage
        gc.collect()

    async def test_given_a_storage_that_was_never_opened_when_closed_then_nothing_happens(
        self, settings: StorageSettings
    ) -> None:
        await BackblazeStorage(settings).close()

    async def test_given_a_block_that_raises_then_its_exception_comes_out_and_it_is_closed(
        self, settings: StorageSettings
    ) -> None:
        storage = BackblazeStorage(settings)

        async def use() -> None:
            async with storage:
                raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine"):
            await use()
        assert "closed" in repr(storage)

    async def test_given_uploads_in_flight_when_closed_then_they_fail_and_do_not_hang(
        self, settings: StorageSettings
    ) -> None:
        begun = asyncio.Event()

        async def endless() -> Any:
            while True:
                yield noise(MIB)
                begun.set()
                await asyncio.sleep(0)

        storage = BackblazeStorage(settings.model_copy(update={"part_size": PART}))
        await storage.initialize()
        upload = asyncio.create_task(storage.upload_file("a", endless()))
        await begun.wait()
        await storage.close()
        async with asyncio.timeout(60):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - the next line checks it
                await upload
        assert isinstance(caught.value, StorageClosedError)


class TestOtherLoopsAndProcesses:
    def test_given_another_event_loop_then_every_method_says_so(
        self, settings: StorageSettings, tmp_path: Path
    ) -> None:
        storage = BackblazeStorage(settings)

        def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
            with asyncio.Runner() as runner:
                return runner.run(main())

        with asyncio.Runner() as first:
            first.run(storage.initialize())
            assert run(lambda: not_refused(WrongLoopError, storage, tmp_path)) == []
            first.run(storage.close())

    async def test_given_a_thread_without_a_loop_then_the_error_is_ours(
        self, storage: BackblazeStorage
    ) -> None:
        with pytest.raises(WrongLoopError):
            await asyncio.to_thread(storage.stream_file, "a")

    def test_given_a_forked_process_then_the_error_says_to_open_one_there(
        self, settings: StorageSettings
    ) -> None:
        # In a process of its own: forking this one would copy its threads' locks.
        code = f"""
            import asyncio, os, sys, warnings
            from careflow_storage import BackblazeStorage, StorageSettings, WrongLoopError

            loop = asyncio.new_event_loop()
            storage = BackblazeStorage(StorageSettings(
                key_id="test-key-id", application_key="test-application-key",
                bucket_name={settings.bucket_name!r}, endpoint={settings.endpoint!r}))
            loop.run_until_complete(storage.initialize())
            loop.run_until_complete(storage.upload_file("a", b"x" * 100_000))
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
            if child == 0:
                try:
                    loop.run_until_complete(storage.get_file("a"))
                except WrongLoopError as error:
                    os._exit(0 if "fork" in str(error) else 2)
                os._exit(1)
            _, status = os.waitpid(child, 0)
            assert loop.run_until_complete(storage.get_file("a")) == b"x" * 100_000
            loop.run_until_complete(storage.close())
            loop.close()
            sys.exit(os.waitstatus_to_exitcode(status))
        """
        assert run_python(code).returncode == 0


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.stderr == ""
    return done


def test_given_an_import_then_nothing_heavy_is_loaded() -> None:
    code = """
        import sys
        import careflow_storage
        heavy = {"aioboto3", "aiobotocore", "boto3", "botocore", "rich", "typer", "moto"}
        print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
    """
    assert run_python(code).stdout.strip() == "[]"


def test_given_small_transfers_then_aioboto3_is_never_loaded(settings: StorageSettings) -> None:
    code = f"""
        import asyncio, sys
        from careflow_storage import BackblazeStorage, StorageSettings

        async def main():
            settings = StorageSettings(
                key_id="test-key-id", application_key="test-application-key",
                bucket_name={settings.bucket_name!r}, endpoint={settings.endpoint!r})
            async with BackblazeStorage(settings) as storage:
                result = await storage.upload_recording("CA1", b"x", "a.webm")
                await storage.get_signed_url(result.key)
                assert await storage.get_file(result.key) == b"x"
                assert await storage.list_files()
                await storage.delete_files([result.key])
        asyncio.run(main())
        print("botocore" in sys.modules)
    """
    assert run_python(code).stdout.strip() == "False"


class TestCancellation:
    @pytest.mark.parametrize("known", [True, False])
    async def test_given_an_upload_in_parts_when_cancelled_then_nothing_is_left_of_it(
        self, settings: StorageSettings, known: bool
    ) -> None:
        begun = asyncio.Event()

        def begin(_: Progress) -> None:
            begun.set()

        data = noise(3 * PART)
        small = settings.model_copy(update={"part_size": PART})
        async with BackblazeStorage(small) as storage:
            await storage.client()
            before = asyncio.all_tasks()
            upload = asyncio.create_task(
                storage.upload_file("a", data if known else stream(data, MIB), progress=begin)
            )
            await begun.wait()
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
            assert asyncio.all_tasks() == before
            assert await unfinished_uploads(settings) == []
            assert not await storage.file_exists("a")
            # And everything still works.
            assert (await storage.upload_file("a", data)).size == len(data)

    async def test_given_many_calls_when_cancelled_at_any_moment_then_slots_and_tasks_are_freed(
        self, settings: StorageSettings
    ) -> None:
        one = settings.model_copy(
            update={"max_connections": 2, "pool_timeout": 30.0, "multipart_threshold": 100_000}
        )
        async with BackblazeStorage(one) as storage:
            await storage.client()
            before = tasks_of_the_library()
            for turns in range(25):
                calls = [
                    asyncio.create_task(storage.upload_file(f"{turns}", noise(200_000))),
                    asyncio.create_task(storage.upload_file(f"{turns}-small", b"x")),
                    asyncio.create_task(storage.get_file("missing")),
                    asyncio.create_task(storage.file_exists("missing")),
                ]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                assert tasks_of_the_library() == before
            assert await unfinished_uploads(settings) == []
            async with asyncio.timeout(60):
                assert not await storage.file_exists("missing")
                assert (await storage.upload_file("a", noise(200_000))).size == 200_000
