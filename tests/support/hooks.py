"""Hooks that keep what they are told, and check its order."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from careflow_storage.hooks import CallEvent, ConnectionsEvent, Hooks, RequestEvent, RetryEvent


class Recorder(Hooks):
    """Keeps all events; `check_ended` finds out whether each beginning had its end."""

    def __init__(self, *, record_keys: bool = False) -> None:
        self.record_keys = record_keys
        self.calls: list[CallEvent] = []
        self.requests: list[RequestEvent] = []
        self.retries: list[RetryEvent] = []
        self.connections: list[ConnectionsEvent] = []
        self._open: list[CallEvent | RequestEvent] = []

    def call_started(self, call: CallEvent) -> None:
        assert call.duration is None
        self.calls.append(call)
        self._open.append(call)

    def call_ended(self, call: CallEvent) -> None:
        assert call.duration is not None
        self._open.remove(call)

    def request_sent(self, request: RequestEvent) -> None:
        assert (request.status, request.duration, request.error_type) == (None, None, None)
        self.requests.append(request)
        self._open.append(request)

    def response_received(self, request: RequestEvent) -> None:
        assert request in self._open
        assert request.status is not None
        assert request.duration is None

    def request_ended(self, request: RequestEvent) -> None:
        assert request.duration is not None
        self._open.remove(request)

    def retry_scheduled(self, retry: RetryEvent) -> None:
        self.retries.append(retry)

    def connections_changed(self, connections: ConnectionsEvent) -> None:
        before = self.connections[-1] if self.connections else None
        change = connections.active_change, connections.idle_change
        assert change != (0, 0)
        assert (connections.active, connections.idle) == (
            (before.active if before else 0) + change[0],
            (before.idle if before else 0) + change[1],
        )
        self.connections.append(connections)

    def check_ended(self) -> None:
        assert self._open == []

    def clear(self) -> None:
        self.check_ended()
        self.calls.clear()
        self.requests.clear()
        self.retries.clear()

    @property
    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    @property
    def operations(self) -> list[str]:
        return [request.operation for request in self.requests]

    def values(self) -> list[Any]:
        """All that any event holds."""
        events: list[Any] = [*self.calls, *self.requests, *self.retries, *self.connections]
        return [value for event in events for value in _leaves(asdict(event))]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    return [value]
