"""``careflow-storage usage``: what is stored, grouped, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from rich.text import Text

from careflow_storage import BackblazeStorage
from careflow_storage.cli.exit_codes import OVER_LIMIT
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, counted, has_unicode, moment
from careflow_storage.cli.ui.spinner import waiting
from careflow_storage.errors import InvalidInputError
from careflow_storage.usage import (
    AWS_S3,
    B2_GUIDE,
    Comparison,
    CostEstimate,
    Prices,
    Stored,
    Thresholds,
    UsageReport,
    check_thresholds,
    classes,
    compare,
    draw_growth,
    estimate,
    load_prices,
)
from careflow_storage.usage.sizes import decimal_size

_NOTHING = Decimal(0)
_MOST_ROWS = 10
_MOST_MONTHS = 24
_BAR = 24
_BESIDE_BAR = 40
"""The columns that the other columns of the table with bars need."""
_OF_CALLS = "recordings/"
_EIGHTHS = "▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class UsageJob:
    """What to measure, and what to compare it with."""

    prefix: str
    prices: Path | None
    downloaded: int
    chart: Path | None
    thresholds: Thresholds

    async def run(self, storage: BackblazeStorage, output: Output) -> int | None:
        """Measure, print and draw; return an exit code if a threshold is exceeded."""
        prices = await asyncio.to_thread(load_prices, self.prices)
        _check_chart(self.chart)
        async with waiting(output, "Measuring", storage.request_counts):
            report = await storage.admin.usage(self.prefix)
        costs = _Costs(report, prices, self.downloaded)
        alerts = check_thresholds(
            report, self.thresholds, prices=prices, downloaded_bytes=self.downloaded
        )
        if self.chart is not None:
            async with waiting(output, "Drawing"):
                await draw_growth(report, self.chart, prices=prices)
        requests = storage.request_counts()
        _print_report(output, report, costs, requests)
        output.item(
            {
                "usage": report,
                "billed_bytes": report.total.billed_bytes,
                "costs": costs.estimates,
                "saved": {"than": AWS_S3.name, **_savings(costs.comparison)},
                "alerts": alerts,
                "requests": requests,
                "requests_by_class": classes(requests),
                "chart": self.chart,
            }
        )
        if self.chart is not None:
            output.done(f"Drew {self.chart}")
        for note in report.notes:
            output.warn(note)
        for alert in alerts:
            output.warn(output.advice(alert.sentence))
        return OVER_LIMIT if alerts else None


class _Costs:
    """The cost of a month at Backblaze's prices, AWS's, and those of the guide."""

    def __init__(self, report: UsageReport, prices: Prices, downloaded: int) -> None:
        self.comparison: Comparison | None = None
        if prices.currency == AWS_S3.currency:
            self.comparison = compare(report, prices, AWS_S3, downloaded_bytes=downloaded)
        others = (AWS_S3, B2_GUIDE) if self.comparison is not None else ()
        self.estimates: tuple[CostEstimate, ...] = tuple(
            estimate(report, each, downloaded_bytes=downloaded) for each in (prices, *others)
        )


def _savings(comparison: Comparison | None) -> dict[str, Decimal | None]:
    if comparison is None:
        return {"a_month": None, "percent": None}
    return {"a_month": comparison.saved, "percent": comparison.saved_percent}


def _check_chart(chart: Path | None) -> None:
    # Checked first, because measuring may take minutes.
    if chart is not None and (chart.suffix.lower() != ".png" or not chart.parent.is_dir()):
        raise InvalidInputError(f"--chart must be a .png in an existing folder, not {chart}.")


def _print_report(
    output: Output, report: UsageReport, costs: _Costs, requests: Mapping[str, int]
) -> None:
    if output.as_json:
        return
    where = f"{report.bucket}/{report.prefix}"
    took = f"  {moment(report.measured_at)}, {report.took.total_seconds():.1f} s"
    output.line(Text.assemble((clean(where), "bold"), (took, "dim")))
    _gap(output)
    _print_total(output, report.total)
    if set(report.by_folder) - {report.prefix} - _folders_of_calls(report):
        _print_groups(output, "folder", report.by_folder, report.folders)
    if report.by_month:
        _print_months(output, report.by_month)
    if report.by_call:
        _print_groups(output, "call", report.by_call, report.calls)
    _print_costs(output, costs)
    _print_requests(output, requests)


def _folders_of_calls(report: UsageReport) -> set[str]:
    """The folders that are calls: these have a table of their own."""
    return {f"{_OF_CALLS}{call}/" for call in report.by_call}


def _print_total(output: Output, total: Stored) -> None:
    rows = (
        ("files", total.files, total.bytes, ""),
        ("hidden versions", total.hidden_versions, total.hidden_bytes, "deleted or overwritten"),
        ("unfinished uploads", total.unfinished_uploads, total.unfinished_bytes, "their parts"),
        ("delete markers", total.delete_markers, 0, ""),
    )
    table: list[tuple[str | Text, ...]] = []
    for name, count, size, remark in rows:
        style = "" if count else "dim"
        cells = (Text(name, style), Text(f"{count:,}", style), Text(decimal_size(size), style))
        table.append((*cells, Text(remark, "dim")))
    billed = Text(decimal_size(total.billed_bytes), "bold cyan")
    table.append((Text("billed", "bold"), "", billed, ""))
    output.table(("stored", "count>", "size>", ""), table)


def _print_groups(output: Output, name: str, groups: Mapping[str, Stored], count: int) -> None:
    _gap(output)
    shown = list(groups.items())[:_MOST_ROWS]
    # Leave out empty columns.
    others = [
        (column, field)
        for column, field in (("hidden", "hidden_bytes"), ("unfinished", "unfinished_bytes"))
        if any(getattr(stored, field) for _, stored in shown)
    ]
    table: list[tuple[str | Text, ...]] = []
    for group, stored in shown:
        sizes = [getattr(stored, field) for _, field in others]
        table.append(
            (
                Text(clean(group) or "(at the root)", overflow="fold"),
                f"{stored.files:,}",
                *(
                    Text(decimal_size(size) if size else "-", "" if size else "dim")
                    for size in sizes
                ),
                Text(decimal_size(stored.billed_bytes), "cyan"),
            )
        )
    columns = (f"by {name}", "files>", *(f"{column}>" for column, _ in others), "billed>")
    output.table(columns, table)
    if count > len(shown):
        output.print(Text(f"and {counted(count - len(shown), f'smaller {name}')}", "dim"))


def _print_months(output: Output, months: Mapping[str, Stored]) -> None:
    _gap(output)
    newest = list(months.items())[-_MOST_MONTHS:]
    most = max(stored.billed_bytes for _, stored in newest) or 1
    unicode = has_unicode(output.stdout)
    width = min(_BAR, output.stdout.width - _BESIDE_BAR)
    table: list[tuple[str | Text, ...]] = []
    for month, stored in newest:
        bar = _bar(stored.billed_bytes / most, width, unicode=unicode)
        size = Text(decimal_size(stored.billed_bytes), "cyan")
        table.append((month, f"{stored.files:,}", size, Text(bar, "cyan")))
    output.table(("by month of upload", "files>", "billed>", ""), table)
    if len(months) > len(newest):
        older = counted(len(months) - len(newest), "older month")
        output.print(Text(f"and {older} (--json lists all)", "dim"))


def _bar(share: float, width: int = _BAR, *, unicode: bool) -> str:
    if width < 1:
        return ""
    if not unicode:
        return "#" * round(share * width)
    full, eighth = divmod(round(share * width * 8), 8)
    # Show the smallest share, too.
    least = _EIGHTHS[0] if share > 0 and not full else ""
    return "█" * full + (_EIGHTHS[eighth - 1] if eighth else least)


def _print_costs(output: Output, costs: _Costs) -> None:
    _gap(output)
    names = (
        f"B2 in {each.as_of.year}" if each.prices == B2_GUIDE.name else each.prices
        for each in costs.estimates
    )
    columns = ("a month like this", *(f"{clean(name)}>" for name in names))
    table: list[tuple[str | Text, ...]] = []
    dates = (Text(f"of {each.as_of}", "dim") for each in costs.estimates)
    table.append((Text(f"in {costs.estimates[0].currency}", "dim"), *dates))
    for what, name in (("storage", "storage"), ("download", "downloads")):
        table.append((name, *_amounts(costs.estimates, what)))
    totals = [Text(_money(each.total), "bold") for each in costs.estimates]
    totals[0].stylize("cyan")
    table.append((Text("total", "bold"), *totals))
    output.table(columns, table)
    if costs.comparison is not None:
        _print_savings(output, costs.comparison)


def _amounts(estimates: Sequence[CostEstimate], what: str) -> Iterator[Text]:
    for each in estimates:
        yield Text(_money(sum((item.cost for item in each.items if item.what == what), _NOTHING)))


def _print_savings(output: Output, saved: Comparison) -> None:
    if saved.saved_percent is None:
        return
    less = saved.saved >= 0
    parts = (
        ("on storage", saved.saved_percent_on_storage),
        ("on downloads", saved.saved_percent_on_downloads),
    )
    parts_text = ", ".join(f"{percent}% {what}" for what, percent in parts if percent is not None)
    text = (
        f"{abs(saved.saved_percent)}% {'less' if less else 'more'} than {AWS_S3.name}: "
        f"{_money(abs(saved.saved))} {saved.here.currency} ({parts_text} saved)"
    )
    output.print(Text(text, "green" if less else "yellow"))


def _money(amount: Decimal) -> str:
    # Show fractions of a cent only below 1.
    return f"{amount:,.4f}" if 0 < amount < 1 else f"{amount:,.2f}"


def _print_requests(output: Output, requests: Mapping[str, int]) -> None:
    _gap(output)
    names = ", ".join(f"{name} {count:,}" for name, count in sorted(requests.items()))
    by_class = ", ".join(f"{count:,} of class {name}" for name, count in _sent(requests))
    output.print(Text(f"Requests sent: {by_class} ({names})", "dim"))


def _sent(requests: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in classes(requests).items() if count]


def _gap(output: Output) -> None:
    output.line("")
