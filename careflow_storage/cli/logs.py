"""What the library logs while a command runs, among the command's own remarks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from careflow_storage.cli.output import Output


class _Remarks(logging.Handler):
    """Turns records into remarks, which leave a moving bar whole."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.warn(record.getMessage())


@contextlib.contextmanager
def logs_for_people(output: Output) -> Iterator[None]:
    """Show the library's warnings as `Output.warn` does, for as long as a command runs."""
    logger, handler = logging.getLogger("careflow_storage"), _Remarks(output)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
