"""Commands for bulk jobs: copy, verify, purge, retain, map, list, show, resume."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from careflow_storage.cli.context import Globals, run_command
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import DryRun, Json, Yes
from careflow_storage.cli.ui.values import parse_moment, parse_positive_time

if TYPE_CHECKING:
    from careflow_storage.cli.actions.jobs import Workers
    from careflow_storage.jobs import Location

commands: Commands = Commands("Copy, verify, erase, lock or process any number of objects.")

_JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's ID.", show_default=False)]
_FromEnv = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The .env file of the source.", show_default="the environment"
    ),
]
_ToEnv = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The .env file of the target, which keeps the job's records.",
        show_default="--env-file, else the environment",
    ),
]
_InEnv = Annotated[
    Path | None,
    typer.Option(
        "--to-env",
        metavar="FILE",
        help="The .env file of the bucket.",
        show_default="--env-file, else the environment",
    ),
]
_FromBucket = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Another bucket as the source.", show_default=False),
]
_Prefix = Annotated[
    str, typer.Option(metavar="PREFIX", help="Only keys that begin with this prefix.")
]
_ToPrefix = Annotated[
    str | None,
    typer.Option(metavar="PREFIX", help="Replaces --prefix in the copies.", show_default=False),
]
_Keys = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Only these keys: one on each line, or a job's file of errors.",
        show_default=False,
    ),
]
_Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Use N processes of this machine.", show_default="this one"
    ),
]
_Dask = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Use the workers of this Dask scheduler, such as tcp://10.0.0.5:8786.",
        show_default=False,
    ),
]
_Rate = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        help="At most R requests per second at each location, of all workers together.",
        show_default="no limit",
    ),
]
_IfExists = Annotated[
    Literal["replace", "error", "return"],
    typer.Option(
        metavar="CHOICE",
        help="For a different object under the key: replace it, report an error, or "
        "return (keep it).",
    ),
]


@commands.add(
    examples=(
        "careflow-storage jobs copy --from-env aws.env --to-env .env --dry-run",
        "careflow-storage jobs copy --from-env aws.env --to-env .env --prefix recordings/",
        "careflow-storage jobs copy --from-env aws.env --to-env .env --workers 4 --rate 400",
    )
)
def copy(
    context: typer.Context,
    from_env: _FromEnv = None,
    to_env: _ToEnv = None,
    from_bucket: _FromBucket = None,
    prefix: _Prefix = "",
    to_prefix: _ToPrefix = None,
    keys: _Keys = None,
    if_exists: _IfExists = "replace",
    keep_retention: Annotated[
        bool, typer.Option("--keep-retention", help="Lock the copies as their sources are.")
    ] = False,
    keep_legal_hold: Annotated[
        bool, typer.Option("--keep-legal-hold", help="Keep the sources' legal holds.")
    ] = False,
    encryption: Annotated[
        Literal["SSE-B2"] | None,
        typer.Option(metavar="SSE-B2", help="Encrypt the copies.", show_default="the bucket's"),
    ] = None,
    workers: _Workers = None,
    dask: _Dask = None,
    rate: _Rate = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Copy objects to another bucket, at the same or another provider.

    Skips what is there already, so it can be repeated. Keeps content types, metadata and cache
    headers. Exits with 1 if some objects failed.
    """

    def job() -> Any:
        from careflow_storage.jobs import CopyJob, Location

        return CopyJob(
            source=Location(env_file=from_env, bucket=from_bucket),
            target=_location(context, to_env),
            prefix=prefix,
            target_prefix=to_prefix,
            keys_file=keys,
            if_exists=if_exists,
            retention="keep" if keep_retention else None,
            legal_hold="keep" if keep_legal_hold else False,
            encryption=encryption,
            rate=rate,
        )

    _run(context, job, _workers(workers, dask), dry_run=dry_run, as_json=as_json)


