"""A web application whose pages upload to a bucket, with the scripts of docs/browser-uploads.md."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response

from careflow_storage import BackblazeStorage
from careflow_storage.browser import BrowserUpload, BrowserUploads, UploadPolicy
from careflow_storage.integrations.uppy import uppy_router
from careflow_storage.models import SignedRequest, UploadResult
from tests.support.bodies import noise
from tests.support.npm import bundle
from tests.support.served import served

if TYPE_CHECKING:
    from playwright.async_api import Page

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
_PAGE = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
# What the examples leave to the page: which call the files belong to, and the files.
_FILES = """
const callId = "CA1";
async function data(name) {
  const blob = await (await fetch(`/data/${name}`)).blob();
  return new File([blob], `${name}.webm`, { type: "audio/webm" });
}
"""
_UPPY = """
async function add(name) {
  const file = await data(name);
  return uppy.addFile({ name: file.name, type: file.type, data: file });
}
let partsSent = 0;
uppy.on("s3-multipart:part-uploaded", () => partsSent++);
const report = ({ successful, failed }) => ({
  successful: successful.length,
  errors: failed.map((file) => file.error),
});
"""


on_both_servers = pytest.mark.parametrize(
    "bucket",
    ["emulator", pytest.param("seaweed", marks=pytest.mark.integration)],
    indirect=True,
)


@dataclass
class Gate:
    """Holds one step of the broker, so that a test can act in the middle of an upload."""

    step: str
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class Broker(BrowserUploads):
    """The broker, which notes its steps and waits at the gate.

    The steps are ``create``, ``part 1``, ``complete``, and the methods of other requests that it
    signs, such as ``POST``.
    """

    steps: list[str]
    gate: Gate | None = None

    async def _reach(self, step: str) -> None:
        self.steps.append(step)
        if self.gate is not None and self.gate.step == step:
            self.gate.reached.set()
            await self.gate.opened.wait()

    async def create(self, call_id: str, filename: str, **options: Any) -> BrowserUpload:
        upload = await super().create(call_id, filename, **options)
        await self._reach("create")
        return upload

    async def sign(self, ticket: str, part: int | None = None, **options: Any) -> SignedRequest:
        await self._reach(f"part {part}")
        return await super().sign(ticket, part, **options)

    async def sign_request(self, ticket: str, method: Any, **options: Any) -> SignedRequest:
        part = options.get("part")
        await self._reach(method if part is None else f"part {part}")
        return await super().sign_request(ticket, method, **options)

    async def complete(self, ticket: str, *parts: Any, **options: Any) -> UploadResult:
        await self._reach("complete")
        return await super().complete(ticket, *parts, **options)


@dataclass
class Site:
    """The application: its data, its pages, and who is signed in."""

    storage: BackblazeStorage
    policy: UploadPolicy = field(default_factory=UploadPolicy)
    user: str = "user 1"
    url: str = ""
    script: str = ""
    data: dict[str, bytes] = field(
        default_factory=lambda: {"large": noise(40 * MIB), "small": noise(100_000), "empty": b""},
        repr=False,
    )

    def __post_init__(self) -> None:
        self.broker = Broker(self.storage, secret="a secret of sixteen bytes", policy=self.policy)
        self.broker.steps = []

    def hold(self, step: str) -> Gate:
        """Hold this step of the broker until the gate is opened."""
        self.broker.gate = Gate(step)
        return self.broker.gate

    def app(self) -> FastAPI:
        """Return the application."""
        app = FastAPI()

        @app.get("/")
        async def page() -> Response:
            return HTMLResponse(f'{_PAGE}<script src="/script.js"></script>')

        @app.get("/script.js")
        async def script() -> Response:
            return Response(self.script, media_type="text/javascript")

        @app.get("/data/{name}")
        async def data(name: str) -> Response:
            return Response(self.data[name])

        def user(request: Request) -> str:
            return self.user

        app.include_router(uppy_router(self.broker, authorize=user), prefix="/uploads")
        return app

    async def open_plain(self, tab: Page, more: str = "") -> None:
        """Open the page without Uppy, and more JavaScript."""
        await self.open(tab, script_of_docs("Without Uppy") + more)

    async def open_uppy(
        self, tab: Page, version: int, more: str = "", *, script: str | None = None
    ) -> None:
        """Open the page with this generation of Uppy, and more JavaScript."""
        packages = bundle(ROOT / f"tests/browser/uppy{version}")
        given = script or script_of_docs(f"Uppy {version}")
        await self.open(tab, packages + given + _UPPY + more)

    async def open(self, tab: Page, script: str) -> None:
        """Open a page with this script."""
        self.script = _FILES + self._sized(script)
        await tab.goto(self.url)

    async def upload(self, tab: Page, name: str) -> Any:
        """Upload a file with Uppy; return what the page reports."""
        return await tab.evaluate(
            "async (name) => { await add(name); return report(await uppy.upload()); }", name
        )

    def _sized(self, script: str) -> str:
        """Return the script with the sizes of the policy; the documentation has its defaults."""
        for default, size in ((16, self.policy.part_size), (32, self.policy.multipart_threshold)):
            script = script.replace(f"{default} * 1024 * 1024", str(size))
        return script

    async def stored(self) -> list[bytes]:
        """Return the contents of all files in the bucket."""
        return [await self.storage.get_file(each.key) for each in await self.storage.list_files()]


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Site]:
    """Run the application on a server."""
    async with served(site.app()) as site.url:
        try:
            yield site
        finally:
            if site.broker.gate is not None:
                site.broker.gate.opened.set()


def script_of_docs(heading: str) -> str:
    """Return the JavaScript below a heading of docs/browser-uploads.md."""
    text = (ROOT / "docs/browser-uploads.md").read_text(encoding="utf-8")
    found = re.search(r"```js\n(.*?)```", text.partition(f"### {heading}\n")[2], re.DOTALL)
    assert found, heading
    return found[1]
