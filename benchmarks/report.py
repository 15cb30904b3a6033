"""Tables of medians, spread and ratios, as Markdown that also reads well in a terminal.

A ratio is theirs divided by ours: more than 1 means that ours needs less.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.metrics import METRICS, Metric
from benchmarks.results import Results, RowFacts
from benchmarks.stats import Spread, ratio, spread


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column aligned left, the others right."""
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]

    def join(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([join(head), f"|{rule}|", *(join(line) for line in lines)])


def number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def spread_text(found: Spread | None, digits: int) -> str:
    """Return the median, with least and greatest where there are several values."""
    if found is None:
        return "-"
    middle = number(found.middle, digits)
    if found.count == 1:
        return middle
    return f"{middle} ({number(found.least, digits)}-{number(found.greatest, digits)})"


def _cell(results: Results, row: RowFacts, section: str, metric: Metric) -> str:
    found = results.spread(row.label, section, metric.pick)
    text = spread_text(found, metric.digits)
    base = results.base()
    if not metric.rated or found is None or base in (None, row.label):
        return text
    compared = ratio(found.middle, results.middle(base or "", section, metric.pick))
    return text if compared is None else f"{text} {times(compared)}"


def _columns(results: Results, section: str) -> list[Metric]:
    """Return the metrics for which a row has a number."""
    return [
        metric
        for metric in METRICS[results.workload]
        if any(results.spread(row.label, section, metric.pick) for row in results.rows)
    ]


def section_table(results: Results, section: str) -> str:
    metrics = _columns(results, section)
    lines = [
        [
            row.label,
            *(_cell(results, row, section, metric) for metric in metrics),
            row.verifies,
        ]
        for row in results.rows
        if results.samples(row.label, section)
    ]
    return table(("client", *(metric.head for metric in metrics), "verifies"), lines)


def best_peer(results: Results, section: str, metric: Metric) -> tuple[str, float] | None:
    """Return the peer that needs least, and how much."""
    found = [
        (row.label, value)
        for row in results.peers()
        if (value := results.middle(row.label, section, metric.pick)) is not None
    ]
    return min(found, key=lambda one: one[1]) if found else None


def best_line(results: Results, section: str) -> str:
    """Return for each metric the best peer and our ratio to it; below 1, ours is better."""
    base = results.base()
    parts = []
    for metric in _columns(results, section):
        best = best_peer(results, section, metric)
        ours = results.middle(base, section, metric.pick) if base else None
        if not metric.rated or best is None or ours is None:
            continue
        label, value = best
        needs = times(ratio(ours, value))
        parts.append(f"{metric.head} {number(value, metric.digits)} ({label}; ours {needs} of it)")
    return f"Best peer: {'; '.join(parts)}." if parts else ""


def _ready_table(results: Results) -> str:
    """Return the costs before the measured section: import, opening, warm-up."""
    lines = []
    for row in results.rows:
        measurements = results.measurements.get(row.label)
        if not measurements:
            continue
        lines.append(
            [
                row.label,
                spread_text(spread([one.import_cpu_s for one in measurements]), 2),
                spread_text(spread([one.ready_cpu_s for one in measurements]), 2),
                spread_text(spread([one.process_peak_mib for one in measurements]), 0),
            ]
        )
    head = ("client", "import CPU s", "open and warm-up CPU s", "peak RSS MiB of the whole process")
    return table(head, lines)


def _notes(results: Results) -> list[str]:
    notes = [
        f"{label} brings {measurements[-1].note}."
        for label, measurements in results.measurements.items()
        if measurements and measurements[-1].note
    ]
    counts = sorted({len(measurements) for measurements in results.measurements.values()})
    if counts:
        many = "-".join(str(count) for count in counts)
        notes.append(f"{many} round(s): median (least-greatest); ratio: theirs / ours.")
    notes += [f"FAILED: {label}: {reason}" for label, reason in results.failures.items()]
    if results.trouble:
        notes.append(f"NOT MEASURED: {results.trouble}")
    return notes


def _memory_lines(results: Results) -> list[str]:
    """Return the memory readings of each row that ran many operations, and a verdict."""
    lines = []
    for row in results.rows:
        for one in results.samples(row.label, "soak")[-1:]:
            readings = [f"{mib:.1f}" for name, mib in one.extra.items() if name.startswith("rss_")]
            verdict = "LEAK" if one.extra["leaks"] else "no leak"
            lines.append(f"{row.label}: {verdict}; RSS {', '.join(readings)} MiB.")
    return lines


def render(results: Results) -> str:
    """Return the group's tables, with headings."""
    sections = results.sections()
    parts = [f"## {results.name}: {results.title}"]
    for section in sections:
        if len(sections) > 1:
            parts.append(f"### {section}")
        parts.append(section_table(results, section))
        if line := best_line(results, section):
            parts.append(line)
    if results.workload in ("upload", "download", "stream") and results.measurements:
        parts += ["Before the measured section:", _ready_table(results)]
    return "\n\n".join([*parts, *_memory_lines(results), *_notes(results)])
