"""``careflow-storage doctor``: run the checks and print the findings."""

from __future__ import annotations

import re
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, counted, has_unicode
from careflow_storage.doctor import Diagnosis, Finding, diagnose

_HEADINGS = {
    "settings": "Settings",
    "network": "Network",
    "access": "Access",
    "bucket": "Bucket",
    "live": "Assumptions about B2",
    "end": "Clean-up",
}
_UNICODE = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "–"}  # noqa: RUF001 - a dash is meant
_PLAIN = {"pass": "ok", "warn": "!", "fail": "NO", "skip": "-"}
_STYLES = {"pass": "bold green", "warn": "bold yellow", "fail": "bold red", "skip": "dim"}
_NAME_WIDTH = 26
_CODE = re.compile(r"`([^`]+)`")


async def run_doctor(
    output: Output, values: dict[str, Any], *, strict: bool, **options: Any
) -> int:
    """Diagnose, print each finding when it is known, and return the exit code."""
    diagnosis = await _diagnose(output, values, **options)
    output.item(diagnosis)
    return diagnosis.exit_code(strict=strict)


async def _diagnose(output: Output, values: dict[str, Any], **options: Any) -> Diagnosis:
    def with_options(finding: Finding) -> Finding:
        """The finding, with the options of this command in the commands of its solution."""
        solution = finding.solution
        advice = output.advice(solution) if solution is not None else None
        return finding.model_copy(update={"solution": advice})

    if output.as_json:
        diagnosis = await diagnose(values, **options)
        findings = tuple(map(with_options, diagnosis.findings))
        return diagnosis.model_copy(update={"findings": findings})
    with Findings(output.stdout) as printed:
        diagnosis = await diagnose(
            values, on_finding=lambda finding: printed.add(with_options(finding)), **options
        )
    printed.summary(diagnosis)
    return diagnosis


class Findings:
    """Prints findings by group. Checks that were skipped for one reason share a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._markers = _UNICODE if has_unicode(console) else _PLAIN
        self._group = ""
        self._skipped: list[Finding] = []
        self._last_advice: tuple[str | None, str | None] = (None, None)
        self._started = time.perf_counter()
        self._status = console.status("Checking …") if console.is_terminal else None

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
        """Print a finding; a skipped one is printed later, with others."""
        if finding.verdict == "skip":
            if self._skipped and self._skipped[0].found != finding.found:
                self._show_skipped()
            self._skipped.append(finding)
            return
        self._show_skipped()
        self._head(finding.group)
        self._line(finding.verdict, finding.check, _highlighted(finding.found))
        self._advice(finding)

    def summary(self, diagnosis: Diagnosis) -> None:
        """Print the last line."""
        counts = Counter(finding.verdict for finding in diagnosis.findings)
        parts = [f"{counts['fail']} failed"] if counts["fail"] else []
        parts += [counted(counts["warn"], "warning")] if counts["warn"] else []
        parts += [f"{counts['pass']} passed"]
        parts += [f"{counts['skip']} skipped"] if counts["skip"] else []
        seconds = time.perf_counter() - self._started
        verdict = diagnosis.verdict
        text = Text.assemble(
            (f"{self._markers[verdict]} {_VERDICTS[verdict]}", _STYLES[verdict]),
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
            counted(len(skipped), "check"),
            Text(clean(f"{first.found} ({names})"), style="dim"),
        )

    def _head(self, group: str) -> None:
        if group != self._group:
            self._console.print()
            self._console.print(Text(_HEADINGS[group], style="bold"))
            self._group = group

    def _line(self, verdict: str, name: str, found: Text) -> None:
        style = _STYLES[verdict]
        marker = Text(self._markers[verdict], style=style)
        title = Text(clean(name), style="" if verdict == "pass" else style)
        self._row(0, (2, _NAME_WIDTH), marker, title, found)

    def _advice(self, finding: Finding) -> None:
        advice = (finding.cause, finding.solution)
        for label, text in zip(("Cause", "Solution"), advice, strict=True):
            # Do not repeat the advice of the finding above.
            if text and text not in self._last_advice:
                self._row(4, (len("Solution"),), Text(label, style="dim"), _highlighted(text))
        self._last_advice = advice if any(advice) else self._last_advice

    def _row(self, indent: int, widths: tuple[int, ...], *cells: Text) -> None:
        """Print cells side by side; the last one wraps within its own column."""
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


_VERDICTS = {"pass": "Everything works", "warn": "Works, with warnings", "fail": "Does not work"}


def _highlighted(text: str) -> Text:
    """A text whose commands, written between backticks, are coloured."""
    highlighted = Text()
    for position, part in enumerate(_CODE.split(clean(text))):
        highlighted.append(part, style="cyan" if position % 2 else "")
    return highlighted
