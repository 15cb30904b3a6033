"""Objects that are refused as bodies, with a hint what to pass instead."""

from __future__ import annotations

import inspect
import io
from collections.abc import AsyncIterable, Coroutine, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from careflow_storage.errors import InvalidInputError

_HINT = "Pass bytes, str, a Path, a file opened in binary mode, or an iterable of bytes."
_BINARY_HINT = "Open the file in binary mode ('rb')."


def refusal(body: Any, hint: str | None = None) -> InvalidInputError:
    """Return the error for an object that cannot be a body."""
    return InvalidInputError(
        f"A body of type {type(body).__name__} cannot be uploaded.", hint=hint or _hint(body)
    )


def refuse_others(body: Any) -> None:
    """Refuse objects that can be iterated or read, but are not the bytes of one file."""
    if isinstance(body, type | Mapping | AbstractSet) or inspect.isroutine(body):
        raise refusal(body)
    if inspect.isawaitable(body) and not isinstance(body, AsyncIterable):
        if isinstance(body, Coroutine):
            # Otherwise Python warns that it was never awaited.
            body.close()
        raise refusal(body, "Await it, and pass what it returns.")
    _refuse_spent(body)


def refuse_closed_and_text(file: Any) -> None:
    """Refuse a file object that is closed, in text mode or not open for reading."""
    for each in (file, getattr(file, "file", None)):
        if isinstance(each, io.TextIOBase) or _is_text(each):
            raise InvalidInputError("The file is open in text mode.", hint=_BINARY_HINT)
        if getattr(each, "closed", False) is True:
            raise InvalidInputError("The file is closed.", hint="Keep it open until the call ends.")
    if isinstance(file, io.IOBase) and not file.readable():
        raise InvalidInputError("The file is not open for reading.", hint=_BINARY_HINT)


def _is_text(file: Any) -> bool:
    """Whether it wraps a text file: the wrappers of tempfile, aiofiles and anyio are no TextIO."""
    mode, encoding = getattr(file, "mode", None), getattr(file, "encoding", None)
    return isinstance(mode, str) and "b" not in mode and isinstance(encoding, str)


def _refuse_spent(body: Any) -> None:
    """Refuse a generator that has ended, or that another task or thread is running."""
    if inspect.isgenerator(body):
        frame, running = body.gi_frame, body.gi_running
    elif inspect.isasyncgen(body):
        frame, running = body.ag_frame, body.ag_running
    else:
        return
    if frame is None:
        raise InvalidInputError(
            "The generator has already ended; nothing would be stored.",
            hint="A generator can be read only once. Create a new one for each upload.",
        )
    if running:
        raise InvalidInputError(
            "The generator is already being read.", hint="Create one for each upload."
        )


def _hint(body: Any) -> str:
    if isinstance(body, Mapping):
        stream = getattr(body, "stream", None)
        return "Pass body.stream()." if callable(stream) else "Serialise it: json.dumps(body)."
    if isinstance(body, AbstractSet):
        return "A set has no order: pass a list of bytes."
    if isinstance(body, type):
        return "This is a class: pass an object of it."
    if inspect.isroutine(body):
        return "This is a function: call it, and pass what it returns."
    if hasattr(body, "__aenter__") and not isinstance(body, AsyncIterable | Iterable):
        return "Enter it with 'async with', and pass the value."
    return _hint_by_method(body)


def _hint_by_method(body: Any) -> str:
    for name, call in (
        ("read", "await body.read()" if _is_async(body) else "body.read()"),
        ("open", "body.open('rb')"),
        ("stream", "body.stream()"),
        ("file", "body.file"),
        ("tobytes", "body.tobytes()"),
    ):
        if hasattr(body, name):
            return f"Pass {call}."
    return _HINT


def _is_async(body: Any) -> bool:
    return inspect.iscoroutinefunction(getattr(body, "read", None))
