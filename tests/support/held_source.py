"""A web server with recordings, which can stop in the middle of one."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.support.bodies import noise

SIZE = 11_000_000
"""Two parts of 5 MiB, and the rest."""
FIRST = 6_000_000


class HeldSource:
    """Serves each path. The first ``holding`` responses stop in the middle, until `release`.

    ``requests`` counts them by name.
    """

    def __init__(self) -> None:
        self.holding = 0
        self.body = noise(SIZE)
        self.requests: Counter[str] = Counter()
        self._released = threading.Event()
        self._lock = threading.Lock()
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                source._respond(self)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def release(self) -> None:
        """Send the rest of what is held."""
        self._released.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _respond(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.lstrip("/")
        with self._lock:
            self.requests[name] += 1
            held = self.holding > 0
            self.holding -= held
        request.close_connection = True
        try:
            request.send_response(200)
            request.send_header("Content-Type", "audio/wav")
            request.send_header("Content-Length", str(SIZE))
            request.end_headers()
            if held:
                request.wfile.write(self.body[:FIRST])
                self._released.wait()
                request.wfile.write(self.body[FIRST:])
            else:
                request.wfile.write(self.body)
        except OSError:
            return  # the client has left
