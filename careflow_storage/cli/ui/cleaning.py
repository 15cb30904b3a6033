r"""Text from outside, made safe for a terminal.

Keys, server messages and file names come from others. An escape sequence in one of them could hide
lines, set the title or type for the user; a line break could fake a line of output. Control
characters are therefore written as ``\x1b``.
"""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType

# Not printable by Unicode's tables, but Persian, many scripts of India and emoji need them.
_JOINERS = "\u200c\u200d"
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


def clean(text: str) -> str:
    r"""Write control characters as ``\x1b``.

    The result is one line: line breaks are escaped, too. Different texts stay different.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _JOINERS else ascii(char)[1:-1] for char in text
    )


def clean_lines(text: str) -> str:
    """Clean each line of a text that may have several."""
    return "\n".join(map(clean, text.split("\n")))


def clean_json(text: str) -> str:
    """Write control characters as JSON escapes, in JSON that may have any letter.

    Only strings in JSON can hold control characters, so escapes are valid in all places.
    """
    return _NOT_ASCII.sub(_escaped_in_json, text)


def _escaped_in_json(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable() or char in _JOINERS:
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


@contextlib.contextmanager
def clean_usage_errors() -> Iterator[None]:
    """Clean reports of wrong arguments, which repeat them: shells complete file names.

    Releases of typer that convert values with pydantic put its "Value error, " before the reason.
    """
    try:
        yield
    except Exception as error:
        format_message = getattr(error, "format_message", None)
        if format_message is not None:
            message = clean(format_message()).replace(": Value error, ", ": ", 1)
            error.format_message = lambda: message  # type: ignore[attr-defined]  # typer's own
        raise


def clean_reports_of_defects() -> None:
    """Clean tracebacks and warnings, whose messages may hold text from outside."""
    sys.excepthook = _print_traceback
    warnings.showwarning = _print_warning


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    for part in traceback.format_exception(kind, error, trace):
        # Frames, headings and groups have line breaks of ours; a message must be one line.
        own_lines = part.startswith((" ", "\n"))
        sys.stderr.write(clean_lines(part) if own_lines else f"{clean(part.rstrip())}\n")


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(clean(str(message)), category, filename, lineno, line)
    sys.stderr.write(clean_lines(text))
