"""Commands for bulk jobs: copy, verify, purge, retain, map, list, show, resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from careflow_storage.cli.context import Globals, run_command
from careflow_storage.cli.ui import job_options as options
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import DryRun, Json, Yes

if TYPE_CHECKING:
    from careflow_storage.cli.actions.jobs import Workers
    from careflow_storage.jobs import Location

commands: Commands = Commands("Copy, verify, erase, lock or process any number of objects.")


@commands.add(
    examples=(
        "careflow-storage jobs copy --from-env aws.env --to-env .env --dry-run",
        "careflow-storage jobs copy --from-env aws.env --to-env .env --prefix recordings/",
        "careflow-storage jobs copy --from-env aws.env --to-env .env --workers 4 --rate 400",
    )
)
def copy(
    context: typer.Context,
    from_env: options.FromEnv = None,
    to_env: options.ToEnv = None,
    from_bucket: options.FromBucket = None,
    prefix: options.Prefix = "",
    to_prefix: options.ToPrefix = None,
    keys: options.Keys = None,
    if_exists: options.IfExists = "replace",
    keep_retention: options.KeepRetention = False,
    keep_legal_hold: options.KeepLegalHold = False,
    encryption: options.Encryption = None,
    workers: options.Workers = None,
    dask: options.Dask = None,
    rate: options.Rate = None,
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
    from_env: options.FromEnv = None,
    to_env: options.ToEnv = None,
    from_bucket: options.FromBucket = None,
    prefix: options.Prefix = "",
    to_prefix: options.ToPrefix = None,
    keys: options.Keys = None,
    deep: options.Deep = False,
    workers: options.Workers = None,
    dask: options.Dask = None,
    rate: options.Rate = None,
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
    to_env: options.InEnv = None,
    prefix: options.Prefix = "",
    keys: options.Keys = None,
    older_than: options.OlderThan = None,
    versions: options.Which = "all",
    workers: options.Workers = None,
    dask: options.Dask = None,
    rate: options.Rate = None,
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
    to_env: options.InEnv = None,
    prefix: options.Prefix = "",
    keys: options.Keys = None,
    until: options.Until = None,
    days: options.Days = None,
    mode: options.Mode = "governance",
    legal_hold: options.LegalHold = None,
    bypass_governance: options.BypassGovernance = False,
    workers: options.Workers = None,
    dask: options.Dask = None,
    rate: options.Rate = None,
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
    function: options.Function,
    to_env: options.InEnv = None,
    prefix: options.Prefix = "",
    keys: options.Keys = None,
    workers: options.Workers = None,
    dask: options.Dask = None,
    rate: options.Rate = None,
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
def list_(context: typer.Context, to_env: options.InEnv = None, as_json: Json = False) -> None:
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
    job_id: options.JobId,
    to_env: options.InEnv = None,
    errors: options.Errors = False,
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
    job_id: options.JobId,
    to_env: options.InEnv = None,
    from_env: options.MovedSource = None,
    rate: options.NewRate = None,
    workers: options.Workers = None,
    dask: options.Dask = None,
    as_json: Json = False,
) -> None:
    """Continue a job that was stopped or lost its machine. Nothing is done twice."""
    from careflow_storage.cli.actions.jobs import resume_job
    from careflow_storage.jobs import Location

    source = None if from_env is None else Location(env_file=from_env)
    chosen = _workers(workers, dask)
    run_command(
        context,
        lambda output: resume_job(
            output, job_id, _location(context, to_env), source, chosen, rate=rate
        ),
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
