"""Progress bars for one transfer, or for several at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from careflow_storage._counted import counted
from careflow_storage.cli.ui.cleaning import clean

Moved = Callable[[int, int | None], None]

_WIDE = 80
"""The columns that a terminal needs for all parts of a bar."""


def human_size(count: float) -> str:
    """Return bytes for people: 24.1 KiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return counted(round(count), "byte") if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


class MeanSpeedColumn(ProgressColumn):
    """Bytes per second since the start."""

    def render(self, task: Task) -> Text:
        """Return the speed as text."""
        speed = task.completed / task.elapsed if task.elapsed else 0
        return Text(f"{human_size(speed)}/s", style="progress.data.speed", justify="right")


def make_bars(console: Console, *, several: bool = False) -> Progress:
    """Return progress bars that fit the terminal, for one transfer or for ``several``."""
    narrow = console.width < _WIDE
    room = console.width - (44 if narrow else 62)
    width = max(12, min(36, room)) if several or narrow else None
    name = Column(width=width, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(bar_width=8 if narrow else 18 if several else 30),
        DownloadColumn(binary_units=True),
        *(() if narrow else (MeanSpeedColumn(),)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        transient=several,
        # When stdout is a pipe, what is printed there must not go to stderr.
        redirect_stdout=sys.stdout.isatty(),
    )


class Transfers:
    """A progress bar for each file in flight, and one for all files.

    Args:
        console: Where to show them; None to show nothing.
        several: Whether to show the bar for all files.
    """

    def __init__(self, console: Console | None, *, several: bool) -> None:
        self._bars = make_bars(console, several=several) if console else None
        self._several = several
        self._all: TaskID | None = None
        self._files = self._finished = self._size = self._moved = 0
        self._complete = False

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
            if self._several:
                self._all = self._bars.add_task("", total=None)
        return self

    def __exit__(self, *failure: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def expect(self, files: int, size: int, *, complete: bool) -> None:
        """Set the number of files and bytes found so far; ``complete`` if there are no more."""
        self._files, self._size, self._complete = files, size, complete
        self._draw()

    @contextmanager
    def file(self, name: str, size: int | None) -> Iterator[Moved]:
        """Show a bar for one file; yield the function to call with its bytes and its size."""
        task = self._bars.add_task(clean(name), total=size) if self._bars is not None else None
        moved_here = 0

        def moved(count: int, total: int | None) -> None:
            nonlocal moved_here
            self._moved += count - moved_here
            moved_here = count
            if self._bars is not None and task is not None:
                self._bars.update(task, completed=count, total=total)
            self._draw()

        try:
            yield moved
        except BaseException:
            # These bytes will be sent again, or not at all.
            self._moved -= moved_here
            raise
        finally:
            self._finished += 1
            if self._bars is not None and task is not None and self._all is not None:
                self._bars.remove_task(task)
            self._draw()

    def _draw(self) -> None:
        if self._bars is None or self._all is None:
            return
        more = "" if self._complete else "+"
        self._bars.update(
            self._all,
            description=f"{self._finished:,}/{self._files:,}{more} files",
            completed=self._moved,
            total=self._size if self._complete else None,
        )
