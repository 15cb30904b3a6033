"""Commands for object lock: show, enable, retain, release, hold, status."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Literal

import typer

from careflow_storage.cli.run import with_storage
from careflow_storage.cli.ui.durations import parse_length, parse_moment
from careflow_storage.cli.ui.options import BUCKET, Json, Key, VersionId, Yes, examples

_Mode = Literal["governance", "compliance"]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Keep files from being erased or overwritten (object lock)."
    )
    for name, command, lines in _COMMANDS:
        group.command(name, epilog=examples(*lines))(command)
    app.add_typer(group, name="lock", rich_help_panel=BUCKET)


def show(context: typer.Context, as_json: Json = False) -> None:
    """Tell whether the bucket can lock files, and how long it does so by default."""
    from careflow_storage.cli.actions.lock import show_lock

    with_storage(context, show_lock, as_json=as_json)


def enable(
    context: typer.Context,
    default_mode: Annotated[
        _Mode | None,
        typer.Option(
            metavar="MODE", help="Lock all new files: governance or compliance.", show_default="no"
        ),
    ] = None,
    default_days: Annotated[
        int | None,
        typer.Option(min=1, max=3000, metavar="DAYS", help="For so long.", show_default=False),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let the bucket lock files. It can never be undone, so it asks.

    On a bucket that can do so already: set, or without options take away, the default.
    """
    from careflow_storage.cli.actions.lock import Enabling

    if (default_mode is None) != (default_days is None):
        raise typer.BadParameter("--default-mode and --default-days belong together.")
    with_storage(context, Enabling(default_mode, default_days, yes).run, as_json=as_json)


def retain(
    context: typer.Context,
    key: Key,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_moment,
            metavar="DATE",
            help="Until then, such as 2027-01-31 or 2027-01-31T12:00+01:00 (else UTC).",
            show_default=False,
        ),
    ] = None,
    for_time: Annotated[
        timedelta | None,
        typer.Option(
            "--for",
            parser=parse_length,
            metavar="TIME",
            help="For so long from now, such as 90d.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        _Mode,
        typer.Option(
            metavar="MODE", help="governance can be lifted by who may; compliance by nobody."
        ),
    ] = "governance",
    version_id: VersionId = None,
    bypass_governance: Annotated[
        bool, typer.Option("--bypass-governance", help="Shorten what is there.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Keep a file from being erased until a time.

    With --mode compliance nobody can undo it or make it shorter, so it asks.
    """
    from careflow_storage.cli.actions.lock import Retaining

    if (until is None) == (for_time is None):
        raise typer.BadParameter("Give either --until or --for.")
    job = Retaining(
        key=key,
        until=until,
        length=for_time,
        mode=mode,
        version_id=version_id,
        bypass_governance=bypass_governance,
        yes=yes,
    )
    with_storage(context, job.run, as_json=as_json)


def release(
    context: typer.Context,
    key: Key,
    version_id: VersionId = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Lift a governance retention before its time. Asks.

    The key needs bypassGovernance. A legal hold stays: `lock hold KEY off` lifts that.
    """
    from careflow_storage.cli.actions.lock import Releasing

    with_storage(context, Releasing(key, version_id, yes).run, as_json=as_json)


def hold(
    context: typer.Context,
    key: Key,
    state: Annotated[
        Literal["on", "off"],
        typer.Argument(metavar="on|off", help="Put it on, or lift it.", show_default=False),
    ],
    version_id: VersionId = None,
    as_json: Json = False,
) -> None:
    """Keep a file from being erased until the legal hold is lifted."""
    from careflow_storage.cli.actions.lock import Holding

    with_storage(context, Holding(key, state == "on", version_id).run, as_json=as_json)


def status(
    context: typer.Context, key: Key, version_id: VersionId = None, as_json: Json = False
) -> None:
    """Tell whether a file can be erased, and from when on."""
    from careflow_storage.cli.actions.lock import Status

    with_storage(context, Status(key, version_id).run, as_json=as_json)


_COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    ("show", show, ("careflow-storage lock show",)),
    (
        "enable",
        enable,
        (
            "careflow-storage lock enable",
            "careflow-storage lock enable --default-mode governance --default-days 30",
        ),
    ),
    (
        "retain",
        retain,
        (
            "careflow-storage lock retain recordings/CA123/call.wav --for 90d",
            "careflow-storage lock retain recordings/CA123/call.wav --until 2033-12-31 "
            "--mode compliance",
        ),
    ),
    ("release", release, ("careflow-storage lock release recordings/CA123/call.wav",)),
    ("hold", hold, ("careflow-storage lock hold recordings/CA123/call.wav on",)),
    ("status", status, ("careflow-storage lock status recordings/CA123/call.wav",)),
)
