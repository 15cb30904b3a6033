"""Multipart uploads and Live Read, as B2 has them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from careflow_storage import BackblazeStorage, NoSuchUploadError
from careflow_storage.testing import B2Server
from tests.support.b2_wire import RawClient, wire_to

pytest_plugins = ["careflow_storage.testing.plugin"]

BODY = b"hello"


@pytest.fixture
async def wire(b2_server: B2Server) -> AsyncIterator[RawClient]:
    async with wire_to(b2_server) as opened:
        yield opened


@pytest.fixture
async def storage(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings()) as opened:
        yield opened


class TestMultipartUploads:
    async def test_a_part_below_5_mb_is_too_small_unless_it_is_the_last(
        self, wire: RawClient
    ) -> None:
        upload_id = await wire.begin("key")
        etags = [
            (n, (await wire.part("key", upload_id, n, bytes(size))).headers["ETag"])
            for n, size in ((1, 4_999_999), (2, 5_000_000), (3, 1))
        ]
        small = await wire.complete("key", upload_id, etags)
        assert small.refusal == (400, "EntityTooSmall")
        done = await wire.complete("key", upload_id, etags[1:])
        assert done.status == 200
        assert done.field("ETag").strip('"&quot;').endswith("-2")

    async def test_the_minimum_can_be_lowered(self) -> None:
        with B2Server(min_part_size=1) as server:
            async with wire_to(server) as wire:
                upload_id = await wire.begin("key")
                etags = [
                    (n, (await wire.part("key", upload_id, n, b"x")).headers["ETag"])
                    for n in (1, 2)
                ]
                assert (await wire.complete("key", upload_id, etags)).status == 200
                assert server.versions("key")[0].body == b"xx"

    async def test_the_parts_of_a_finished_object_can_be_read_one_by_one(self) -> None:
        with B2Server(min_part_size=1) as server:
            async with wire_to(server) as wire:
                upload_id = await wire.begin("key")
                etags = [
                    (n, (await wire.part("key", upload_id, n, body)).headers["ETag"])
                    for n, body in ((2, b"one"), (5, b"three"))
                ]
                await wire.complete("key", upload_id, etags)
                part = await wire.ask("GET", "key", {"partNumber": "2"})
                assert (part.status, part.body) == (206, b"three")
                assert part.headers["Content-Range"] == "bytes 3-7/8"
                assert (await wire.ask("GET", "key", {"partNumber": "3"})).status == 416

    @pytest.mark.parametrize("number", ["0", "10001", "x"])
    async def test_part_numbers_are_1_to_10000(self, wire: RawClient, number: str) -> None:
        upload_id = await wire.begin("key")
        reply = await wire.ask("PUT", "key", {"partNumber": number, "uploadId": upload_id})
        assert reply.refusal == (400, "InvalidArgument")

    async def test_a_bad_list_of_parts_is_refused(self, wire: RawClient) -> None:
        upload_id = await wire.begin("key")
        etag = (await wire.part("key", upload_id, 1, bytes(5_000_000))).headers["ETag"]
        await wire.part("key", upload_id, 2, bytes(5_000_000))
        for parts, code in (
            ([(2, etag), (1, etag)], "InvalidPartOrder"),
            ([(1, etag), (1, etag)], "InvalidPartOrder"),
            ([(1, f'"{"0" * 32}"')], "InvalidPart"),
            ([(3, etag)], "InvalidPart"),
            ([], "MalformedXML"),
        ):
            assert (await wire.complete("key", upload_id, parts)).refusal == (400, code)

    async def test_after_its_end_an_upload_is_unknown(
        self, wire: RawClient, storage: BackblazeStorage
    ) -> None:
        upload_id = await wire.begin("key")
        etag = (await wire.part("key", upload_id, 1, BODY)).headers["ETag"]
        assert (await wire.complete("key", upload_id, [(1, etag)])).status == 200
        aborted = await wire.begin("key")
        assert (await wire.ask("DELETE", "key", {"uploadId": aborted})).status == 204
        for ended in (upload_id, aborted):
            assert (await wire.part("key", ended, 1, BODY)).refusal == (404, "NoSuchUpload")
            reply = await wire.complete("key", ended, [(1, etag)])
            assert reply.refusal == (404, "NoSuchUpload")
            assert (await wire.ask("GET", "key", {"uploadId": ended})).status == 404
        with pytest.raises(NoSuchUploadError):
            await storage._runtime.context().multipart.abort("key", aborted)

    async def test_uploads_and_parts_are_listed_in_pages(
        self, wire: RawClient, b2_server: B2Server
    ) -> None:
        ids = {key: await wire.begin(key) for key in ("a/1", "a/2", "b/1")}
        for number in (1, 3, 7):
            await wire.part("a/1", ids["a/1"], number, BODY)
        page = await wire.ask("GET", query={"uploads": "", "prefix": "a/", "max-uploads": "1"})
        assert (page.field("Key"), page.field("IsTruncated")) == ("a/1", "true")
        marks = {
            "key-marker": page.field("NextKeyMarker"),
            "upload-id-marker": page.field("NextUploadIdMarker"),
        }
        rest = await wire.ask("GET", query={"uploads": "", "prefix": "a/", **marks})
        assert (rest.field("UploadId"), rest.field("IsTruncated")) == (ids["a/2"], "false")
        parts = await wire.ask("GET", "a/1", {"uploadId": ids["a/1"], "max-parts": "2"})
        assert parts.field("NextPartNumberMarker") == "3"
        last = await wire.ask("GET", "a/1", {"uploadId": ids["a/1"], "part-number-marker": "3"})
        assert (last.field("PartNumber"), last.field("Size")) == ("7", "5")
        assert b2_server.incomplete_uploads()[0].parts == {1: 5, 3: 5, 7: 5}


class TestLiveRead:
    async def begin(self, wire: RawClient) -> str:
        return await wire.begin(
            "key", x_backblaze_live_read_enabled="true", x_backblaze_live_read_part_size="5"
        )

    async def test_finished_parts_are_read_while_the_upload_runs(self, wire: RawClient) -> None:
        upload_id = await self.begin(wire)
        await wire.part("key", upload_id, 1, b"01234")
        await wire.part("key", upload_id, 3, b"never")
        version = {"versionId": upload_id}
        middle = await wire.ask("GET", "key", version, headers={"range": "bytes=1-3"})
        assert (middle.status, middle.body) == (206, b"123")
        first = await wire.ask("GET", "key", version | {"partNumber": "1"})
        assert (first.status, first.body) == (206, b"01234")
        for headers, refusal in (
            ({"range": "bytes=1-5"}, (416, "InvalidRange")),
            ({"range": "bytes=1-"}, (400, "InvalidArgument")),
            ({}, (400, "InvalidArgument")),
        ):
            reply = await wire.ask("GET", "key", version, headers=headers)
            assert reply.refusal == refusal
        assert (await wire.ask("GET", "key")).status == 404

    async def test_all_parts_but_the_last_have_the_declared_size(self, wire: RawClient) -> None:
        upload_id = await self.begin(wire)
        long = await wire.part("key", upload_id, 1, b"012345")
        assert long.refusal == (400, "InvalidArgument")
        assert (await wire.part("key", upload_id, 2, b"0123")).status == 200
        after_short = await wire.part("key", upload_id, 3, b"01234")
        assert after_short.refusal == (400, "InvalidArgument")
        short_before = await wire.part("key", upload_id, 1, b"0123")
        assert short_before.refusal == (400, "InvalidArgument")

    async def test_an_upload_that_did_not_ask_for_it_is_not_readable(self, wire: RawClient) -> None:
        upload_id = await wire.begin("key")
        await wire.part("key", upload_id, 1, b"01234")
        reply = await wire.ask("GET", "key", {"versionId": upload_id, "partNumber": "1"})
        assert reply.status == 404
