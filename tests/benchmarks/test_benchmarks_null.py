"""The benchmarks' null server responds as S3 would, although it stores no bytes."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.model import Endpoint
from benchmarks.null.content import BLOCK, expected
from benchmarks.servers import null_server
from careflow_storage import BackblazeStorage, StorageSettings

# They start servers and programs of the benchmarks; nothing of the library depends on them.
pytestmark = pytest.mark.slow

KEYS = 2530
FOLDERS = 51
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with null_server(tmp_path_factory.mktemp("null"), keys=KEYS) as endpoint:
        yield endpoint


def open_storage(endpoint: Endpoint, **overrides: Any) -> BackblazeStorage:
    fields: dict[str, Any] = {
        "key_id": endpoint.key_id,
        "application_key": endpoint.secret,
        "bucket_name": "null-bucket",
        "endpoint": endpoint.url,
        "region": endpoint.region,
        "ca_file": endpoint.ca_file,
        "part_size": 5 * MIB,
    }
    return BackblazeStorage(StorageSettings(**(fields | overrides)))


@asynccontextmanager
async def open_aiobotocore(endpoint: Endpoint) -> AsyncIterator[Any]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    async with get_session().create_client(
        "s3",
        endpoint_url=endpoint.url,
        region_name=endpoint.region,
        aws_access_key_id=endpoint.key_id,
        aws_secret_access_key=endpoint.secret,
        verify=endpoint.ca_file,
        config=AioConfig(s3={"addressing_style": "path"}),
    ) as client:
        yield client


class TestOurClient:
    async def test_given_bytes_when_put_then_md5_agrees_and_their_number_is_remembered(
        self, plain: Endpoint
    ) -> None:
        async with open_storage(plain) as storage:
            stored = await storage.upload_file("ours/put.webm", b"a" * 70_000)
            size = (await storage.get_file_metadata("ours/put.webm")).size
            got = await storage.get_file("ours/put.webm")
        assert stored.etag == hashlib.md5(b"a" * 70_000, usedforsecurity=False).hexdigest()
        assert size == 70_000
        assert got == expected(0, 70_000)

    async def test_given_many_parts_when_uploaded_then_their_sum_is_the_size(
        self, plain: Endpoint
    ) -> None:
        async with open_storage(plain) as storage:
            stored = await storage.upload_file("ours/parts", b"a" * (22 * MIB))
            size = (await storage.get_file_metadata("ours/parts")).size
        assert (stored.parts, size) == (5, 22 * MIB)

    async def test_given_a_name_with_a_size_when_downloaded_in_ranges_then_bytes_are_in_place(
        self, plain: Endpoint, tmp_path: Path
    ) -> None:
        size = 2 * BLOCK + 17 * MIB + 5
        async with open_storage(plain) as storage:
            await storage.download_file(f"ours/size-{size}.webm", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == expected(0, size)

    async def test_given_a_name_with_md5_when_read_then_the_etag_is_that_of_the_bytes(
        self, plain: Endpoint
    ) -> None:
        async with open_storage(plain) as storage:
            etag = (await storage.get_file_metadata("ours/md5-70000.webm")).etag
            got = await storage.get_file("ours/md5-70000.webm")
        assert etag == hashlib.md5(got, usedforsecurity=False).hexdigest()

    async def test_given_more_than_a_page_when_listed_then_all_keys_come_once_and_in_order(
        self, plain: Endpoint
    ) -> None:
        async with open_storage(plain) as storage:
            keys = [file.key for file in await storage.list_files("recordings/")]
        assert len(keys) == KEYS
        assert keys == sorted(set(keys))

    async def test_given_keys_when_deleted_one_by_one_and_together_then_each_is_confirmed(
        self, plain: Endpoint
    ) -> None:
        async with open_storage(plain) as storage:
            await storage.upload_file("ours/gone", b"a")
            await storage.delete_file("ours/gone")
            results = await storage.delete_files(["ours/1", "ours/a&<b>"])
            size = (await storage.get_file_metadata("ours/gone")).size
        assert [(result.key, result.deleted) for result in results] == [
            ("ours/1", True),
            ("ours/a&<b>", True),
        ]
        assert size == 65536  # as if it had never been written

    async def test_given_a_live_recording_when_written_then_its_bytes_are_counted(
        self, plain: Endpoint
    ) -> None:
        async with open_storage(plain) as storage:
            async with storage.open_recording("CA1", "call.webm") as writer:
                for _ in range(7):
                    await writer.write(b"a" * MIB)
            size = (await storage.get_file_metadata(writer.result.key)).size
        assert size == 7 * MIB


class TestAiobotocore:
    async def test_given_an_object_when_put_then_checksum_is_echoed_and_etag_is_no_md5(
        self, plain: Endpoint
    ) -> None:
        async with open_aiobotocore(plain) as client:
            stored = await client.put_object(Bucket="b", Key="aio/ü b", Body=b"x" * 1000)
            head = await client.head_object(Bucket="b", Key="aio/ü b")
        assert stored["ChecksumCRC32"]
        assert not re.fullmatch(r'"[0-9a-f]{32}(-\d+)?"', stored["ETag"])
        assert head["ContentLength"] == 1000

    async def test_given_a_range_when_asked_then_just_that_gets_a_response(
        self, plain: Endpoint
    ) -> None:
        async with open_aiobotocore(plain) as client:
            response = await client.get_object(
                Bucket="b", Key="size-3000000.webm", Range="bytes=1048570-2999999"
            )
            body = await response["Body"].read()
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert response["ContentRange"] == "bytes 1048570-2999999/3000000"
        assert body == expected(1_048_570, 3_000_000)

    @pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
    async def test_given_pages_when_listed_flat_and_by_folder_then_nothing_is_lost(
        self, plain: Endpoint, version: str
    ) -> None:
        async with open_aiobotocore(plain) as client:
            pages = client.get_paginator(version)
            keys = [
                entry["Key"]
                async for page in pages.paginate(Bucket="b", PaginationConfig={"PageSize": 400})
                for entry in page["Contents"]
            ]
            folders = [
                entry["Prefix"]
                async for page in pages.paginate(
                    Bucket="b",
                    Prefix="recordings/",
                    Delimiter="/",
                    PaginationConfig={"PageSize": 20},
                )
                for entry in page["CommonPrefixes"]
            ]
            one = await client.list_objects_v2(Bucket="b", Prefix=folders[7])
        assert len(keys) == KEYS
        assert keys == sorted(set(keys))
        assert folders == sorted({key.rpartition("/")[0] + "/" for key in keys})
        assert len(folders) == FOLDERS
        assert [entry["Key"] for entry in one["Contents"]] == keys[350:400]

    async def test_given_a_multipart_upload_when_completed_or_aborted_then_it_is_over(
        self, plain: Endpoint
    ) -> None:
        place = {"Bucket": "b", "Key": "aio/multipart"}
        async with open_aiobotocore(plain) as client:
            upload = (await client.create_multipart_upload(**place))["UploadId"]
            parts = []
            for number in (1, 2):
                part = await client.upload_part(
                    **place, UploadId=upload, PartNumber=number, Body=b"x" * (number * 1000)
                )
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
            await client.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": parts}
            )
            size = (await client.head_object(**place))["ContentLength"]
            other = (await client.create_multipart_upload(**place))["UploadId"]
            await client.abort_multipart_upload(**place, UploadId=other)
            with pytest.raises(client.exceptions.NoSuchUpload):
                await client.complete_multipart_upload(
                    **place, UploadId=other, MultipartUpload={"Parts": parts}
                )
        assert size == 3000

    async def test_given_a_bucket_when_asked_about_then_it_is_there_and_its_folders_are_no_objects(
        self, plain: Endpoint
    ) -> None:
        async with open_aiobotocore(plain) as client:
            await client.head_bucket(Bucket="b")
            await client.get_bucket_location(Bucket="b")
            buckets = (await client.list_buckets())["Buckets"]
            with pytest.raises(client.exceptions.ClientError, match="404"):
                await client.head_object(Bucket="b", Key="recordings")
        assert [bucket["Name"] for bucket in buckets] == ["bench"]


class TestTls:
    async def test_given_tls_when_its_authority_is_trusted_then_both_clients_work(
        self, tmp_path: Path
    ) -> None:
        with null_server(tmp_path, tls=True, keys=10) as endpoint:
            async with open_storage(endpoint) as storage:
                await storage.upload_file("tls/parts", b"a" * (22 * MIB))
                got = await storage.get_file("tls/parts")
            async with open_aiobotocore(endpoint) as client:
                size = (await client.head_object(Bucket="b", Key="size-7"))["ContentLength"]
        assert got == expected(0, 22 * MIB)
        assert size == 7

    async def test_given_tls_when_its_authority_is_not_trusted_then_nobody_gets_in(
        self, tmp_path: Path
    ) -> None:
        with null_server(tmp_path, tls=True) as endpoint:
            port = int(endpoint.url.rpartition(":")[2])
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())


class TestNetwork:
    async def test_given_a_bandwidth_when_bytes_go_up_and_down_then_they_are_not_early(
        self, tmp_path: Path
    ) -> None:
        with null_server(tmp_path, mbit=80) as endpoint:
            async with open_storage(endpoint) as storage:
                begun = time.monotonic()
                await storage.upload_file("slow", b"a" * MIB)
                up = time.monotonic() - begun
                begun = time.monotonic()
                got = await storage.get_file("slow")
                down = time.monotonic() - begun
        # 10 MB/s, but for what may go at once: 64 KiB.
        assert min(up, down) >= (MIB - 65_536) / 10e6
        assert got == expected(0, MIB)


class TestNativeApi:
    def test_given_b2sdk_when_files_go_up_and_down_then_sizes_and_bytes_are_right(
        self, plain: Endpoint, tmp_path: Path
    ) -> None:
        b2 = pytest.importorskip("b2sdk.v3")
        api = b2.B2Api(b2.InMemoryAccountInfo(), cache=b2.InMemoryCache())
        api.authorize_account("id", "key", realm=plain.url)
        bucket = api.get_bucket_by_name("b2-bucket")
        bucket.upload_bytes(b"a" * 1000, "b2/ü small")
        (tmp_path / "big").write_bytes(b"a" * (11 * MIB))
        bucket.concatenate(
            [b2.UploadSourceLocalFile(str(tmp_path / "big"))],
            "b2/big",
            recommended_upload_part_size=5 * MIB,
        )
        bucket.download_file_by_name("b2/ü small").save_to(tmp_path / "small")
        found = bucket.get_file_info_by_name("b2/big")
        api.download_file_by_id(found.id_).save_to(tmp_path / "down")
        recordings = list(bucket.ls("recordings/", recursive=True))
        folders = [folder for _, folder in bucket.ls("recordings/") if folder]
        bucket.hide_file("b2/big")
        assert (tmp_path / "small").read_bytes() == expected(0, 1000)
        assert found.size == 11 * MIB
        assert (tmp_path / "down").read_bytes() == expected(0, 11 * MIB)
        assert (len(recordings), len(folders)) == (KEYS, FOLDERS)
