"""Listings that lead in circles, or nowhere, end with an error; slow ones are followed."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, ServerResponseError
from tests.support.hostile import Asked, HostileServer, raw_response

MARK: dict[str, Any] = {"x-amz-request-id": "7"}
TIME = "2026-11-23T06:36:09Z"

# A token and the names of the entries, page by page.
Pages = Iterator[tuple[str, list[str]]]


def files(token: str | None, names: list[str]) -> str:
    more = "false" if token is None else f"true</IsTruncated><NextContinuationToken>{token}"
    end = "IsTruncated" if token is None else "NextContinuationToken"
    entries = "".join(
        f"<Contents><Key>{name}</Key><LastModified>{TIME}</LastModified><ETag>a</ETag>"
        "<Size>1</Size></Contents>"
        if not name.endswith("/")
        else f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
        for name in names
    )
    return f"<ListBucketResult><IsTruncated>{more}</{end}>{entries}</ListBucketResult>"


def versions(token: str | None, names: list[str]) -> str:
    more = "false</IsTruncated>"
    if token is not None:
        more = f"true</IsTruncated><NextKeyMarker>{token}</NextKeyMarker>"
    entries = "".join(
        f"<Version><Key>{name}</Key><VersionId>v</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>{TIME}</LastModified><ETag>a</ETag><Size>1</Size></Version>"
        for name in names
    )
    return f"<ListVersionsResult><IsTruncated>{more}{entries}</ListVersionsResult>"


def uploads(token: str | None, names: list[str]) -> str:
    more = "false</IsTruncated>"
    if token is not None:
        more = f"true</IsTruncated><NextKeyMarker>{token}</NextKeyMarker>"
    entries = "".join(
        f"<Upload><Key>{name}</Key><UploadId>u</UploadId><Initiated>{TIME}</Initiated></Upload>"
        for name in names
    )
    root = "ListMultipartUploadsResult"
    return f"<{root}><IsTruncated>{more}{entries}</{root}>"


async def _awaited(listing: Awaitable[Any]) -> Any:
    return await listing


Render = Callable[[str | None, list[str]], str]
LISTINGS: dict[str, tuple[Render, Callable[[BackblazeStorage], Awaitable[Any]]]] = {
    "files": (files, lambda s: _awaited(s.list_files())),
    "folders": (files, lambda s: _awaited(s.list_folder())),
    "versions": (versions, lambda s: _awaited(s.admin.list_file_versions())),
    "uploads": (uploads, lambda s: s.list_incomplete_uploads()),
    "usage": (versions, lambda s: s.admin.usage()),
    "a purge that only counts": (versions, lambda s: s.admin.purge_files("", dry_run=True)),
}
NAMES = [f"n{number}" for number in range(7)]


def new(start: int = 0) -> Iterator[str]:
    return (f"t{number}" for number in itertools.count(start))


CIRCLES: dict[str, Callable[[], Pages]] = {
    "the same token": lambda: zip(itertools.repeat("t"), ([n] for n in new()), strict=False),
    "two tokens": lambda: zip(itertools.cycle("ab"), ([n] for n in new()), strict=False),
    "a circle of tokens behind a way": lambda: zip(
        itertools.chain("abcde", itertools.cycle("xyz")), ([n] for n in new()), strict=False
    ),
    "a long circle": lambda: zip(
        itertools.cycle(f"t{number}" for number in range(99)),
        itertools.repeat([]),
        strict=False,
    ),
    "the same page, ever new tokens": lambda: zip(new(), itertools.repeat(NAMES), strict=False),
    "two pages in turn, ever new tokens": lambda: zip(
        new(), itertools.cycle([NAMES[:4], NAMES[4:]]), strict=False
    ),
    "five pages in turn, ever new tokens": lambda: zip(
        new(), itertools.cycle([[name] for name in NAMES[:5]]), strict=False
    ),
    "empty pages, ever new tokens": lambda: zip(new(), itertools.repeat([]), strict=False),
    "an entry, then empty pages": lambda: zip(
        new(), itertools.chain([NAMES], itertools.repeat([])), strict=False
    ),
}


def serving(render: Render, pages: Pages) -> Callable[[Asked], bytes]:
    parts = itertools.chain(pages, itertools.repeat((None, [])))

    def response(asked: Asked) -> bytes:
        if render is versions and "uploads" in asked.target:
            return raw_response(uploads(None, []).encode(), **MARK)
        token, names = next(parts)
        return raw_response(render(token, names).encode(), **MARK)

    return response


@pytest.mark.parametrize("circle", CIRCLES.values(), ids=CIRCLES.keys())
@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS.keys())
async def test_a_circle_ends_with_an_error(
    listing: tuple[Render, Callable[[BackblazeStorage], Awaitable[Any]]],
    circle: Callable[[], Pages],
) -> None:
    render, call = listing
    async with (
        HostileServer(serving(render, circle())) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(ServerResponseError, match="does not end") as caught:
            await call(storage)
        assert caught.value.bucket == "recordings-bucket"
        assert len(server.asked) < 350


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS.keys())
async def test_a_listing_with_gaps_is_followed_to_its_end(
    listing: tuple[Render, Callable[[BackblazeStorage], Awaitable[Any]]],
) -> None:
    render, call = listing
    pages = zip(
        new(),
        ([name] if number % 50 == 0 else [] for number, name in enumerate(new())),
        strict=False,
    )
    async with (
        HostileServer(serving(render, itertools.islice(pages, 500))) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        await call(storage)
        assert len(server.asked) >= 501


async def test_a_folder_that_comes_again_while_its_files_are_passed_over_is_followed() -> None:
    same = zip(new(), itertools.repeat(["a/"], 300), strict=False)
    other = zip(new(300), [["b/"], ["b/", "c/"], ["c/", "d/"], ["e"]], strict=False)
    pages = itertools.chain(same, other)
    async with (
        HostileServer(serving(files, pages)) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        folder = await storage.list_folder()
        assert folder.common_prefixes == ["a/", "b/", "c/", "d/"]
        assert [file.key for file in folder.files] == ["e"]


async def test_folders_in_a_circle_end_with_an_error() -> None:
    for cycle in (["a/"], ["a/", "b/"], ["a/", "b/", "c/"]):
        pages = zip(new(), itertools.cycle([[name] for name in cycle]))
        async with (
            HostileServer(serving(files, pages)) as server,
            BackblazeStorage(server.settings()) as storage,
        ):
            with pytest.raises(ServerResponseError, match="does not end"):
                await storage.list_folder()
            assert len(server.asked) <= 1001


async def test_parts_in_a_circle_end_with_an_error() -> None:
    """A resumed upload asks which parts are there."""
    numbers = itertools.cycle([1, 2])
    markers = itertools.count(1)

    def response(asked: Asked) -> bytes:
        root = "ListPartsResult"
        return raw_response(
            (
                f"<{root}><IsTruncated>true</IsTruncated>"
                f"<NextPartNumberMarker>{next(markers)}</NextPartNumberMarker>"
                f"<Part><PartNumber>{next(numbers)}</PartNumber><ETag>a</ETag><Size>1</Size></Part>"
                f"</{root}>"
            ).encode(),
            **MARK,
        )

    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        with pytest.raises(ServerResponseError, match="does not end"):
            await storage.keep_incomplete_upload("k", "upload-id")
        assert len(server.asked) < 10
