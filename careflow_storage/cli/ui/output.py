"""What commands print: coloured text for people, JSON for scripts."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from shlex import quote
from typing import Any, TextIO

from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from careflow_storage._counted import counted as counted
from careflow_storage.cli.ui.advice import command_advice
from careflow_storage.cli.ui.cleaning import clean as clean
from careflow_storage.cli.ui.cleaning import clean_json, clean_lines
from careflow_storage.cli.ui.progress import Transfers, human_size, make_bars
from careflow_storage.errors import StorageError

# Wide enough for any key, version ID and hint beside each other.
_UNLIMITED = 10_000


class Output:
    """Prints results to stdout, and everything else to stderr.

    With ``as_json``, stdout gets JSON Lines: one object for a single result, one for each item of a
    list. stderr gets warnings and errors as JSON, and notes and progress are dropped. In a pipe or
    a file, nothing is coloured, wrapped or shortened.
    """

    def __init__(self, *, as_json: bool, options: Sequence[str] = ()) -> None:
        self.as_json = as_json
        self.options: tuple[str, ...] = tuple(options)
        _write_any_character(sys.stdout)
        _write_any_character(sys.stderr)
        self.stdout: Console = _console(stderr=False)
        self.stderr: Console = _console(stderr=True)
        self._yes, self._no = ("✓", "✗") if has_unicode(self.stderr) else ("ok", "NO")

    # --- advice -------------------------------------------------------------------------

    def command(self, *words: str) -> str:
        """Return a command line with the global options of this command."""
        return " ".join(["careflow-storage", *map(quote, (*self.options, *words))])

    def advice(self, text: str) -> str:
        """Let a text of the library name commands, with the options that name the same bucket."""
        return command_advice(text).replace("`careflow-storage ", f"`{self.command()} ")

    # --- results ------------------------------------------------------------------------

    def item(self, value: Any) -> None:
        """With --json: print this object as one line. Models become objects."""
        if self.as_json:
            print(json_text(value), flush=True)

    def items(self, values: Iterable[Any]) -> None:
        """With --json: print each object of a list as one line."""
        for value in values:
            self.item(value)

    def print(self, content: RenderableType) -> None:
        """For people: print to stdout. In a pipe or a file, lines end without spaces."""
        if self.as_json:
            return
        if self.stdout.is_terminal:
            self.stdout.print(content)
            return
        with self.stdout.capture() as captured:
            self.stdout.print(content)
        for line in captured.get().removesuffix("\n").split("\n"):
            print(line.rstrip(" "))

    def line(self, text: str | Text) -> None:
        """For people: print one line to stdout, not wrapped, so that it can be piped.

        A ``str`` is cleaned, and faster; a ``Text`` may have colours.
        """
        if self.as_json:
            return
        if isinstance(text, Text):
            self.stdout.print(text, soft_wrap=True)
        else:
            print(clean(text))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """For people: print a table. Columns whose names end with ">" are aligned right.

        On a terminal that is too narrow for it, each row is printed as a block of lines: its first
        column, then the other ones. So no key or ID is folded.
        """
        if self.as_json:
            return
        cells = [
            [cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row] for row in rows
        ]
        if self.stdout.is_terminal and _width(columns, cells) > self.stdout.width:
            self._blocks(columns, cells)
            return
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            right = column.endswith(">")
            table.add_column(
                column.rstrip(">"),
                justify="right" if right else "left",
                no_wrap=right,
                overflow="fold",
            )
        for row in cells:
            table.add_row(*row)
        self.print(table)

    def _blocks(self, columns: Sequence[str], rows: Iterable[Sequence[Text]]) -> None:
        for first, *others in rows:
            self.line(first)
            grid = Table.grid(padding=(0, 2, 0, 0))
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(overflow="fold")
            for column, cell in zip(columns[1:], others, strict=True):
                if cell.plain:
                    grid.add_row(column.rstrip(">"), cell)
            self.print(Padding(grid, (0, 0, 0, 2), expand=False))

    def entry(self, facts: Text, name: str) -> None:
        """For people: print facts, then a key or an ID behind them, or below if it does not fit."""
        if not self.stdout.is_terminal:
            self.line(f"{facts.plain}  {name}")
        elif facts.cell_len + 2 + len(name) > self.stdout.width:
            self.line(facts)
            self.line(f"    {name}")
        else:
            self.line(Text.assemble(facts, "  ", clean(name)))

    def fields(self, model: BaseModel | dict[str, Any]) -> None:
        """For people: print each field that has a value, one per line."""
        if self.as_json:
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in model.items() if isinstance(model, dict) else model:
            if value is not None and value not in ((), {}, []):
                grid.add_row(clean(name), shown(value))
        self.print(grid)

    # --- remarks ------------------------------------------------------------------------

    def done(self, text: str | Text) -> None:
        """For people: print to stderr that something is done."""
        if not self.as_json:
            text = text if isinstance(text, Text) else Text(clean(text))
            self._say(Text.assemble((f"{self._yes} ", "bold green"), text))

    def note(self, text: str) -> None:
        """For people: print a remark to stderr."""
        if not self.as_json:
            self._say(Text(clean(text), style="dim"))

    def warn(self, text: str) -> None:
        """Print a warning to stderr."""
        if self.as_json:
            print(json_text({"warning": text}), file=sys.stderr, flush=True)
        else:
            self._say(Text.assemble(("! ", "bold yellow"), clean(text)))

    def _say(self, text: Text) -> None:
        # Do not wrap lines in a log file. rich wraps between words; a terminal would split them.
        self.stderr.print(text, soft_wrap=not self.stderr.is_terminal)

    @contextmanager
    def transfer(self, verb: str, size: int | None) -> Iterator[Callable[[int], None]]:
        """Show a progress bar on stderr; yield the function to call with the bytes so far."""
        if self.as_json or not self.stderr.is_terminal:
            yield lambda _: None
            return
        progress = make_bars(self.stderr)
        with progress:
            task = progress.add_task(clean(verb), total=size)
            yield lambda moved: progress.update(task, completed=moved)

    def transfers(self, *, several: bool) -> Transfers:
        """Return progress bars on stderr, for one file or for several at a time."""
        moving = self.stderr.is_terminal and not self.as_json
        return Transfers(self.stderr if moving else None, several=several)

    # --- the end ------------------------------------------------------------------------

    def failed(self, error: Exception) -> None:
        """Print an error and its hint; with --json, as an object."""
        known = described(error)
        for name in ("message", "hint"):
            if name in known:
                known[name] = self.advice(known[name])
        if self.as_json:
            print(json_text({"error": known}), file=sys.stderr, flush=True)
            return
        hint = known.pop("hint", None)
        message = f"{known.pop('type')}: {known.pop('message')}"
        self._labelled("Failed", "bold red", clean_lines(message))
        # The method is one of Python.
        where = [f"{name} {known[name]}" for name in known if name not in ("method", "retryable")]
        if where:
            self._labelled("", "", Text(clean(", ".join(where)), style="dim"))
        if hint:
            self._labelled("Hint", "bold yellow", clean(hint))

    def interrupted(self) -> None:
        """Print that a signal stopped the command."""
        if self.as_json:
            error = {"type": "Interrupted", "message": "A signal stopped the command."}
            print(json_text({"error": error}), file=sys.stderr, flush=True)
        else:
            self.stderr.print("Interrupted.", style="yellow")

    def _labelled(self, label: str, style: str, content: str | Text) -> None:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(min_width=6, no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(label, style=style), content)
        self.stderr.print(grid)


def _width(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> int:
    """Return the columns of a terminal that a table needs."""
    widths = [len(column.rstrip(">")) for column in columns]
    for row in rows:
        for at, cell in enumerate(row):
            lines = cell.plain.split("\n")
            widths[at] = max(widths[at], *(Text(line).cell_len for line in lines))
    return sum(widths) + 2 * (len(widths) - 1)


class _Console(Console):
    """A console that prints clean text only, and raises `BrokenPipeError` as files do.

    rich's own control codes are kept; those in text are escaped.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment(clean_lines(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def has_unicode(console: Console) -> bool:
    """Whether the console can show characters such as ✓."""
    return console.encoding.lower().startswith("utf")


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    return console


