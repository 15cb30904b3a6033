"""How the doctor's findings look in a terminal, or in a log."""

from __future__ import annotations

import re
import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import counted
from careflow_storage.doctor import Diagnosis, Finding

_HEADINGS = {
    "settings": "Settings",
    "network": "Network",
    "access": "Access",
    "bucket": "Bucket",
    "live": "B2, and what is taken for granted of it",
    "end": "In the end",
}
_FANCY = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "–"}  # noqa: RUF001 - a dash is meant
_PLAIN = {"pass": "ok", "warn": "!", "fail": "NO", "skip": "-"}
_STYLES = {"pass": "bold green", "warn": "bold yellow", "fail": "bold red", "skip": "dim"}
_NAME_WIDTH = 26
_CODE = re.compile(r"`([^`]+)`")


class Findings:
    """Prints findings, group by group; what was skipped for one reason takes one line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._marks = _FANCY if console.encoding.lower().startswith("utf") else _PLAIN
        self._group = ""
        self._skipped: list[Finding] = []
        self._last_advice: tuple[str | None, str | None] = (None, None)
        self._started = time.perf_counter()
        self._status = console.status("Looking …") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()
        self._show_skipped()

    def add(self, finding: Finding) -> None:
        """Print it, now or, if it was skipped, together with others."""
        if finding.verdict == "skip":
            if self._skipped and self._skipped[0].found != finding.found:
                self._show_skipped()
            self._skipped.append(finding)
            return
        self._show_skipped()
        self._head(finding.group)
        self._line(finding.verdict, finding.check, _marked(finding.found))
        self._advice(finding)

    def summary(self, diagnosis: Diagnosis) -> None:
        """Print the last line."""
        counts = Counter(finding.verdict for finding in diagnosis.findings)
        parts = [f"{counts['fail']} failed"] if counts["fail"] else []
        parts += [counted(counts["warn"], "warning")] if counts["warn"] else []
        parts += [f"{counts['pass']} passed"]
        parts += [f"{counts['skip']} not looked at"] if counts["skip"] else []
        seconds = time.perf_counter() - self._started
        verdict = diagnosis.verdict
        text = Text.assemble(
            (f"{self._marks[verdict]} {_VERDICTS[verdict]}", _STYLES[verdict]),
            (f"  {', '.join(parts)}, {seconds:.1f} s", "dim"),
        )
        self._console.print()
        self._console.print(text, soft_wrap=True)

    def _show_skipped(self) -> None:
        skipped, self._skipped = self._skipped, []
        if not skipped:
            return
        first = skipped[0]
        self._head(first.group)
        if len(skipped) == 1:
            self._line("skip", first.check, Text(clean(first.found), style="dim"))
            return
        names = ", ".join(finding.check for finding in skipped)
        self._line(
            "skip",
            f"{len(skipped)} checks",
            Text(clean(f"{first.found} ({names})"), style="dim"),
        )

    def _head(self, group: str) -> None:
        if group != self._group:
            self._console.print()
            self._console.print(Text(_HEADINGS[group], style="bold"))
            self._group = group

    def _line(self, verdict: str, name: str, found: Text) -> None:
        style = _STYLES[verdict]
        marker = Text(self._marks[verdict], style=style)
        title = Text(clean(name), style="" if verdict == "pass" else style)
        self._row(0, (2, _NAME_WIDTH), marker, title, found)

    def _advice(self, finding: Finding) -> None:
        advice = (finding.cause, finding.solution)
        for label, text in zip(("Cause", "Solution"), advice, strict=True):
            # What was said of the finding above need not be said again.
            if text and text not in self._last_advice:
                self._row(4, (len("Solution"),), Text(label, style="dim"), _marked(text))
        self._last_advice = advice if any(advice) else self._last_advice

    def _row(self, indent: int, widths: tuple[int, ...], *cells: Text) -> None:
        """Print cells side by side; the last one is folded, under its own beginning."""
        if not self._console.is_terminal:
            padded = [cell.plain.ljust(width) for cell, width in zip(cells, widths, strict=False)]
            line = "  ".join([*padded, cells[-1].plain])
            self._console.print(Text(" " * indent + line), soft_wrap=True)
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        for width in widths:
            grid.add_column(width=width, overflow="fold")
        grid.add_column(overflow="fold")
        grid.add_row(*cells)
        self._console.print(Padding(grid, (0, 0, 0, indent), expand=False))


_VERDICTS = {"pass": "All is well", "warn": "It works, with warnings", "fail": "It does not work"}


def _marked(text: str) -> Text:
    """A text in which commands, written between backticks, are coloured."""
    marked = Text()
    for position, part in enumerate(_CODE.split(clean(text))):
        marked.append(part, style="cyan" if position % 2 else "")
    return marked
