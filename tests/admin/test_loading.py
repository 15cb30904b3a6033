"""The first calls of `storage.admin` load only light modules on the event loop."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

import pytest

import careflow_storage.admin
import careflow_storage.keys
import careflow_storage.usage
from careflow_storage.testing import B2Server
from tests.support.first_calls import imports_of

CALLS = {
    "buckets": "await storage.admin.list_buckets()",
    "head": "await storage.admin.head_bucket()",
    "encryption": "await storage.admin.get_bucket_encryption()",
    "cors": "await storage.admin.get_cors_rules()",
    "allow": "await storage.admin.allow_browser_uploads(['https://app.example'], 'put')",
    "preflight": "await storage.admin.check_cors('https://app.example')",
    "lifecycle": "await storage.admin.get_lifecycle_rules()",
    "expire": "await storage.admin.expire_recordings()",
    "versions": "await storage.admin.list_file_versions()",
    "restore": "await storage.admin.restore_file('stored')",
    "purge": "await storage.admin.purge_file('stored', confirm='stored')",
    "copy": "await storage.admin.copy_file('stored', 'copy')",
    "lock": "await storage.admin.get_object_lock()",
    "usage": "await storage.admin.usage()",
    "keys": "await storage.admin.keys.list()",
}
_QUICK = ("cors",)
# The event loop may load the methods themselves: these modules define no models.
LIGHT = {
    "careflow_storage._lazy",
    "careflow_storage._s3.headers.kept",
    "careflow_storage.admin",
    *(
        f"careflow_storage.admin.{name}"
        for name in (
            *(
                "base",
                "bucket_region",
                "buckets",
                "client",
                "copy",
                "cors",
                "cors.methods",
                "lifecycle",
            ),
            *("object_lock", "version_listing", "versions"),
        )
    ),
    "careflow_storage.keys",
    "careflow_storage.keys.client",
}


@pytest.mark.parametrize(
    "call",
    [
        # Each is a process of its own.
        pytest.param(call, id=name, marks=() if name in _QUICK else pytest.mark.slow)
        for name, call in CALLS.items()
    ],
)
def test_a_first_call_loads_what_it_needs_in_a_thread(server: B2Server, call: str) -> None:
    found = imports_of(server, call)
    ours = {name for name in found.on_loop if name.startswith("careflow_storage")}
    assert ours <= LIGHT
    others = {name.partition(".")[0] for name in found.on_loop} - {"careflow_storage"}
    assert not others & {"b2sdk", "aioboto3", "aiobotocore", "botocore", "matplotlib", "aiohttp"}
    # The doctor, prices and the migration are none of these calls' business.
    loaded = found.on_loop | found.elsewhere
    for heavy in ("doctor", "migrate", "usage.chart", "usage.prices"):
        assert f"careflow_storage.{heavy}" not in loaded


@pytest.mark.parametrize(
    "name",
    [
        "admin.ApplicationKeys",
        "admin.diagnose",
        "admin.check_old_code",
        "admin.UsageReport",
        "admin.usage.estimate",
        "admin.keys.KeyInfo",
        "admin.doctor.Finding",
        "admin.migrate.Carried",
    ],
)
def test_an_old_path_works_and_warns_with_the_new_one(name: str) -> None:
    old, _, attribute = f"careflow_storage.{name}".rpartition(".")
    module = importlib.import_module(old)
    with pytest.warns(DeprecationWarning, match=rf"has moved to .*\.{attribute}\.$") as seen:
        got = getattr(module, attribute)
    new = str(seen[0].message).split()[-1].removesuffix(f".{attribute}.")
    assert got is getattr(importlib.import_module(new), attribute)
    assert seen[0].filename == __file__


def test_type_checkers_see_the_same_names_at_the_old_path_as_the_interpreter() -> None:
    tree = ast.parse(inspect.getsource(careflow_storage.admin))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    typed = {alias.asname: node.module for node in imported for alias in node.names if alias.asname}
    moved = next(
        keyword.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "moved"
    )
    assert isinstance(moved, ast.Dict)
    loaded = {
        str(leaf.value): str(home.value)
        for home, names in zip(moved.keys, moved.values, strict=True)
        if isinstance(home, ast.Constant)
        for leaf in ast.walk(names)
        if isinstance(leaf, ast.Constant)
    }
    assert typed == {
        name: home.replace("careflow_storage.", "careflow_storage.admin.")
        for name, home in loaded.items()
    }
    assert len(typed) > 30


@pytest.mark.parametrize(
    "package",
    [careflow_storage.admin, careflow_storage.keys, careflow_storage.usage],
    ids=lambda package: str(package.__name__),
)
def test_every_public_name_is_there_when_it_is_asked_for(package: Any) -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name
