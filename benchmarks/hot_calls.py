"""The process whose instructions are counted: each hot call N times, then 2N times.

Reads an endpoint from stdin and the name of its hooks from the arguments, marks the beginning and
the end of each run, and writes how many calls the shorter runs made.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from benchmarks.model import Endpoint
from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage._s3.signing.signer import UNSIGNED_PAYLOAD, Credentials, Signer
from careflow_storage._s3.xml.documents import parse_listing
from careflow_storage.hooks import Hooks

_BODY = bytes(range(256)) * 256
_KEY = "recordings/CA0001/1750000000000-call.webm"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_WARM = 5

# How many calls the shorter run makes: enough to even out what happens now and then, such as
# a new second, for which the signer makes a new date.
CALLS = {
    "head": 60,
    "put 64 KiB": 60,
    "get 64 KiB": 60,
    "presign": 400,
    "sign": 400,
    "list page": 6,
}


class _Silent(Hooks):
    """Hooks that do nothing."""


def _otel() -> Hooks:
    """Without an SDK, as in a process that has the library and exports nothing."""
    from careflow_storage.integrations.opentelemetry import OpenTelemetryHooks

    return OpenTelemetryHooks()


HOOKS: dict[str, Callable[[], list[Hooks]]] = {
    "none": list,
    "silent": lambda: [_Silent()],
    "otel": lambda: [_otel()],
}


def mark() -> None:
    """Valgrind writes its count down when CPython enters this function."""
    gc.get_threshold()


def _page() -> bytes:
    """Return a page of 1000 keys, as servers write it."""
    entries = "".join(
        f"<Contents><Key>recordings/CA{number:032x}/{1_750_000_000_000 + number}-call.webm</Key>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{65536 + number}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(1000)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bench</Name>'
        "<Prefix></Prefix><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>"
        f"<IsTruncated>false</IsTruncated><KeyCount>1000</KeyCount>{entries}</ListBucketResult>"
    ).encode()


def _calls(storage: BackblazeStorage) -> dict[str, Callable[[], Awaitable[object]]]:
    signer, page = Signer("us-east-1"), _page()
    credentials = Credentials("benchmark", "benchmark")
    headers = {"content-type": "audio/webm", "content-length": "65536"}

    async def sign() -> object:
        path, host = f"/bench/{_KEY}", "127.0.0.1:9000"
        return signer.sign(credentials, "PUT", host, path, "", headers, UNSIGNED_PAYLOAD, now=_NOW)

    async def parse() -> object:
        return parse_listing(page)

    return {
        "head": lambda: storage.get_file_metadata(_KEY),
        "put 64 KiB": lambda: storage.upload_file(_KEY, _BODY),
        "get 64 KiB": lambda: storage.get_file(_KEY),
        "presign": lambda: storage.get_signed_url(_KEY),
        "sign": sign,
        "list page": parse,
    }


async def _repeat(call: Callable[[], Awaitable[object]], count: int) -> None:
    for _ in range(count):
        await call()


async def run(endpoint: Endpoint, hooks: list[Hooks]) -> None:
    settings = StorageSettings(
        key_id=endpoint.key_id,
        application_key=endpoint.secret,
        bucket_name=endpoint.bucket,
        endpoint=endpoint.url,
        region=endpoint.region,
    )
    async with BackblazeStorage(settings, hooks=hooks) as storage:
        calls = _calls(storage)
        await calls["put 64 KiB"]()
        for name, count in CALLS.items():
            await _repeat(calls[name], _WARM)
            # When the collector runs depends on all that was allocated before.
            gc.collect()
            gc.disable()
            mark()
            await _repeat(calls[name], count)
            mark()
            await _repeat(calls[name], 2 * count)
            mark()
            gc.enable()


def main() -> None:
    hooks = HOOKS[sys.argv[1]]()
    asyncio.run(run(Endpoint(**json.loads(sys.stdin.read())), hooks))
    print(json.dumps(CALLS), flush=True)
    # What shutting down costs is of no interest, and is slow here.
    os._exit(0)


if __name__ == "__main__":
    main()
