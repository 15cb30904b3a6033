"""Commands for lifecycle rules: show, expire, set, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from careflow_storage.cli.context import run_with_storage
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import Json, RulesFile, Yes
from careflow_storage.cli.ui.values import parse_days

commands: Commands = Commands("Control how long files are kept (lifecycle rules).")


@commands.add(examples=("careflow-storage lifecycle show",))
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show when the files below each prefix are hidden and erased."""
    from careflow_storage.cli.actions.lifecycle import LIFECYCLE
    from careflow_storage.cli.actions.rules import show_rules

    run_with_storage(
        context, lambda storage, output: show_rules(storage, output, LIFECYCLE), as_json=as_json
    )


@commands.add(
    examples=(
        "careflow-storage lifecycle expire --hide-after 365d --erase-after 30d",
        "careflow-storage lifecycle expire --erase-after 1d --prefix tests/ --yes",
    )
)
def expire(
    context: typer.Context,
    hide_after: Annotated[
        int,
        typer.Option(
            parser=parse_days,
            metavar="TIME",
            help="Hide a file this long after its upload, such as 365d.",
        ),
    ] = "never",  # type: ignore[assignment]  # typer parses the default, too
    erase_after: Annotated[
        int,
        typer.Option(
            parser=parse_days,
            metavar="TIME",
            help="Erase a version this long after it was hidden, deleted or overwritten.",
        ),
    ] = "never",  # type: ignore[assignment]  # typer parses the default, too
    cancel_unfinished_after: Annotated[
        int,
        typer.Option(
            parser=parse_days,
            metavar="TIME",
            help="Abort an unfinished upload this long after it started.",
        ),
    ] = "7d",  # type: ignore[assignment]  # typer parses the default, too
    prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="Apply to keys that begin with this prefix.")
    ] = "recordings/",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set how long recordings are kept. Rules for other prefixes stay as they are.

    Asks, because the rule applies to existing files, too. TIME is in whole days, such as 30d or
    2w, or never. B2 applies rules about once a day.
    """
    from careflow_storage.cli.actions.lifecycle import Expire

    job = Expire(
        prefix=prefix,
        hide_after_days=hide_after or None,
        erase_after_days=erase_after or None,
        cancel_unfinished_after_days=cancel_unfinished_after or None,
        yes=yes,
    )
    run_with_storage(context, job.run, as_json=as_json)


@commands.add(
    "set",
    examples=(
        "careflow-storage lifecycle set rules.json",
        "careflow-storage lifecycle show --json > rules.json",
    ),
)
def set_rules(
    context: typer.Context,
    file: RulesFile,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace all lifecycle rules with those of a file. Shows the changes, and asks."""
    from careflow_storage.cli.actions.lifecycle import LIFECYCLE
    from careflow_storage.cli.actions.rules import replace_rules

    run_with_storage(
        context,
        lambda storage, output: replace_rules(storage, output, LIFECYCLE, file, yes=yes),
        as_json=as_json,
    )


@commands.add(examples=("careflow-storage lifecycle remove recordings/",))
def remove(
    context: typer.Context,
    prefix: Annotated[
        str,
        typer.Argument(
            metavar="PREFIX", help='The prefix of the rule; "" for all files.', show_default=False
        ),
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove the rule of a prefix: its files are then kept, and billed, until deleted. Asks."""
    from careflow_storage.cli.actions.lifecycle import LIFECYCLE
    from careflow_storage.cli.actions.rules import remove_rule

    run_with_storage(
        context,
        lambda storage, output: remove_rule(storage, output, LIFECYCLE, prefix, yes=yes),
        as_json=as_json,
    )
