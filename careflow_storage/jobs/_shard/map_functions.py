"""The function of a map job: found by its name, checked, called and timed."""

from __future__ import annotations

import functools
import inspect
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from pydantic import BaseModel

from careflow_storage._s3.redaction import printable, redact
from careflow_storage.errors import InvalidInputError, StorageError
from careflow_storage.models import FileInfo
from careflow_storage.storage import BackblazeStorage

MAX_VALUE_BYTES: Final = 64 * 1024
"""The most bytes of JSON that a function may return for one object."""

_EXAMPLE: Final = (
    "It is called as `await function(storage, file)`, with a FileInfo; one whose second parameter "
    "is a str gets the key."
)


@dataclass(frozen=True)
class MapFunction:
    """An async function that is called for each object."""

    name: str
    takes_key: bool
    function: Callable[[BackblazeStorage, Any], Coroutine[Any, Any, object]]

    def start(self, storage: BackblazeStorage, file: FileInfo) -> TimedCall:
        """Create the call for one object, which begins when it is awaited."""
        return TimedCall(self.function(storage, file.key if self.takes_key else file))


class TimedCall(Awaitable[object]):
    """Awaits a coroutine and measures how long each of its steps holds the event loop.

    Attributes:
        longest: The seconds of the longest step between two awaits.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, object]) -> None:
        self._coroutine = coroutine
        self.longest = 0.0

    def __await__(self) -> Generator[Any, Any, object]:
        step: Callable[[], Any] = functools.partial(self._coroutine.send, None)
        while True:
            started = time.perf_counter()
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            finally:
                self.longest = max(self.longest, time.perf_counter() - started)
            try:
                received = yield awaited
            except BaseException as error:  # noqa: BLE001 - the coroutine decides what it means
                step = functools.partial(self._coroutine.throw, error)
            else:
                step = functools.partial(self._coroutine.send, received)


def load_function(name: str) -> MapFunction:
    """Import ``package.module:function`` and check it. Blocks while it imports.

    Raises:
        InvalidInputError: It cannot be imported, is not async, or does not take two arguments.
    """
    module_name, _, path = name.partition(":")
    try:
        found: object = import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    # Code of the caller runs here, which may raise anything.
    except (Exception, SystemExit) as error:
        raise InvalidInputError(
            f"The function {name!r} cannot be imported: {describe(error)}",
            hint="Each worker imports it: its module must be installed, or be in a directory of "
            "PYTHONPATH, where the worker runs.",
        ) from error
    if not callable(found) or not (
        inspect.iscoroutinefunction(_unwrapped(found))
        or inspect.iscoroutinefunction(getattr(found, "__call__", None))  # noqa: B004
    ):
        raise InvalidInputError(f"{name!r} is not an async function.", hint=_EXAMPLE)
    return MapFunction(name, _takes_key(name, found), found)


def _unwrapped(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _takes_key(name: str, function: Callable[..., Any]) -> bool:
    """Whether the second parameter is the key, and not the `FileInfo`."""
    signature = inspect.signature(function)
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise InvalidInputError(
            f"{name!r} cannot be called with a storage and a file: {error}.", hint=_EXAMPLE
        ) from error
    positional = [
        each
        for each in signature.parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    if len(positional) < 2:
        return False
    second = positional[1]
    if second.annotation is inspect.Parameter.empty:
        return second.name == "key"
    # A string where the module postpones annotations.
    return second.annotation in (str, "str")


def as_json(value: object) -> str:
    """Return what a function returned as JSON.

    Raises:
        ValueError: It is no JSON, or too much.
    """
    if isinstance(value, BaseModel):
        text = value.model_dump_json()
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"The function returned {type(value).__name__}, which is not JSON: {error}."
            ) from error
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_VALUE_BYTES:
        raise ValueError(
            f"The function returned {size} bytes of JSON; {MAX_VALUE_BYTES} are allowed."
        )
    return text


def describe(error: BaseException) -> str:
    """Return an exception of the caller's code as one line, without secrets."""
    text = error.message if isinstance(error, StorageError) else str(error)
    return printable(redact(f"{type(error).__name__}: {text}" if text else type(error).__name__))
