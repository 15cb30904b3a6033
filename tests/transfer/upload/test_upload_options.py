"""What is stored beside the bytes: content type, headers, metadata, checksums; no overwriting."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    PreconditionFailedError,
    StorageSettings,
)
from tests.support.bodies import MIB, noise, stream

TYPES = {
    "greeting.webm": "audio/webm",
    "greeting.ogg": "audio/ogg",
    "greeting.wav": "audio/wav",
    "greeting.mp3": "audio/mpeg",
    "greeting.m4a": "audio/mp4",
}
PART = 5 * MIB
SMALL = noise(1000)
LARGE = noise(PART + 1000)


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """Whose files above 100 kB go in parts of 5 MiB."""
    small = settings.model_copy(update={"part_size": PART, "multipart_threshold": 100_000})
    async with BackblazeStorage(small) as opened:
        yield opened


class TestContentType:
    @pytest.mark.parametrize("name", TYPES)
    async def test_given_a_real_recording_under_a_wrong_name_then_its_bytes_decide_the_type(
        self, storage: BackblazeStorage, recordings: dict[str, Path], name: str
    ) -> None:
        result = await storage.upload_file("recording.bin", recordings[name])
        assert result.content_type == TYPES[name]
        metadata = await storage.get_file_metadata("recording.bin")
        assert metadata.content_type == TYPES[name]

    async def test_given_a_real_recording_as_a_stream_in_parts_then_its_bytes_decide_the_type(
        self, settings: StorageSettings, recordings: dict[str, Path]
    ) -> None:
        data = recordings["greeting.wav"].read_bytes()
        low = settings.model_copy(update={"multipart_threshold": 1000})
        async with BackblazeStorage(low) as storage:
            result = await storage.upload_file("a", stream(data, 3), size=len(data))
            assert result.etag.endswith("-1")
            assert (await storage.get_file_metadata("a")).content_type == "audio/wav"

    async def test_given_bytes_that_tell_nothing_then_the_name_does_and_else_nobody(
        self, storage: BackblazeStorage
    ) -> None:
        named = await storage.upload_file("call/notes.txt", SMALL)
        unnamed = await storage.upload_file("call/notes", SMALL)
        assert named.content_type.startswith("text/plain")
        assert unnamed.content_type == "application/octet-stream"

    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    async def test_given_a_content_type_then_it_is_stored_whatever_the_bytes_say(
        self, storage: BackblazeStorage, data: bytes
    ) -> None:
        await storage.upload_file("a.webm", data, "application/x-careflow")
        metadata = await storage.get_file_metadata("a.webm")
        assert metadata.content_type == "application/x-careflow"


class TestHeaders:
    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    async def test_given_cache_control_and_disposition_then_downloads_get_them(
        self, storage: BackblazeStorage, data: bytes
    ) -> None:
        await storage.upload_file(
            "a.bin",
            data,
            cache_control="private, max-age=60",
            content_disposition='attachment; filename="call.webm"',
        )
        url = await storage.get_signed_url("a.bin")
        async with aiohttp.ClientSession() as browser, browser.get(url) as response:
            assert response.headers["Cache-Control"] == "private, max-age=60"
            assert response.headers["Content-Disposition"] == 'attachment; filename="call.webm"'
            assert await response.read() == data
        file = await storage.get_file_metadata("a.bin")
        assert file.cache_control == "private, max-age=60"
        assert file.content_disposition == 'attachment; filename="call.webm"'
        assert (file.content_encoding, file.content_language) == (None, None)

    async def test_given_an_encoding_and_a_language_of_another_client_then_they_are_shown(
        self, storage: BackblazeStorage
    ) -> None:
        client = await storage.client()
        given: Any = {"ContentEncoding": "gzip", "ContentLanguage": "de"}
        bucket = storage.settings.bucket_name
        await client.put_object(Bucket=bucket, Key="a.txt", Body=b"", **given)
        async with await storage.open_file("a.txt") as file:
            shown = file.metadata
        assert (shown.content_encoding, shown.content_language) == ("gzip", "de")
        assert (shown.cache_control, shown.content_disposition) == (None, None)

    @pytest.mark.parametrize("name", ["content_type", "cache_control", "content_disposition"])
    @pytest.mark.parametrize("value", ["", "a\r\nx-amz-acl: public-read", "größe", 5])
    async def test_given_a_value_that_no_header_can_hold_then_it_is_refused(
        self, storage: BackblazeStorage, name: str, value: Any
    ) -> None:
        with pytest.raises(InvalidInputError, match=name):
            await storage.upload_file("a.bin", b"", **{name: value})
        assert await storage.list_files() == []


class TestMetadata:
    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    async def test_given_metadata_in_any_script_then_it_is_returned_unchanged(
        self, storage: BackblazeStorage, data: bytes
    ) -> None:
        metadata = {
            "agent": "Zoë Müller",
            "title": "録音 🎙️ = one, two; three",
            "plain": "CA123",
            "spaces": " around  and between ",
            "looks-encoded": "=?utf-8?q?not_really?=",
            "empty": "",
            "long": "ß" * 200,
        }
        await storage.upload_file("a.bin", data, metadata=metadata)
        assert (await storage.get_file_metadata("a.bin")).metadata == metadata

    async def test_given_names_in_capitals_then_they_come_back_in_small_letters(
        self, storage: BackblazeStorage
    ) -> None:
        await storage.upload_file("a.bin", b"", metadata={"Call-SID": "CA123"})
        assert (await storage.get_file_metadata("a.bin")).metadata == {"call-sid": "CA123"}

    async def test_given_no_metadata_when_uploaded_in_parts_then_our_own_mark_is_not_shown(
        self, storage: BackblazeStorage
    ) -> None:
        await storage.upload_file("a.bin", LARGE)
        assert (await storage.get_file_metadata("a.bin")).metadata == {}

    @pytest.mark.parametrize(
        "metadata",
        [
            {"a": "x" * 2048},
            {"a": "ä" * 1024},
            {"a\n": "x"},
            {"": "x"},
            {"ä": "x"},
            {"a": "x\r\ny"},
            {"a": "\ud800"},
            {"a": 5},
            {5: "a"},
            {"a": "1", "A": "2"},
            {"careflow-upload": "x"},
        ],
        ids=repr,
    )
    async def test_given_metadata_that_cannot_be_stored_then_it_is_refused_before_any_request(
        self, storage: BackblazeStorage, metadata: Any
    ) -> None:
        with pytest.raises(InvalidInputError):
            await storage.upload_file("a.bin", b"", metadata=metadata)
        assert await storage.list_files() == []

    async def test_given_as_much_metadata_as_is_allowed_when_in_parts_then_the_server_gets_no_more(
        self, storage: BackblazeStorage
    ) -> None:
        # With encryption B2 stores 2,048 bytes; what we add ourselves counts as well.
        for size in range(2047, 0, -1):
            try:
                await storage.upload_file("a.bin", LARGE, metadata={"a": "x" * size})
                break
            except InvalidInputError:
                continue
        client = await storage.client()
        head = await client.head_object(Bucket=storage.settings.bucket_name, Key="a.bin")
        assert sum(len(name) + len(value) for name, value in head["Metadata"].items()) <= 2048


class TestChecksums:
    @pytest.mark.parametrize("algorithm", ["md5", "crc32", "sha256"])
    async def test_given_a_checksum_when_uploaded_then_the_result_holds_it(
        self, storage: BackblazeStorage, algorithm: Any
    ) -> None:
        result = await storage.upload_file("a.bin", SMALL, checksum=algorithm)
        assert (result.checksum.algorithm, result.checksum.parts) == (algorithm, None)
        assert result.checksum.value == digest(algorithm, SMALL).hex()
        assert await storage.get_file("a.bin") == SMALL

    @pytest.mark.parametrize("algorithm", ["md5", "crc32", "sha256"])
    async def test_given_a_checksum_when_uploaded_in_parts_then_it_is_the_hash_of_their_hashes(
        self, storage: BackblazeStorage, algorithm: Any
    ) -> None:
        result = await storage.upload_file("a.bin", LARGE, checksum=algorithm)
        parts = digest(algorithm, LARGE[:PART]) + digest(algorithm, LARGE[PART:])
        assert (result.checksum.algorithm, result.checksum.parts) == (algorithm, 2)
        assert result.checksum.value == digest(algorithm, parts).hex()
        assert await storage.get_file("a.bin") == LARGE

    async def test_given_a_checksum_in_the_settings_then_it_is_the_default(
        self, settings: StorageSettings
    ) -> None:
        crc = settings.model_copy(update={"checksum": "crc32"})
        async with BackblazeStorage(crc) as storage:
            result = await storage.upload_file("a.bin", SMALL)
        assert result.checksum.algorithm == "crc32"

    async def test_given_an_unknown_checksum_then_it_is_refused_before_any_request(
        self, storage: BackblazeStorage
    ) -> None:
        unknown: Any = "sha512"
        with pytest.raises(InvalidInputError, match="checksum"):
            await storage.upload_file("a.bin", SMALL, checksum=unknown)
        assert await storage.list_files() == []

    @pytest.mark.integration
    @pytest.mark.parametrize("algorithm", ["md5", "crc32", "sha256"])
    async def test_given_a_server_that_verifies_when_uploaded_then_it_agrees(
        self, seaweed_storage: BackblazeStorage, algorithm: Any
    ) -> None:
        await seaweed_storage.upload_file("a.bin", SMALL, checksum=algorithm)
        assert await seaweed_storage.get_file("a.bin") == SMALL
        if algorithm != "md5":
            client = await seaweed_storage.client()
            head = await client.head_object(
                Bucket=seaweed_storage.settings.bucket_name, Key="a.bin", ChecksumMode="ENABLED"
            )
            kept = head[f"Checksum{algorithm.upper()}"]
            assert base64.b64decode(kept) == digest(algorithm, SMALL)


class TestNoOverwriting:
    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    async def test_given_an_existing_key_when_not_to_be_overwritten_then_the_first_one_stays(
        self, storage: BackblazeStorage, data: bytes
    ) -> None:
        await storage.upload_file("a.bin", data, overwrite=False)
        with pytest.raises(PreconditionFailedError) as caught:
            await storage.upload_file("a.bin", data[::-1], overwrite=False)
        assert caught.value.key == "a.bin"
        assert await storage.get_file("a.bin") == data

    async def test_given_a_deleted_key_when_not_to_be_overwritten_then_it_is_free_again(
        self, storage: BackblazeStorage
    ) -> None:
        await storage.upload_file("a.bin", b"first")
        await storage.delete_file("a.bin")
        await storage.upload_file("a.bin", b"second", overwrite=False)
        assert await storage.get_file("a.bin") == b"second"

    @pytest.mark.integration
    async def test_given_a_real_server_when_two_create_the_same_key_then_one_of_them_loses(
        self, seaweed_storage: BackblazeStorage
    ) -> None:
        outcomes = await asyncio.gather(
            *(seaweed_storage.upload_file("a", b"%d" % n, overwrite=False) for n in range(8)),
            return_exceptions=True,
        )
        lost = [outcome for outcome in outcomes if isinstance(outcome, PreconditionFailedError)]
        assert len(lost) == 7


def digest(algorithm: str, data: bytes) -> bytes:
    if algorithm == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    return hashlib.new(algorithm, data, usedforsecurity=False).digest()
