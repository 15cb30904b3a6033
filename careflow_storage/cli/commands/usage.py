"""The command that counts and prices what is stored."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from careflow_storage import BackblazeStorage
from careflow_storage.cli.run import OVER_LIMIT, with_storage
from careflow_storage.cli.ui.options import ACCOUNT, Json, Prefix, examples, parse_size
from careflow_storage.cli.ui.output import Output


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        "usage",
        rich_help_panel=ACCOUNT,
        epilog=examples(
            "careflow-storage usage",
            "careflow-storage usage recordings/ --downloaded 50GB --chart growth.png",
            "careflow-storage usage --json --max-bytes 1TB --max-cost 10 > usage.json || alert",
        ),
    )(usage)


def parse_amount(text: str) -> Decimal:
    """Read an amount of money such as 10 or 9.50.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and amount >= 0):
        raise typer.BadParameter(f"{text!r} is not an amount such as 10 or 9.50.")
    return amount


def usage(
    context: typer.Context,
    prefix: Prefix = "",
    prices: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Price it by this TOML file.",
            show_default="Backblaze's list prices",
        ),
    ] = None,
    downloaded: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Price so much of downloads a month, too.",
            show_default=False,
        ),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the growth by month here.", show_default=False),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Exit with 5 if more is billed, such as 1TB.",
            show_default=False,
        ),
    ] = None,
    max_cost: Annotated[
        Decimal | None,
        typer.Option(
            parser=parse_amount,
            metavar="AMOUNT",
            help="Exit with 5 if a month costs more, such as 10.",
            show_default=False,
        ),
    ] = None,
    max_unfinished: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Exit with 5 if unfinished uploads hold more.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count what is stored, and what it costs here and elsewhere.

    Hidden versions and unfinished uploads are billed, too, so they are counted. 1 request per
    1000 versions, and 1 per unfinished upload.
    """
    from careflow_storage.cli.actions.usage import Wanted, report_usage
    from careflow_storage.usage import Thresholds

    wanted = Wanted(
        prefix=prefix,
        prices=prices,
        downloaded=downloaded or 0,
        chart=chart,
        thresholds=Thresholds(
            bytes=max_bytes, monthly_cost=max_cost, unfinished_bytes=max_unfinished
        ),
    )

    async def job(storage: BackblazeStorage, output: Output) -> int:
        return OVER_LIMIT if await report_usage(storage, output, wanted) else 0

    with_storage(context, job, as_json=as_json)
