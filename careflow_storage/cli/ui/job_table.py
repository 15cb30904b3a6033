"""The progress of a bulk job: a live table on a terminal, lines in a log, events for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.cli.ui.progress import human_size
from careflow_storage.jobs import JobProgress

_LINE_EVERY_S = 5.0
_EVENT_EVERY_S = 1.0
_REDRAWS_PER_S = 2
_BAR = 56


@dataclass
class Total:
    """How many objects a job is about; None until they are counted.

    ``before`` is how many of them earlier runs have visited.
    """

    objects: int | None = None
    before: int = 0


class JobTable:
    """Shows the progress of one job.

    Args:
        output: Where to show it.
        title: The job in a few words.
        total: Filled in while the job runs.
        line_every_s: The seconds between two lines in a log.
    """

    def __init__(
        self, output: Output, title: str, total: Total, *, line_every_s: float = _LINE_EVERY_S
    ) -> None:
        self._output = output
        self._title = title
        self._total = total
        self._interval_s = _EVENT_EVERY_S if output.as_json else line_every_s
        self._next = 0.0
        self._received = 0.0
        self._written: JobProgress | None = None
        self._lines = True
        self.last: JobProgress | None = None

    @contextmanager
    def shown(self) -> Iterator[Callable[[JobProgress], None]]:
        """Show the table; yield the function to call with each progress."""
        if not self._output.as_json and self._output.stderr.is_terminal:
            self._lines = False
            with Live(
                console=self._output.stderr,
                get_renderable=lambda: self,
                refresh_per_second=_REDRAWS_PER_S,
                transient=True,
                # When stdout is a pipe, what is printed there must not go to stderr.
                redirect_stdout=sys.stdout.isatty(),
            ):
                yield self._update
            return
        self._next = time.monotonic() + self._interval_s
        try:
            yield self._update
        finally:
            # A program gets the numbers of the end, however short the job was; a person gets a
            # sentence about them.
            if self._output.as_json and self.last is not None and self.last is not self._written:
                self._write(self.last)

    def _update(self, progress: JobProgress) -> None:
        self.last, self._received = progress, time.monotonic()
        if self._lines and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval_s
            self._write(progress)

    def _write(self, progress: JobProgress) -> None:
        self._written = progress
        done, eta = self._done(progress)
        if self._output.as_json:
            fields = progress.model_dump(mode="json")
            self._output.item(
                {"event": "progress", **fields, "total": self._total.objects, "eta_seconds": eta}
            )
            return
        share = "" if done is None else f" ({done:.0%})"
        left = "" if eta is None else f", {duration(eta)} left"
        self._output.note(
            f"{counts(progress)}{share}, {rates(progress)}, {duration(progress.seconds)}{left}"
        )

    def _done(self, progress: JobProgress) -> tuple[float | None, float | None]:
        """Return the share that is done, and the seconds that are left."""
        total = self._total.objects
        if not total:
            return None, None
        seen = visited(progress)
        share = min(1.0, seen / total)
        if seen <= self._total.before or not progress.seconds:
            return share, None
        left = max(0, total - seen)
        return share, round(left * progress.seconds / (seen - self._total.before), 1)

    def __rich__(self) -> RenderableType:
        """Return the table as it is now."""
        title = Text(clean(self._title), "bold", overflow="ellipsis", no_wrap=True)
        progress = self.last
        if progress is None:
            return Group(title, Text("starting ...", "dim"))
        done, eta = self._done(progress)
        bar = ProgressBar(
            total=1,
            completed=done or 0,
            width=min(_BAR, self._output.stderr.width),
            pulse=done is None,
        )
        # Between two reports of the job only the clock moves.
        worked = progress.seconds + time.monotonic() - self._received
        left = "" if eta is None else f", {duration(eta)} left"
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_row("objects", self._visited(progress))
        if progress.skipped:
            grid.add_row("skipped", f"{progress.skipped:,}, which need nothing")
        grid.add_row("bytes", Text(human_size(progress.bytes), "cyan"))
        grid.add_row("rate", rates(progress))
        grid.add_row("errors", Text(f"{progress.errors:,}", "bold red" if progress.errors else ""))
        grid.add_row("shards", shards(progress))
        grid.add_row("time", f"{duration(worked)}{left}")
        # A bar alone ends without a line break.
        line = Table.grid()
        line.add_row(bar)
        return Group(title, line, grid)

    def _visited(self, progress: JobProgress) -> Text:
        text = Text(f"{visited(progress):,}", "cyan")
        if self._total.objects is not None:
            text.append(f" of {self._total.objects:,}", "not cyan")
        return text


def visited(progress: JobProgress) -> int:
    """Return how many objects the job has looked at."""
    return progress.objects + progress.skipped + progress.errors


def counts(progress: JobProgress) -> str:
    """Return what is done: 1,000 objects, 4.0 MiB, 3 skipped, 1 error."""
    parts = [counted(progress.objects, "object"), human_size(progress.bytes)]
    parts += [f"{progress.skipped:,} skipped"] * bool(progress.skipped)
    parts += [counted(progress.errors, "error")] * bool(progress.errors)
    return ", ".join(parts)


def rates(progress: JobProgress) -> str:
    """Return the mean rates: 512 objects/s, 2.0 MiB/s."""
    seconds = progress.seconds or 1.0
    return f"{visited(progress) / seconds:,.0f} objects/s, {human_size(progress.bytes / seconds)}/s"


def shards(progress: JobProgress) -> str:
    """Return how many shards there are."""
    return (
        f"{progress.shards_finished:,} finished, {progress.shards_running:,} running, "
        f"{progress.shards_waiting:,} waiting"
    )


def duration(seconds: float) -> str:
    """Return a length of time: 4.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
