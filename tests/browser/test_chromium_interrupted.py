"""Uploads in Chromium that are paused, reloaded, cancelled, or cut off from the network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.browser import UploadPolicy
from tests.support.bodies import noise
from tests.support.chromium import listening
from tests.support.upload_site import MIB, Site, on_both_servers, running, script_of_docs

if TYPE_CHECKING:
    from playwright.async_api import Page, Response, Route

POLICY = UploadPolicy(part_size=5 * MIB, multipart_threshold=6 * MIB)
DATA = noise(11 * MIB)
# Uppy 5 sends parts side by side, Uppy 6 one after the other: what is sent while part 2 is held.
SENT_BESIDE_PART_2 = [(5, 2), (6, 1)]
VERSIONS = [5, 6]
AGAIN = {5: "window.done", 6: "uppy.retryAll()"}
SUCCESS = {"successful": 1, "errors": []}

SAVED = """
const rows = (database, store) => new Promise((resolve, reject) => {
  const request = database.transaction(store).objectStore(store).getAll();
  request.onsuccess = () => resolve(request.result);
  request.onerror = reject;
});
async function isSaved() {
  const database = await new Promise((resolve, reject) => {
    const request = indexedDB.open("uppy-blobs");
    request.onsuccess = () => resolve(request.result);
    request.onerror = reject;
  });
  const files = await rows(database, "files");
  // Version 5 keeps its state in the local storage, version 6 in the database.
  const state = localStorage.getItem("uppyState:uppy") ??
    JSON.stringify(await rows(database, "metadata"));
  database.close();
  return files.length === 1 && state.includes("s3Multipart");
}
async function saved() {
  while (!(await isSaved())) await new Promise((resolve) => setTimeout(resolve, 50));
}
"""


@pytest.fixture
async def site(bucket: BackblazeStorage) -> AsyncIterator[Site]:
    async with running(Site(bucket, POLICY, data={"call": DATA})) as opened:
        await opened.storage.admin.allow_browser_uploads([opened.url], preset="multipart")
        yield opened


async def begin(tab: Page) -> None:
    """Begin to upload, and do not wait for the end."""
    await tab.evaluate("async () => { await add('call'); window.done = uppy.upload(); }")


async def end(tab: Page) -> Any:
    return await tab.evaluate("async () => report(await window.done)")


def is_abort(response: Response) -> bool:
    return response.request.method == "DELETE" and "/uploads/s3/" in response.url


async def parts_sent(tab: Page, count: int) -> None:
    await tab.wait_for_function("(count) => partsSent === count", arg=count)


@pytest.mark.parametrize(("version", "sent"), SENT_BESIDE_PART_2)
async def test_a_paused_upload_goes_on_where_it_stopped(
    site: Site, tab: Page, version: int, sent: int
) -> None:
    await site.open_uppy(tab, version)
    gate = site.hold("part 2")
    await begin(tab)
    await gate.reached.wait()
    await parts_sent(tab, sent)
    await tab.evaluate("uppy.pauseAll()")
    gate.opened.set()
    await tab.evaluate("uppy.resumeAll()")
    assert await end(tab) == SUCCESS
    assert await site.stored() == [DATA]
    assert [site.broker.steps.count(f"part {number}") for number in (1, 2, 3)] == [1, 2, 1]


@pytest.mark.parametrize(("version", "sent"), SENT_BESIDE_PART_2)
async def test_a_reloaded_page_goes_on_where_it_stopped(
    site: Site, tab: Page, version: int, sent: int
) -> None:
    await site.open_uppy(tab, version, script_of_docs("Resume after a reload") + SAVED)
    gate = site.hold("part 2")
    await begin(tab)
    await gate.reached.wait()
    await parts_sent(tab, sent)
    # `wait_for_function` would take the promise itself for the result.
    await tab.evaluate("saved()")
    await tab.reload()
    gate.opened.set()
    await tab.wait_for_function("uppy.getState().recoveredState")
    await tab.evaluate(
        """() => {
          window.done = new Promise((resolve) => uppy.once("complete", resolve));
          uppy.emit("restore-confirmed");
        }"""
    )
    assert await end(tab) == SUCCESS
    assert await site.stored() == [DATA]
    assert site.broker.steps.count("create") == 1
    assert [site.broker.steps.count(f"part {number}") for number in (1, 2, 3)] == [1, 2, 1]
    assert await site.storage.list_incomplete_uploads() == []


@on_both_servers
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_cancelled_upload_leaves_nothing(site: Site, tab: Page, version: int) -> None:
    await site.open_uppy(tab, version)
    gate = site.hold("part 2")
    await begin(tab)
    await gate.reached.wait()
    async with tab.expect_response(is_abort):
        await tab.evaluate("uppy.cancelAll()")
    assert await site.storage.list_incomplete_uploads() == []
    gate.opened.set()
    await end(tab)
    assert await site.stored() == []
    assert await site.storage.list_incomplete_uploads() == []


async def test_an_upload_that_is_cancelled_before_its_id_arrives_leaves_nothing(
    site: Site, tab: Page
) -> None:
    begun = asyncio.Event()

    async def withhold(route: Route) -> None:
        await route.fetch()
        begun.set()

    await tab.route(lambda url: "uploads=" in url, withhold)
    await site.open_uppy(tab, 6)
    await begin(tab)
    await begun.wait()
    assert len(await site.storage.list_incomplete_uploads()) == 1
    async with tab.expect_response(is_abort):
        await tab.evaluate("uppy.cancelAll()")
    assert await site.storage.list_incomplete_uploads() == []


@pytest.mark.parametrize(("version", "sent"), SENT_BESIDE_PART_2)
async def test_an_upload_goes_on_when_the_network_is_back(
    site: Site, tab: Page, version: int, sent: int
) -> None:
    await site.open_uppy(tab, version)
    gate = site.hold("part 2")
    await begin(tab)
    await gate.reached.wait()
    await parts_sent(tab, sent)
    await tab.context.set_offline(True)
    async with tab.expect_event("requestfailed"):
        await listening(tab)
        gate.opened.set()
    if version == 6:
        # Version 5 waits for the network; version 6 leaves that to the page.
        assert await end(tab) == {"successful": 0, "errors": ["Network error during S3 request"]}
    await tab.context.set_offline(False)
    result = await tab.evaluate(f"async () => report(await {AGAIN[version]})")
    assert result == SUCCESS
    assert await site.stored() == [DATA]
    assert site.broker.steps.count("part 1") == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_two_tabs_upload_at_once(site: Site, tab: Page, version: int) -> None:
    other = await tab.context.new_page()
    for each in (tab, other):
        await site.open_uppy(each, version)
        await begin(each)
    assert [await end(tab), await end(other)] == [SUCCESS, SUCCESS]
    assert await site.stored() == [DATA, DATA]
    assert await site.storage.list_incomplete_uploads() == []
