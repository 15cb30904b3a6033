"""What one response leaves over is never read as the next, and what connections cost is bounded."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, ConnectionFailedError, StorageError
from tests.support.hostile import Asked, Bytes, HostileServer, raw_response

WHEN = "Mon, 23 Nov 2026 06:48:48 GMT"
MD5 = "9dd4e461268c8034f5c8564e155c67a6"
RIGHT = raw_response(b"x", ETag=f'"{MD5}"', Last_Modified=WHEN)
FORGED = raw_response(b"y", ETag='"415290769594460e2e485922904f345d"', Last_Modified=WHEN)
HEAD = RIGHT.removesuffix(b"x")

LEFTOVERS: dict[str, bytes] = {
    "another response": RIGHT + FORGED,
    "half of one": RIGHT + FORGED[:20],
    "one byte": RIGHT + b"\n",
    "an empty line": RIGHT + b"\r\n",
    "behind the last chunk": (
        HEAD.replace(b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n")
        + b"1\r\nx\r\n0\r\n\r\n"
        + FORGED
    ),
}


@pytest.mark.parametrize("later", [False, True], ids=["at once", "in a segment of its own"])
@pytest.mark.parametrize("leftover", LEFTOVERS)
async def test_what_comes_behind_a_response_is_not_the_next_one(leftover: str, later: bool) -> None:
    whole = LEFTOVERS[leftover]
    end = len(whole) - len(FORGED) if leftover == "behind the last chunk" else len(RIGHT)

    async def pieces() -> AsyncIterator[bytes]:
        yield whole[:end]
        if later:
            await asyncio.sleep(0)
        yield whole[end:]
        await asyncio.Event().wait()

    asked = 0

    def response(_: Asked) -> Bytes:
        nonlocal asked
        asked += 1
        return pieces() if asked == 1 else RIGHT

    async with (
        HostileServer(response) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        for _ in range(4):
            assert await storage.get_file("k") == b"x"


@pytest.mark.parametrize("behind", [FORGED, b""], ids=["another response", "the end"])
async def test_what_came_while_the_program_was_busy_is_seen_before_the_next_request(
    behind: bytes,
) -> None:
    sent, done = threading.Event(), threading.Event()

    def serve(listening: socket.socket) -> None:
        first, _ = listening.accept()
        with first:
            first.recv(65536)
            first.sendall(RIGHT)
            # Once the client has read it: else both come at once.
            assert done.wait(60)
            if behind:
                first.sendall(behind)
            else:
                first.shutdown(socket.SHUT_WR)
            sent.set()
            second, _ = listening.accept()
            with second:
                second.recv(65536)
                second.sendall(RIGHT)
                second.recv(65536)

    async with HostileServer(lambda _: RIGHT) as unused:
        settings = unused.settings(retry_attempts=1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve, args=(listening,))
        serving.start()
        endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with BackblazeStorage(settings.model_copy(update={"endpoint": endpoint})) as storage:
            assert await storage.get_file("k") == b"x"
            done.set()
            # The event loop stands still, and sees nothing of what comes.
            assert sent.wait(60)
            assert await storage.get_file("k") == b"x"
        serving.join()


BODIES_WHERE_NONE_IS: dict[str, tuple[bytes, Callable[[BackblazeStorage], Awaitable[object]]]] = {
    "HEAD": (RIGHT, lambda storage: storage.get_file_metadata("k")),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED, lambda storage: storage.delete_file("k")),
    "204 with a length": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        lambda storage: storage.delete_file("k"),
    ),
}


@pytest.mark.parametrize("case", BODIES_WHERE_NONE_IS)
async def test_a_body_where_none_may_be_ends_the_connection(case: str) -> None:
    first_bytes, call = BODIES_WHERE_NONE_IS[case]

    async def whole() -> AsyncIterator[bytes]:
        yield first_bytes
        await asyncio.Event().wait()

    first = True

    def response(_: Asked) -> Bytes:
        nonlocal first
        now, first = first, False
        return whole() if now else RIGHT

    async with (
        HostileServer(response) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        await call(storage)
        assert await storage.get_file("k") == b"x"
        assert server.connections == 2


async def test_header_values_of_any_bytes_give_models_that_can_be_written() -> None:
    head = (
        HEAD.removesuffix(b"\r\n")
        + b"Content-Type: audio/\xff\xfe\r\nx-amz-version-id: \xff\xed\xa0\x80\r\n"
        + b"x-amz-meta-latin: \xe4\r\nx-amz-meta-utf: \xc3\xa4\r\nx-amz-meta-odd: \xed\xa0\x80\r\n"
        + b"x-amz-request-id: \xff\r\n\r\n"
    )
    async with (
        HostileServer(lambda _: head + b"x") as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        file = await storage.get_file_metadata("k")
        assert (file.metadata["latin"], file.metadata["utf"]) == ("\xe4", "\xe4")
        for text in (file.model_dump_json(), repr(file), *file.metadata.values()):
            text.encode()
    async with (
        HostileServer(lambda _: head.replace(b"200 OK", b"403 \xff") + b"x") as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(StorageError) as caught:
            await storage.get_file("k")
        str(caught.value).encode()


# --- how many there are -----------------------------------------------------------------


async def test_idle_connections_count_towards_the_most_there_may_be() -> None:
    limit, number = 4, 0

    async def hang_up() -> AsyncIterator[bytes]:
        yield b""

    def response(_: Asked) -> Bytes:
        nonlocal number
        number += 1
        if number % 3 == 0:
            return hang_up()
        return raw_response(b"", "503 Service Unavailable") if number % 5 == 0 else RIGHT

    async with HostileServer(response) as server:
        settings = server.settings(max_connections=limit, retry_attempts=20)
        async with BackblazeStorage(settings) as storage:
            pool = storage._runtime.context().session.pool
            for calls in (4, 4, 2, 4, 1, 3, 4):
                await asyncio.gather(*(storage.get_file("k") for _ in range(calls)))
                await asyncio.sleep(0)
                assert len(pool._all) <= limit


# --- what the operating system refuses --------------------------------------------------

REFUSED = {
    errno.EMFILE: ("too many open files", "ulimit -n"),
    errno.ENFILE: ("too many open files", "ulimit -n"),
    errno.ENOBUFS: ("no memory left for sockets", "BACKBLAZE_MAX_CONNECTIONS"),
    errno.EADDRNOTAVAIL: ("no local address or port", "one storage"),
    errno.EACCES: ("does not permit", "firewall"),
    errno.EPERM: ("does not permit", "firewall"),
    errno.ECONNREFUSED: ("refused", "BACKBLAZE_ENDPOINT"),
    errno.ENETUNREACH: ("network is unreachable", "BACKBLAZE_ENDPOINT"),
    errno.EHOSTUNREACH: ("no route", "BACKBLAZE_ENDPOINT"),
    errno.ENETDOWN: ("network is down", "BACKBLAZE_ENDPOINT"),
}


@pytest.mark.parametrize("code", REFUSED, ids=errno.errorcode.get)
async def test_what_the_system_refuses_is_said_as_what_it_is(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    said, hint = REFUSED[code]
    async with (
        HostileServer(lambda _: RIGHT) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
        with pytest.raises(ConnectionFailedError) as caught:
            await storage.get_file("k")
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.retryable


async def test_the_most_telling_of_several_addresses_failures_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = [errno.ENETUNREACH, errno.ECONNREFUSED, errno.EADDRNOTAVAIL]
    loop = asyncio.get_running_loop()

    async def addresses(*_: object, **__: object) -> list[object]:
        stream = socket.SOCK_STREAM
        return [
            (socket.AF_INET6, stream, 6, "", ("2001:db8::1", 443, 0, 0)),
            (socket.AF_INET, stream, 6, "", ("192.0.2.1", 443)),
            (socket.AF_INET6, stream, 6, "", ("2001:db8::2", 443, 0, 0)),
        ]

    asked: list[str] = []

    async def refuse(_: object, host: str, *__: object, **___: object) -> None:
        asked.append(host)
        code = codes[len(asked) - 1]
        raise OSError(code, os.strerror(code))

    async with HostileServer(lambda _: RIGHT) as server:
        settings = server.settings(endpoint="https://store.example", retry_attempts=1)
        async with BackblazeStorage(settings) as storage:
            monkeypatch.setattr(loop, "getaddrinfo", addresses)
            monkeypatch.setattr(loop, "create_connection", refuse)
            with pytest.raises(ConnectionFailedError, match="refused"):
                await storage.get_file("k")
    assert asked == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]


FILES = """
import asyncio, os, resource, sys
from careflow_storage import BackblazeStorage, StorageSettings

async def main():
    settings = StorageSettings(_env_file=None, key_id="k", application_key="s", region="us-east-1",
        bucket_name="recordings-bucket", endpoint=sys.argv[1], retry_attempts=1)
    async with BackblazeStorage(settings) as storage:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for call in (storage.get_file("k"), storage.upload_file("k", b"x")):
            try:
                await call
            except Exception as error:
                print(type(error).__name__, error.retryable, error)
        for each in held:
            os.close(each)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://store.example"])
def test_too_many_open_files_are_told_with_their_limit(endpoint: str, tmp_path: Path) -> None:
    code = tmp_path / "files.py"
    code.write_text(FILES)
    ran = subprocess.run(
        [sys.executable, str(code), endpoint], capture_output=True, text=True, timeout=60
    )
    lines = ran.stdout.splitlines()
    assert len(lines) == 2, ran
    for line in lines:
        assert line.startswith("ConnectionFailedError True"), ran
        assert "too many open files: the limit of this process is 40" in line
        assert "ulimit -n" in line
