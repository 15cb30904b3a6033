"""What commands print: for people in colour, for scripts as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from careflow_storage.cli.screen import MeanSpeedColumn, human_size
from careflow_storage.errors import StorageError
from careflow_storage.s3.redaction import printable

_WHOLE = 100_000


class Output:
    """Where a command says what it found: results to stdout, all else to stderr.

    With ``as_json`` stdout gets one JSON document (``data``, or one line per ``item``), stderr
    gets errors as JSON, and notes and progress are dropped.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.stdout = Console(highlight=False)
        self.stderr = Console(stderr=True, highlight=False)
        fancy = self.stdout.encoding.lower().startswith("utf")
        self._yes, self._no = ("✓", "✗") if fancy else ("ok", "NO")

    # --- results ------------------------------------------------------------------------

    def data(self, value: Any) -> None:
        """With --json: print this one document. Models become objects."""
        if self.as_json:
            print(json.dumps(plain(value), ensure_ascii=False, indent=2), flush=True)

    def item(self, value: Any) -> None:
        """With --json: print this as one line, of a list that may be endless."""
        if self.as_json:
            print(json.dumps(plain(value), ensure_ascii=False), flush=True)

    def print(self, content: RenderableType) -> None:
        """For people: something on stdout."""
        if not self.as_json:
            self.stdout.print(content)

    def line(self, text: str | Text) -> None:
        """For people: one line on stdout, never wrapped, so that it can be piped."""
        if not self.as_json:
            content = text if isinstance(text, Text) else Text(clean(text))
            self.stdout.print(content, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """For people: a table. A column's name that ends with ">" is aligned to the right."""
        if self.as_json:
            return
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            right = column.endswith(">")
            table.add_column(
                column.rstrip(">"), justify="right" if right else "left", no_wrap=right
            )
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else clean(cell) for cell in row))
        self.stdout.print(table)

    def fields(self, model: BaseModel | dict[str, Any]) -> None:
        """For people: each field that has a value, one to a line."""
        if self.as_json:
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in model.items() if isinstance(model, dict) else model:
            if value is not None and value != ():
                grid.add_row(name, shown(value))
        self.stdout.print(grid)

    # --- remarks ------------------------------------------------------------------------

    def done(self, text: str) -> None:
        """For people, on stderr: something is done."""
        if not self.as_json:
            self.stderr.print(Text.assemble((f"{self._yes} ", "bold green"), clean(text)))

    def note(self, text: str) -> None:
        """For people, on stderr: something to know."""
        if not self.as_json:
            self.stderr.print(Text(clean(text), style="dim"), soft_wrap=True)

    def warn(self, text: str) -> None:
        """For people, on stderr: something to do something about."""
        if not self.as_json:
            self.stderr.print(Text.assemble(("! ", "bold yellow"), clean(text)), soft_wrap=True)

    @contextmanager
    def transfer(self, verb: str, size: int | None) -> Iterator[Callable[[int], None]]:
        """A bar on stderr that moves as bytes do; gives the function to call with the bytes."""
        if self.as_json or not self.stderr.is_terminal:
            yield lambda _: None
            return
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            DownloadColumn(binary_units=True),
            MeanSpeedColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.stderr,
        )
        with progress:
            task = progress.add_task(clean(verb), total=size)
            yield lambda moved: progress.update(task, completed=moved)

    # --- the end ------------------------------------------------------------------------

    def failed(self, error: Exception) -> None:
        """Say what went wrong and what can be done; with --json as an object."""
        hint = error.hint if isinstance(error, StorageError) else None
        if self.as_json:
            print(json.dumps({"error": described(error)}, ensure_ascii=False), file=sys.stderr)
            return
        text = str(error).removesuffix(f" Hint: {hint}") if hint else str(error)
        what = clean(f"{type(error).__name__}: {text}")
        self.stderr.print(Text.assemble(("Failed ", "bold red"), what))
        if hint:
            self.stderr.print(Text.assemble(("Hint   ", "bold yellow"), clean(hint)))

    def interrupted(self) -> None:
        """Say that it was stopped."""
        if self.as_json:
            print(json.dumps({"error": {"type": "Interrupted"}}), file=sys.stderr)
        else:
            self.stderr.print("Interrupted.", style="yellow")


def clean(text: str) -> str:
    """Take out of a text what would steer a terminal: servers and uploaders write anything."""
    return "\n".join(printable(line, _WHOLE) for line in text.split("\n"))


def shown(value: object) -> Text:
    """One value, as people read it."""
    if isinstance(value, bool):
        return Text("yes" if value else "no", style="green" if value else "red")
    if isinstance(value, int):
        return Text(f"{value:,}", style="cyan")
    if isinstance(value, datetime):
        return Text(moment(value), style="cyan")
    if isinstance(value, tuple | list):
        return Text(", ".join(clean(str(each)) for each in value))
    if isinstance(value, dict):
        return Text("\n".join(clean(f"{name}: {each}") for name, each in value.items()))
    if isinstance(value, BaseModel):
        given = [f"{name}={each}" for name, each in value if each is not None]
        return Text(clean(" ".join(given)))
    return Text(clean(str(value)))


def moment(value: datetime) -> str:
    """A time, to the second: 2026-11-24 17:41:45 UTC."""
    return f"{value:%Y-%m-%d %H:%M:%S %Z}"


def size(count: int) -> Text:
    """Bytes for people, right to be aligned."""
    return Text(human_size(count), style="cyan")


def plain(value: Any) -> Any:
    """What JSON can hold, of models, times, sets and paths."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def described(error: Exception) -> dict[str, Any]:
    """An error as an object: its type, message, and all that is known of it."""
    if not isinstance(error, StorageError):
        return {"type": type(error).__name__, "message": str(error)}
    known = {
        name: getattr(error, name)
        for name in (
            *("operation", "bucket", "key", "code", "status", "request_id", "retryable"),
            *("hint", "unfinished_upload_id"),
        )
        if getattr(error, name) is not None
    }
    return {"type": type(error).__name__, "message": error.message, **known}
