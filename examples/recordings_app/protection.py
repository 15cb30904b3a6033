"""What protects the page: the headers of each response, and a check of each request's origin."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE = {"GET", "HEAD", "OPTIONS"}


class ProtectPages:
    """Sets a strict Content-Security-Policy, and refuses what other sites send with our cookies.

    Args:
        app: The application.
        bucket: The address of the bucket's server, to which the page uploads.
    """

    def __init__(self, app: ASGIApp, *, bucket: str) -> None:
        self._app = app
        policy = (
            *("default-src 'self'", f"connect-src 'self' {bucket}", "object-src 'none'"),
            *("base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"),
        )
        self._headers = {
            "Content-Security-Policy": "; ".join(policy),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, see the ASGI specification."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] == "websocket" and _is_foreign(scope):
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and scope["method"] not in _SAFE and _is_foreign(scope):
            response = PlainTextResponse("This request comes from another site.", 403)
            await response(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def _is_foreign(scope: Scope) -> bool:
    # Browsers send Origin with each WebSocket and with each request that changes something.
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