def _write_any_character(stream: TextIO) -> None:
    # The code page of a Windows console may lack characters of a key.
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def json_text(value: Any) -> str:
    """Return any value as one line of JSON that is safe for a terminal."""
    utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
    return clean_json(json.dumps(plain(value), ensure_ascii=not utf8))


def shown(value: object) -> Text:
    """Return a value as people read it."""
    if isinstance(value, bool):
        return Text("yes" if value else "no", style="green" if value else "dim")
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
    """Return a time to the second: 2026-11-24 17:41:45 UTC."""
    return f"{value:%Y-%m-%d %H:%M:%S %Z}"


def size(count: int) -> Text:
    """Return bytes for people."""
    return Text(human_size(count), style="cyan")


def plain(value: Any) -> Any:
    """Return models, times, sets and paths as values that JSON can hold."""
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
    """Return an error as an object: its type, its message and its details."""
    if not isinstance(error, StorageError):
        return {"type": type(error).__name__, "message": str(error)}
    known = {
        name: getattr(error, name)
        for name in (
            *("method", "operation", "bucket", "key", "code", "status", "request_id", "retryable"),
            *("hint", "unfinished_upload_id"),
        )
        if getattr(error, name) is not None
    }
    return {"type": type(error).__name__, "message": error.message, **known}
