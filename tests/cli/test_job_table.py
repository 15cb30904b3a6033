"""What a person sees of a running job: on a narrow terminal, in a log, and as events."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from careflow_storage.cli.ui.job_table import JobTable, Total, duration
from careflow_storage.cli.ui.output import Output
from careflow_storage.jobs import JobProgress

WIDTH = 60


def progress(**changes: float) -> JobProgress:
    """A large job at a third of its way."""
    fields: dict[str, float] = {
        "objects": 312_345_678,
        "bytes": 123_456_789_012_345,
        "skipped": 12_345_678,
        "errors": 1_234,
        "shards_finished": 312_345,
        "shards_running": 64,
        "shards_waiting": 128,
        "seconds": 654_321.0,
        **changes,
    }
    return JobProgress.model_validate({"job_id": "20260131T235959-0123abcd", **fields})


@pytest.fixture
def terminal() -> Output:
    """An output whose stderr is a narrow terminal without colours."""
    output = Output(as_json=False)
    output.stderr = Console(width=WIDTH, height=20, force_terminal=True, no_color=True, stderr=True)
    return output


def drawn(table: JobTable) -> list[str]:
    """The lines of the table, without the codes for bold and dim."""
    console = Console(width=WIDTH, file=io.StringIO())
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("total", [None, 1_000_000_000])
def test_the_table_of_a_large_job_fits_a_narrow_terminal(
    terminal: Output, total: int | None
) -> None:
    table = JobTable(terminal, f"copy {'x' * 80}.env -> new.env", Total(total))
    with table.shown() as show:
        assert drawn(table)[1] == "starting ..."
        show(progress())
        lines = drawn(table)
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith("copy xxx")
    assert not any("…" in line for line in lines[1:]), lines
    named = dict(line.split(maxsplit=1) for line in lines[2:])
    assert list(named) == ["objects", "skipped", "bytes", "rate", "errors", "shards", "time"]
    assert named["errors"] == "1,234"
    assert named["shards"] == "312,345 finished, 64 running, 128 waiting"
    assert named["objects"] == ("324,692,590 of 1,000,000,000" if total else "324,692,590")
    assert (named["time"].endswith(" left")) == (total is not None)


def test_a_log_gets_lines_that_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    table = JobTable(Output(as_json=False), "copy", Total(1_000_000_000), line_every_s=0.0)
    with table.shown() as show:
        show(progress())
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "312,345,678 objects, 112.3 TiB, 12,345,678 skipped, 1,234 errors (32%), 496 objects/s, "
        "179.9 MiB/s, 7 d 13 h, 15 d 18 h left"
    )


def test_a_program_gets_the_last_numbers_however_short_the_job_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = JobTable(Output(as_json=True), "copy", Total(4))
    with table.shown() as show:
        show(progress(objects=1, skipped=0, errors=0, seconds=1.0))
        show(progress(objects=3, skipped=0, errors=0, seconds=2.0))
    (line,) = capsys.readouterr().out.splitlines()
    event = json.loads(line)
    assert (event["event"], event["objects"], event["total"]) == ("progress", 3, 4)
    assert event["eta_seconds"] == pytest.approx(0.7)


def test_the_time_that_is_left_counts_from_the_resume(capsys: pytest.CaptureFixture[str]) -> None:
    table = JobTable(Output(as_json=True), "copy", Total(300, before=100))
    with table.shown() as show:
        # 50 objects in 5 s, so that the other 150 take 15 s.
        show(progress(objects=150, skipped=0, errors=0, seconds=5.0))
    assert json.loads(capsys.readouterr().out)["eta_seconds"] == 15


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s")),
        *((3599.6, "1 h 0 min"), (86_399, "23 h 59 min"), (86_400, "1 d 0 h")),
    ],
)
def test_lengths_of_time_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
