"""Counts the requests of a storage: all of them, and those of the calls within a scope."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeAlias

# Strings, since these types are no generics at run time: pyright, for one, reads them.
_Scopes: TypeAlias = "tuple[tuple[RequestCounter, Counter[str]], ...]"

# The scopes of this task, of all storages. Tasks that it starts inherit them, so that a request
# also counts if its task outlives the scope.
_scopes: ContextVar[_Scopes] = ContextVar("careflow_storage_request_scopes", default=())


class RequestCounter:
    """The number of requests sent, by S3 operation; retries count, as the server counts them."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self._has_scopes = False

    def count(self, operation: str) -> None:
        """Count one request, in every scope of the current task, too."""
        self.sent[operation] += 1
        if self._has_scopes:
            for counter, counts in _scopes.get():
                if counter is self:
                    counts[operation] += 1

    @contextmanager
    def scope(self) -> Iterator[Counter[str]]:
        """Give the counts of the requests whose calls are made within."""
        self._has_scopes = True
        counts: Counter[str] = Counter()
        token = _scopes.set((*_scopes.get(), (self, counts)))
        try:
            yield counts
        finally:
            # An async fixture or generator may be closed in another context than it began in,
            # whose scopes are its own.
            with suppress(ValueError):
                _scopes.reset(token)
