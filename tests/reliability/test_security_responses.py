"""Whatever a server responds: a typed error, soon, in bounded memory, and fit to be logged."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import re
import resource
import sys
import zlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import pytest

from careflow_storage import BackblazeStorage, ServerResponseError, StorageError
from careflow_storage._s3.headers.metadata import decode_metadata
from tests.support.behind_proxy import NOTHING_HELD, held
from tests.support.bodies import noise
from tests.support.hostile import Asked, Bytes, HostileServer, endless, raw_response

Call = Callable[[BackblazeStorage], Awaitable[Any]]

DATE = "Mon, 23 Nov 2026 06:48:48 GMT"
MIB = 1024 * 1024
CALLS: dict[str, Call] = {
    "put": lambda storage: storage.upload_file("k", b"x"),
    "get": lambda storage: storage.get_file("k"),
    "head": lambda storage: storage.get_file_metadata("k"),
    "list": lambda storage: storage.list_files(),
    "delete": lambda storage: storage.delete_file("k"),
    "delete many": lambda storage: storage.delete_files(["k"]),
    "multipart": lambda storage: storage.upload_file("k", noise(200_000)),
    "versions": lambda storage: storage.purge_file("k"),
}
# Of each way to read a response one.
SOME = {name: CALLS[name] for name in ("put", "get", "head", "list", "versions")}
every_call = pytest.mark.parametrize("call", SOME.values(), ids=SOME.keys())


async def test_a_retry_after_in_digits_of_another_script_is_none() -> None:
    response = raw_response(b"", "503 Busy", Retry_After="\u00b2")
    assert (await fail(lambda _: response, CALLS["put"])).retry_after is None


def peak_rss() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def fail(response: Callable[[Asked], Bytes], call: Call, **settings: Any) -> StorageError:
    """Let a call meet a server; it must fail in the family's way and hold nothing after."""
    async with HostileServer(response) as server:
        async with BackblazeStorage(server.settings(**settings)) as storage:
            with pytest.raises(StorageError) as caught:
                await call(storage)
            assert held(storage) == NOTHING_HELD
        assert server.asked
    return caught.value


# --- giant and endless responses ----------------------------------------------------------

CHUNKED = b'HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\nETag: "e"\r\n\r\n'
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "body": (CHUNKED % b"200 OK", b"10000\r\n" + b"a" * 65536 + b"\r\n"),
    "body of an error": (CHUNKED % b"403 No", b"10000\r\n" + b"a" * 65536 + b"\r\n"),
    "body of a redirect": (CHUNKED % b"307 T", b"10000\r\n" + b"a" * 65536 + b"\r\n"),
    "header lines": (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 10_000),
    "header line": (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 65536),
    "first line": (b"HTTP/1.1 200 ", b"y" * 65536),
    "trailers": (CHUNKED % b"200 OK" + b"0\r\n", b"a: b\r\n" * 10_000),
    "chunk extension": (CHUNKED % b"200 OK" + b"1;", b"a" * 65536),
    "informational responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100),
}
# Of each way to read a response one: a short one, a document, and that of botocore.
BOUNDED = {name: CALLS[name] for name in ("put", "list", "versions")}


@pytest.mark.slow
@pytest.mark.parametrize("flood", ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("call", BOUNDED.values(), ids=BOUNDED.keys())
async def test_an_endless_response_ends_in_an_error_and_fills_no_memory(
    flood: tuple[bytes, bytes], call: Call
) -> None:
    before = peak_rss()
    await fail(lambda _: endless(*flood), call, idle_timeout=0.3, retry_attempts=1)
    assert peak_rss() - before < 100 * MIB


def _bomb() -> bytes:
    """A few hundred KiB that would be 128 MiB."""
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(b" " * MIB) for _ in range(128)), packer.flush()])


