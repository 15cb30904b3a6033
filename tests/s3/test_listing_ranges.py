"""Ranges of keys: complete, without what is outside of them, and refused where order is unsure."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    ServerResponseError,
    StorageSettings,
)
from careflow_storage._s3.requests import listing, versions
from careflow_storage.testing import B2Server
from tests.s3.test_listing import fill
from tests.s3.test_listing_circles import MARK
from tests.s3.test_listing_circles import files as files_page
from tests.s3.test_listing_circles import versions as versions_page
from tests.support.hostile import Asked, HostileServer, raw_response
from tests.support.juicefs import juicefs, juicefs_settings

__all__ = ["juicefs", "juicefs_settings"]

# Where the orders of UTF-8, UTF-16, encoded keys and folders differ, and where escapes matter.
KEYS = [
    *("0", "Z", "a", "a b", "a%41", "a&b", "a+b", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a/b0"),
    *("a0", "a=b", "ab", "a~", "a\u00e9", "z", "\u00e9", "\u00e9-b", "\u00e9/b", "\u0440\u0443"),
    *("\uffee", "\uff0d", "\U00010000", "\U0001f399", "\U0001f399/b"),
]


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        yield opened


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_KEYS", 3)
    monkeypatch.setattr(versions, "PAGE_VERSIONS", 3)


def expected(
    keys: list[str], prefix: str = "", start_after: str | None = None, until: str | None = None
) -> list[str]:
    """What a range has, by the definition of UTF-8 byte order."""
    return sorted(
        (
            key
            for key in keys
            if key.startswith(prefix)
            and (start_after is None or key.encode() > start_after.encode())
            and (until is None or key.encode() <= until.encode())
        ),
        key=str.encode,
    )


async def listed(storage: BackblazeStorage, prefix: str = "", **ends: Any) -> list[str]:
    return [file.key for file in await storage.list_files(prefix, **ends)]


async def listed_versions(storage: BackblazeStorage, prefix: str = "", **ends: Any) -> list[str]:
    return [found.key for found in await storage.admin.list_file_versions(prefix, **ends)]


def random_key(rng: random.Random) -> str:
    alphabet = "aab/-. 0z\u00e9\uff0d\uffee\U00010000\U0001f399"
    return "k" + "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 4)))


@pytest.mark.parametrize("seed", range(4))
async def test_random_ranges_of_random_keys_list_exactly_their_keys(
    storage: BackblazeStorage, small_pages: None, seed: int
) -> None:
    rng = random.Random(seed)
    keys = list({random_key(rng) for _ in range(30)})
    keys = [key for key in keys if {".", ".."}.isdisjoint(key.split("/"))]
    await fill(storage, keys)
    for _ in range(25):
        ends = sorted(rng.choice([random_key(rng), rng.choice(keys)]) for _ in range(2))
        start_after, until = (end if rng.random() < 0.8 else None for end in ends)
        prefix = rng.choice(["", "k", "ka", random_key(rng)[:2]])
        want = expected(keys, prefix, start_after, until)
        assert await listed(storage, prefix, start_after=start_after, until=until) == want
        assert await listed_versions(storage, prefix, start_after=start_after, until=until) == want


@pytest.mark.parametrize(
    "end", [*KEYS, "a\x01", "a\t", "a\r\n", "a\x7f", "m", "a+", "%", "&#1;"], ids=ascii
)
async def test_two_halves_of_a_bucket_have_every_key_once(
    storage: BackblazeStorage, small_pages: None, end: str
) -> None:
    await fill(storage, KEYS)
    halves = await listed(storage, until=end), await listed(storage, start_after=end)
    assert halves == (expected(KEYS, until=end), expected(KEYS, start_after=end))
    halves = (
        await listed_versions(storage, until=end),
        await listed_versions(storage, start_after=end),
    )
    assert halves == (expected(KEYS, until=end), expected(KEYS, start_after=end))


async def test_a_range_has_all_versions_of_its_keys_and_none_of_others(
    storage: BackblazeStorage, small_pages: None
) -> None:
    for key in ("a", "b", "c"):
        for _ in range(4):
            await storage.upload_file(key, b"x")
        await storage.delete_file(key)
    found = await storage.admin.list_file_versions(start_after="a", until="b")
    assert [each.key for each in found] == ["b"] * 5
    everything = await storage.admin.list_file_versions()
    assert found == everything[5:10]
    assert [each.delete_marker for each in found] == [True, False, False, False, False]
    first = await storage.admin.list_file_versions(max_versions=7, start_after="a")
    assert first == everything[5:12]


async def test_a_range_reads_no_more_pages_than_it_has(
    storage: BackblazeStorage, small_pages: None
) -> None:
    await fill(storage, [f"{number:02}" for number in range(20)])

    async def requests(**ends: Any) -> tuple[int, int]:
        counts = storage.request_counts
        files, all_versions = "ListObjectsV2", "ListObjectVersions"
        before = counts()
        assert await listed(storage, **ends) == await listed_versions(storage, **ends)
        after = counts()
        return (
            after[files] - before.get(files, 0),
            after[all_versions] - before.get(all_versions, 0),
        )

    assert await requests(start_after="18") == (1, 1)
    assert await requests(start_after="05", until="07") == (1, 1)
    # Another version of the last key may be on the next page, and no other key.
    assert await requests(start_after="05", until="08") == (1, 2)
    assert await requests(start_after="05", until="09") == (2, 2)


async def test_the_limit_counts_the_keys_of_the_range(
    storage: BackblazeStorage, small_pages: None
) -> None:
    await fill(storage, KEYS)
    whole = expected(KEYS, start_after="a", until="z")
    for limit in (1, 3, 4, len(whole), 500):
        found = await storage.list_files("", limit, start_after="a", until="z")
        assert [file.key for file in found] == whole[:limit]


EMPTY: dict[str, tuple[str, dict[str, str]]] = {
    "equal ends": ("", {"start_after": "a", "until": "a"}),
    "above the prefix": ("a/", {"start_after": "b"}),
    "below the prefix": ("b/", {"until": "a"}),
    "at the prefix's end": ("a/", {"start_after": "a0", "until": "b"}),
}


@pytest.mark.parametrize(("prefix", "ends"), EMPTY.values(), ids=EMPTY.keys())
async def test_a_range_without_keys_costs_no_request(
    storage: BackblazeStorage, prefix: str, ends: dict[str, Any]
) -> None:
    assert await listed(storage, prefix, **ends) == []
    assert await listed_versions(storage, prefix, **ends) == []
    assert storage.request_counts() == {}


BAD: dict[str, dict[str, Any]] = {
    "bytes": {"start_after": b"a"},
    "a number": {"until": 5},
    "half a surrogate pair": {"start_after": "a\ud800"},
    "too long": {"until": "\u00e9" * 513},
    "an empty end": {"until": ""},
    "reversed ends": {"start_after": "b", "until": "a"},
    # Reversed in UTF-16, which Java and JavaScript compare, and not in UTF-8.
    "reversed ends in UTF-8": {"start_after": "\U0001f399", "until": "\uff0d"},
}


@pytest.mark.parametrize("ends", BAD.values(), ids=BAD.keys())
async def test_a_bad_range_is_refused_before_any_request(
    storage: BackblazeStorage, ends: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError, match=r"start_after|until"):
        storage.list_files(**ends)
    with pytest.raises(InvalidInputError, match=r"start_after|until"):
        storage.admin.list_file_versions(**ends)
    assert storage.request_counts() == {}


async def test_an_empty_start_is_the_beginning(storage: BackblazeStorage) -> None:
    await fill(storage, ["a", "b"])
    assert await listed(storage, start_after="") == ["a", "b"]


# --- servers with another order ------------------------------------------------------------

# Name, the pages of the server, and the range that is asked for.
DISORDERED: dict[str, tuple[list[list[str]], dict[str, str]]] = {
    "within a page": ([["a", "c", "b"]], {"until": "z"}),
    "within a page, behind the end": ([["a", "z", "b"]], {"until": "m"}),
    "between pages": ([["a", "d"], ["b", "c"]], {"until": "z"}),
    "with a key twice, on two pages": ([["a", "b"], ["c"], ["b", "d"]], {"until": "z"}),
    "of UTF-16": ([["\U0001f399", "\uff0d"]], {"start_after": "z"}),
    "from the beginning instead of a key on": ([["a", "c", "d"]], {"start_after": "b"}),
    "from a key before the start": ([["c"], ["b"]], {"start_after": "b", "until": "x"}),
}


def pages_of(render: Callable[[str | None, list[str]], str], pages: list[list[str]]) -> Any:
    rest = iter(enumerate(pages, start=1))

    def response(_asked: Asked) -> bytes:
        number, names = next(rest)
        token = f"t{number}" if number < len(pages) else None
        return raw_response(render(token, names).encode(), **MARK)

    return response


@pytest.mark.parametrize(("pages", "ends"), DISORDERED.values(), ids=DISORDERED.keys())
@pytest.mark.parametrize("render", [files_page, versions_page], ids=["files", "versions"])
async def test_another_order_than_that_of_utf_8_is_an_error_for_a_range(
    render: Callable[[str | None, list[str]], str],
    pages: list[list[str]],
    ends: dict[str, Any],
) -> None:
    async with (
        HostileServer(pages_of(render, pages)) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        list_keys = listed if render is files_page else listed_versions
        with pytest.raises(ServerResponseError, match="range of keys") as caught:
            await list_keys(storage, **ends)
        assert caught.value.hint is not None
        assert "SeaweedFS" in caught.value.hint
        assert not caught.value.retryable
        assert caught.value.bucket == "recordings-bucket"


async def test_a_key_twice_is_an_error_in_a_range_of_files_and_not_of_versions() -> None:
    async with (
        HostileServer(pages_of(files_page, [["a", "a"]])) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(ServerResponseError, match="range of keys"):
            await storage.list_files(until="z")
    async with (
        HostileServer(pages_of(versions_page, [["a", "a"], ["a", "b"]])) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        assert await listed_versions(storage, until="a") == ["a", "a", "a"]


async def test_a_server_that_begins_with_the_marker_itself_lists_the_same_versions() -> None:
    # B2 describes its key-marker as "the key that you want to start listing from".
    async with (
        HostileServer(pages_of(versions_page, [["b", "b"], ["b", "c", "d"]])) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        assert await listed_versions(storage, start_after="b") == ["c", "d"]


async def test_the_order_is_the_servers_where_no_range_is_asked_for() -> None:
    async with (
        HostileServer(pages_of(files_page, [["a", "c"], ["b"]])) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        assert await listed(storage) == ["a", "c", "b"]


async def test_seaweedfs_lists_ranges_of_plain_keys(seaweed_storage: BackblazeStorage) -> None:
    keys = [f"recordings/CA{call}/{number}.webm" for call in range(3) for number in range(3)]
    await fill(seaweed_storage, keys, b"x")
    for end in keys:
        ends: dict[str, Any]
        for ends in ({"start_after": end}, {"until": end}):
            assert await listed(seaweed_storage, **ends) == expected(keys, **ends)
            assert await listed_versions(seaweed_storage, **ends) == expected(keys, **ends)


@pytest.mark.integration
async def test_juicefs_lists_ranges_of_all_keys(juicefs_settings: StorageSettings) -> None:
    # It keeps files in folders: no key is the folder of another one.
    keys = [key for key in KEYS if not any(other.startswith(f"{key}/") for other in KEYS)]
    async with BackblazeStorage(juicefs_settings) as storage:
        await fill(storage, keys, b"x")
        for end in [*keys, "a+", "m"]:
            assert await listed(storage, until=end) == expected(keys, until=end)
            assert await listed(storage, start_after=end) == expected(keys, start_after=end)
