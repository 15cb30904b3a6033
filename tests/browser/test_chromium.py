"""The scripts of docs/browser-uploads.md in Chromium, with the published packages of Uppy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Literal

import pytest

from careflow_storage import BackblazeStorage
from tests.support.upload_site import Site, on_both_servers, running, script_of_docs

if TYPE_CHECKING:
    from playwright.async_api import Page


@pytest.fixture
async def site(bucket: BackblazeStorage) -> AsyncIterator[Site]:
    async with running(Site(bucket)) as opened:
        yield opened


@on_both_servers
@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize(("version", "preset"), [(5, "put"), (6, "multipart")])
async def test_uppy_uploads_a_file(
    site: Site, tab: Page, version: int, preset: Literal["put", "multipart"], name: str
) -> None:
    await site.storage.admin.allow_browser_uploads([site.url], preset=preset)
    await site.open_uppy(tab, version)
    assert await site.upload(tab, name) == {"successful": 1, "errors": []}
    assert await site.stored() == [site.data[name]]
    assert await site.storage.list_incomplete_uploads() == []


@pytest.mark.parametrize("name", ["small", "large"])
async def test_uppy_6_uploads_with_a_companion_endpoint(site: Site, tab: Page, name: str) -> None:
    await site.storage.admin.allow_browser_uploads([site.url], preset="put")
    script = script_of_docs("Uppy 5").replace("endpoint:", "companionEndpoint:")
    await site.open_uppy(tab, 6, script=script)
    assert await site.upload(tab, name) == {"successful": 1, "errors": []}
    assert await site.stored() == [site.data[name]]


async def test_a_file_that_uppy_6_has_sent_is_no_success_until_it_is_checked(
    site: Site, tab: Page
) -> None:
    await site.storage.admin.allow_browser_uploads([site.url], preset="multipart")
    await site.open_uppy(tab, 6)
    gate = site.hold("complete")
    await tab.evaluate(
        "async () => { await add('small'); window.done = uppy.upload().catch(String); }"
    )
    await gate.reached.wait()
    (stored,) = await site.storage.list_files()
    await site.storage.delete_file(stored.key)
    gate.opened.set()
    assert "has not been uploaded" in await tab.evaluate("window.done")
    assert "has not been uploaded" in await tab.evaluate("uppy.getState().error")


async def test_an_empty_file_is_uploaded_by_uppy_6_and_refused_with_uppy_5(
    site: Site, tab: Page
) -> None:
    await site.storage.admin.allow_browser_uploads([site.url], preset="multipart")
    await site.open_uppy(tab, 5)
    result = await site.upload(tab, "empty")
    assert "empty file has no parts" in result["errors"][0]
    await site.open_uppy(tab, 6)
    assert await site.upload(tab, "empty") == {"successful": 1, "errors": []}
    assert await site.stored() == [b""]


@on_both_servers
@pytest.mark.parametrize("name", ["empty", "small", "large"])
async def test_plain_javascript_uploads_a_file(site: Site, tab: Page, name: str) -> None:
    await site.storage.admin.allow_browser_uploads([site.url], preset="put")
    await site.open_plain(tab)
    sent = await tab.evaluate(
        """async (name) => {
          let last = 0;
          await upload(await data(name), callId, (sent) => { last = sent; });
          return last;
        }""",
        name,
    )
    assert sent == len(site.data[name])
    assert await site.stored() == [site.data[name]]
