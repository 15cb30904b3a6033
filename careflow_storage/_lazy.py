"""Names that are loaded when first used, off the event loop where a call needs them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


class LazyModule:
    """Stands for a module of which nothing is loaded until an attribute is asked for."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self.__name__), attribute)


def is_loaded(name: str) -> bool:
    """Whether importing a module costs nothing any more."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def lazy_exports(
    package: str,
    homes: Mapping[str, tuple[str, ...]],
    moved: Mapping[str, tuple[str, ...]] | None = None,
) -> Callable[[str], Any]:
    """Make a package's ``__getattr__``: load each name from its module when it is first used.

    The names of ``moved`` have a new public path; they load from there, with a warning.
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    new_home_of = {name: home for home, names in (moved or {}).items() for name in names}

    def load(name: str) -> Any:
        if home := new_home_of.get(name):
            _warn_moved(f"{package}.{name}", f"{home}.{name}")
            return getattr(import_module(home), name)
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    return load


def moved_package(old: str, new: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package that has moved: load its names, and warn."""

    def load(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        value = getattr(import_module(new), name)
        _warn_moved(f"{old}.{name}", f"{new}.{name}")
        return value

    return load


def _warn_moved(old: str, new: str) -> None:
    # 3: the line that imports or uses the name.
    warnings.warn(f"{old} has moved to {new}.", DeprecationWarning, stacklevel=3)
