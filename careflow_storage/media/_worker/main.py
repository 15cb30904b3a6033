"""The child process itself: one job, then the end."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from careflow_storage.media._worker.channel import Channel, RangeFile
from careflow_storage.media._worker.errors import ParentGoneError, UnsupportedError
from careflow_storage.media._worker.limits import apply_limits
from careflow_storage.media._worker.protocol import (
    DONE,
    FAILED,
    LOCAL,
    MISSING,
    READY,
    UNSUPPORTED,
)

_TASKS = {
    "probe": ("probing", "probe"),
    "waveform": ("decoding", "waveform"),
    "remux": ("remuxing", "remux"),
}
_DAMAGED_HINT = "It may be damaged, or cut off before its headers were written."

Task = Callable[[RangeFile, dict[str, Any]], dict[str, Any]]


def main(name: str) -> None:
    """Do one job of this task for the parent process."""
    channel = Channel.take_over()
    output: str | None = None
    with contextlib.suppress(ParentGoneError):
        try:
            task = _load(name)
        except ImportError as error:
            channel.send(MISSING, str(error))
            return
        channel.send(READY)
        try:
            job = channel.receive_job()
            output = job.get("output")
            file = RangeFile(channel, job["size"])
            apply_limits(**job["limits"])
            kind, content = _run(task, file, job)
            channel.send(kind, content)
        except ParentGoneError:
            # The parent removes it otherwise.
            if output is not None:
                with contextlib.suppress(OSError):
                    Path(output).unlink()
            raise
    # Nothing is left to do, and destructors of damaged media may crash.
    os._exit(0)


def _load(name: str) -> Task:
    module, function = _TASKS[name]
    task: Task = getattr(import_module(f"careflow_storage.media._worker.{module}"), function)
    return task


def _run(task: Task, file: RangeFile, job: dict[str, Any]) -> tuple[bytes, Any]:
    """Return the last message."""
    # The tasks have loaded it.
    import av

    try:
        return DONE, task(file, job)
    except UnsupportedError as error:
        return UNSUPPORTED, [str(error), error.hint]
    except ParentGoneError:
        raise
    except MemoryError:
        return UNSUPPORTED, ["The file needs more memory than it may use.", None]
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return UNSUPPORTED, ["The file needs more memory than it may use.", None]
        reason = error.strerror or type(error).__name__
        return UNSUPPORTED, [f"The file cannot be read as media: {reason}.", _DAMAGED_HINT]
    except OSError as error:
        return LOCAL, [error.errno, error.strerror]
    except Exception as error:  # noqa: BLE001 - whatever damaged media caused, the parent reports
        return FAILED, f"{type(error).__name__}: {error}"
