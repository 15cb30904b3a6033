"""The numbers of the documentation's charts, as files; docs/scripts/charts.py draws them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from benchmarks.metrics import METRICS, Metric
from benchmarks.results import Report, Results
from benchmarks.stats import ratio

Role = Literal["base", "ours", "peer"]
_NOTE = "Less is better. 2.00x: twice what careflow-storage needs with its defaults."
_NAME = "careflow-storage"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: its value, and that value divided by ours with its defaults, the base."""

    label: str
    value: float
    role: Role
    times: float | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """One quantity of all rows."""

    title: str
    digits: int
    bars: Sequence[Bar]
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A line: pairs of x and y."""

    label: str
    role: Role
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Lines:
    """How one quantity depends on another."""

    title: str
    x: str
    series: Sequence[Series]


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture."""

    title: str
    note: str
    panels: Sequence[Bars] | Sequence[Lines]

    def write(self, folder: Path, name: str) -> Path:
        """Write the numbers to ``name.json`` in this folder."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.json"
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        path.write_text(f"{text}\n", encoding="utf-8")
        return path


def label_of(label: str) -> str:
    """Return how a chart calls a row of the tables, in which this package is "ours"."""
    name, _, rest = label.partition(" ")
    if name.rstrip(",") != "ours":
        return label
    return f"{_NAME}, {rest.removesuffix(' (default)')}" if rest else _NAME


def bars(results: Results, section: str, metric: Metric) -> list[Bar]:
    """Return the rows that have a number, in the order of the table."""
    base = results.base()
    ours = results.middle(base, section, metric.pick) if base else None
    found = []
    for row in results.rows:
        value = results.middle(row.label, section, metric.pick)
        if value is not None:
            role: Role = "base" if row.label == base else "ours" if row.ours else "peer"
            times = None if role == "base" or not metric.rated else ratio(value, ours)
            found.append(Bar(label_of(row.label), value, role, times))
    return found


def _by_metric(results: Results, section: str) -> list[Bars]:
    """Return the charted metrics of one section."""
    charted = [metric for metric in METRICS[results.workload] if metric.charted]
    drawn = [(metric, bars(results, section, metric)) for metric in charted]
    return [Bars(metric.head, metric.digits, found) for metric, found in drawn if found]


def _by_section(results: Results, sections: Sequence[str]) -> list[Bars]:
    """Return the most telling metric of several sections."""
    metric = METRICS[results.workload][0]
    drawn = [(section, bars(results, section, metric)) for section in sections]
    return [
        Bars(f"{section}: {metric.head}", metric.digits, found) for section, found in drawn if found
    ]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _panels(report: Report) -> Iterator[tuple[str, str, list[Bars]]]:
    """Return name, title and panels of each chart.

    A group's chart has its name; with many sections each number of workers has one:
    ``upload-tls``, ``small-http`` (64 at once), ``small-http-x1``, ...
    """
    for results in report.groups:
        sections = results.sections()
        if results.workload == "small":
            for workers in sorted({one.rpartition(" x")[2] for one in sections}, key=int):
                name = results.name if workers == "64" else f"{results.name}-x{_slug(workers)}"
                chosen = [one for one in sections if one.endswith(f" x{workers}")]
                yield name, results.title, _by_section(results, chosen)
        elif len(sections) > 1:
            yield results.name, results.title, _by_section(results, sections)
        elif sections:
            yield results.name, results.title, _by_metric(results, sections[0])


def write(report: Report, folder: Path) -> list[Path]:
    """Write the numbers of all charts of a report."""
    charts = [(name, Chart(title, _NOTE, panels)) for name, title, panels in _panels(report)]
    return [chart.write(folder, name) for name, chart in charts if chart.panels]
