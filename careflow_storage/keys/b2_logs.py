"""Keep secrets out of b2sdk's log records, and count requests without a response."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from careflow_storage._s3.redaction import redact


class _AsText(logging.Filter):
    """Turns a traceback into text: an error tracker would record the headers in its frames."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info))
            record.exc_info, record.exc_text = None, redact(trace.rstrip("\n"))
        return True


_AS_TEXT = _AsText()


def guard_logs() -> None:
    """Filter the only logger of b2sdk that logs failed requests. Safe to call twice.

    At DEBUG, b2sdk logs its calls too, but masks keys and tokens itself.
    """
    logging.getLogger("b2sdk._internal.b2http").addFilter(_AS_TEXT)


class PendingRequests:
    """A hook of b2sdk that counts the requests of one call that have no response."""

    def __init__(self, call: str) -> None:
        self._end = f"/{call}"
        self.count: int = 0

    def pre_request(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        """Count a request that b2sdk is about to send."""
        if url.endswith(self._end):
            self.count += 1

    def post_request(
        self, method: str, url: str, headers: Mapping[str, str], response: Any
    ) -> None:
        """Uncount a request that has a response."""
        if url.endswith(self._end):
            self.count -= 1
