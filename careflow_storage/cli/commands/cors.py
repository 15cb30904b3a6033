"""Commands for CORS rules: show, allow, set, remove, check."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import typer

from careflow_storage.cli.context import run_with_storage
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import Json, RulesFile, Yes
from careflow_storage.cli.ui.values import parse_positive_time

commands: Commands = Commands("Control which web pages may access the bucket (CORS rules).")

_Method = Literal["GET", "HEAD", "PUT", "POST", "DELETE"]
_Preset = Literal["put", "multipart"]


@commands.add(examples=("careflow-storage cors show",))
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show the CORS rules. Browsers get the first one that fits."""
    from careflow_storage.cli.actions.cors import CORS
    from careflow_storage.cli.actions.rules import show_rules

    run_with_storage(
        context, lambda storage, output: show_rules(storage, output, CORS), as_json=as_json
    )


@commands.add(
    examples=(
        "careflow-storage cors allow https://app.example http://localhost:3000",
        "careflow-storage cors allow https://admin.example --add",
        "careflow-storage cors allow https://app.example --preset multipart",
        'careflow-storage cors allow "https://*.example" --method GET --name players',
    )
)
def allow(
    context: typer.Context,
    origins: Annotated[
        list[str],
        typer.Argument(
            metavar="ORIGIN",
            help="Origins of web pages, such as https://app.example or http://localhost:3000.",
            show_default=False,
        ),
    ],
    preset: Annotated[
        _Preset | None,
        typer.Option(
            metavar="PRESET",
            help="Add what these pages need: put (they put files or parts), or multipart (they "
            "also begin and complete multipart uploads, as Uppy 6 does).",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="Allow this method; can be repeated.",
            show_default="GET, HEAD, PUT",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The name of the rule.")
    ] = "careflow-browser-uploads",
    max_age: Annotated[
        timedelta,
        typer.Option(
            parser=parse_positive_time,
            metavar="TIME",
            help="How long browsers may cache the response, at most 24h.",
        ),
    ] = "1h",  # type: ignore[assignment]  # typer parses the default, too
    add: Annotated[
        bool, typer.Option("--add", help="Change nothing for other origins of the rule.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let web pages of these origins upload and play with presigned URLs.

    Sets the rule with this name, and leaves all others as they are. Asks before it removes access
    from an origin. With --add or --preset, it only adds: an origin gets a rule of its own if the
    rule with this name allows something else.
    """
    from careflow_storage.cli.actions.cors import Allow

    if preset is not None and method:
        raise typer.BadParameter("Give either --preset or --method.")
    job = Allow(
        origins=tuple(dict.fromkeys(origins)),
        preset=preset,
        methods=tuple(each.upper() for each in method) if method else None,
        name=name,
        max_age=max_age,
        add=add,
        yes=yes,
    )
    run_with_storage(context, job.run, as_json=as_json)


@commands.add(
    "set",
    examples=(
        "careflow-storage cors set rules.json",
        "careflow-storage cors show --json | tail -n +2 | careflow-storage cors set - --yes",
    ),
)
def set_rules(
    context: typer.Context,
    file: RulesFile,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace all CORS rules with those of a file. Shows the changes, and asks."""
    from careflow_storage.cli.actions.cors import CORS
    from careflow_storage.cli.actions.rules import replace_rules

    run_with_storage(
        context,
        lambda storage, output: replace_rules(storage, output, CORS, file, yes=yes),
        as_json=as_json,
    )


@commands.add(examples=("careflow-storage cors remove careflow-browser-uploads",))
def remove(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the rule.", show_default=False)
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove one CORS rule, and leave all others as they are. Asks."""
    from careflow_storage.cli.actions.cors import CORS
    from careflow_storage.cli.actions.rules import remove_rule

    run_with_storage(
        context,
        lambda storage, output: remove_rule(storage, output, CORS, name, yes=yes),
        as_json=as_json,
    )


@commands.add(
    examples=(
        "careflow-storage cors check https://app.example",
        "careflow-storage cors check https://app.example --method GET --header range",
    )
)
def check(
    context: typer.Context,
    origin: Annotated[
        str,
        typer.Argument(
            metavar="ORIGIN",
            help="The origin of the web page, such as https://app.example.",
            show_default=False,
        ),
    ],
    method: Annotated[
        _Method, typer.Option(metavar="METHOD", help="The method of its request.")
    ] = "PUT",
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A header of its request; can be repeated.",
            show_default="content-type",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The file that it requests.", show_default="any"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a preflight request as browsers do, and name the rule that applies.

    Exits with 1 if the request is not allowed.
    """
    from careflow_storage.cli.actions.cors import CorsCheckJob

    job = CorsCheckJob(origin, method, tuple(header or ("content-type",)), key)
    run_with_storage(context, job.run, as_json=as_json)
