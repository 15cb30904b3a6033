"""Commands for lifecycle rules: show, expire, set, remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from careflow_storage.cli.run import with_storage
from careflow_storage.cli.ui.durations import parse_days
from careflow_storage.cli.ui.options import BUCKET, Json, Yes, examples


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(no_args_is_help=True, help="How long files are kept (lifecycle rules).")
    for name, command, lines in _COMMANDS:
        group.command(name, epilog=examples(*lines))(command)
    app.add_typer(group, name="lifecycle", rich_help_panel=BUCKET)


def show(context: typer.Context, as_json: Json = False) -> None:
    """Say what happens by itself to the files below each prefix."""
    from careflow_storage.cli.actions.lifecycle import show_rules

    with_storage(context, show_rules, as_json=as_json)


def expire(
    context: typer.Context,
    hide_after: Annotated[
        int,
        typer.Option(
            parser=parse_days, metavar="TIME", help="From upload until it is hidden, such as 365d."
        ),
    ] = "never",  # type: ignore[assignment]  # typer parses the default, too
    erase_after: Annotated[
        int,
        typer.Option(
            parser=parse_days,
            metavar="TIME",
            help="From being hidden, deleted or overwritten until it is erased for ever.",
        ),
    ] = "never",  # type: ignore[assignment]  # typer parses the default, too
    cancel_unfinished_after: Annotated[
        int,
        typer.Option(
            parser=parse_days, metavar="TIME", help="Until an unfinished upload is given up."
        ),
    ] = "7d",  # type: ignore[assignment]  # typer parses the default, too
    prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="Of the keys that this is about.")
    ] = "recordings/",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set how long recordings are kept; rules of other prefixes stay.

    It is true of what is stored already, too, so it asks. TIME is in whole days, such as 30d or
    2w, or never. B2 applies the rules about once a day.
    """
    from careflow_storage.cli.actions.lifecycle import Expiry

    job = Expiry(
        prefix=prefix,
        hide_after_days=hide_after or None,
        erase_after_days=erase_after or None,
        cancel_unfinished_after_days=cancel_unfinished_after or None,
        yes=yes,
    )
    with_storage(context, job.run, as_json=as_json)


def set_rules(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Rules in JSON, as B2 or `lifecycle show --json` spells them; - for stdin.",
            show_default=False,
        ),
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace all lifecycle rules by those of a file. Shows what changes, and asks."""
    from careflow_storage.cli.actions.lifecycle import Replacement

    with_storage(context, Replacement(file, yes).run, as_json=as_json)


def remove(
    context: typer.Context,
    prefix: Annotated[
        str,
        typer.Argument(
            metavar="PREFIX", help='The rule\'s; "" for that of all files.', show_default=False
        ),
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take the rule of a prefix away: its files are kept, and billed, for ever. Asks."""
    from careflow_storage.cli.actions.lifecycle import Removal

    with_storage(context, Removal(prefix, yes).run, as_json=as_json)


_COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    ("show", show, ("careflow-storage lifecycle show",)),
    (
        "expire",
        expire,
        (
            "careflow-storage lifecycle expire --hide-after 365d --erase-after 30d",
            "careflow-storage lifecycle expire --erase-after 1d --prefix tests/ --yes",
        ),
    ),
    (
        "set",
        set_rules,
        (
            "careflow-storage lifecycle set rules.json",
            "careflow-storage lifecycle show --json > rules.json",
        ),
    ),
    ("remove", remove, ("careflow-storage lifecycle remove recordings/",)),
)
