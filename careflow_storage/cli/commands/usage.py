"""The command that measures and prices what is stored."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from careflow_storage.cli.context import run_with_storage
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import ACCOUNT, Json, Prefix
from careflow_storage.cli.ui.values import parse_amount, parse_size

commands: Commands = Commands()


@commands.add(
    section=ACCOUNT,
    examples=(
        "careflow-storage usage",
        "careflow-storage usage recordings/ --downloaded 50GB --chart growth.png",
        "careflow-storage usage --json --max-bytes 1TB --max-cost 10 > usage.json || alert",
    ),
)
def usage(
    context: typer.Context,
    prefix: Prefix = "",
    prices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Take the prices from this TOML file.",
            show_default="Backblaze's list prices",
        ),
    ] = None,
    downloaded: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Add the cost of downloading SIZE a month.",
            show_default=False,
        ),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Draw the growth by month to this file.", show_default=False
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Exit with 5 if more than SIZE is billed, such as 1TB.",
            show_default=False,
        ),
    ] = None,
    max_cost: Annotated[
        Decimal | None,
        typer.Option(
            parser=parse_amount,
            metavar="AMOUNT",
            help="Exit with 5 if a month costs more than AMOUNT, such as 10.",
            show_default=False,
        ),
    ] = None,
    max_unfinished: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Exit with 5 if unfinished uploads hold more than SIZE.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is stored, and what it costs here and elsewhere.

    Includes hidden versions and unfinished uploads, which are billed, too. Sends 1 request per
    1000 versions, and 1 per unfinished upload.
    """
    from careflow_storage.cli.actions.usage import UsageJob
    from careflow_storage.usage import Thresholds

    job = UsageJob(
        prefix=prefix,
        prices=prices,
        downloaded=downloaded or 0,
        chart=chart,
        thresholds=Thresholds(
            bytes=max_bytes, monthly_cost=max_cost, unfinished_bytes=max_unfinished
        ),
    )
    run_with_storage(context, job.run, as_json=as_json)
