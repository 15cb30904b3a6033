"""Counting a bucket of a million versions: CPU, peak memory and loop lag of `admin.usage()`.

::

    python -m benchmarks.usage                    # 1,000,000 versions
    python -m benchmarks.usage --versions 100000

The server is a process of its own that makes up its pages, so nothing is stored anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

from benchmarks.measure import measured
from careflow_storage import BackblazeStorage, StorageSettings

_PAGE = 1000
_PER_CALL = 4
_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_NO_UPLOADS = (
    f"{_XML}<ListMultipartUploadsResult><Bucket>bench-bucket</Bucket>"
    "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
)


def _entry(number: int) -> str:
    """Return a version: one in 10 is hidden, one in 50 is a delete marker."""
    key = f"recordings%2FCA{number // _PER_CALL:032x}%2F{1_700_000_000_000 + number}-recording.webm"
    head = (
        f"<Key>{key}</Key><VersionId>4_z27c88f1d182b150646ff0b16_f1{number:017x}</VersionId>"
        f"<IsLatest>{'false' if number % 10 == 0 else 'true'}</IsLatest>"
        f"<LastModified>202{number % 7}-{1 + number % 12:02}-24T17:41:45.000Z</LastModified>"
    )
    owner = "<Owner><ID>1ddb399951ed</ID><DisplayName></DisplayName></Owner>"
    if number % 50 == 1:
        return f"<DeleteMarker>{head}{owner}</DeleteMarker>"
    return (
        f'<Version>{head}<ETag>"d41d8cd98f00b204e9800998ecf8427e"</ETag>'
        f"<Size>{900_000 + number % 1000}</Size><StorageClass>STANDARD</StorageClass>"
        f"{owner}</Version>"
    )


def _page(start: int, versions: int) -> Iterator[str]:
    end = min(start + _PAGE, versions)
    yield f"{_XML}<ListVersionsResult><Name>bench-bucket</Name><EncodingType>url</EncodingType>"
    yield f"<MaxKeys>{_PAGE}</MaxKeys><IsTruncated>{'true' if end < versions else 'false'}"
    yield "</IsTruncated>"
    if end < versions:
        yield f"<NextKeyMarker>recordings%2F{end}</NextKeyMarker>"
        yield f"<NextVersionIdMarker>{end}</NextVersionIdMarker>"
    for number in range(start, end):
        yield _entry(number)
    yield "</ListVersionsResult>"


def _serve(versions: int, ready: Connection) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1].decode()
                query = parse_qs(urlsplit(target).query, keep_blank_values=True)
                if "uploads" in query:
                    body = _NO_UPLOADS.encode()
                else:
                    start = int(query.get("version-id-marker", ["0"])[0])
                    # With a prefix it is the warm-up.
                    size = 20 * _PAGE if query.get("prefix", [""])[0] else versions
                    body = "".join(_page(start, size)).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"
                    b"Date: Tue, 24 Nov 2026 17:41:45 GMT\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


async def _measure(port: int, versions: int) -> dict[str, float | int | None]:
    settings = StorageSettings(
        key_id="bench",
        application_key="bench",
        bucket_name="bench-bucket",
        endpoint=f"http://127.0.0.1:{port}",
        _env_file=None,
    )
    async with BackblazeStorage(settings) as storage:
        # Imports, the aioboto3 client, the regular expressions.
        await storage.admin.usage("recordings/", timeout=60)
        async with measured(0.001) as section:
            report = await storage.admin.usage()
        counted = report.total
        seen = counted.files + counted.hidden_versions + counted.delete_markers
        if (seen, report.calls) != (versions, -(-versions // _PER_CALL)):
            raise RuntimeError(f"{versions} versions were counted as {seen}, {report.calls} calls")
    sample = section.sample
    cpu = sample.user_s + sample.system_s
    return {
        "versions": versions,
        "wall_s": round(sample.wall_s, 2),
        "cpu_s": round(cpu, 2),
        "cpu_us_per_version": round(cpu / versions * 1e6, 2),
        "peak_growth_mib": round(sample.peak_rss_mib - sample.base_rss_mib, 1),
        "peak_rss_mib": round(sample.peak_rss_mib, 1),
        "lag_p99_ms": sample.lag_p99_ms,
        "lag_max_ms": sample.lag_max_ms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=1_000_000)
    versions: int = parser.parse_args().versions
    spawn = multiprocessing.get_context("spawn")
    ready, told = spawn.Pipe(duplex=False)
    server = spawn.Process(target=_serve, args=(versions, told), daemon=True)
    server.start()
    try:
        print(json.dumps(asyncio.run(_measure(ready.recv(), versions)), indent=2))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
