"""Proxies, portals and web servers that response in the place of S3: nobody believes them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    NoSuchBucketError,
    NoSuchKeyError,
    ServerResponseError,
    ServiceUnavailableError,
    StorageError,
)
from careflow_storage.admin import CorsRule
from careflow_storage.doctor.runner import diagnose
from careflow_storage.protection import Retention
from tests.support.command import Command
from tests.support.hostile import Asked, HostileServer
from tests.support.hostile import raw_response as _answered

LARGE = bytes(150_000)  # more than one request, by the server's settings
LISTING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
RULE = CorsRule(name="players", allowed_origins=("https://a.example",), allowed_methods=("GET",))
RECORDED_AT = datetime(2026, 11, 23, tzinfo=UTC)


def raw_response(body: bytes = b"", status: str = "200 OK", **headers: Any) -> bytes:
    return _answered(body, status, **headers)


def page(title: str) -> bytes:
    return f"<!doctype html><html><head><title>{title}</title></head>{title}</html>".encode()


def nginx(status: str) -> bytes:
    return raw_response(page(status), status, Server="nginx/1.25.3", Content_Type="text/html")


# None of them is S3's, and none says anything about a file, a key or a bucket.
REFUSALS = {
    "an nginx 404": nginx("404 Not Found"),
    "an XHTML 404": raw_response(
        b'<?xml version="1.0"?><html><head><title>404 Not Found</title></head></html>',
        "404 Not Found",
        Content_Type="application/xhtml+xml",
    ),
    "a JSON 404": raw_response(
        b'{"message":"Not Found"}', "404 Not Found", Content_Type="application/json"
    ),
    "an API gateway's 404": raw_response(
        b'{"message":"Not Found"}',
        "404 Not Found",
        Content_Type="application/json",
        **{"x-amzn-RequestId": "4c8f", "x-amz-apigw-id": "Yx1"},
    ),
    "a CDN's 404": raw_response(
        page("404"), "404 Not Found", Server="CloudFront", **{"x-amz-cf-id": "a", "x-cache": "b"}
    ),
    "another store's 404": raw_response(
        b"<Error><Code>ResourceNotFound</Code><Message>No.</Message></Error>",
        "404 Not Found",
        Content_Type="application/xml",
        **{"x-ms-request-id": "1"},
    ),
    "an empty 404": raw_response(b"", "404 Not Found"),
    "an error document without a code": raw_response(
        b"<Error><Message>No.</Message></Error>", "404 Not Found", Content_Type="application/xml"
    ),
    "a firewall's 403": nginx("403 Forbidden"),
    "a web server's 401": raw_response(
        page("401 Authorization Required"),
        "401 Unauthorized",
        WWW_Authenticate='Basic realm="x"',
        Content_Type="text/html",
    ),
    "a web server's 400": nginx("400 The plain HTTP request was sent to HTTPS port"),
    "a web server's 405": nginx("405 Not Allowed"),
    "a web server's 409": nginx("409 Conflict"),
    "a web server's 411": nginx("411 Length Required"),
    "a web server's 412": nginx("412 Precondition Failed"),
    "a web server's 413": nginx("413 Request Entity Too Large"),
    "a web server's 416": nginx("416 Requested Range Not Satisfiable"),
    "a web server's 501": nginx("501 Not Implemented"),
    "a portal's 511": nginx("511 Network Authentication Required"),
    "a portal's 302": raw_response(
        page("Log in"), "302 Found", Location="https://portal.example/login?token=hidden"
    ),
    "a portal's 307": raw_response(
        b"", "307 Temporary Redirect", Location="http://portal.example/"
    ),
    "a redirect to https": raw_response(
        page("301 Moved"), "301 Moved Permanently", Location="https://s3.example/bucket/key"
    ),
    "a cache's 304": raw_response(b"", "304 Not Modified", ETag='"abc"'),
}
# Success in form: a portal's page for everything, and what other kinds of servers send.
SUCCESSES = {
    "a portal's page": raw_response(page("Please log in"), Content_Type="text/html"),
    "a portal's page with all headers": raw_response(
        page("Please log in"),
        Content_Type="text/html; charset=utf-8",
        ETag='"5d41402abc4b2a76b9719d911017c592"',
        Last_Modified="Mon, 23 Nov 2026 06:36:09 GMT",
    ),
    "a page that is XML": raw_response(
        b"<html><head><title>Log in</title></head></html>", Content_Type="application/xhtml+xml"
    ),
    "JSON": raw_response(b'{"status":"ok"}', Content_Type="application/json"),
    "202": raw_response(b"", "202 Accepted"),
    "203": raw_response(page("changed"), "203 Non-Authoritative Information", ETag='"a"'),
    "205": raw_response(b"", "205 Reset Content"),
}
BUSY = {
    status: nginx(status)
    for status in (
        *("408 Request Timeout", "429 Too Many Requests", "500 Internal Server Error"),
        *("502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "522 X", "530 X"),
    )
}

Act = Callable[[BackblazeStorage, Path], Awaitable[Any]]


async def _streamed(storage: BackblazeStorage, **options: Any) -> bytes:
    async with storage.stream_file("k", **options) as stream:
        return await stream.read()


async def _opened(storage: BackblazeStorage) -> bytes:
    async with await storage.open_file("k") as reader:
        return await reader.read()


async def _recorded(storage: BackblazeStorage, body: bytes) -> None:
    async with storage.open_recording("CA1", "a.wav", recorded_at=RECORDED_AT) as writer:
        await writer.write(body)


async def _awaited(listing: Awaitable[Any]) -> Any:
    return await listing


def _retention() -> Retention:
    return Retention(mode="governance", retain_until=datetime.now(UTC) + timedelta(days=1))


CALLS: dict[str, Act] = {
    "upload_file": lambda s, p: s.upload_file("k", b"hello"),
    "upload_file, large": lambda s, p: s.upload_file("k", LARGE),
    "upload_file, not to overwrite": lambda s, p: s.upload_file("k", b"x", overwrite=False),
    "upload_recording": lambda s, p: s.upload_recording("CA1", b"x", "a.wav"),
    "open_recording, short": lambda s, p: _recorded(s, b"x"),
    "open_recording, long": lambda s, p: _recorded(s, bytes(6_000_000)),
    "get_file": lambda s, p: s.get_file("k"),
    "stream_file": lambda s, p: _streamed(s),
    "stream_file, a range": lambda s, p: _streamed(s, start=1, end=3),
    "open_file": lambda s, p: _opened(s),
    "download_file": lambda s, p: s.download_file("k", p / "file"),
    "download_file, resumable": lambda s, p: s.download_file("k", p / "file", resume=True),
    "get_file_metadata": lambda s, p: s.get_file_metadata("k"),
    "file_exists": lambda s, p: s.file_exists("k"),
    "list_files": lambda s, p: _awaited(s.list_files()),
    "list_folder": lambda s, p: _awaited(s.list_folder()),
    "delete_file": lambda s, p: s.delete_file("k"),
    "delete_file, a version": lambda s, p: s.delete_file("k", version_id="v"),
    "delete_files": lambda s, p: s.delete_files(["a", "b"]),
    "purge_file": lambda s, p: s.purge_file("k"),
    "abort_upload": lambda s, p: s.abort_upload("k", "upload-id"),
    "list_incomplete_uploads": lambda s, p: s.list_incomplete_uploads(),
    "abort_stale_uploads": lambda s, p: s.abort_stale_uploads(older_than=timedelta(days=7)),
    "admin.head_bucket": lambda s, p: s.admin.head_bucket(),
    "admin.list_buckets": lambda s, p: s.admin.list_buckets(),
    "admin.create_bucket": lambda s, p: s.admin.create_bucket("another-bucket"),
    "admin.delete_bucket": lambda s, p: s.admin.delete_bucket(
        "another-bucket", confirm="another-bucket"
    ),
    "admin.get_cors_rules": lambda s, p: s.admin.get_cors_rules(),
    "admin.put_cors_rule": lambda s, p: s.admin.put_cors_rule(RULE),
    "admin.set_cors_rules": lambda s, p: s.admin.set_cors_rules([RULE]),
    "admin.set_cors_rules, none": lambda s, p: s.admin.set_cors_rules([]),
    "admin.set_lifecycle_rules, none": lambda s, p: s.admin.set_lifecycle_rules([]),
    "admin.delete_file_versions": lambda s, p: s.admin.delete_file_versions([("k", "v")]),
    "admin.get_lifecycle_rules": lambda s, p: s.admin.get_lifecycle_rules(),
    "admin.get_bucket_encryption": lambda s, p: s.admin.get_bucket_encryption(),
    "admin.set_bucket_encryption": lambda s, p: s.admin.set_bucket_encryption("SSE-B2"),
    "admin.get_object_lock": lambda s, p: s.admin.get_object_lock(),
    "admin.get_retention": lambda s, p: s.admin.get_retention("k"),
    "admin.set_retention": lambda s, p: s.admin.set_retention("k", _retention()),
    "admin.get_legal_hold": lambda s, p: s.admin.get_legal_hold("k"),
    "admin.set_legal_hold": lambda s, p: s.admin.set_legal_hold("k", True),
    "admin.list_file_versions": lambda s, p: _awaited(s.admin.list_file_versions()),
    "admin.delete_file_version": lambda s, p: s.admin.delete_file_version("k", "v"),
    "admin.restore_file": lambda s, p: s.admin.restore_file("k"),
    "admin.purge_files": lambda s, p: s.admin.purge_files("", confirm="recordings-bucket"),
    "admin.copy_file": lambda s, p: s.admin.copy_file("k", "k2"),
    "admin.move_file": lambda s, p: s.admin.move_file("k", "k2"),
}


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def failures(response: bytes, folder: Path) -> AsyncIterator[tuple[str, StorageError]]:
    """How each call fails on a server that responds to everything like this."""
    async with (
        HostileServer(lambda asked: response) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        for name, call in CALLS.items():
            server.asked.clear()
            with pytest.raises(StorageError) as caught:
                pytest.fail(f"{name} gave {await call(storage, folder)!r}")
            error = caught.value
            assert error.operation, name
            assert error.bucket or "bucket" in name, name
            assert not error.retryable or len(server.asked) >= 2, name
            yield name, error
        assert names_in(folder) == []


WITH_BODY = {
    *("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
    "DeleteObjects",
}


@pytest.mark.parametrize("response", REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refusal_that_is_not_from_s3_is_told_as_that(
    response: bytes, tmp_path: Path
) -> None:
    async for name, error in failures(response, tmp_path):
        assert type(error) is ServerResponseError, (name, error)
        assert "not from an S3 server" in error.message, (name, error)
        # These may come from a proxy that lost a body which was sent whole.
        cut = error.status in {400, 411} and error.operation in WITH_BODY
        assert not error.retryable or cut, (name, error)
        assert f"{error.status}".encode() == response.split(b" ")[1]
        assert "BACKBLAZE_ENDPOINT" in (error.hint or ""), (name, error)
        assert "hidden" not in str(error)


@pytest.mark.parametrize("response", SUCCESSES.values(), ids=SUCCESSES.keys())
async def test_a_success_that_is_not_from_s3_is_not_believed(
    response: bytes, tmp_path: Path
) -> None:
    async for name, error in failures(response, tmp_path):
        assert type(error) is ServerResponseError, (name, error)


@pytest.mark.parametrize("status", BUSY)
async def test_what_stands_in_between_may_be_busy(status: str, tmp_path: Path) -> None:
    async for name, error in failures(BUSY[status], tmp_path):
        assert type(error) is ServiceUnavailableError, (name, error)
        assert error.retryable, name
        assert "nginx/1.25.3 responded with HTTP" in (error.hint or ""), (name, error)


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (REFUSALS["an nginx 404"], "nginx/1.25.3 responded with HTTP 404 and text/html ('404 Not"),
        (REFUSALS["a JSON 404"], "HTTP 404 and application/json ('Not Found')"),
        (REFUSALS["a portal's 302"], "a redirect to https://portal.example"),
        (REFUSALS["a redirect to https"], "a redirect to https://s3.example."),
        (
            raw_response(page("a\x1b]0;x\x07\u202eb &amp; <b>"), "404 X", Content_Type="text/html"),
            "('a ]0;x b &')",
        ),
        (raw_response(page("t" * 5000), "404 X"), "('" + "t" * 80 + "…')"),
        (
            raw_response(page("Authorization: AWS4-HMAC-SHA256 Credential=x"), "404 X"),
            "('Authorization: [redacted]')",
        ),
        (
            raw_response(b'{"message": ' + b"[" * 9000, "404 X", Content_Type="application/json"),
            "json.",
        ),
    ],
)
@pytest.mark.parametrize("call", ["list_files", "admin.get_cors_rules"])
async def test_the_hint_tells_what_answered(
    response: bytes, told: str, call: str, tmp_path: Path
) -> None:
    async with (
        HostileServer(lambda asked: response) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(ServerResponseError) as caught:
            await CALLS[call](storage, tmp_path)
    assert told in (caught.value.hint or "")


def s3_refusal(status: str, code: str = "", **headers: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode() if code else b""
    return raw_response(body, status, Content_Type="application/xml", **headers)


@pytest.mark.parametrize("marked", [True, False])
async def test_an_error_document_needs_no_marks(marked: bool) -> None:
    marks = {"x-amz-request-id": "7"} if marked else {}

    def response(asked: Asked) -> bytes:
        return s3_refusal("404 Not Found", "NoSuchKey", **marks)

    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        assert await storage.file_exists("k") is False
        with pytest.raises(NoSuchKeyError):
            await storage.get_file("k")
    async with (
        HostileServer(lambda asked: s3_refusal("403 Forbidden", "NewCode", **marks)) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(AccessDeniedError) as caught:
            await storage.get_file("k")
        assert caught.value.code == "NewCode"


@pytest.mark.parametrize(
    "mark", ["x-amz-request-id", "x-amz-id-2", "x-minio-error-code", "x-amzn-RequestId"]
)
async def test_a_head_without_a_body_is_believed_by_its_marks(mark: str) -> None:
    def response(asked: Asked) -> bytes:
        if asked.method == "HEAD":
            return raw_response(b"", "404 Not Found", **{mark: "7"})
        return s3_refusal("404 Not Found", "NoSuchKey")

    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        for _ in range(3):
            assert await storage.file_exists("k") is False
        # The first GET told that the bucket is there.
        assert [asked.method for asked in server.asked] == ["HEAD", "GET", "HEAD", "HEAD"]


async def test_a_head_without_marks_is_settled_by_one_get() -> None:
    there = {"ETag": '"a"', "Last-Modified": "Mon, 23 Nov 2026 06:36:09 GMT"}

    def response(asked: Asked) -> bytes:
        if asked.method == "HEAD":
            return nginx("404 Not Found")
        if asked.target.endswith("/there"):
            return raw_response(b"h", "206 X", Content_Range="bytes 0-0/5", **there)
        return s3_refusal("404 Not Found", "NoSuchKey")

    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        for _ in range(2):
            assert await storage.file_exists("missing") is False
            assert await storage.file_exists("there") is True
        assert (await storage.get_file_metadata("there")).size == 5
        assert [asked.method for asked in server.asked] == ["HEAD", "GET"] * 5
        assert {asked.headers.get("range") for asked in server.asked[1::2]} == {"bytes=0-0"}


async def test_a_web_page_is_a_file_where_the_server_lists_as_s3_does() -> None:
    there = {"ETag": '"a"', "Last-Modified": "Mon, 23 Nov 2026 06:36:09 GMT"}

    def response(asked: Asked) -> bytes:
        if "list-type=2" in asked.target:
            return raw_response(LISTING)
        return raw_response(page("mine"), Content_Type="text/html", **there)

    async with (
        HostileServer(response) as server,
        BackblazeStorage(server.settings(max_connections=1)) as storage,
    ):
        assert await storage.get_file("k") == page("mine")
        assert await storage.file_exists("k") is True


@pytest.mark.parametrize(
    ("status", "headers", "deleted"),
    [
        ("204 No Content", {}, True),
        ("204 No Content", {"x-amz-request-id": "7"}, True),
        ("200 OK", {"x-amz-request-id": "7"}, True),  # some S3 servers do
        ("200 OK", {}, False),
        ("200 OK", {"Content-Type": "text/html"}, False),
        ("202 Accepted", {"x-amz-request-id": "7"}, False),
    ],
)
async def test_a_deletion_is_told_by_204(
    status: str, headers: dict[str, str], deleted: bool
) -> None:
    async with (
        HostileServer(lambda asked: raw_response(b"", status, **headers)) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        if deleted:
            assert (await storage.delete_file("k", version_id="v")).deleted
            await storage.abort_upload("k", "upload-id")
            return
        with pytest.raises(ServerResponseError):
            await storage.delete_file("k", version_id="v")
        with pytest.raises(ServerResponseError):
            await storage.abort_upload("k", "upload-id")


async def _allow_on(response: bytes) -> None:
    async with (
        HostileServer(lambda asked: response) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(ServerResponseError):
            await storage.admin.allow_browser_uploads("https://a.example")
        assert {asked.method for asked in server.asked} == {"GET"}


async def test_rules_are_not_overwritten_by_what_a_web_page_did_not_tell() -> None:
    for response in (*REFUSALS.values(), *SUCCESSES.values()):
        await _allow_on(response)


async def test_the_document_of_another_operation_is_none_of_this_one() -> None:
    # rclone knows no CORS, and responds with a listing.
    async with (
        HostileServer(lambda asked: raw_response(LISTING, **{"x-amz-request-id": "7"})) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        for call in ("get_cors_rules", "get_lifecycle_rules", "get_object_lock"):
            with pytest.raises(ServerResponseError, match="its root is ListBucketResult") as caught:
                await getattr(storage.admin, call)()
            assert not caught.value.retryable
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("head", "get", "there"),
    [
        ("200 OK", raw_response(LISTING), True),
        ("404 Not Found", raw_response(LISTING), True),
        ("200 OK", s3_refusal("403 Forbidden", "AccessDenied"), True),
        ("200 OK", s3_refusal("404 Not Found", "NoSuchBucket"), False),
        ("404 Not Found", s3_refusal("404 Not Found", "NoSuchBucket"), False),
    ],
)
async def test_a_bucket_is_there_if_it_can_be_listed(head: str, get: bytes, there: bool) -> None:
    def response(asked: Asked) -> bytes:
        if asked.method == "HEAD":
            return raw_response(b"", head)
        location = raw_response(b"<LocationConstraint>eu</LocationConstraint>")
        return location if "location" in asked.target else get

    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        if there:
            assert (await storage.admin.head_bucket()).name == "recordings-bucket"
            return
        with pytest.raises(NoSuchBucketError):
            await storage.admin.head_bucket()


@pytest.mark.parametrize(
    "name",
    [
        *("an nginx 404", "a JSON 404", "an empty 404", "a firewall's 403", "a web server's 401"),
        *("a portal's 302", "a portal's page", "a portal's page with all headers", "202"),
    ],
)
async def test_the_doctor_does_not_believe_it(name: str) -> None:
    response = (REFUSALS | SUCCESSES)[name]
    async with HostileServer(lambda asked: response) as server:
        diagnosis = await diagnose(server.settings(retry_attempts=1))
    told = {finding.check: finding for finding in diagnosis.findings}
    assert told["credentials"].verdict in ("fail", "skip")
    everything = " ".join(finding.found for finding in diagnosis.findings)
    assert not re.search("knows the key|is an S3 server|is there|works|plays", everything)


async def test_the_command_line_does_not_say_that_a_file_is_missing(tmp_path: Path) -> None:
    async with HostileServer(lambda asked: REFUSALS["an nginx 404"]) as server:
        done = await Command(server.settings())("exists", "k")
    assert done.code not in (0, 3)
