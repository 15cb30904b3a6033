"""The hooks of arq and SAQ: one storage in the worker's context."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from careflow_storage import (
    InvalidInputError,
    NotConfiguredError,
    RateLimit,
    StorageClosedError,
)
from careflow_storage.testing import B2Server
from tests.support.hooks import Recorder
from tests.support.unfinished import begin_upload


@pytest.fixture(params=["arq", "saq"])
def hooks(request: pytest.FixtureRequest) -> ModuleType:
    pytest.importorskip(request.param)
    return importlib.import_module(f"careflow_storage.integrations.{request.param}")


async def test_the_jobs_of_a_worker_share_one_open_storage(
    server: B2Server, monkeypatch: pytest.MonkeyPatch, hooks: ModuleType
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    ctx: dict[str, Any] = {"other": 1}
    await hooks.startup(ctx)
    # Both give each job a copy of the context.
    storage = hooks.get_storage({**ctx, "job": 1})
    assert storage is hooks.get_storage({**ctx, "job": 2})
    assert storage is ctx["storage"]
    await storage.upload_recording("CA1", b"sound", "a.wav")
    await hooks.shutdown(ctx)
    with pytest.raises(StorageClosedError):
        await storage.list_files()
    await hooks.shutdown(ctx)


async def test_settings_and_grace_can_be_passed(server: B2Server, hooks: ModuleType) -> None:
    ctx: dict[str, Any] = {}
    await hooks.startup(ctx, server.settings(region="eu-central-003"))
    assert hooks.get_storage(ctx).settings.region == "eu-central-003"
    with pytest.raises(InvalidInputError, match="grace"):
        await hooks.shutdown(ctx, grace=-1)
    await hooks.shutdown(ctx, grace=1)


async def test_hooks_and_a_rate_limit_are_those_of_the_storage(
    server: B2Server, hooks: ModuleType
) -> None:
    ctx: dict[str, Any] = {}
    recorder = Recorder()
    await hooks.startup(
        ctx, server.settings(), hooks=[recorder], rate_limit=RateLimit(per_second=1000)
    )
    await hooks.get_storage(ctx).list_files()
    await hooks.shutdown(ctx)
    assert "list_files" in [call.method for call in recorder.calls]


async def test_a_worker_without_settings_does_not_start(hooks: ModuleType) -> None:
    ctx: dict[str, Any] = {}
    with pytest.raises(NotConfiguredError, match="BACKBLAZE_KEY_ID"):
        await hooks.startup(ctx)
    await hooks.shutdown(ctx)
    assert ctx == {}


@pytest.mark.parametrize("wrong", [None, "ctx", []], ids=repr)
async def test_a_context_that_is_none_is_refused(hooks: ModuleType, wrong: Any) -> None:
    for call in (hooks.startup, hooks.shutdown):
        with pytest.raises(InvalidInputError, match="ctx must be"):
            await call(wrong)
    with pytest.raises(InvalidInputError, match="ctx must be"):
        hooks.get_storage(wrong)


async def test_a_second_startup_is_refused(server: B2Server, hooks: ModuleType) -> None:
    ctx: dict[str, Any] = {}
    await hooks.startup(ctx, server.settings())
    with pytest.raises(InvalidInputError, match="already"):
        await hooks.startup(ctx, server.settings())
    await hooks.shutdown(ctx)


@pytest.mark.parametrize("ctx", [{}, {"storage": "another thing"}])
def test_a_worker_without_the_hooks_gets_a_clear_error(
    hooks: ModuleType, ctx: dict[str, Any]
) -> None:
    with pytest.raises(StorageClosedError, match="no open storage") as caught:
        hooks.get_storage(ctx)
    assert "startup" in str(caught.value.hint)


async def test_the_clean_up_aborts_stale_uploads(server: B2Server, hooks: ModuleType) -> None:
    ctx: dict[str, Any] = {}
    await hooks.startup(ctx, server.settings())
    for key in ("recordings/a", "other/b"):
        await begin_upload(hooks.get_storage(ctx), key)
    assert await hooks.abort_stale_uploads(ctx) == 0
    # The server's times are in seconds: the upload is older than nothing in the next one.
    while not await hooks.abort_stale_uploads(ctx, older_than_hours=1e-9, prefix="recordings/"):
        pass
    await hooks.shutdown(ctx)
    assert [upload.key for upload in server.incomplete_uploads()] == ["other/b"]


@pytest.mark.parametrize("hours", [0, -1, "1", None, True, float("nan"), float("inf")])
async def test_a_bad_age_is_refused(hooks: ModuleType, hours: Any) -> None:
    with pytest.raises(InvalidInputError, match="older_than_hours"):
        await hooks.abort_stale_uploads({}, older_than_hours=hours)


def test_a_missing_framework_names_the_extra() -> None:
    code = """
import importlib, sys
from careflow_storage import MissingExtraError
for name in ("arq", "saq", "taskiq", "celery", "dramatiq"):
    sys.modules[name] = None
    try:
        importlib.import_module(f"careflow_storage.integrations.{name}")
    except MissingExtraError as error:
        assert error.extra == name
        print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f'pip install "careflow-storage[{name}]"'
        for name in ("arq", "saq", "taskiq", "celery", "dramatiq")
    ]