@pytest.mark.slow
@pytest.mark.parametrize("call", SOME.values(), ids=SOME.keys())
async def test_compressed_responses_are_not_unpacked(call: Call) -> None:
    bomb = _bomb()
    before = peak_rss()
    async with HostileServer(
        lambda _: raw_response(bomb, Content_Encoding="gzip", ETag='"e"', Last_Modified=DATE)
    ) as server:
        async with BackblazeStorage(server.settings(retry_attempts=1)) as storage:
            with contextlib.suppress(StorageError):
                await call(storage)
        assert server.asked
    assert peak_rss() - before < 100 * MIB


# --- malformed responses ------------------------------------------------------------------

MALFORMED = {
    "no HTTP": b"hello\r\n\r\n",
    "length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "huge chunk": CHUNKED % b"200 OK" + b"f" * 17 + b"\r\nabc",
    "negative chunk": CHUNKED % b"200 OK" + b"-1\r\nabc",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n",
    "header with a NUL": b'HTTP/1.1 200 OK\r\nETag: "a\0b"\r\nContent-Length: 0\r\n\r\n',
    "status 304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "status 999": b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n",
}


@every_call
@pytest.mark.parametrize("response", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_response_is_a_typed_error(response: bytes, call: Call) -> None:
    await fail(lambda _: response, call)


HEADERS: dict[str, str] = {
    "no UTF-8": "\udcff\udcfe",
    "accents": "äöü",
    "escape": "\x1b[31mred",
    "C1 control": "a\x85b",
    "direction": "a\u202eb",
    "empty": "",
    "long": "x" * 8000,
    "quotes": '"a", "b"',
    "huge number": "9" * 400,
}
RESPONSE_HEADERS = (
    *("ETag", "x_amz_version_id", "Content_Type", "Last_Modified", "Content_Range"),
    *("x_amz_meta_a", "x_amz_meta_careflow_upload", "x_amz_request_id", "Retry_After"),
    *("Content_Encoding", "x_amz_delete_marker", "x_amz_checksum_sha256", "Location", "Set_Cookie"),
)


@pytest.mark.parametrize("call", SOME.values(), ids=SOME.keys())
@pytest.mark.parametrize("value", HEADERS.values(), ids=HEADERS.keys())
async def test_no_header_of_a_response_breaks_more_than_the_call(value: str, call: Call) -> None:
    good: dict[str, Any] = {"ETag": '"e"', "Last_Modified": DATE}
    responses = [
        raw_response(b"x", status, **{**good, name: value})
        for name in RESPONSE_HEADERS
        for status in ("200 OK", "503 Busy", "403 No")
    ]
    async with (
        HostileServer(lambda _: responses[-1]) as server,
        BackblazeStorage(server.settings(retry_attempts=1)) as storage,
    ):
        while responses:
            try:
                await call(storage)
            except StorageError as error:
                assert_fit_for_a_log(error)
            responses.pop()


# --- what is logged and shown -----------------------------------------------------------

FORGED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def assert_fit_for_a_log(error: StorageError) -> None:
    for text in (str(error), repr(error), error.message):
        assert FORGED.search(text) is None, text
    assert len(str(error)) < 20_000


EVIL = "ok\r\nERROR root: all is lost\t\u2028\u202eexe \u0085\u009b31m"


@every_call
@pytest.mark.parametrize("size", [1, 20_000], ids=["short", "long"])
async def test_what_a_server_says_is_one_line_of_bounded_length(call: Call, size: int) -> None:
    document = f"<Error><Code>{EVIL * size}</Code><Message>{EVIL * size}</Message></Error>".encode()
    error = await fail(lambda _: raw_response(document, "403 Forbidden"), call)
    assert_fit_for_a_log(error)
    if error.code is not None:
        assert len(error.code) < 200
    assert len(error.message) < 1100


async def test_what_a_server_says_of_one_key_is_one_line_too() -> None:
    document = (
        "<DeleteResult><Error><Key>k</Key>"
        f"<Code>{EVIL}</Code><Message>{EVIL * 1000}</Message></Error></DeleteResult>"
    ).encode()
    async with (
        HostileServer(lambda _: raw_response(document)) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        (result,) = await storage.delete_files(["k"])
    assert result.error_message is not None
    assert FORGED.search(f"{result.error_code}{result.error_message}") is None
    assert len(result.error_message) < 1100


def test_metadata_that_decodes_to_a_line_break_stays_encoded() -> None:
    for word in ("=?utf-8?q?a=0D=0AX-Evil:_1?=", "=?utf-8?b?YQpi?=", "=?utf-8?q?=1B[31m?="):
        assert decode_metadata({"x-amz-meta-name": word}) == {"name": word}


# --- XML of the control plane -----------------------------------------------------------

LAUGHS = (
    b'<!DOCTYPE l [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]>"
)
VERSIONS = (
    "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>k</Key>"
    "<VersionId>{}</VersionId></Version></ListVersionsResult>"
)
XML = {
    "billion laughs": LAUGHS + VERSIONS.format("&j;").encode(),
    "quadratic": b'<!DOCTYPE l [<!ENTITY a "'
    + b"a" * 100_000
    + b'">]>'
    + VERSIONS.format("&a;" * 20_000).encode(),
    "external entity": b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    + VERSIONS.format("&x;").encode(),
    "UTF-16 with a DTD": (LAUGHS.decode() + VERSIONS.format("&j;")).encode("utf-16"),
    "UTF-16BE without a mark": (LAUGHS.decode() + VERSIONS.format("&j;")).encode("utf-16-be"),
    "UTF-16LE without a mark": (LAUGHS.decode() + VERSIONS.format("&j;")).encode("utf-16-le"),
    # expat reads the declaration as ASCII and the rest in the encoding it names.
    "EBCDIC with a DTD": b'<?xml version="1.0" encoding="cp037"?>'
    + (LAUGHS.decode() + VERSIONS.format("&j;")).encode("cp037"),
    "UTF-7": b'<?xml version="1.0" encoding="utf-7"?>' + VERSIONS.format("x").encode(),
    "deep": b"<a>" * 500_000,
    "wide": b"<ListVersionsResult>" + b"<a/>" * 500_000 + b"</ListVersionsResult>",
    "no UTF-8": VERSIONS.format("@").encode().replace(b"@", b"\xff"),
    "cut off": VERSIONS.format("x").encode()[:-10],
    "another root": b"<html><body>hello</body></html>",
    "no root": b"hello",
    "undefined entity": VERSIONS.format("&x;").encode(),
    "no version ID": VERSIONS.replace("<VersionId>{}</VersionId>", "").encode(),
    "truncated, and no way to go on": VERSIONS.replace("false", "true").format("x").encode(),
}


XML_CASES = [pytest.param(document, id=name) for name, document in XML.items()]


@pytest.mark.parametrize("document", XML_CASES)
async def test_hostile_xml_is_a_typed_error_of_the_control_plane_in_little_memory(
    document: bytes,
) -> None:
    before = peak_rss()
    error = await fail(lambda _: raw_response(document), CALLS["versions"])
    assert_fit_for_a_log(error)
    assert peak_rss() - before < 150 * MIB


async def test_a_proxys_error_page_counts_by_its_status() -> None:
    page = b"<!DOCTYPE html><html><body>Bad Gateway</body></html>"
    for call in (CALLS["versions"], CALLS["multipart"], CALLS["get"]):
        error = await fail(lambda _: raw_response(page, "502 Bad Gateway"), call)
        assert error.status == 502
        assert error.retryable


# --- names that the server gives and that we send back ----------------------------------

ETAGS = ["\u00e9t\u00e9", "a b", "a\tb"]


@pytest.mark.parametrize("etag", ETAGS)
async def test_an_etag_that_is_none_is_not_sent_back(etag: str) -> None:
    response = raw_response(b"x", ETag=f'"{etag}"', Last_Modified=DATE)
    for name in ("put", "get", "head"):
        error = await fail(lambda _: response, CALLS[name])
        assert isinstance(error, ServerResponseError)


@pytest.mark.parametrize("upload_id", ["", "u\u00e4", "u" * 2000])
async def test_an_upload_id_that_is_none_is_not_taken(upload_id: str) -> None:
    body = f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId>"
    response = raw_response(f"{body}</InitiateMultipartUploadResult>".encode())
    assert isinstance(await fail(lambda _: response, CALLS["multipart"]), ServerResponseError)


async def test_an_upload_id_reaches_the_server_as_it_was_and_no_header() -> None:
    evil = "u&versionId=1#/../x?a=b c%0d%0aX-Evil: 1"

    def response(asked: Asked) -> bytes:
        if asked.method == "POST" and "?uploads" in asked.target:
            escaped = evil.replace("&", "&amp;")
            body = f"<InitiateMultipartUploadResult><UploadId>{escaped}</UploadId>"
            return raw_response(f"{body}</InitiateMultipartUploadResult>".encode())
        if asked.method == "PUT":
            return raw_response(b"", "403 Forbidden")
        return raw_response(b"", "204 No Content")

    async with (
        HostileServer(response) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(StorageError):
            await CALLS["multipart"](storage)
        for asked in server.asked[1:]:
            path, _, query = asked.target.partition("?")
            assert path == "/recordings-bucket/k"
            given = [pair.partition("=") for pair in query.split("&")]
            assert {name for name, _, _ in given} <= {"partNumber", "uploadId"}
            assert unquote(next(value for name, _, value in given if name == "uploadId")) == evil
            assert "X-Evil" not in asked.head.partition("\r\n")[2]


def in_parts(asked: Asked, created: str, completed: str) -> bytes:
    """Respond to an upload in parts; both responses name the key and bucket of the test."""
    if asked.method == "PUT":
        digest = hashlib.md5(asked.body, usedforsecurity=False).hexdigest()
        return raw_response(b"", ETag=f'"{digest}"')
    if asked.method == "DELETE":
        return raw_response(b"", "204 No Content")
    if "?uploads" in asked.target:
        body = f"<InitiateMultipartUploadResult>{created}<UploadId>u</UploadId>"
        return raw_response(f"{body}</InitiateMultipartUploadResult>".encode())
    body = f'<CompleteMultipartUploadResult>{completed}<ETag>"e-1"</ETag>'
    return raw_response(f"{body}</CompleteMultipartUploadResult>".encode())


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "CompleteMultipartUpload"])
@pytest.mark.parametrize(
    ("named", "what"),
    [
        ("<Key>other</Key>", "key"),
        ("<Key>K</Key>", "key"),
        ("<Key>k/k</Key>", "key"),
        ("<Key>k </Key>", "key"),
        ("<Key>%6B%20</Key>", "key"),
        ("<Bucket>other</Bucket><Key>k</Key>", "bucket"),
        ("<Bucket>recordings-bucket-2</Bucket>", "bucket"),
    ],
)
async def test_a_response_about_another_upload_is_refused(
    operation: str, named: str, what: str
) -> None:
    created, completed = (named, "") if operation.startswith("Create") else ("", named)
    error = await fail(lambda asked: in_parts(asked, created, completed), CALLS["multipart"])
    assert isinstance(error, ServerResponseError)
    assert (error.operation, error.bucket, error.key) == (operation, "recordings-bucket", "k")
    assert f"another {what}" in str(error)
    assert "other" not in str(error).replace("another", "")


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("k", ""),
        ("k", "<Bucket/><Key/>"),
        ("k", "<Bucket>recordings-bucket</Bucket><Key>k</Key>"),
        ("a b+c/\u00e4", "<Key>a b+c/\u00e4</Key>"),
        ("a b+c/\u00e4", "<Key>a%20b%2Bc/%C3%A4</Key>"),
        ("a b+c/\u00e4", "<Key>a+b%2Bc%2F%C3%A4</Key>"),
        ("a%20b", "<Key>a%20b</Key>"),
        ("a%20b", "<Key>a%2520b</Key>"),
        ("a&<b>", "<Key>a&amp;&lt;b&gt;</Key>"),
        ("a//b", "<Key>a/b</Key>"),
        ("/a", "<Key>a</Key>"),
        ("a", "<Key>/a</Key>"),
        ("a/", "<Key>a/</Key>"),
        ("a\\b", "<Key>a/b</Key>"),
    ],
)
async def test_a_response_may_name_the_key_in_its_own_form(key: str, named: str) -> None:
    async with (
        HostileServer(lambda asked: in_parts(asked, named, named)) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        assert (await storage.upload_file(key, noise(200_000))).key == key


# --- listings ---------------------------------------------------------------------------


def page(keys: list[str], token: str | None = None) -> bytes:
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-11-23T06:48:48Z</LastModified>"
        f'<ETag>"e"</ETag><Size>1</Size></Contents>'
        for key in keys
    )
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    truncated = "true" if token else "false"
    return raw_response(
        f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{entries}"
        "</ListBucketResult>".encode()
    )