@commands.add(
    examples=(
        "careflow-storage jobs verify --from-env aws.env --to-env .env",
        "careflow-storage jobs verify --from-env aws.env --to-env .env --deep --workers 2",
    )
)
def verify(
    context: typer.Context,
    from_env: _FromEnv = None,
    to_env: _ToEnv = None,
    from_bucket: _FromBucket = None,
    prefix: _Prefix = "",
    to_prefix: _ToPrefix = None,
    keys: _Keys = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read and compare all bytes of both sides.")
    ] = False,
    workers: _Workers = None,
    dask: _Dask = None,
    rate: _Rate = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Compare the objects of two buckets, and report what is missing or differs.

    Compares sizes and ETags, with 1 request per 1000 keys on each side. Exits with 1 if there
    are differences.
    """

    def job() -> Any:
        from careflow_storage.jobs import Location, VerifyJob

        return VerifyJob(
            source=Location(env_file=from_env, bucket=from_bucket),
            target=_location(context, to_env),
            prefix=prefix,
            target_prefix=to_prefix,
            keys_file=keys,
            deep=deep,
            rate=rate,
        )

    _run(context, job, _workers(workers, dask), dry_run=dry_run, as_json=as_json)


@commands.add(
    examples=(
        "careflow-storage jobs purge --prefix recordings/2019/ --dry-run",
        "careflow-storage jobs purge --prefix recordings/ --older-than 365d --versions noncurrent",
    )
)
def purge(
    context: typer.Context,
    to_env: _InEnv = None,
    prefix: _Prefix = "",
    keys: _Keys = None,
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_positive_time,
            metavar="TIME",
            help="Only versions of at least this age, such as 365d, by the server's clock.",
            show_default=False,
        ),
    ] = None,
    versions: Annotated[
        Literal["all", "noncurrent", "current"],
        typer.Option(metavar="WHICH", help="Which versions: all, noncurrent or current."),
    ] = "all",
    workers: _Workers = None,
    dask: _Dask = None,
    rate: _Rate = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Erase versions permanently, by prefix, age or list. Asks, after counting.

    Locked versions are kept and reported.
    """

    def job() -> Any:
        from careflow_storage.jobs import PurgeJob

        return PurgeJob(
            location=_location(context, to_env),
            prefix=prefix,
            keys_file=keys,
            older_than=older_than,
            versions=versions,
            rate=rate,
        )

    _run(context, job, _workers(workers, dask), dry_run=dry_run, as_json=as_json, yes=yes)


@commands.add(
    examples=(
        "careflow-storage jobs retain --prefix recordings/ --days 365",
        "careflow-storage jobs retain --prefix recordings/CA1/ --legal-hold on",
        "careflow-storage jobs retain --until 2033-12-31 --mode compliance",
    )
)
def retain(
    context: typer.Context,
    to_env: _InEnv = None,
    prefix: _Prefix = "",
    keys: _Keys = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_moment,
            metavar="DATE",
            help="Lock until then, such as 2027-01-31.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            metavar="DAYS",
            min=1,
            help="Lock for this many days from each file's upload.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        Literal["governance", "compliance"],
        typer.Option(
            metavar="MODE",
            help="governance: keys with bypassGovernance can lift it; compliance: no key can.",
        ),
    ] = "governance",
    legal_hold: Annotated[
        Literal["on", "off"] | None,
        typer.Option(metavar="on|off", help="Set or end the legal hold.", show_default=False),
    ] = None,
    bypass_governance: Annotated[
        bool, typer.Option("--bypass-governance", help="Allow shortening a governance lock.")
    ] = False,
    workers: _Workers = None,
    dask: _Dask = None,
    rate: _Rate = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Lock the current version of each file, or set its legal hold.

    Never shortens a lock without --bypass-governance. Asks with --mode compliance, because it
    cannot be undone.
    """

    def job() -> Any:
        from careflow_storage.jobs import RetainJob

        return RetainJob(
            location=_location(context, to_env),
            prefix=prefix,
            keys_file=keys,
            until=until,
            days=days,
            mode=mode,
            legal_hold=None if legal_hold is None else legal_hold == "on",
            bypass_governance=bypass_governance,
            rate=rate,
        )

    _run(context, job, _workers(workers, dask), dry_run=dry_run, as_json=as_json, yes=yes)


@commands.add(
    "map",
    examples=(
        "careflow-storage jobs map careflow_storage.media:make_seekable --prefix recordings/",
        "careflow-storage jobs map my_package.tools:transcode --workers 4",
    ),
)
def map_(
    context: typer.Context,
    function: Annotated[
        str,
        typer.Argument(
            metavar="FUNCTION", help="An async function: package.module:name.", show_default=False
        ),
    ],
    to_env: _InEnv = None,
    prefix: _Prefix = "",
    keys: _Keys = None,
    workers: _Workers = None,
    dask: _Dask = None,
    rate: _Rate = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Call an async function of yours with the storage and each file.

    Exits with 1 if it failed for some of them.
    """

    def job() -> Any:
        from careflow_storage.jobs import MapJob

        return MapJob(
            function=function,
            location=_location(context, to_env),
            prefix=prefix,
            keys_file=keys,
            rate=rate,
        )

    _run(context, job, _workers(workers, dask), dry_run=dry_run, as_json=as_json)


