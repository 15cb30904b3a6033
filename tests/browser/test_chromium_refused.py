"""Uploads in Chromium that the server, the signature or the CORS rules of the bucket refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.browser import UploadPolicy
from tests.support.bodies import noise
from tests.support.upload_site import MIB, Site, on_both_servers, running

if TYPE_CHECKING:
    from playwright.async_api import Page

POLICY = UploadPolicy(part_size=5 * MIB, multipart_threshold=6 * MIB)
DATA = noise(11 * MIB)
VERSIONS = [5, 6]
# Uppy waits seconds before it tries again.
NO_RETRIES = "uppy.getPlugin('AwsS3Multipart')?.setOptions({ retryDelays: [] });"
SEND_PARTS = """
async function begin() {
  const file = await data("call");
  return { file, ...await api("create", {
    filename: file.name, type: file.type, size: file.size, metadata: { call_id: callId },
  }) };
}
async function send({ file, ticket, partSize }, number, change = (blob) => blob) {
  const blob = file.slice((number - 1) * partSize, number * partSize);
  const signed = await api(`s3/multipart/${ticket}/${number}`, undefined, "GET");
  return { PartNumber: number, ETag: await put(signed, await change(blob), () => {}) };
}
const complete = ({ ticket }, parts) => api(`s3/multipart/${ticket}/complete`, { parts });
async function changed(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  bytes[0] ^= 1;
  return new Blob([bytes]);
}
const messageOf = (promise) => promise.then(() => "no error", (error) => error.message);
"""


@pytest.fixture
async def site(bucket: BackblazeStorage) -> AsyncIterator[Site]:
    files = {"call": DATA, "small": DATA[:1000]}
    async with running(Site(bucket, POLICY, data=files)) as opened:
        await opened.storage.admin.allow_browser_uploads([opened.url], preset="multipart")
        yield opened


async def nothing_is_left(site: Site) -> None:
    assert await site.stored() == []
    assert await site.storage.list_incomplete_uploads() == []


@pytest.mark.parametrize("name", ["small", "call"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_page_of_another_origin_is_refused_by_the_bucket(
    site: Site, tab: Page, version: int, name: str
) -> None:
    site.url = site.url.replace("127.0.0.1", "localhost")
    await site.open_uppy(tab, version, NO_RETRIES)
    result = await site.upload(tab, name)
    assert (result["successful"], len(result["errors"])) == (0, 1)
    await nothing_is_left(site)


@on_both_servers
async def test_a_page_of_another_origin_without_uppy_is_refused_by_the_bucket(
    site: Site, tab: Page
) -> None:
    site.url = site.url.replace("127.0.0.1", "localhost")
    await site.open_plain(tab, "const messageOf = (p) => p.catch((error) => error.message);")
    for name in ("small", "call"):
        message = await tab.evaluate(
            "async (name) => messageOf(upload(await data(name), callId))", name
        )
        assert message == "The network failed."
    await nothing_is_left(site)


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_expired_ticket_ends_the_upload_and_leaves_nothing(
    site: Site, tab: Page, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.open_uppy(tab, version, NO_RETRIES)
    gate = site.hold("part 2")
    await tab.evaluate("async () => { await add('call'); window.done = uppy.upload(); }")
    await gate.reached.wait()
    monkeypatch.setattr("careflow_storage.browser.tickets.LEEWAY", -POLICY.expires_in)
    gate.opened.set()
    result = await tab.evaluate("async () => report(await window.done)")
    await tab.evaluate("uppy.cancelAll()")
    assert result["successful"] == 0
    assert "expired" in result["errors"][0]
    # The page waits for no response to its DELETE.
    while await site.storage.list_incomplete_uploads():
        pass
    assert await site.stored() == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_ticket_of_another_user_is_refused(site: Site, tab: Page, version: int) -> None:
    await site.open_uppy(tab, version, NO_RETRIES)
    gate = site.hold("part 2")
    await tab.evaluate("async () => { await add('call'); window.done = uppy.upload(); }")
    await gate.reached.wait()
    site.user = "user 2"
    gate.opened.set()
    result = await tab.evaluate("async () => report(await window.done)")
    assert result["successful"] == 0
    assert "another subject" in result["errors"][0]
    assert await site.stored() == []


@on_both_servers
async def test_a_body_of_another_size_or_type_is_refused_by_the_signature(
    site: Site, tab: Page
) -> None:
    await site.open_plain(tab, SEND_PARTS)
    statuses = await tab.evaluate(
        """async () => {
          const { ticket } = await api("create", {
            filename: "a.webm", type: "audio/webm", size: 1000, metadata: { call_id: callId },
          });
          const signed = await api("s3/presign", { ticket, method: "PUT" });
          const bytes = (size) => new Blob([new Uint8Array(size)]);
          const html = { ...signed, headers: { ...signed.headers, "content-type": "text/html" } };
          const upload = await begin();
          return Promise.all([
            messageOf(put(signed, bytes(999), () => {})),
            messageOf(put(signed, bytes(1001), () => {})),
            messageOf(put(html, bytes(1000), () => {})),
            messageOf(send(upload, 1, (blob) => blob.slice(1))),
            messageOf(send(upload, 3, (blob) => new Blob([blob, "x"]))),
          ]);
        }"""
    )
    assert statuses == ["403"] * 5
    assert await site.stored() == []


async def test_parts_sent_in_any_order_are_the_file(site: Site, tab: Page) -> None:
    await site.open_plain(tab, SEND_PARTS)
    await tab.evaluate(
        """async () => {
          const upload = await begin();
          const parts = [];
          for (const number of [3, 1, 2]) parts.push(await send(upload, number));
          await complete(upload, parts);
        }"""
    )
    assert await site.stored() == [DATA]


# On the emulator alone: SeaweedFS still has the reported part, too, and completes with that one.
async def test_a_part_that_was_changed_after_the_report_is_sent_again(
    site: Site, tab: Page
) -> None:
    await site.open_plain(tab, SEND_PARTS)
    message = await tab.evaluate(
        """async () => {
          const upload = await begin();
          const parts = [];
          for (const number of [1, 2, 3]) parts.push(await send(upload, number));
          await send(upload, 2, changed);
          const message = await messageOf(complete(upload, parts));
          parts[1] = await send(upload, 2);
          await complete(upload, parts);
          return message;
        }"""
    )
    assert message.startswith("1 of 3 parts are missing or not as announced: 2.")
    assert await site.stored() == [DATA]