async def test_a_listing_that_gives_the_same_token_again_ends_in_an_error() -> None:
    error = await fail(lambda _: page(["a"], "again"), CALLS["list"])
    assert isinstance(error, ServerResponseError)


async def test_a_token_cannot_add_to_the_query() -> None:
    evil = "t&prefix=other#\u00e4 %0d%0a"
    pages = [page(["pa"], evil.replace("&", "&amp;")), page(["pb"])]
    async with (
        HostileServer(lambda _: pages.pop(0)) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        assert [file.key for file in await storage.list_files("p")] == ["pa", "pb"]
        query = server.asked[1].target.partition("?")[2]
        given = dict(pair.split("=") for pair in query.split("&"))
        assert unquote(given["continuation-token"]) == evil
        assert given["prefix"] == "p"


async def test_keys_outside_of_the_prefix_are_refused() -> None:
    error = await fail(
        lambda _: page(["tmp/a", "recordings/CA1/b"]), lambda storage: storage.list_files("tmp/")
    )
    assert isinstance(error, ServerResponseError)


@pytest.mark.parametrize(
    "folder", ["", "tm", "tmp/", "recordings/", "tmp/a", "tmp/a/b/", "tmp/a/ ", "xtmp/a/"]
)
async def test_folders_that_are_none_below_the_prefix_are_refused(folder: str) -> None:
    inner = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
    response = raw_response(f"<ListBucketResult>{inner}</ListBucketResult>".encode())
    error = await fail(lambda _: response, lambda storage: storage.list_folder("tmp/"))
    assert isinstance(error, ServerResponseError)
    assert "common prefixes" in str(error)


async def test_files_outside_of_a_folder_are_refused() -> None:
    response = page(["tmp/a", "recordings/CA1/b"])
    error = await fail(lambda _: response, lambda storage: storage.list_folder("tmp/"))
    assert isinstance(error, ServerResponseError)


async def test_a_folder_that_gives_the_same_token_again_ends_in_an_error() -> None:
    error = await fail(lambda _: page(["a"], "again"), lambda storage: storage.list_folder())
    assert isinstance(error, ServerResponseError)


async def test_no_more_files_come_than_were_asked_for() -> None:
    async with (
        HostileServer(lambda _: page([f"k{n}" for n in range(2000)], "more")) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        assert len(await storage.list_files(max_keys=3)) == 3
        assert len(server.asked) == 1


# --- a stream that was never closed -----------------------------------------------------


async def test_a_stream_dropped_unclosed_gives_its_slot_back_and_says_so() -> None:
    response = raw_response(b"x" * 100, length=1000, ETag='"e"', Last_Modified=DATE)
    async with (
        HostileServer(lambda _: response) as server,
        BackblazeStorage(server.settings(max_connections=1)) as storage,
    ):
        stream = storage.stream_file("k")
        await stream.__aenter__()
        assert held(storage)["slots"] == 1
        with pytest.warns(ResourceWarning, match="dropped unclosed"):
            del stream
        await asyncio.sleep(0)  # the slot is given back by the loop, from whatever thread
        assert held(storage) == NOTHING_HELD


async def test_a_stream_that_was_closed_or_read_to_its_end_warns_of_nothing() -> None:
    response = raw_response(b"x", ETag='"9dd4e461268c8034f5c8564e155c67a6"', Last_Modified=DATE)
    async with (
        HostileServer(lambda _: response) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        async with storage.stream_file("k"):
            pass
        assert await storage.get_file("k") == b"x"
        gc.collect()
        assert held(storage) == NOTHING_HELD
