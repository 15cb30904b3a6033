"""Every option of an object, by every method that stores one, arrives at the server."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from careflow_storage import (
    InvalidInputError,
    ObjectOptions,
    PreconditionFailedError,
)
from careflow_storage.testing import B2Server
from tests.support.bodies import noise, pieces, stream
from tests.support.cases import case
from tests.support.object_options import NAMES, assert_stored, only, place
from tests.support.protected import Place, b2_server
from tests.support.url_source import Source

__all__ = ["b2_server", "place"]

WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

Store = Callable[[Place, bytes, ObjectOptions], Awaitable[str]]


async def upload_file(place: Place, data: bytes, options: ObjectOptions) -> str:
    return (await place.storage.upload_file("a", data, **options)).key


async def upload_stream(place: Place, data: bytes, options: ObjectOptions) -> str:
    return (await place.storage.upload_file("a", stream(data), **options)).key


async def upload_resumable(place: Place, data: bytes, options: ObjectOptions) -> str:
    return (await place.storage.upload_file("a", data, resume=True, **options)).key


async def upload_recording(place: Place, data: bytes, options: ObjectOptions) -> str:
    return (await place.storage.upload_recording("CA1", data, "a.wav", **options)).key


async def open_recording(place: Place, data: bytes, options: ObjectOptions) -> str:
    async with place.storage.open_recording("CA1", "a.wav", **options) as writer:
        for chunk in pieces(data):
            await writer.write(chunk)
    return writer.result.key


async def upload_from_url(place: Place, data: bytes, options: ObjectOptions) -> str:
    async with Source(data, headers={"Content-Type": "audio/wav"}) as source:
        result = await place.storage.upload_from_url(
            "CA1", source.url, "a.wav", allow_private_addresses=True, **options
        )
    return result.key


async def sign_upload(place: Place, data: bytes, options: ObjectOptions) -> str:
    given: Any = {"content_type": "audio/wav", **options}
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    signed = await place.storage.sign_upload("a", md5=md5, **given)
    async with httpx.AsyncClient() as sender:
        response = await sender.put(signed.url, content=data, headers=signed.headers)
    assert response.status_code == 200, response.text
    return "a"


STORES: dict[str, Store] = {
    store.__name__: store
    for store in (
        upload_file,
        upload_stream,
        upload_resumable,
        upload_recording,
        open_recording,
        upload_from_url,
        sign_upload,
    )
}


# A signed upload is one PUT, and binds an MD5.
CASES = [
    (store, size)
    for store in STORES
    for size in ("small", "in parts")
    if store != "sign_upload" or size == "small"
]


@pytest.mark.parametrize(("store", "size"), CASES)
async def test_each_option_arrives_with_each_method(
    b2_server: B2Server, place: Place, store: str, size: str
) -> None:
    data = noise(1000 if size == "small" else 2 * place.part + 1)
    for option in NAMES:
        if store == "sign_upload" and option == "checksum":
            continue
        with case(option):
            b2_server.requests.clear()
            key = await STORES[store](place, data, only(option))
            await assert_stored(b2_server, place, key, option)
            assert await place.storage.get_file(key) == data


@pytest.mark.parametrize("store", [name for name in STORES if name != "sign_upload"])
async def test_an_unknown_option_is_a_type_error_before_any_request(
    b2_server: B2Server, place: Place, store: str
) -> None:
    before = len(b2_server.requests)
    unknown: Any = {"metdata": {}}
    with pytest.raises(TypeError, match=r"BackblazeStorage\.\w+\(\) got .* argument 'metdata'"):
        await STORES[store](place, b"bytes", unknown)
    assert len(b2_server.requests) == before


async def test_the_error_names_the_method_that_was_called(place: Place) -> None:
    with pytest.raises(TypeError, match=r"BackblazeStorage\.upload_recording\(\)"):
        # A type checker reports it, too.
        await place.storage.upload_recording("CA1", b"", "a.wav", retain=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="overwrite"):
        place.storage.open_recording("CA1", "a.wav", overwrite=False)  # type: ignore[call-arg]


async def test_a_recording_is_not_overwritten(place: Place) -> None:
    storage = place.storage
    first = await storage.upload_recording("CA1", b"one", "a.wav", recorded_at=WHEN)
    with pytest.raises(PreconditionFailedError):
        await storage.upload_recording("CA1", b"two", "a.wav", recorded_at=WHEN, overwrite=False)
    async with Source(b"two", headers={"Content-Type": "audio/wav"}) as source:
        with pytest.raises(PreconditionFailedError):
            await storage.upload_from_url(
                "CA1",
                source.url,
                "a.wav",
                allow_private_addresses=True,
                recorded_at=WHEN,
                overwrite=False,
            )
    assert await storage.get_file(first.key) == b"one"


@pytest.mark.parametrize("store", STORES)
async def test_a_bad_value_is_refused_before_any_request(
    b2_server: B2Server, place: Place, store: str
) -> None:
    before = len(b2_server.requests)
    with pytest.raises(InvalidInputError, match="cache_control"):
        await STORES[store](place, b"bytes", {"cache_control": "a\nb"})
    assert len(b2_server.requests) == before


@pytest.mark.parametrize(
    ("option", "message", "hint"),
    [
        ({"content_type": 3}, "content_type must be str, not int.", None),
        ({"cache_control": "no\nstore"}, "cache_control must be printable ASCII", None),
        ({"content_disposition": "é"}, "content_disposition must be printable ASCII", "RFC 8187"),
        ({"encryption": "AES256"}, "encryption must be 'SSE-B2' or a CustomerKey, not str.", "32"),
    ],
)
async def test_the_message_says_what_the_option_takes(
    place: Place, option: Any, message: str, hint: str | None
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await place.storage.upload_file("a", b"x", **option)
    assert message in caught.value.message
    assert hint in caught.value.hint if hint and caught.value.hint else caught.value.hint is hint
