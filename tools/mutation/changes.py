"""The changes that can be made to a source file."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# What these calls do is not observable: they write logs, or let other tasks run.
_UNTESTED_CALLS = ("logger.", "logging.", "warnings.warn", "asyncio.sleep(0)", "super().__init__")
_UNTESTED_TESTS = ("TYPE_CHECKING", "sys.platform", "sys.version_info")
_OTHER_COMPARISON: dict[type[ast.cmpop], str] = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}


@dataclass(frozen=True)
class Change:
    """One change: the bytes from ``start`` to ``end`` of a file are replaced."""

    path: str
    line: int
    kind: str
    start: int
    end: int
    replacement: str

    def apply(self, source: bytes) -> bytes:
        """Return the changed source."""
        return source[: self.start] + self.replacement.encode() + source[self.end :]


def changes_of(path: str, source: bytes) -> list[Change]:
    """Return every change of every kind, in the order of the source."""
    lines = _Offsets(source)
    found = []
    for node in _observable(ast.parse(source)):
        for kind, make in KINDS.items():
            for part, replacement in make(node):
                start, end = lines.of(part)
                found.append(Change(path, part.lineno, kind, start, end, replacement))
    return sorted(found, key=lambda change: (change.start, change.kind))


_Place = ast.expr | ast.stmt
_Made = Iterator[tuple[_Place, str]]


def _delete_call(node: ast.AST) -> _Made:
    """Delete a statement that is a call."""
    if isinstance(node, ast.Expr):
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Call):
            yield node, "pass"


def _negate(node: ast.AST) -> _Made:
    """Negate a condition."""
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
        yield node.test, f"(not ({ast.unparse(node.test)}))"


def _swap(node: ast.AST) -> _Made:
    """Compare in another way."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        operator = _OTHER_COMPARISON[type(node.ops[0])]
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        yield node, f"(({left}) {operator} ({right}))"


def _add_one(node: ast.AST) -> _Made:
    """Add one to a whole number."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield node, str(node.value + 1)


def _return_none(node: ast.AST) -> _Made:
    """Return None."""
    if isinstance(node, ast.Return) and ast.unparse(node) not in ("return", "return None"):
        yield node, "return None"


KINDS: dict[str, Callable[[ast.AST], _Made]] = {
    "call": _delete_call,
    "condition": _negate,
    "comparison": _swap,
    "number": _add_one,
    "return": _return_none,
}


def _observable(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes whose change a test could notice."""
    if isinstance(node, ast.JoinedStr):  # messages; Python 3.11 does not know their places
        return
    if isinstance(node, ast.Expr) and any(each in ast.unparse(node) for each in _UNTESTED_CALLS):
        return
    if isinstance(node, ast.If) and any(each in ast.unparse(node.test) for each in _UNTESTED_TESTS):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _observable(child)


class _Offsets:
    """Where the lines of a source begin, in bytes."""

    def __init__(self, source: bytes) -> None:
        self._begins = [0]
        for line in source.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))

    def of(self, node: _Place) -> tuple[int, int]:
        """Return where ``node`` begins and ends."""
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError(f"the parser does not say where {ast.unparse(node)!r} ends")
        start = self._begins[node.lineno - 1] + node.col_offset
        return start, self._begins[node.end_lineno - 1] + node.end_col_offset
