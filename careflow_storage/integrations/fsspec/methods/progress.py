"""The progress of a transfer, for the callbacks of fsspec."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from careflow_storage.models import Progress

if TYPE_CHECKING:
    from fsspec.callbacks import Callback


def reporter(callback: Callback) -> Callable[[Progress], None]:
    """Return a progress callback of a storage that reports to one of fsspec."""

    def report(progress: Progress) -> None:
        if progress.total is not None and callback.size != progress.total:
            callback.set_size(progress.total)
        callback.absolute_update(progress.transferred)

    return report
