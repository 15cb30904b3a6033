"""What the demo prints, and how it looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from careflow_storage.errors import ChecksumMismatchError
from careflow_storage.models import FileInfo
from careflow_storage.s3.redaction import printable

_INDENT = (0, 0, 0, 3)
_WHOLE = 100_000


class Screen:
    """A terminal, or a log file: then without colours and moving bars."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0
        fancy = console.encoding.lower().startswith("utf")
        self._yes, self._no = ("✓", "✗") if fancy else ("ok", "NO")

    def note(self, text: str) -> None:
        """Something to know, outside the steps."""
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Something to do something about."""
        self._console.print(Text(text, style="yellow"), soft_wrap=True)

    def done(self, text: str, seconds: float) -> None:
        """Something took its time."""
        self._console.print(
            Text.assemble((f"{self._yes} ", "green"), text, (f"  {seconds:.2f} s", "dim"))
        )

    def finish(self, text: str, seconds: float) -> None:
        """The last line."""
        self._console.print()
        self._console.rule(style="green")
        self._console.print(
            Text.assemble((f"{self._yes} {text}", "bold green"), (f"  {seconds:.1f} s", "dim"))
        )

    def working(self, text: str) -> AbstractContextManager[object]:
        """Something takes a moment."""
        return self._console.status(text)

    @contextmanager
    def step(self, title: str, code: str) -> Iterator[None]:
        """One call of the library: what it is for, and how it is written."""
        self._steps += 1
        self._console.print()
        heading = Text.assemble((f"{self._steps}  ", "bold cyan"), (title, "bold"))
        self._console.print(heading, soft_wrap=True)
        syntax = Syntax(code, "python", theme="ansi_dark", background_color="default")
        highlighted = syntax.highlight(code)
        highlighted.rstrip()
        highlighted.no_wrap = False
        self._indented(highlighted)
        started = time.perf_counter()
        yield
        self._indented(Text(f"{time.perf_counter() - started:.2f} s", style="dim"))

    def show(self, result: BaseModel) -> None:
        """A result: its type and every field that has a value."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in result:
            if value is not None:
                table.add_row(f"  {name}", _value(value))
        self._indented(Text(type(result).__name__, style="magenta"))
        self._indented(table)

    def show_list(self, files: Sequence[FileInfo]) -> None:
        """A listing."""
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, style="cyan")
        for file in files:
            table.add_row(
                printable(file.key, _WHOLE), _value(file.size), f"{file.last_modified:%H:%M:%S}"
            )
        self._indented(Text(f"list[FileInfo], {len(files)} of them", style="magenta"))
        self._indented(table)

    def say(self, text: str) -> None:
        """A remark on the step."""
        self._indented(Text(text))

    def link(self, url: str) -> None:
        """A URL, whole, so that it can be copied."""
        self._console.print(Text(f"   {url}", style="blue"), soft_wrap=True)

    def check(self, holds: bool, claim: str) -> None:
        """A claim that was checked.

        Raises:
            ChecksumMismatchError: It does not hold.
        """
        mark = (f"{self._yes} ", "bold green") if holds else (f"{self._no} ", "bold red")
        self._indented(Text.assemble(mark, claim))
        if not holds:
            raise ChecksumMismatchError(f"This should have been so: {claim}.")

    @contextmanager
    def transfer(self, verb: str, size: int) -> Iterator[Callable[[int], None]]:
        """A bar that moves as bytes do; gives the function to call with the bytes so far."""
        progress = Progress(
            TextColumn("   {task.description}"),
            BarColumn(bar_width=30),
            DownloadColumn(binary_units=True),
            MeanSpeedColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._console,
        )
        with progress:
            task = progress.add_task(verb, total=size)
            yield lambda transferred: progress.update(task, completed=transferred)

    def _indented(self, content: RenderableType) -> None:
        self._console.print(Padding(content, _INDENT, expand=False))


class MeanSpeedColumn(ProgressColumn):
    """Bytes per second since the beginning."""

    def render(self, task: Task) -> Text:
        """Write it."""
        speed = task.completed / task.elapsed if task.elapsed else 0
        return Text(f"{human_size(speed)}/s", style="progress.data.speed")


def _value(value: object) -> Text:
    if isinstance(value, bool):
        return Text(str(value), style="green" if value else "red")
    if isinstance(value, int):
        return Text(f"{value:,}", style="cyan")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S %Z}", style="cyan")
    if isinstance(value, BaseModel):
        fields = [f"{name}={field}" for name, field in value if field is not None]
        return Text(printable(" ".join(fields), _WHOLE))
    # Text leaves escape sequences in, and this may be what a server or an uploader wrote.
    return Text(printable(str(value), _WHOLE))


def human_size(count: float) -> str:
    """Bytes for people: 24.1 KiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
