"""Tables of medians, spread and ratios, as Markdown that also reads well in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.imports import ImportSample
from benchmarks.model import MIB, Answer, Sample
from benchmarks.plan import BASELINE, Group, Row


@dataclass(slots=True)
class Results:
    """All samples of one group, by label of the row, in the order of the rounds."""

    group: Group
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    imports: dict[str, list[ImportSample]] = field(default_factory=dict)

    def sections(self) -> list[str]:
        """The measured sections, in the order in which they ran."""
        return list(next(iter(self.answers.values()))[0].sections) if self.answers else []

    def samples(self, row: Row, section: str) -> list[Sample]:
        return [answer.sections[section] for answer in self.answers.get(row.label, [])]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]

    def join(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([join(head), f"|{rule}|", *(join(line) for line in lines)])


def _spread(values: Sequence[float], digits: int) -> str:
    """The median, and the least and greatest where there is more than one value."""
    middle = f"{median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def _middle(samples: Sequence[Sample], pick: Callable[[Sample], float | None]) -> float | None:
    values = [value for value in map(pick, samples) if value is not None]
    return median(values) if values else None


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _ratio(value: float | None, base: float | None) -> str:
    return "-" if value is None or not base else f"{value / base:.2f}x"


def _cpu_per_op(sample: Sample) -> float:
    return sample.cpu_s / sample.ops


def _transfer_table(results: Results, section: str) -> str:
    base = {row.label: results.samples(row, section) for row in results.group.rows}[BASELINE]
    lines = []
    for row in results.group.rows:
        samples = results.samples(row, section)
        if not samples:
            continue
        p99 = _middle(samples, lambda one: one.lag_p99_ms)
        lag = [_middle(samples, pick) for pick in (lambda s: s.lag_p50_ms, lambda s: s.lag_max_ms)]
        lines.append(
            [
                row.label,
                _spread([one.cpu_s for one in samples], 2),
                _ratio(_middle(samples, _cpu_per_op), _middle(base, _cpu_per_op)),
                " + ".join(
                    _number(_middle(samples, pick), 2)
                    for pick in (lambda one: one.user_s, lambda one: one.system_s)
                ),
                _spread([one.wall_s for one in samples], 2),
                _number(_middle(samples, lambda one: one.size / MIB / one.wall_s), 0),
                _spread([one.peak_rss_mib for one in samples], 0),
                f"{_number(lag[0], 1)} / {_number(p99, 1)} / {_number(lag[1], 0)}",
                _ratio(p99, _middle(base, lambda one: one.lag_p99_ms)),
                row.verifies,
            ]
        )
    head = (
        *("client", "CPU s", "vs obstore", "user + sys", "wall s", "MiB/s", "peak RSS MiB"),
        *("lag ms p50 / p99 / max", "p99 vs obstore", "verifies"),
    )
    return _table(head, lines)


def _operations_table(results: Results, section: str) -> str:
    base = {row.label: results.samples(row, section) for row in results.group.rows}[BASELINE]
    lines = []
    for row in results.group.rows:
        samples = results.samples(row, section)
        if not samples:
            continue
        lines.append(
            [
                row.label,
                _spread([1e6 * _cpu_per_op(one) for one in samples], 0),
                _ratio(_middle(samples, _cpu_per_op), _middle(base, _cpu_per_op)),
                _spread([one.ops / one.wall_s for one in samples], 0),
                _number(_middle(samples, lambda one: one.lag_p99_ms), 1),
                _number(_middle(samples, lambda one: one.peak_rss_mib), 0),
                row.verifies,
            ]
        )
    head = (
        *("client", "CPU us/op", "vs obstore", "ops/s"),
        *("lag p99 ms", "peak RSS MiB", "verifies"),
    )
    return _table(head, lines)


def _import_table(results: Results) -> str:
    lines = []
    for row in results.group.rows:
        samples = results.imports.get(row.label)
        if not samples:
            continue
        lines.append(
            [
                row.label,
                _spread([1000 * one.wall_s for one in samples], 0),
                _spread([1000 * one.cpu_s for one in samples], 0),
                _spread([one.rss_mib for one in samples], 1),
                str(samples[-1].modules),
                ", ".join(samples[-1].brings) or "-",
            ]
        )
    return _table(("module", "ms", "CPU ms", "RSS MiB", "modules", "brings along"), lines)


def _ready_table(results: Results) -> str:
    """What came before the measured section: import, opening, warm-up."""
    lines = []
    for row in results.group.rows:
        answers = results.answers.get(row.label)
        if not answers:
            continue
        lines.append(
            [
                row.label,
                _spread([one.import_cpu_s for one in answers], 2),
                _spread([one.ready_cpu_s for one in answers], 2),
                _spread([one.process_peak_mib for one in answers], 0),
            ]
        )
    head = ("client", "import CPU s", "open and warm-up CPU s", "peak RSS MiB of the whole process")
    return _table(head, lines)


def render(results: Results) -> str:
    """The group's tables, with headings."""
    group = results.group
    parts = [f"## {group.title}"]
    if results.imports:
        parts.append(_import_table(results))
    make = _transfer_table if group.name in ("upload", "download") else _operations_table
    for section in results.sections():
        if len(results.sections()) > 1:
            parts.append(f"### {section}")
        parts.append(make(results, section))
    if group.name in ("upload", "download"):
        parts.append("Before the measured section:")
        parts.append(_ready_table(results))
    return "\n\n".join(parts)
