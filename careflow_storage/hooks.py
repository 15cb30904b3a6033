"""`Hooks`: what a storage does, reported to code of yours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["CallEvent", "ConnectionsEvent", "Hooks", "RequestEvent", "RetryEvent"]


@dataclass(slots=True, eq=False, weakref_slot=True)
class CallEvent:
    """One call of a public method, such as ``upload_file``.

    `Hooks.call_started` and `Hooks.call_ended` get the same object; the fields that are None at
    the start have their values at the end. An iterator, a recording or a stream is one call, from
    its first request to its end.

    Attributes:
        method: The public method, as in ``StorageError.method``.
        bucket: The bucket of the storage.
        key: The object's key, if ``record_keys`` is set.
        parent: The call in which this one was made, such as the upload whose body is a stream of
            the same storage.
        duration: Seconds from start to end.
        error_type: The class of the exception that ended it, such as ``NoSuchKeyError``.
    """

    method: str
    bucket: str | None
    key: str | None
    parent: CallEvent | None = None
    duration: float | None = None
    error_type: str | None = None


@dataclass(slots=True, eq=False, weakref_slot=True)
class RequestEvent:
    """One request to the server. A retry is another one.

    `Hooks.request_sent`, `Hooks.response_received` and `Hooks.request_ended` get the same object.

    Attributes:
        call: The call that sends it; None for a call of the aioboto3 client.
        operation: S3's name of the operation, such as ``UploadPart``.
        http_method: Such as ``PUT``.
        server_address: The host of the endpoint.
        server_port: Its port.
        bucket: None for operations that are about none.
        key: The object's key, if ``record_keys`` is set.
        attempt: 1, and 1 more for each retry.
        upload_id: Of a multipart upload.
        part_number: Of a part.
        request_bytes: The length of the body that is sent; None if unknown.
        status: The status of the response; None if there was none.
        request_id: The server's ID of the request.
        response_bytes: How many bytes of the response's body were read; None if unknown.
        duration: Seconds from sending it, opening the connection included, to the end of the
            response.
        error_type: The class of the exception, such as ``ServiceUnavailableError``.
        error_code: S3's code, such as ``SlowDown``.
    """

    call: CallEvent | None
    operation: str
    http_method: str
    server_address: str
    server_port: int
    bucket: str | None
    key: str | None
    attempt: int
    upload_id: str | None = None
    part_number: int | None = None
    request_bytes: int | None = None
    status: int | None = None
    request_id: str | None = None
    response_bytes: int | None = None
    duration: float | None = None
    error_type: str | None = None
    error_code: str | None = None


@dataclass(slots=True, eq=False)
class RetryEvent:
    """A failed request that is sent again after a pause.

    Attributes:
        call: As in `RequestEvent`.
        operation: As in `RequestEvent`.
        bucket: As in `RequestEvent`.
        key: As in `RequestEvent`.
        attempt: The number of consecutive failures, from 1.
        delay: The pause in seconds.
        status: Of the failed request's response.
        error_type: As in `RequestEvent`.
        error_code: As in `RequestEvent`.
    """

    call: CallEvent | None
    operation: str | None
    bucket: str | None
    key: str | None
    attempt: int
    delay: float
    status: int | None
    error_type: str
    error_code: str | None


@dataclass(slots=True, eq=False)
class ConnectionsEvent:
    """The open connections of a storage have changed. Those of the aioboto3 client do not count.

    Attributes:
        server_address: As in `RequestEvent`.
        server_port: As in `RequestEvent`.
        active: Connections that a request uses.
        idle: Connections that wait to be reused.
        active_change: How many more (or fewer, if negative) than in the event before.
        idle_change: As ``active_change``.
    """

    server_address: str
    server_port: int
    active: int
    idle: int
    active_change: int
    idle_change: int


class Hooks(Protocol):
    """What a storage reports. Subclass it, and override what you need.

    ::

        class SlowRequests(Hooks):
            def request_ended(self, request: RequestEvent) -> None:
                if (request.duration or 0) > 5:
                    print(request.operation, request.status, request.duration)


        storage = BackblazeStorage(hooks=[SlowRequests()])

    The methods are called in the event loop of the storage, so they must be short and must not
    block; hand work over to a queue or a thread. An exception that a hook raises is logged, once
    per hook, and does not affect the call. Without hooks, a request costs a few more comparisons.

    Attributes:
        record_keys: Whether the events of these hooks have the keys of objects. Keys may contain
            personal data, such as phone numbers.
    """

    record_keys: bool = False

    # Each returns explicitly: type checkers take an empty method of a protocol for abstract.

    def call_started(self, call: CallEvent) -> None:
        """A call of a public method began."""
        return

    def request_sent(self, request: RequestEvent) -> None:
        """A request is about to be sent: it has its slot and its signature."""
        return

    def response_received(self, request: RequestEvent) -> None:
        """The status and the headers of the response have arrived."""
        return

    def request_ended(self, request: RequestEvent) -> None:
        """The response was read, or will be read no further, or the request failed."""
        return

    def retry_scheduled(self, retry: RetryEvent) -> None:
        """A failed request will be sent again."""
        return

    def connections_changed(self, connections: ConnectionsEvent) -> None:
        """A connection was opened, closed, taken for a request or given back."""
        return

    def call_ended(self, call: CallEvent) -> None:
        """A call ended: with a result, an exception or a cancellation."""
        return