@commands.add("list", examples=("careflow-storage jobs list", "careflow-storage jobs list --json"))
def list_(context: typer.Context, to_env: _InEnv = None, as_json: Json = False) -> None:
    """List the jobs whose records the bucket keeps, the newest first."""
    from careflow_storage.cli.actions.jobs import print_jobs

    run_command(
        context, lambda output: print_jobs(output, _location(context, to_env)), as_json=as_json
    )


@commands.add(
    examples=(
        "careflow-storage jobs show 20260131T235959-0123abcd",
        "careflow-storage jobs show 20260131T235959-0123abcd --errors --json > failed.jsonl",
    )
)
def show(
    context: typer.Context,
    job_id: _JobId,
    to_env: _InEnv = None,
    errors: Annotated[
        bool,
        typer.Option(
            "--errors", help="Show each error instead. With --json they are a file for --keys."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a job has done so far, its requests and its errors."""
    from careflow_storage.cli.actions import jobs

    action = jobs.print_errors if errors else jobs.print_job
    run_command(
        context,
        lambda output: action(output, job_id, _location(context, to_env)),
        as_json=as_json,
    )


@commands.add(
    examples=(
        "careflow-storage jobs resume 20260131T235959-0123abcd",
        "careflow-storage jobs resume 20260131T235959-0123abcd --to-env prod.env --workers 4",
    )
)
def resume(
    context: typer.Context,
    job_id: _JobId,
    to_env: _InEnv = None,
    from_env: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The .env file of the source, if it has moved.",
            show_default="as before",
        ),
    ] = None,
    workers: _Workers = None,
    dask: _Dask = None,
    as_json: Json = False,
) -> None:
    """Continue a job that was stopped or lost its machine. Nothing is done twice."""
    from careflow_storage.cli.actions.jobs import resume_job
    from careflow_storage.jobs import Location

    source = None if from_env is None else Location(env_file=from_env)
    chosen = _workers(workers, dask)
    run_command(
        context,
        lambda output: resume_job(output, job_id, _location(context, to_env), source, chosen),
        as_json=as_json,
    )


def _location(context: typer.Context, env_file: Path | None) -> Location:
    """Return the location of the job's records: --to-env, else --env-file; with --bucket."""
    from careflow_storage.jobs import Location

    given = Globals.of(context)
    return Location(env_file=env_file or given.env_file, bucket=given.bucket)


def _workers(count: int | None, dask: str | None) -> Workers:
    from careflow_storage.cli.actions.jobs import Workers

    if count is not None and dask is not None:
        raise typer.BadParameter("Give either --workers or --dask.")
    return Workers(count, dask)


def _run(
    context: typer.Context,
    job: Any,
    workers: Workers,
    *,
    dry_run: bool,
    as_json: bool,
    yes: bool = True,
) -> None:
    from careflow_storage.cli.actions.jobs import JobRun

    run_command(context, JobRun(job, workers, dry_run=dry_run, yes=yes).run, as_json=as_json)
