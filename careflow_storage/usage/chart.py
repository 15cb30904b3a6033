"""Draw the growth of the stored bytes. Needs the extra ``charts``."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from careflow_storage._executor import in_thread
from careflow_storage._local_paths import as_path
from careflow_storage.errors import InvalidInputError, MissingExtraError, StorageError
from careflow_storage.usage.cost import estimate
from careflow_storage.usage.models import Stored, UsageReport
from careflow_storage.usage.prices import Prices, checked_prices
from careflow_storage.usage.sizes import decimal_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_MONTHS = 120
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("bytes", 1))
_INK, _PALE_INK, _GRID = "#1f2933", "#66727f", "#e3e7ec"
_COLORS = ("#2563a8", "#f0a63c", "#c8453b")
_FEWEST_PLACES = 8
_MOST_LABELS = 10
_STEPS = (1, 2, 3, 6, 12)
_SERIES = (
    ("files", "bytes"),
    ("hidden versions", "hidden_bytes"),
    ("unfinished uploads", "unfinished_bytes"),
)


class _Month(NamedTuple):
    """A month, and the bytes of each series up to its end."""

    year: int
    month: int
    totals: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{_MONTHS[self.month - 1]} {self.year}"


async def draw_growth(
    report: UsageReport,
    path: str | os.PathLike[str],
    *,
    prices: Prices | None = None,
) -> Path:
    """Draw the bytes stored up to each month's end as a PNG; return its path.

    Shows files, hidden versions and unfinished uploads, each in the month of its upload. Only
    what is still stored counts, so the chart does not show what past months were billed. With
    ``prices`` a second axis shows the cost per month. Shows the last 120 months, and adds older
    bytes to the first one. Takes about a second in a thread.

    Raises:
        MissingExtraError: matplotlib is not installed: the extra ``charts``.
        InvalidInputError: The path does not end with ``.png``, its folder does not exist, or a
            price is invalid.
        StorageError: The file cannot be written.
    """
    target = as_path(path)
    if target.suffix.lower() != ".png":
        raise InvalidInputError(f"path must end with .png, not {target.name!r}.")
    if prices is not None:
        checked_prices(prices)
    await in_thread(_draw_and_write, report, target, prices)
    return target


def _draw_and_write(report: UsageReport, target: Path, prices: Prices | None) -> None:
    if not target.parent.is_dir():
        raise InvalidInputError(f"path is in the folder {target.parent}, which does not exist.")
    image = _draw(report, prices)
    try:
        target.write_bytes(image)
    except OSError as error:
        raise StorageError(
            f"The chart cannot be written to {target} ({error.strerror or type(error).__name__})."
        ) from error


def _draw(report: UsageReport, prices: Prices | None) -> bytes:
    try:
        # Figure and canvas only: pyplot keeps every figure in a global list, for one thread.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("charts", method="draw_growth") from error
    figure = Figure(figsize=(10, 5.6), dpi=160, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.085, 0.15, 0.82 if prices else 0.885, 0.63))
    months = _months(report)
    _write_texts(figure, report, prices)
    _style(axes)
    if months:
        _draw_bars(axes, months, report.total, prices)
        figure.legend(
            loc="upper left",
            bbox_to_anchor=(0.0225, 0.915),
            ncols=len(_SERIES),
            frameon=False,
            fontsize=10,
            labelcolor=_INK,
            handlelength=0.9,
            handleheight=0.9,
            handletextpad=0.5,
            columnspacing=1.8,
        )
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "Nothing is stored.", ha="center", color=_PALE_INK, fontsize=13)
    image = io.BytesIO()
    canvas.print_png(image)
    return image.getvalue()


def _months(report: UsageReport) -> list[_Month]:
    """Return every month from the first to the last, including empty ones."""
    added = {
        int(name[:4]) * 12 + int(name[5:]) - 1: _bytes_of(counted)
        for name, counted in report.by_month.items()
    }
    if not any(any(sizes) for sizes in added.values()):
        return []
    last = max(added)
    first = max(min(added), last - _MOST_MONTHS + 1)
    totals = [0] * len(_SERIES)
    for number, sizes in added.items():
        if number < first:
            totals = [total + size for total, size in zip(totals, sizes, strict=True)]
    months = []
    for number in range(first, last + 1):
        sizes = added.get(number, (0,) * len(_SERIES))
        totals = [total + size for total, size in zip(totals, sizes, strict=True)]
        months.append(_Month(number // 12, number % 12 + 1, tuple(totals)))
    return months


def _bytes_of(counted: Stored) -> tuple[int, ...]:
    return tuple(getattr(counted, field) for _, field in _SERIES)


def _draw_bars(axes: Axes, months: Sequence[_Month], total: Stored, prices: Prices | None) -> None:
    unit, scale = _unit(sum(months[-1].totals))
    bottom = [0.0] * len(months)
    for index, (label, field) in enumerate(_SERIES):
        counted = getattr(total, field)
        if not counted:
            continue
        heights = [month.totals[index] / scale for month in months]
        axes.bar(
            range(len(months)),
            heights,
            width=0.78,
            bottom=bottom,
            color=_COLORS[index],
            linewidth=0,
            label=f"{label} {decimal_size(counted)}",
        )
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    room = max(0, _FEWEST_PLACES - len(months)) / 2
    axes.set_xlim(-0.75 - room, len(months) - 0.25 + room)
    axes.set_ylim(0, bottom[-1] * 1.13)
    _label_months(axes, months)
    _label_bytes(axes, unit)
    last = decimal_size(sum(months[-1].totals))
    if prices is not None:
        cost = estimate(sum(months[-1].totals), prices).total
        last += f", {cost:,.2f} {prices.currency} a month" if cost else ", free"
        if cost:
            _label_costs(axes, scale, prices)
    axes.annotate(
        last,
        (len(months) - 1 + (0.39 if room == 0 else 0), bottom[-1]),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right" if room == 0 else "center",
        color=_INK,
        fontsize=11,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )


def _label_months(axes: Axes, months: Sequence[_Month]) -> None:
    every = next(step for step in _STEPS if len(months) / step <= _MOST_LABELS)
    shown = range((len(months) - 1) % every, len(months), every)
    axes.set_xticks(list(shown), [months[position].name for position in shown])


def _label_bytes(axes: Axes, unit: str) -> None:
    axes.set_ylabel(unit, color=_PALE_INK, fontsize=10, rotation=0, ha="right", va="bottom")
    axes.yaxis.set_label_coords(-0.012, 1.02)


def _label_costs(axes: Axes, scale: int, prices: Prices) -> None:
    """Label each grid line with its cost."""
    right: Any = axes.twinx()
    _style(right)
    right.grid(visible=False)
    right.set_ylim(axes.get_ylim())
    ticks = [float(tick) for tick in axes.get_yticks() if 0 <= tick <= axes.get_ylim()[1]]
    costs = [estimate(round(tick * scale), prices).total for tick in ticks]
    right.set_yticks(
        ticks, [f"{cost:,.2f}" if costs[-1] < 1000 else f"{cost:,.0f}" for cost in costs]
    )
    right.set_ylabel(
        f"{prices.currency} a month",
        color=_PALE_INK,
        fontsize=10,
        rotation=0,
        ha="right",
        va="bottom",
    )
    right.yaxis.set_label_coords(1.08, 1.02)


def _style(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_PALE_INK)
    axes.tick_params(colors=_PALE_INK, labelsize=10, length=0, pad=6)
    axes.grid(axis="y", color=_GRID, linewidth=0.9)
    axes.set_axisbelow(True)


def _write_texts(figure: Figure, report: UsageReport, prices: Prices | None) -> None:
    place = f"{report.bucket}/{report.prefix}" if report.prefix else report.bucket
    figure.text(
        0.03, 0.935, f"Stored in {_plain(place)}", color=_INK, fontsize=15, fontweight="bold"
    )
    note = (
        "By month of upload, up to each month's end, of what is still stored on "
        f"{report.measured_at:%Y-%m-%d}."
    )
    if not report.complete:
        note += " Unfinished uploads could not all be counted."
    if prices is not None:
        note += f" Cost at the prices of {prices.as_of:%Y-%m-%d} ({_plain(prices.name)})."
    figure.text(0.03, 0.035, note, color=_PALE_INK, fontsize=9)


def _plain(text: str) -> str:
    # A dollar sign would begin a formula.
    return text.replace("$", r"\$")


def _unit(largest: int) -> tuple[str, int]:
    return next(((unit, scale) for unit, scale in _UNITS if largest >= scale), _UNITS[-1])
