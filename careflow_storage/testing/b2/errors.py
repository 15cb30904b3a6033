"""The emulator's responses, and its refusals of requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from careflow_storage.testing.proxy.exchange import error_document


@dataclass(frozen=True, slots=True)
class B2Response:
    """A complete response to a request."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class RefusedError(Exception):
    """The request is refused, with S3's status, code and message."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers: dict[str, str] = dict(headers or {})

    def response(self) -> B2Response:
        """Return the response with the error document."""
        headers = {"Content-Type": "application/xml", **self.headers}
        return B2Response(self.status, headers, error_document(self.code, self.message))


def denied(message: str = "Not Entitled") -> RefusedError:
    """403 AccessDenied."""
    return RefusedError(403, "AccessDenied", message)


def invalid(message: str) -> RefusedError:
    """400 InvalidArgument."""
    return RefusedError(400, "InvalidArgument", message)


def unsupported() -> RefusedError:
    """501, with B2's message."""
    return RefusedError(
        501,
        "NotImplemented",
        "A header you provided implies functionality that is not implemented",
    )


def malformed() -> RefusedError:
    """400 MalformedXML, with Amazon's message."""
    return RefusedError(
        400, "MalformedXML", "The XML you provided was not well-formed or did not validate"
    )
