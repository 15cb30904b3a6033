"""Commands for object lock: show, enable, retain, release, hold, status."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

import typer

from careflow_storage.cli.context import run_with_storage
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import Json, Key, VersionId, Yes
from careflow_storage.cli.ui.values import parse_moment, parse_positive_time

commands: Commands = Commands("Protect files from being erased or overwritten (object lock).")

_Mode = Literal["governance", "compliance"]


@commands.add(examples=("careflow-storage lock show",))
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show whether the bucket can lock files, and for how long it does so by default."""
    from careflow_storage.cli.actions.lock import show_lock

    run_with_storage(context, show_lock, as_json=as_json)


@commands.add(
    examples=(
        "careflow-storage lock enable",
        "careflow-storage lock enable --default-mode governance --default-days 30",
    )
)
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
        typer.Option(
            min=1,
            max=3000,
            metavar="DAYS",
            help="Lock new files for this many days.",
            show_default=False,
        ),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Enable object lock for the bucket. Asks, because it cannot be disabled again.

    If it is enabled already, sets the default for new files, or removes it if none is given.
    """
    from careflow_storage.cli.actions.lock import Enable

    if (default_mode is None) != (default_days is None):
        raise typer.BadParameter("--default-mode and --default-days must be used together.")
    run_with_storage(context, Enable(default_mode, default_days, yes).run, as_json=as_json)


@commands.add(
    examples=(
        "careflow-storage lock retain recordings/CA123/call.wav --for 90d",
        "careflow-storage lock retain recordings/CA123/call.wav --until 2033-12-31 "
        "--mode compliance",
    )
)
def retain(
    context: typer.Context,
    key: Key,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_moment,
            metavar="DATE",
            help="The end, such as 2027-01-31 (UTC) or 2027-01-31T12:00+01:00.",
            show_default=False,
        ),
    ] = None,
    for_time: Annotated[
        timedelta | None,
        typer.Option(
            "--for",
            parser=parse_positive_time,
            metavar="TIME",
            help="The time from now, such as 90d.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        _Mode,
        typer.Option(
            metavar="MODE",
            help="governance: keys with bypassGovernance can lift it; compliance: no key can.",
        ),
    ] = "governance",
    version_id: VersionId = None,
    bypass_governance: Annotated[
        bool, typer.Option("--bypass-governance", help="Allow shortening an existing retention.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Protect a file from being erased until a time.

    Asks with --mode compliance, because it cannot be undone or shortened.
    """
    from careflow_storage.cli.actions.lock import Retain

    if (until is None) == (for_time is None):
        raise typer.BadParameter("Give either --until or --for.")
    job = Retain(
        key=key,
        until=until,
        length=for_time,
        mode=mode,
        version_id=version_id,
        bypass_governance=bypass_governance,
        yes=yes,
    )
    run_with_storage(context, job.run, as_json=as_json)


@commands.add(examples=("careflow-storage lock release recordings/CA123/call.wav",))
def release(
    context: typer.Context,
    key: Key,
    version_id: VersionId = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """End a governance retention early. Asks.

    The key needs bypassGovernance. A legal hold stays: end it with `lock hold KEY off`.
    """
    from careflow_storage.cli.actions.lock import Release

    run_with_storage(context, Release(key, version_id, yes).run, as_json=as_json)


@commands.add(examples=("careflow-storage lock hold recordings/CA123/call.wav on",))
def hold(
    context: typer.Context,
    key: Key,
    state: Annotated[
        Literal["on", "off"],
        typer.Argument(metavar="on|off", help="Set it, or end it.", show_default=False),
    ],
    version_id: VersionId = None,
    as_json: Json = False,
) -> None:
    """Protect a file from being erased until its legal hold is ended."""
    from careflow_storage.cli.actions.lock import Hold

    run_with_storage(context, Hold(key, state == "on", version_id).run, as_json=as_json)


@commands.add(examples=("careflow-storage lock status recordings/CA123/call.wav",))
def status(
    context: typer.Context, key: Key, version_id: VersionId = None, as_json: Json = False
) -> None:
    """Show whether a file can be erased, and if not, when."""
    from careflow_storage.cli.actions.lock import Status

    run_with_storage(context, Status(key, version_id).run, as_json=as_json)
