"""What the library logs while a command runs, among the command's own remarks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from careflow_storage.cli.ui.output import Output

# What asyncio tells of a failed task would be printed as it is, with what a server wrote.
_LOGGERS = ("careflow_storage", "asyncio")


class _Remarks(logging.Handler):
    """Turns records into remarks, which leave a moving bar whole."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        self._output.warn(text)


@contextlib.contextmanager
def logs_for_people(output: Output) -> Iterator[None]:
    """Show the library's warnings as `Output.warn` does, for as long as a command runs."""
    handler = _Remarks(output)
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(handler)
