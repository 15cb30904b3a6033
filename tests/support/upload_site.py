"""A web application whose pages upload to a bucket, with the scripts of docs/browser-uploads.md."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response

from careflow_storage import BackblazeStorage
from careflow_storage.browser import BrowserUploads, UploadPolicy
from careflow_storage.integrations.uppy import uppy_router
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
const report = ({ successful, failed }) => ({
  successful: successful.length,
  errors: failed.map((file) => file.error),
});
"""


@dataclass
class Site:
    """The application: its data, its pages, and who is signed in."""

    storage: BackblazeStorage
    policy: UploadPolicy = field(default_factory=UploadPolicy)
    user: str = "user 1"
    url: str = ""
    script: str = ""
    data: dict[str, bytes] = field(
        default_factory=lambda: {"large": noise(40 * MIB), "small": noise(100_000)}
    )

    def app(self) -> FastAPI:
        """Return the application."""
        app = FastAPI()
        broker = BrowserUploads(
            self.storage, secret="a secret of sixteen bytes", policy=self.policy
        )

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

        app.include_router(uppy_router(broker, authorize=user), prefix="/uploads")
        return app

    async def open_plain(self, tab: Page) -> None:
        """Open the page without Uppy."""
        await self.open(tab, script_of_docs("Without Uppy"))

    async def open_uppy(self, tab: Page, version: int) -> None:
        """Open the page with this generation of Uppy."""
        packages = bundle(ROOT / f"tests/browser/uppy{version}")
        await self.open(tab, packages + script_of_docs(f"Uppy {version}") + _UPPY)

    async def open(self, tab: Page, script: str) -> None:
        """Open a page with this script."""
        self.script = _FILES + script
        await tab.goto(self.url)

    async def upload(self, tab: Page, name: str) -> Any:
        """Upload a file with Uppy; return what the page reports."""
        return await tab.evaluate(
            "async (name) => { await add(name); return report(await uppy.upload()); }", name
        )

    async def stored(self) -> list[bytes]:
        """Return the contents of all files in the bucket."""
        return [await self.storage.get_file(each.key) for each in await self.storage.list_files()]


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Site]:
    """Run the application on a server."""
    async with served(site.app()) as site.url:
        yield site


def script_of_docs(heading: str) -> str:
    """Return the JavaScript below a heading of docs/browser-uploads.md."""
    text = (ROOT / "docs/browser-uploads.md").read_text(encoding="utf-8")
    found = re.search(r"```js\n(.*?)```", text.partition(f"### {heading}\n")[2], re.DOTALL)
    assert found, heading
    return found[1]
