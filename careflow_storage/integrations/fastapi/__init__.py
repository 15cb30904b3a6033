"""FastAPI and Starlette: the storage in a web app. Extra: ``fastapi``.

::

    app = FastAPI(lifespan=storage_lifespan())
    install_error_handlers(app)
    Storage = Annotated[BackblazeStorage, Depends(get_storage)]

    @app.get("/{key:path}")
    async def play(key: str, request: Request, storage: Storage) -> Response:
        return await file_response(storage, key, request)

Everything but `uppy_router` works with Starlette alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports

if TYPE_CHECKING:
    from careflow_storage.errors import RecordingCutOff
    from careflow_storage.integrations.errors import FormError, FormTypeError
    from careflow_storage.integrations.fastapi.errors import install_error_handlers
    from careflow_storage.integrations.fastapi.forms import FormFile, form_file
    from careflow_storage.integrations.fastapi.lifespan import get_storage, storage_lifespan
    from careflow_storage.integrations.fastapi.media_streams import (
        TwilioAudio,
        TwilioMedia,
        TwilioStream,
        record_twilio,
        twilio_media,
    )
    from careflow_storage.integrations.fastapi.responses import file_response, redirect_response
    from careflow_storage.integrations.fastapi.websocket import WebSocketAudio, websocket_audio
    from careflow_storage.integrations.uppy import uppy_router
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "careflow_storage.errors": ("RecordingCutOff",),
            "careflow_storage.integrations.errors": ("FormError", "FormTypeError"),
            "careflow_storage.integrations.fastapi.errors": ("install_error_handlers",),
            "careflow_storage.integrations.fastapi.forms": ("FormFile", "form_file"),
            "careflow_storage.integrations.fastapi.lifespan": ("get_storage", "storage_lifespan"),
            "careflow_storage.integrations.fastapi.responses": (
                "file_response",
                "redirect_response",
            ),
            "careflow_storage.integrations.fastapi.media_streams": (
                *("TwilioAudio", "TwilioMedia", "TwilioStream"),
                *("record_twilio", "twilio_media"),
            ),
            "careflow_storage.integrations.fastapi.websocket": (
                "WebSocketAudio",
                "websocket_audio",
            ),
            "careflow_storage.integrations.uppy": ("uppy_router",),
        },
    )

__all__ = [
    "FormError",
    "FormFile",
    "FormTypeError",
    "RecordingCutOff",
    "TwilioAudio",
    "TwilioMedia",
    "TwilioStream",
    "WebSocketAudio",
    "file_response",
    "form_file",
    "get_storage",
    "install_error_handlers",
    "record_twilio",
    "redirect_response",
    "storage_lifespan",
    "twilio_media",
    "uppy_router",
    "websocket_audio",
]
