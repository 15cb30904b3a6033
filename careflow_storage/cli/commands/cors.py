"""Commands for CORS: show, allow, set, remove, check."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from careflow_storage.cli.run import with_storage
from careflow_storage.cli.ui.durations import parse_length
from careflow_storage.cli.ui.options import BUCKET, Json, Yes, examples

_Method = Literal["GET", "HEAD", "PUT", "POST", "DELETE"]
_UPLOADS = ("GET", "HEAD", "PUT")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(no_args_is_help=True, help="Which web pages may reach the bucket (CORS).")
    for name, command, lines in _COMMANDS:
        group.command(name, epilog=examples(*lines))(command)
    app.add_typer(group, name="cors", rich_help_panel=BUCKET)


def show(context: typer.Context, as_json: Json = False) -> None:
    """Show the CORS rules. A browser gets the first one that fits."""
    from careflow_storage.cli.actions.cors import show_rules

    with_storage(context, show_rules, as_json=as_json)


def allow(
    context: typer.Context,
    origins: Annotated[
        list[str],
        typer.Argument(
            metavar="ORIGIN...",
            help="Such as https://app.example or http://localhost:3000.",
            show_default=False,
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD", help="What pages may do; repeatable.", show_default="GET, HEAD, PUT"
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The rule's name.")
    ] = "careflow-browser-uploads",
    max_age: Annotated[
        timedelta,
        typer.Option(
            parser=parse_length,
            metavar="TIME",
            help="How long browsers remember the response, at most 24h.",
        ),
    ] = "1h",  # type: ignore[assignment]  # typer parses the default, too
    add: Annotated[
        bool, typer.Option("--add", help="Only add: what other origins may do stays as it is.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let pages of these origins upload and play by presigned URLs.

    Sets the one rule of this name; all others stay. Asks before it locks an origin out. With
    --add an origin gets a rule of its own where the rule of this name gives something else.
    """
    from careflow_storage.cli.actions.cors import Allowance

    job = Allowance(
        origins=tuple(dict.fromkeys(origins)),
        methods=tuple(each.upper() for each in method or _UPLOADS),
        name=name,
        max_age=max_age,
        add=add,
        yes=yes,
    )
    with_storage(context, job.run, as_json=as_json)


def set_rules(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Rules in JSON, as S3, B2 or `cors show --json` spells them; - for stdin.",
            show_default=False,
        ),
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace all CORS rules by those of a file. Shows what changes, and asks."""
    from careflow_storage.cli.actions.cors import Replacement

    with_storage(context, Replacement(file, yes).run, as_json=as_json)


def remove(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The rule's name.", show_default=False)
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take one CORS rule away; all others stay. Asks."""
    from careflow_storage.cli.actions.cors import Removal

    with_storage(context, Removal(name, yes).run, as_json=as_json)


def check(
    context: typer.Context,
    origin: Annotated[
        str,
        typer.Argument(
            metavar="ORIGIN", help="Of the page, such as https://app.example.", show_default=False
        ),
    ],
    method: Annotated[_Method, typer.Option(metavar="METHOD", help="What it does.")] = "PUT",
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A header that it sends; repeatable.", show_default="content-type"
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Ask for this file.", show_default="none in particular"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask as a browser does, and name the rule that applies. Exits with 1 if it is refused."""
    from careflow_storage.cli.actions.cors import Question

    job = Question(origin, method, tuple(header or ("content-type",)), key)
    with_storage(context, job.run, as_json=as_json)


_COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    ("show", show, ("careflow-storage cors show",)),
    (
        "allow",
        allow,
        (
            "careflow-storage cors allow https://app.example http://localhost:3000",
            "careflow-storage cors allow https://admin.example --add",
            'careflow-storage cors allow "https://*.example" --method GET --name players',
        ),
    ),
    (
        "set",
        set_rules,
        (
            "careflow-storage cors set rules.json",
            "careflow-storage cors show --json | jq '.[1:]' | careflow-storage cors set - --yes",
        ),
    ),
    ("remove", remove, ("careflow-storage cors remove careflow-browser-uploads",)),
    (
        "check",
        check,
        (
            "careflow-storage cors check https://app.example",
            "careflow-storage cors check https://app.example --method GET --header range",
        ),
    ),
)
