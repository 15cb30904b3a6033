"""Presigned URLs, used by somebody who knows nothing but the URL."""

from __future__ import annotations

import asyncio
import re
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from careflow_storage import BackblazeStorage, InvalidInputError, StorageClosedError
from tests.support.bodies import noise

DATA = noise(10_000)
TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # the reading direction


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody without any key."""
    async with aiohttp.ClientSession() as session:
        yield session


def changed(url: str, **params: str) -> str:
    """The URL with other query parameters."""
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query)) | params
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(query)))


@pytest.mark.integration
class TestOnARealServer:
    async def test_given_a_url_when_opened_then_the_recording_plays_also_in_ranges(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        await seaweed_storage.upload_file("a.webm", DATA, "audio/webm")
        url = await seaweed_storage.get_signed_url("a.webm")
        async with browser.get(url) as response:
            assert (response.status, response.content_type) == (200, "audio/webm")
            assert await response.read() == DATA
        async with browser.get(url, headers={"Range": "bytes=5-9"}) as response:
            assert (response.status, await response.read()) == (206, DATA[5:10])

    @pytest.mark.parametrize(
        "key", ["a b+c%41&d=e?f#g.webm", "größe/録音 🎙️.webm", "it's~(1)!*@$,;:[]|'\"`<>^{}"]
    )
    async def test_given_a_hostile_key_when_its_url_is_opened_then_it_plays(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession, key: str
    ) -> None:
        await seaweed_storage.upload_file(key, DATA)
        url = URL(await seaweed_storage.get_signed_url(key), encoded=True)
        async with browser.get(url) as response:
            assert (response.status, await response.read()) == (200, DATA)

    async def test_given_no_signature_when_opened_then_it_is_refused(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        result = await seaweed_storage.upload_file("a.webm", DATA)
        async with browser.get(result.url) as response:
            assert response.status == 403

    async def test_given_urls_for_other_methods_then_each_does_only_its_own(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        await seaweed_storage.upload_file("a.webm", DATA)
        head = await seaweed_storage.get_signed_url("a.webm", method="HEAD")
        delete = await seaweed_storage.get_signed_url("a.webm", method="DELETE")
        async with browser.head(head) as response:
            assert (response.status, response.content_length) == (200, len(DATA))
        for url in (head, delete):
            async with browser.get(url) as response:
                assert response.status == 403
        async with browser.delete(delete) as response:
            assert response.status == 204
        assert not await seaweed_storage.file_exists("a.webm")

    async def test_given_a_url_to_put_when_a_browser_uploads_then_the_file_is_there(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        url = await seaweed_storage.get_signed_url("a.webm", method="PUT")
        async with browser.put(url, data=DATA) as response:
            assert response.status == 200
        assert await seaweed_storage.get_file("a.webm") == DATA

    async def test_given_a_url_to_put_one_content_type_then_another_one_is_refused(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        url = await seaweed_storage.get_signed_url(
            "a.webm", method="PUT", content_type="audio/webm"
        )
        for headers in ({"Content-Type": "text/html"}, {}):
            async with browser.put(url, data=DATA, headers=headers) as response:
                assert response.status == 403
        assert not await seaweed_storage.file_exists("a.webm")
        async with browser.put(url, data=DATA, headers={"Content-Type": "audio/webm"}) as response:
            assert response.status == 200
        assert (await seaweed_storage.get_file_metadata("a.webm")).content_type == "audio/webm"

    async def test_given_a_url_for_a_second_when_that_is_over_then_it_is_refused(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        await seaweed_storage.upload_file("a.webm", DATA)
        lasting = await seaweed_storage.get_signed_url("a.webm", 60)
        url = await seaweed_storage.get_signed_url("a.webm", expires_in=1)
        statuses = []
        async with asyncio.timeout(60):
            while 403 not in statuses:
                async with browser.get(url) as response:
                    statuses.append(response.status)
        assert set(statuses) <= {200, 403}
        async with browser.get(lasting) as response:
            assert response.status == 200

    async def test_given_a_url_when_anything_in_it_is_changed_then_it_is_refused(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        for key in ("a.webm", "b.webm"):
            await seaweed_storage.upload_file(key, DATA)
        url = await seaweed_storage.get_signed_url("a.webm", 60)
        signature = dict(urllib.parse.parse_qsl(url))["X-Amz-Signature"]
        flipped = ("1" if signature[0] == "0" else "0") + signature[1:]
        tampered = [
            url.replace("a.webm", "b.webm"),
            changed(url, **{"X-Amz-Expires": "604800"}),
            changed(url, **{"X-Amz-Signature": flipped}),
            changed(url, **{"response-content-type": "text/html"}),
            changed(url, versionId="null"),
        ]
        for other in tampered:
            assert other != url
            async with browser.get(other) as response:
                assert response.status == 403, other

    async def test_given_a_name_to_save_under_then_the_browser_gets_it_in_any_script(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        await seaweed_storage.upload_file("a.webm", DATA)
        name = 'Anruf "größe" 録音; 100%.webm'
        url = await seaweed_storage.get_signed_url(
            "a.webm", download_as=name, content_type="audio/ogg"
        )
        async with browser.get(url) as response:
            assert response.status == 200
            assert response.content_type == "audio/ogg"
            disposition = response.headers["Content-Disposition"]
        assert disposition.startswith("attachment; ")
        encoded = re.search(r"filename\*=UTF-8''(\S+)", disposition)
        assert encoded is not None
        assert urllib.parse.unquote(encoded[1]) == name

    async def test_given_a_version_then_its_url_plays_that_version(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        old = await seaweed_storage.upload_file("a.webm", b"old")
        await seaweed_storage.upload_file("a.webm", b"new")
        url = await seaweed_storage.get_signed_url("a.webm", version_id=old.version_id)
        async with browser.get(url) as response:
            assert (response.status, await response.read()) == (200, b"old")

    async def test_given_a_page_of_keys_then_each_gets_its_url_in_their_order(
        self, seaweed_storage: BackblazeStorage, browser: aiohttp.ClientSession
    ) -> None:
        keys = [f"{number}-größe.webm" for number in range(5)]
        for key in keys:
            await seaweed_storage.upload_file(key, key)
        urls = await seaweed_storage.get_signed_urls(iter(keys), 60)
        for key, url in zip(keys, urls, strict=True):
            async with browser.get(url) as response:
                assert (await response.read()).decode() == key


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "expires_in", [0, -1, 604_801, True, 60.0, "60", None, 10**30], ids=repr
    )
    async def test_given_a_lifetime_that_no_server_grants_then_it_is_refused(
        self, storage: BackblazeStorage, expires_in: Any
    ) -> None:
        with pytest.raises(InvalidInputError, match="expires_in"):
            await storage.get_signed_url("a.webm", expires_in)
        with pytest.raises(InvalidInputError, match="expires_in"):
            await storage.get_signed_urls(["a.webm"], expires_in)

    @pytest.mark.parametrize("expires_in", [1, 604_800])
    async def test_given_the_shortest_and_the_longest_lifetime_then_the_url_says_it(
        self, storage: BackblazeStorage, expires_in: int
    ) -> None:
        url = await storage.get_signed_url("a.webm", expires_in)
        assert f"X-Amz-Expires={expires_in}&" in url

    @pytest.mark.parametrize("method", ["POST", "get", "OPTIONS", "", None])
    async def test_given_a_method_that_cannot_be_presigned_then_it_is_refused(
        self, storage: BackblazeStorage, method: Any
    ) -> None:
        with pytest.raises(InvalidInputError, match="method"):
            await storage.get_signed_url("a.webm", method=method)

    @pytest.mark.parametrize(
        "name",
        [
            *("", " ", ".", "..", "a/b", "a\\b", "../a", "a\r\nSet-Cookie: b", "\ud800", "a\x00"),
            *("a\x7f", "a\x85b", "a" * 251),
            *(
                f"invoice{chr(mark)}gpj.exe"
                for mark in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
            ),
            *("a\u2028b", "a\u2029b", "a\uffff"),
            5,
            b"a.webm",
        ],
        ids=ascii,
    )
    async def test_given_a_name_to_save_under_that_is_none_then_it_is_refused(
        self, storage: BackblazeStorage, name: Any
    ) -> None:
        with pytest.raises(InvalidInputError, match="download_as"):
            await storage.get_signed_url("a.webm", download_as=name)

    @pytest.mark.parametrize(
        "name", ["a b.webm", "größe 録音.webm", "שיחה\u200f.webm", '100%;".ogg']
    )
    async def test_given_a_name_in_any_script_then_it_is_taken(
        self, storage: BackblazeStorage, name: str
    ) -> None:
        assert "filename" in await storage.get_signed_url("a.webm", download_as=name)

    @pytest.mark.parametrize("name", ["a%E2%80%AEgpj.exe", "a%0D%0Ab", "a%E2%81%A6b"])
    async def test_given_a_disposition_that_disguises_a_name_then_nothing_is_stored(
        self, storage: BackblazeStorage, name: str
    ) -> None:
        disposition = f"attachment; filename*=UTF-8''{name}"
        with pytest.raises(InvalidInputError, match="content_disposition"):
            await storage.upload_file("a.webm", b"x", content_disposition=disposition)
        assert not await storage.file_exists("a.webm")

    @pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE"])
    async def test_given_an_option_that_means_nothing_for_the_method_then_it_is_refused(
        self, storage: BackblazeStorage, method: Any
    ) -> None:
        with pytest.raises(InvalidInputError, match="download_as"):
            await storage.get_signed_url("a.webm", method=method, download_as="a.webm")

    @pytest.mark.parametrize("content_type", ["", "a\r\nb", "größe", 5, b"a"], ids=repr)
    async def test_given_a_content_type_that_is_none_then_it_is_refused(
        self, storage: BackblazeStorage, content_type: Any
    ) -> None:
        with pytest.raises(InvalidInputError, match="content_type"):
            await storage.get_signed_url("a.webm", method="PUT", content_type=content_type)

    @pytest.mark.parametrize("keys", ["abc", ["a", ""], [None], None], ids=repr)
    async def test_given_keys_that_cannot_be_then_no_url_is_made(
        self, storage: BackblazeStorage, keys: Any
    ) -> None:
        with pytest.raises(InvalidInputError):
            await storage.get_signed_urls(keys)

    async def test_given_a_closed_storage_then_no_url_is_made(
        self, storage: BackblazeStorage
    ) -> None:
        await storage.close()
        with pytest.raises(StorageClosedError):
            await storage.get_signed_url("a.webm")
