"""Charts for the documentation: bars of a workload's tables, ours highlighted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl

from benchmarks.metrics import METRICS, Metric
from benchmarks.report import number
from benchmarks.results import Report, Results
from benchmarks.stats import ratio

OURS_COLOUR = "#0b6e4f"
OURS_TOO_COLOUR = "#7fb8a4"
PEER_COLOUR = "#b4bcc6"
TEXT_COLOUR = "#1f2933"
GRID_COLOUR = "#e4e7eb"
_STYLE = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": TEXT_COLOUR,
    "axes.labelcolor": TEXT_COLOUR,
    "xtick.color": TEXT_COLOUR,
    "ytick.color": TEXT_COLOUR,
    # The same file for the same numbers, so that nothing changes but what was measured.
    "svg.hashsalt": "careflow-storage",
}
_LEGEND = "Less is better. 2.00x: twice of what ours needs."
_WIDTH = 8.0
_DPI = 100


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: its value, and that value divided by ours."""

    label: str
    value: float
    times: float | None
    colour: str


def bars(results: Results, section: str, metric: Metric) -> list[Bar]:
    """Return the rows that have a number, in the order of the table."""
    base = results.base()
    ours = results.middle(base, section, metric.pick) if base else None
    found = []
    for row in results.rows:
        value = results.middle(row.label, section, metric.pick)
        if value is not None:
            too = OURS_TOO_COLOUR if row.ours else PEER_COLOUR
            colour = OURS_COLOUR if row.label == base else too
            times = None if row.label == base or not metric.rated else ratio(value, ours)
            found.append(Bar(row.label, value, times, colour))
    return found


def new_figure(rows: int, columns: int, height: float) -> tuple[Any, Any]:
    """Return an empty figure of the documentation's width, which needs no display."""
    mpl.use("agg")
    mpl.rcParams.update(cast("Any", _STYLE))
    from matplotlib import pyplot

    return pyplot.subplots(
        rows, columns, figsize=(_WIDTH, height), squeeze=False, layout="constrained"
    )


def give_title(figure: Any, title: str, legend: str = _LEGEND) -> None:
    """Add a title and how to read the chart."""
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08, wspace=0.03)
    figure.suptitle(f"{title}\n{legend}", fontsize=10, x=0.02, ha="left")


def save(figure: Any, folder: Path, name: str) -> Iterator[Path]:
    """Save as SVG and PNG, without dates, so that equal charts are equal files."""
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for ending, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        path = folder / f"{name}.{ending}"
        figure.savefig(path, dpi=_DPI, metadata=metadata)
        yield path
    pyplot.close(figure)


def draw_bars(axes: Any, drawn: Sequence[Bar], metric: Metric, title: str) -> None:
    """Draw horizontal bars with their values and their ratios to ours."""
    places = range(len(drawn))
    values = [max(0.0, bar.value) for bar in drawn]
    axes.barh(places, values, color=[bar.colour for bar in drawn], height=0.72)
    axes.set_yticks(places, [bar.label for bar in drawn])
    axes.invert_yaxis()
    for place, bar in zip(places, drawn, strict=True):
        times = f"   {bar.times:.2f}x" if bar.times is not None else ""
        axes.annotate(
            f"{number(bar.value, metric.digits)}{times}",
            (max(0.0, bar.value), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold" if bar.colour == OURS_COLOUR else "normal",
        )
    # Room for the text behind the longest bar.
    axes.set_xlim(0, max(values, default=0.0) * 1.35 or 1.0)
    axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
    axes.xaxis.grid(visible=True, color=GRID_COLOUR)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)


def _panels(results: Results, section: str) -> list[tuple[Metric, list[Bar]]]:
    charted = [metric for metric in METRICS[results.workload] if metric.charted]
    drawn = [(metric, bars(results, section, metric)) for metric in charted]
    return [(metric, found) for metric, found in drawn if found]


def _by_metric(results: Results, section: str, name: str, folder: Path) -> Iterator[Path]:
    """Draw one section: a panel for each metric."""
    panels = _panels(results, section)
    if not panels:
        return
    rows = max(len(found) for _, found in panels)
    columns = 2 if len(panels) > 1 else 1
    lines = -(-len(panels) // columns)
    figure, grid = new_figure(lines, columns, 0.9 + lines * (0.6 + 0.26 * rows))
    flat = [axes for line in grid for axes in line]
    for axes, (metric, found) in zip(flat, panels, strict=False):
        draw_bars(axes, found, metric, metric.head)
    for axes in flat[len(panels) :]:
        axes.set_visible(False)
    give_title(figure, results.title)
    yield from save(figure, folder, name)


def _by_section(
    results: Results, sections: Sequence[str], name: str, folder: Path
) -> Iterator[Path]:
    """Draw several sections: a panel for each, with the most telling metric."""
    metric = METRICS[results.workload][0]
    panels = [(one, found) for one in sections if (found := bars(results, one, metric))]
    if not panels:
        return
    rows = max(len(found) for _, found in panels)
    lines = -(-len(panels) // 2)
    figure, grid = new_figure(lines, 2, 0.9 + lines * (0.6 + 0.26 * rows))
    flat = [axes for line in grid for axes in line]
    for axes, (section, found) in zip(flat, panels, strict=False):
        draw_bars(axes, found, metric, f"{section}: {metric.head}")
    for axes in flat[len(panels) :]:
        axes.set_visible(False)
    give_title(figure, results.title)
    yield from save(figure, folder, name)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def draw(report: Report, folder: Path) -> list[Path]:
    """All charts. A group's file has its name; with many sections each number of workers has one.

    ``upload-tls.svg``, ``small-http.svg`` (64 at once), ``small-http-x1.svg``, ...
    """
    paths: list[Path] = []
    for results in report.groups:
        sections = results.sections()
        if results.workload == "small":
            for workers in sorted({one.rpartition(" x")[2] for one in sections}, key=int):
                name = results.name if workers == "64" else f"{results.name}-x{_slug(workers)}"
                chosen = [one for one in sections if one.endswith(f" x{workers}")]
                paths += _by_section(results, chosen, name, folder)
        elif len(sections) > 1:
            paths += _by_section(results, sections, results.name, folder)
        elif sections:
            paths += _by_metric(results, sections[0], results.name, folder)
    return paths
