"""Arguments of another type, and paths that cannot be: refused by our errors, before a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from careflow_storage import BackblazeStorage, InvalidInputError, InvalidPathError, StorageSettings
from careflow_storage._env_file import read_env
from careflow_storage.admin import StorageAdmin
from careflow_storage.outbox import Outbox, OutboxError
from careflow_storage.testing import B2Server
from careflow_storage.usage import load_prices

pytest_plugins = ["careflow_storage.testing.plugin"]

APP = "https://app.example"
NO_NAMES = ["/tmp/a\0b", "/tmp/\ud800"]
NO_LISTS: list[Any] = [None, 5, 2.5, b"bytes", object(), [None], [5]]

TAKES_A_LIST: dict[str, Callable[[StorageAdmin, Any], Awaitable[object]]] = {
    "set_cors_rules": lambda admin, given: admin.set_cors_rules(given),
    "set_lifecycle_rules": lambda admin, given: admin.set_lifecycle_rules(given),
    "allow_browser_uploads": lambda admin, given: admin.allow_browser_uploads(given),
    "to add": lambda admin, given: admin.allow_browser_uploads(given, "put"),
    "methods": lambda admin, given: admin.allow_browser_uploads(
        APP, methods=cast(Any, 5 if given is None else given)
    ),
    "check_cors": lambda admin, given: admin.check_cors(APP, "PUT", given),
    "delete_file_versions": lambda admin, given: admin.delete_file_versions(given),
    "keys.create": lambda admin, given: admin.keys.create("a-name", given),
}


@pytest.fixture
async def storage(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings(_env_file=None)) as opened:
        yield opened


@pytest.mark.parametrize("method", TAKES_A_LIST)
async def test_arguments_of_another_type_are_refused_before_a_request(
    storage: BackblazeStorage, b2_server: B2Server, method: str
) -> None:
    for given in NO_LISTS:
        with pytest.raises(InvalidInputError):
            await TAKES_A_LIST[method](storage.admin, given)
    assert b2_server.requests == []


@pytest.mark.parametrize("method", ["set_cors_rules", "set_lifecycle_rules", "keys.create"])
async def test_one_text_is_no_list(
    storage: BackblazeStorage, b2_server: B2Server, method: str
) -> None:
    with pytest.raises(InvalidInputError):
        await TAKES_A_LIST[method](storage.admin, "recordings/")
    assert b2_server.requests == []


@pytest.mark.parametrize("preset", [5, ["put"], {}, "Put"])
async def test_what_is_no_preset_is_refused(
    storage: BackblazeStorage, b2_server: B2Server, preset: Any
) -> None:
    with pytest.raises(InvalidInputError, match="preset"):
        await storage.admin.allow_browser_uploads(APP, preset)
    assert b2_server.requests == []


@pytest.mark.parametrize("path", NO_NAMES)
async def test_a_path_that_cannot_be_is_refused(
    storage: BackblazeStorage, b2_server: B2Server, path: str
) -> None:
    with pytest.raises(InvalidPathError):
        Outbox(path)
    with pytest.raises(InvalidPathError):
        await storage.admin.keys.rotate("0041234567890ab0000000001", env_file=path)
    with pytest.raises(InvalidPathError):
        load_prices(path)
    with pytest.raises(InvalidPathError):
        read_env(path)
    assert b2_server.requests == []


@pytest.mark.parametrize("path", [None, b"/tmp/outbox", 5, ["a"]])
def test_what_is_no_path_is_no_outbox(path: Any) -> None:
    with pytest.raises(InvalidInputError, match="folder must be"):
        Outbox(path)


def test_arguments_of_the_outbox_in_the_wrong_places_are_told(
    settings: StorageSettings, tmp_path: Path
) -> None:
    storage = BackblazeStorage(settings)
    with pytest.raises(InvalidInputError, match="storage must be") as refused:
        Outbox(cast(Any, storage), cast(Any, tmp_path))
    assert refused.value.hint == "The folder comes first: Outbox(folder, storage)."
    for name in ("max_bytes", "concurrency", "poll_interval", "lease", "retry_base_delay"):
        with pytest.raises(InvalidInputError, match=name):
            Outbox(tmp_path, **cast(Any, {name: "4"}))
        with pytest.raises(InvalidInputError, match=name):
            Outbox(tmp_path, **cast(Any, {name: timedelta(1)}))
    for name in ("give_up_after", "keep_delivered"):
        with pytest.raises(InvalidInputError, match=name):
            Outbox(tmp_path, **cast(Any, {name: 3600}))


@pytest.mark.parametrize("below", ["", "outbox", "a/b"])
async def test_an_outbox_in_a_file_names_the_path_and_the_file(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(OutboxError, match="is a file") as refused:
        await Outbox(file / below).__aenter__()
    assert repr(str(file / below)) in refused.value.message
    assert f"{str(file)!r} is a file" in refused.value.message
