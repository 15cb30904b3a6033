"""How the demo shows its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, has_unicode, plain
from careflow_storage.errors import ChecksumMismatchError
from careflow_storage.models import FileInfo

_INDENT = (0, 0, 0, 3)


class Screen:
    """Prints steps to a terminal, to a file (without colours and bars), or as one JSON document."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._console = Console(quiet=True) if output.as_json else output.stdout
        self._steps: list[dict[str, Any]] = []
        self._yes, self._no = ("✓", "✗") if has_unicode(self._console) else ("ok", "NO")

    def note(self, text: str) -> None:
        """Print a remark between the steps."""
        self._console.print(Text(clean(text), style="dim"), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._output.warn(text)

    def done(self, text: str, seconds: float) -> None:
        """Print what has been done, and how long it took."""
        self._console.print(
            Text.assemble((f"{self._yes} ", "green"), text, (f"  {seconds:.2f} s", "dim"))
        )

    def finish(self, text: str, seconds: float, *, bucket: str, endpoint: str) -> None:
        """Print the last line; with --json, the document."""
        self._console.print()
        if self._console.is_terminal:
            self._console.rule(style="green")
        self._console.print(
            Text.assemble((f"{self._yes} {text}", "bold green"), (f"  {seconds:.1f} s", "dim"))
        )
        self._output.item(
            {"bucket": bucket, "endpoint": endpoint, "steps": self._steps, "seconds": seconds}
        )

    def working(self, text: str) -> AbstractContextManager[object]:
        """Show a spinner."""
        return self._console.status(Text(clean(text)))

    @contextmanager
    def step(self, title: str, code: str) -> Iterator[None]:
        """Show one call of the library: its purpose and its code."""
        step: dict[str, Any] = {"step": title, "call": code, "results": [], "checks": []}
        self._steps.append(step)
        self._console.print()
        heading = Text.assemble((f"{len(self._steps)}  ", "bold cyan"), (clean(title), "bold"))
        self._console.print(heading, soft_wrap=True)
        syntax = Syntax(code, "python", theme="ansi_dark", background_color="default")
        highlighted = syntax.highlight(code)
        highlighted.rstrip()
        highlighted.no_wrap = False
        self._indented(highlighted)
        started = time.perf_counter()
        yield
        step["seconds"] = seconds = time.perf_counter() - started
        self._indented(Text(f"{seconds:.2f} s", style="dim"))

    def show(self, result: BaseModel) -> None:
        """Print a result: its type, and every field that has a value."""
        self._record("results", {"type": type(result).__name__, **plain(result)})
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in result:
            if value is not None:
                table.add_row(f"  {name}", _value(value))
        self._indented(Text(type(result).__name__, style="magenta"))
        self._indented(table)

    def show_list(self, files: Sequence[FileInfo]) -> None:
        """Print a listing."""
        for file in files:
            self._record("results", {"type": "FileInfo", **plain(file)})
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, style="cyan")
        for file in files:
            table.add_row(clean(file.key), _value(file.size), f"{file.last_modified:%H:%M:%S}")
        self._indented(Text(f"list[FileInfo] with {len(files)} items", style="magenta"))
        self._indented(table)

    def say(self, text: str) -> None:
        """Print a remark within the step."""
        self._indented(Text(clean(text)))

    def link(self, url: str) -> None:
        """Print a URL in one piece, so that it can be copied."""
        self._record("results", {"type": "URL", "url": url})
        self._console.print(Text(f"   {clean(url)}", style="blue"), soft_wrap=True)

    def check(self, holds: bool, claim: str) -> None:
        """Print a claim, and whether it is true.

        Raises:
            ChecksumMismatchError: It is false.
        """
        self._record("checks", {"claim": claim, "holds": holds})
        marker = (f"{self._yes} ", "bold green") if holds else (f"{self._no} ", "bold red")
        self._indented(Text.assemble(marker, claim))
        if not holds:
            raise ChecksumMismatchError(f"Not true: {claim}.")

    @contextmanager
    def transfer(self, verb: str, size: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar; yield the function to call with the bytes so far."""
        with self._output.transfer(f"   {verb}", size) as moved:
            yield moved

    def _record(self, kind: str, value: dict[str, Any]) -> None:
        self._steps[-1][kind].append(value)

    def _indented(self, content: RenderableType) -> None:
        self._console.print(Padding(content, _INDENT, expand=False))


def _value(value: object) -> Text:
    if isinstance(value, bool):
        return Text(str(value), style="green" if value else "dim")
    if isinstance(value, int):
        return Text(f"{value:,}", style="cyan")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S %Z}", style="cyan")
    if isinstance(value, BaseModel):
        fields = [f"{name}={field}" for name, field in value if field is not None]
        return Text(clean(" ".join(fields)))
    # Text keeps escape sequences, and this may come from a server or an uploader.
    return Text(clean(str(value)))
