"""``careflow-storage demo --web``: the example app on the embedded server, in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import socket
import sys
import threading
import webbrowser
from importlib import resources
from pathlib import Path
from typing import Any

import careflow_storage
from careflow_storage import BackblazeStorage, StorageError, StorageSettings
from careflow_storage.cli.ui.output import Output
from careflow_storage.errors import InvalidInputError, MissingExtraError
from careflow_storage.local import LocalServer

_APP = "recordings_app"
_USERS = ("anna", "ben")
_SAMPLES = (
    ("anna.Example 1", "greeting.webm"),
    ("anna.Example 2", "greeting.ogg"),
    ("ben.Example 3", "greeting.webm"),
)
_HOST = "127.0.0.1"
# How long requests may take to end after Ctrl-C, in seconds.
_GRACE = 3


async def run_web_demo(
    output: Output, *, recording: Path | None, data_dir: Path | None, port: int | None
) -> None:
    """Serve the app until Ctrl-C, and open it in the browser.

    Raises:
        MissingExtraError: The extra ``demo`` is not installed.
        InvalidInputError: The port is taken.
        LocalServerError: The embedded server did not start.
    """
    app_package, uvicorn = _load()
    with _listener(port) as listener:
        page = f"http://{_HOST}:{listener.getsockname()[1]}/"
        async with LocalServer(data_dir=data_dir) as local:
            await _prepare(local.settings(), page.rstrip("/"), recording)
            tokens = {user: secrets.token_urlsafe(16) for user in _USERS}
            settings = app_package.AppSettings(_env_file=None, users=tokens)
            config = uvicorn.Config(
                app_package.create_app(settings, local.settings()),
                log_level="warning",
                timeout_graceful_shutdown=_GRACE,
                ws="wsproto",
            )
            server = uvicorn.Server(config)
            # Signals cancel this task, as in every other command.
            server.capture_signals = contextlib.nullcontext
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            links = {user: f"{page}#token={token}" for user, token in tokens.items()}
            _announce(output, links, data_dir)
            _open(output, links[_USERS[0]])
            try:
                await asyncio.shield(serving)
            except asyncio.CancelledError:
                server.should_exit = True
                await serving
                output.note("Stopped.")


def _load() -> tuple[Any, Any]:
    """Import the app and its server. The wheel contains the app; a clone has it in examples/."""
    package = Path(careflow_storage.__file__).parent
    places = (package / "_examples" / _APP, package.parent / "examples" / _APP)
    folder = next((place for place in places if place.is_dir()), places[0])
    spec = importlib.util.spec_from_file_location(
        _APP, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise StorageError(f"The example app is not in {folder}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_APP] = module
    try:
        import uvicorn
        import wsproto  # noqa: F401  # uvicorn imports it for the first WebSocket only

        spec.loader.exec_module(module)
    except ImportError as error:
        raise MissingExtraError("demo") from error
    return module, uvicorn


def _listener(port: int | None) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port or 0))
        # At once: the link is printed before the app has started, and requests wait for it.
        listener.listen()
    except OSError as error:
        listener.close()
        raise InvalidInputError(
            f"The port {port} is taken.", hint="Choose another one, or leave out --port."
        ) from error
    return listener


async def _prepare(settings: StorageSettings, origin: str, recording: Path | None) -> None:
    """Let the page upload to the bucket, and store something to play where there is nothing."""
    async with BackblazeStorage(settings) as storage:
        await storage.admin.allow_browser_uploads(origin, preset="put")
        prefix = f"recordings/{_USERS[0]}."
        if await storage.list_files(prefix, 1):
            return
        if recording is not None:
            await storage.upload_recording(f"{_USERS[0]}.Demo call", recording, recording.name)
            return
        samples = resources.files("careflow_storage") / "testing/data"
        for call_id, name in _SAMPLES:
            with resources.as_file(samples / name) as path:
                await storage.upload_recording(call_id, path, name)


def _announce(output: Output, links: dict[str, str], data_dir: Path | None) -> None:
    output.item({"links": links})
    first, *others = links.items()
    output.done(f"The recordings app is at {first[1]}")
    for user, link in others:
        output.note(f"To sign in as another user, {user}: {link}")
    data = f"kept in {data_dir}" if data_dir else "deleted at the end (see --data-dir)"
    output.note(f"Data is {data}. Press Ctrl-C to stop.")


def _open(output: Output, link: str) -> None:
    if not (sys.stdout.isatty() and _has_window_system()):
        return

    def open_or_report() -> None:
        if not webbrowser.open(link):
            output.note("No browser was found. Open the address above in one.")

    # Some browsers return at once, others when they are closed. Ctrl-C waits for neither.
    threading.Thread(target=open_or_report, name="careflow-browser", daemon=True).start()


def _has_window_system() -> bool:
    # Elsewhere a browser for the terminal would start, on top of this output.
    return sys.platform != "linux" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
