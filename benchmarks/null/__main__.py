"""``python -m benchmarks.null``: the null server. Prints its port when it is ready."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import os
import signal
import ssl
from pathlib import Path

from benchmarks.null.link import Network
from benchmarks.null.native import Native
from benchmarks.null.protocol import Connection
from benchmarks.null.s3 import S3

_BACKLOG = 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one")
    add("--keys", type=int, default=1000, help="how many keys listings show")
    add("--size", type=int, default=65536, help="bytes of objects whose key names no size")
    add("--cert", type=Path, help="PEM chain: the server then speaks TLS")
    add("--key", type=Path, help="PEM key of the chain")
    add("--rtt-ms", type=float, default=0.0, help="round trip time to pretend")
    add("--mbit", type=float, default=0.0, help="bandwidth of the whole server, each way")
    add("--window-mib", type=float, default=4.0, help="a connection moves so much per round trip")
    add("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    s3 = S3(keys=options.keys, size=options.size)
    network = Network.of(options.rtt_ms, options.mbit, options.window_mib)
    context: ssl.SSLContext | None = None
    if options.cert is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    factory = functools.partial(
        Connection, Native(s3, tls=context is not None), network, tls=context is not None
    )
    server = await loop.create_server(
        factory, "127.0.0.1", options.port, ssl=context, backlog=_BACKLOG
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    parent = os.getppid()
    # The parent may have been killed and cannot stop this process any more.
    while not stopped.is_set() and os.getppid() == parent:
        s3.tick()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), 1)
    server.close()


def main() -> None:
    options = _arguments()
    # Requests leave no reference cycles, so the collector would only cost time.
    gc.freeze()
    gc.set_threshold(100_000)
    factory = None
    if options.loop == "uvloop":
        try:
            import uvloop

            factory = uvloop.new_event_loop
        except ImportError:  # there is none for Windows
            pass
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(options))


if __name__ == "__main__":
    main()
