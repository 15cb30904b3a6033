"""The application: its storage, its routes and its page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.staticfiles import StaticFiles

from careflow_storage import BackblazeStorage, StorageSettings, UploadResult
from careflow_storage.browser import BrowserUploads, UploadPolicy
from careflow_storage.integrations.fastapi import install_error_handlers, uppy_router

from . import accounts, details, live, recordings, usage
from .config import AppSettings, MiB
from .index import add_index
from .protection import ProtectPages
from .twilio import Twilio

_PAGE = Path(__file__).parent / "static"


def create_app(
    settings: AppSettings | None = None, storage_settings: StorageSettings | None = None
) -> FastAPI:
    """Return the application; its settings are those of the environment, or the arguments."""
    settings = settings or AppSettings()
    storage = BackblazeStorage(storage_settings)
    twilio = Twilio(settings.twilio, storage) if settings.twilio else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(storage)
            if twilio is not None:
                await opened.enter_async_context(twilio.running())
            yield {"storage": storage, "details": details.DetailsMaker(storage)}

    app = FastAPI(title="Recordings", lifespan=lifespan)
    app.state.settings = settings
    app.state.accounts = accounts.Accounts(settings.users)
    install_error_handlers(app)
    app.add_middleware(ProtectPages, bucket=str(storage.settings.endpoint))
    for each in (accounts, recordings, details, live, usage):
        app.include_router(each.router)
    app.include_router(_uploads(storage, settings), prefix="/api/uploads")
    if twilio is not None:
        app.include_router(twilio.router, prefix="/twilio")
    # The page itself holds no data, so it needs no sign-in.
    app.mount("/", StaticFiles(directory=_PAGE, html=True))
    return app


def _uploads(storage: BackblazeStorage, settings: AppSettings) -> APIRouter:
    policy = UploadPolicy(
        max_size=settings.max_upload,
        content_types=("audio/*", "video/webm", "video/mp4"),
        multipart_threshold=5 * MiB,
        part_size=5 * MiB,
    )
    broker = BrowserUploads(storage, secret=settings.secret.get_secret_value(), policy=policy)

    async def on_complete(stored: UploadResult, user: str) -> None:
        await add_index(storage, stored)

    return uppy_router(
        broker, authorize=_uploader, call_id_of=_call_of_upload, on_complete=on_complete
    )


def _uploader(request: Request) -> str:
    return accounts.current_user(request)


def _call_of_upload(request: Request, metadata: Mapping[str, str]) -> str:
    return accounts.call_id_of(accounts.current_user(request), metadata.get("call_id", ""))
