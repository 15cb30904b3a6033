"""Keeps the records of b2sdk free of secrets, and notices requests that got no response."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from careflow_storage._s3.redaction import redact


class _AsText(logging.Filter):
    """Makes text of a traceback: an error tracker would record the headers in its frames."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info))
            record.exc_info, record.exc_text = None, redact(trace.rstrip("\n"))
        return True


_AS_TEXT = _AsText()


def guard_logs() -> None:
    """Guard b2sdk's only logger that shows failed requests; the second time nothing changes.

    At DEBUG b2sdk logs its calls, but hides keys and tokens by itself.
    """
    logging.getLogger("b2sdk._internal.b2http").addFilter(_AS_TEXT)


class Unanswered:
    """A hook of b2sdk that counts the requests of one call to which no response came."""

    def __init__(self, call: str) -> None:
        self._end = f"/{call}"
        self.count: int = 0

    def pre_request(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        """b2sdk is about to send."""
        if url.endswith(self._end):
            self.count += 1

    def post_request(
        self, method: str, url: str, headers: Mapping[str, str], response: Any
    ) -> None:
        """b2sdk has a response."""
        if url.endswith(self._end):
            self.count -= 1
