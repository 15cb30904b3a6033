"""Modules and names that are loaded when they are first used."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


class LazyModule:
    """Stand-in for a module, which is imported at the first access to an attribute."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self.__name__), attribute)


def is_loaded(name: str) -> bool:
    """Whether a module is imported already, so that importing it again is free."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def lazy_exports(
    package: str,
    homes: Mapping[str, tuple[str, ...]],
    moved: Mapping[str, tuple[str, ...]] | None = None,
    submodules: tuple[str, ...] = (),
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's ``__getattr__`` and ``__dir__``: each name is loaded when first used.

    Args:
        package: The package's name.
        homes: Module names, each with the names that it defines.
        moved: The same for names with a new public path. They load from there, with a warning.
        submodules: Modules of the package that are attributes of it without an import.
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    new_home_of = {name: home for home, names in (moved or {}).items() for name in names}

    def load(name: str) -> Any:
        if home := new_home_of.get(name):
            _warn_moved(f"{package}.{name}", f"{home}.{name}")
            return getattr(import_module(home), name)
        if name in submodules:
            return import_module(f"{package}.{name}")
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of, *submodules})

    return load, names


def moved_package(old: str, new: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package that has moved: it loads the names, and warns."""

    def load(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        value = getattr(import_module(new), name)
        _warn_moved(f"{old}.{name}", f"{new}.{name}")
        return value

    return load


def _warn_moved(old: str, new: str) -> None:
    # Level 3 is the line that imports or uses the name.
    warnings.warn(f"{old} has moved to {new}.", DeprecationWarning, stacklevel=3)
