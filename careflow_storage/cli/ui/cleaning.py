r"""Text from outside, as a terminal may be shown it: the one place where control bytes end.

Uploaders choose keys, servers choose messages, and a downloaded folder chooses file names. An
escape sequence in one of them could hide lines, set the title or type for the user; a line break
could make a line of its own. They are written out instead, as ``\x1b``.
"""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType

# Not printable by Unicode's tables, but letters of Persian and of many scripts of India need
# them, and so do emoji.
_JOINERS = "\u200c\u200d"
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


def clean(text: str) -> str:
    r"""Write out what would steer a terminal, as ``\x1b``.

    Line breaks, too: the result is one line. Different texts stay different.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _JOINERS else ascii(char)[1:-1] for char in text
    )


def clean_lines(text: str) -> str:
    """As `clean`, for a text that has lines of its own."""
    return "\n".join(map(clean, text.split("\n")))


def clean_json(text: str) -> str:
    """Write out, as JSON does, what a terminal would obey; for JSON that may have any letter.

    Only strings can hold such characters, so the escapes of strings fit.
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
    """Clean what is told of wrong arguments: it repeats them, and shells complete file names."""
    try:
        yield
    except Exception as error:
        tell = getattr(error, "format_message", None)
        if tell is not None:
            message = clean(tell())
            error.format_message = lambda: message  # type: ignore[attr-defined]  # typer's own
        raise


def clean_reports_of_defects() -> None:
    """Clean tracebacks and warnings: their messages hold what came from outside."""
    sys.excepthook = _print_traceback
    warnings.showwarning = _print_warning


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    for part in traceback.format_exception(kind, error, trace):
        # Frames, headings and groups have lines of their own; a message is one.
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
