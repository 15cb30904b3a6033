"""The library's warnings, shown among the messages of the command."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from careflow_storage.cli.ui.output import Output

# asyncio logs the exception of a failed task, which may hold what a server wrote.
_LOGGERS = ("careflow_storage", "asyncio")


class _WarningHandler(logging.Handler):
    """Prints log records as warnings of the command, above any progress bar."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        self._output.warn(self._output.advice(text))


@contextlib.contextmanager
def log_warnings_to(output: Output) -> Iterator[None]:
    """Show logged warnings with `Output.warn` while a command runs."""
    handler = _WarningHandler(output)
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(handler)
