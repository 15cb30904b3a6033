"""What an import loads, what a first call loads, and what the lazy names look like."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import careflow_storage
from careflow_storage.testing import B2Server
from tests.support.first_calls import imports_of

CALLS = {
    "put": "await storage.upload_file('put', b'voice')",
    "encrypted": "await storage.upload_file('sse', b'voice', encryption='SSE-B2')",
    "parts": "await storage.upload_file('parts', iter([bytes(2**20)] * 17))",
    "recording": "await storage.upload_recording('CA1', b'voice', 'a.webm')",
    "get": "await storage.get_file('stored')",
    "stream": "[chunk async for chunk in storage.stream_file('stored')]",
    "serve": "[chunk async for chunk in (await storage.serve_file('stored')).body]",
    "open_file": "await (await storage.open_file('stored')).read()",
    "download": "await storage.download_file('stored', folder / 'stored')",
    "head": "await storage.get_file_metadata('stored')",
    "exists": "await storage.file_exists('stored')",
    "missing": "await storage.file_exists('missing')",
    "list": "await storage.list_files()",
    "folder": "await storage.list_folder()",
    "presign": "await storage.get_signed_url('stored')",
    "presign_many": "await storage.get_signed_urls(['stored'])",
    "sign_upload": "await storage.sign_upload('signed', content_type='audio/wav')",
    "live": """\
async with storage.open_recording('CA1', 'a.webm') as writer:
    await writer.write(b'voice')""",
    "live_parts": """\
async with storage.open_recording('CA1', 'b.webm') as writer:
    for _ in range(20):
        await writer.write(bytes(2**20))""",
    "from_url": """\
await storage.upload_from_url(
    'CA1', await storage.get_signed_url('stored'), 'a.wav', allow_private_addresses=True)""",
    "resume": """\
(folder / 'file').write_bytes(bytes(17 * 2**20))
await storage.upload_file('resumed', folder / 'file', resume=True)""",
    "incomplete": "await storage.list_incomplete_uploads()",
    "stale": "await storage.abort_stale_uploads(timedelta(days=1))",
    "client": "await (await storage.client()).list_buckets()",
    "outbox": """\
async with Outbox(folder / 'outbox', storage) as outbox:
    await outbox.put_recording('CA1', b'voice', 'a.webm')
    await outbox.drain()""",
    "delete": "await storage.delete_file('stored')",
    "delete_many": "await storage.delete_files(['stored'])",
    "purge": "await storage.purge_file('stored')",
}
# asyncio itself imports these, for host names and for its threads.
LIGHT = {
    *("encodings.idna", "stringprep", "unicodedata"),
    *("concurrent.futures.thread", "queue", "_queue"),
}
OUTBOX = "from careflow_storage.outbox import Outbox"


@pytest.fixture(scope="module")
def server() -> Iterator[B2Server]:
    with B2Server() as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(server: B2Server) -> None:
    server.reset()


def test_the_first_calls_of_a_process_import_nothing_heavy_on_the_event_loop(
    server: B2Server,
) -> None:
    assert imports_of(server, *CALLS.values(), before=OUTBOX).on_loop <= LIGHT


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_first_call_imports_nothing_heavy_on_the_event_loop(server: B2Server, call: str) -> None:
    before = OUTBOX if "Outbox" in call else "pass"
    assert imports_of(server, call, before=before).on_loop <= LIGHT


def loaded_after(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


HEAVY = {"aioboto3", "aiobotocore", "aiohttp", "boto3", "botocore", "moto", "rich", "typer"}


def test_the_package_and_its_errors_are_light() -> None:
    code = "from careflow_storage import NoSuchKeyError, StorageError"
    light = loaded_after(code)
    assert not light & {*HEAVY, "asyncio", "pydantic", "pydantic_settings", "ssl"}


def test_the_storage_loads_no_http_client_of_others() -> None:
    light = loaded_after("from careflow_storage import BackblazeStorage")
    assert not light & HEAVY


def test_a_storage_from_the_environment_is_created_without_an_import() -> None:
    imports = "from careflow_storage import BackblazeStorage"
    assert loaded_after(f"{imports}\nBackblazeStorage()") == loaded_after(imports)


def test_every_public_name_is_there_and_listed() -> None:
    namespace: dict[str, Any] = {}
    exec("from careflow_storage import *", namespace)  # noqa: S102 - an import is a statement
    assert {*careflow_storage.__all__} <= namespace.keys()
    assert {*careflow_storage.__all__} <= {*dir(careflow_storage)}
    for name in careflow_storage.__all__:
        assert getattr(careflow_storage, name) is namespace[name]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'careflow_storage' has no attribute 'no_such_name'"):
        _ = careflow_storage.no_such_name  # type: ignore[attr-defined]  # the point of the test


def test_a_lazy_class_pickles_by_its_name() -> None:
    info = careflow_storage.Progress(transferred=1, total=None)
    assert pickle.loads(pickle.dumps(info)) == info  # noqa: S301 - made here
    for name in ("BackblazeStorage", "StorageSettings", "NoSuchKeyError"):
        cls = getattr(careflow_storage, name)
        assert pickle.loads(pickle.dumps(cls)) is cls  # noqa: S301 - made here


@pytest.mark.parametrize("name", ["errors", "models", "recordings", "settings", "storage"])
def test_a_module_is_an_attribute_of_the_package_without_its_import(name: str) -> None:
    loaded = loaded_after(f"import careflow_storage\nassert careflow_storage.{name}.__name__")
    assert "careflow_storage" in loaded
