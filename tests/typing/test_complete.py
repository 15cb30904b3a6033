"""The checked program uses every public name, and every type of a public signature is public."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

PROGRAM = [
    ast.parse((Path(__file__).parent / name).read_text(encoding="utf-8"))
    for name in ("consumer.py", "client_untyped.py")
]
PACKAGES = [
    f"careflow_storage{name}"
    for name in (
        "",
        ".admin",
        ".browser",
        ".doctor",
        ".hooks",
        ".integrations.fastapi",
        ".integrations.fsspec",
        ".integrations.opentelemetry",
        ".jobs",
        ".keys",
        ".local",
        ".media",
        ".migrate",
        ".outbox",
        ".usage",
    )
]
# Modules whose names are public where they stand.
MODULES = [
    "careflow_storage.errors",
    "careflow_storage.integrations.asgi",
    "careflow_storage.integrations.problems",
    "careflow_storage.recordings",
]
MADE_BY_USERS = {
    "ApplicationKeys",
    "BackblazeStorage",
    "BrowserUploads",
    "CareflowFileSystem",
    "CustomerKey",
    "LocalServer",
    "Outbox",
}
# Names for others' types, and for what an argument must look like: no user needs them.
PROTOCOLS = {"GivenSession", "Lifespan", "S3Client", "_Storage"}


def used() -> set[str]:
    nodes = [node for tree in PROGRAM for node in ast.walk(tree)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    bodies = [node for cls in classes for node in cls.body]
    overridden = {node.name for node in bodies if isinstance(node, ast.FunctionDef)}
    return names | overridden | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def public(package: str) -> dict[str, Any]:
    module = import_module(package)
    return {name: getattr(module, name) for name in module.__all__}


def members(cls: type) -> Iterator[str]:
    """Name the methods and properties of a class that is no model or exception."""
    if issubclass(cls, BaseModel | BaseException | dict):
        return
    # Not those of other libraries' classes.
    ours = [each for each in cls.__mro__ if each.__module__.startswith("careflow_storage")]
    for name in sorted({name for each in ours for name in vars(each)}):
        if not name.startswith("_"):
            yield name


@pytest.mark.parametrize("package", [*PACKAGES, "careflow_storage.testing"])
def test_the_checked_program_uses_every_public_name(package: str) -> None:
    assert {*public(package)} - {"__version__"} <= used()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_checked_program_uses_every_public_method(package: str) -> None:
    classes = [value for value in public(package).values() if isinstance(value, type)]
    wanted = {f"{cls.__name__}.{name}" for cls in classes for name in members(cls)}
    assert not {name for name in wanted if name.partition(".")[2] not in used()}


def imported(module: str) -> dict[str, str]:
    """Name the module that each imported name of a module comes from, type hints included."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    found = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    own = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    return found | dict.fromkeys(own, module)


def names_in_signature(function: Any) -> set[str]:
    hints = " , ".join(map(str, inspect.get_annotations(function).values()))
    return {node.id for node in ast.walk(ast.parse(hints)) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_type_of_a_public_signature_is_public(package: str) -> None:
    exported = {name for each in (*PACKAGES, "careflow_storage.testing") for name in public(each)}
    hidden = set()
    for value in public(package).values():
        functions = [value] if inspect.isfunction(value) else []
        if isinstance(value, type):
            own = [vars(value).get(name) for name in members(value)]
            functions += [function for function in own if inspect.isfunction(function)]
            functions += [vars(value)["__init__"]] if value.__name__ in MADE_BY_USERS else []
        for function in functions:
            homes = imported(function.__module__)
            hidden |= {
                f"{function.__qualname__}: {name}"
                for name in names_in_signature(function)
                if homes.get(name, "").startswith("careflow_storage")
                and name not in exported
                and name not in PROTOCOLS
                and homes[name] not in MODULES
            }
    assert not hidden
