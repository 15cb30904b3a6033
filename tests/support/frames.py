"""Everything that an error tracker could record of an error."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import Any

_DEPTH = 4
_MOST = 2_000


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and what groups hold, each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def frames(error: BaseException) -> Iterator[FrameType]:
    """All frames of all tracebacks of the chain, but those of the tests themselves."""
    for each in chain(error):
        step = each.__traceback__
        while step is not None:
            if not str(step.tb_frame.f_globals.get("__name__")).startswith("tests."):
                yield step.tb_frame
            step = step.tb_next


def recorded(error: BaseException) -> str:
    """All that error trackers keep: texts, arguments, notes, attributes, local variables."""
    found: list[str] = []
    for each in chain(error):
        found += [str(each), repr(each), *(getattr(each, "__notes__", ()))]
        found += _texts(each.args, _DEPTH, set()) + _texts(vars(each), _DEPTH, set())
    for frame in frames(error):
        where = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        for name, value in frame.f_locals.items():
            found += [f"{where} {name}: {text}" for text in _texts(value, _DEPTH, set())]
    return "\n".join(found)


def _texts(value: Any, depth: int, seen: set[int]) -> list[str]:
    """The repr, as trackers take it, and those of what lies in containers and in our objects."""
    if id(value) in seen or len(seen) > _MOST:
        return []
    seen.add(id(value))
    texts = [_shown(value)]
    if depth == 0:
        return texts
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    for each in inner:
        texts += _texts(each, depth - 1, seen)
    return texts


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a repr may raise anything
        return f"<{type(error).__name__} in repr>"
