"""What a bulk job will do, or has done, for people and for programs."""

from __future__ import annotations

from rich.text import Text

from careflow_storage.cli.exit_codes import FAILED
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.job_table import duration
from careflow_storage.cli.ui.output import Output, counted, moment
from careflow_storage.cli.ui.progress import human_size
from careflow_storage.jobs import AnyJob, CopyJob, JobRecord, JobReport, Location, VerifyJob
from careflow_storage.jobs.results import Requests

COLUMNS = ("job", "kind", "state", "objects>", "errors>")
"""The columns of a list of jobs."""

_SHOWN_FILES = 3
_DONE = {
    "copy": "Copied",
    "verify": "Compared",
    "purge": "Erased",
    "retain": "Changed the lock of",
    "map": "Processed",
}
_PLANNED = {
    "copy": "copy",
    "verify": "compare",
    "purge": "erase",
    "retain": "change the lock of",
    "map": "process",
}
_STATES = {"finished": "green", "stopped": "yellow", "unfinished": "cyan", "planned": "dim"}


def place_of(job: AnyJob) -> Location:
    """Return the location that keeps the job's records."""
    return job.target if isinstance(job, CopyJob | VerifyJob) else job.location


def job_in_words(job: AnyJob) -> str:
    """Return a job in a few words: its kind, where it works, and its ID."""
    where = str(place_of(job))
    if isinstance(job, CopyJob | VerifyJob):
        where = f"{job.source} {'->' if isinstance(job, CopyJob) else 'and'} {where}"
    prefix = f", {job.prefix}" if job.prefix else ""
    return f"{job.kind} {where}{prefix}"


def visited(report: JobReport) -> int:
    """Return the number of objects that a job has looked at, or will."""
    return report.objects + report.skipped + report.errors


def exit_code(report: JobReport) -> int | None:
    """Return `FAILED` if some objects failed or were left out."""
    return FAILED if report.errors or report.lost or report.state == "stopped" else None


def what(report: JobReport) -> str:
    """Return what the report counts: 3 objects, 12.0 KiB."""
    details = [f"{count:,} {name.replace('_', ' ')}" for name, count in report.details.items()]
    return ", ".join([counted(report.objects, "object"), human_size(report.bytes), *details])


def planned(report: JobReport) -> str:
    """Return what the job would do, without a capital: erase 3 objects, 12.0 KiB."""
    return f"{_PLANNED[report.job.kind]} {what(report)}"


def print_plan(output: Output, plan: JobReport) -> None:
    """Print what the job would do."""
    output.item({"event": "planned", "report": plan})
    output.line(f"Would {planned(plan)}.")
    if plan.skipped:
        output.note(f"Of {counted(visited(plan), 'object')}, {plan.skipped:,} can stay as is.")
    print_notes(output, plan)
    _print_errors(output, plan)


def print_notes(output: Output, report: JobReport) -> None:
    """Print the ages of the objects, and what else a person should know."""
    if report.oldest is not None and report.newest is not None:
        output.note(f"They were stored from {moment(report.oldest)} to {moment(report.newest)}.")
    for note in report.notes:
        output.warn(note)
    if report.lost:
        output.warn(
            f"Several workers ended at {counted(len(report.lost), 'range')} of keys. These keys "
            "were left out: see `lost` in the report."
        )


def print_report(output: Output, report: JobReport) -> None:
    """Print what a job has done, and what failed."""
    output.item({"event": report.state, "report": report})
    rate = ""
    if report.seconds:
        rate = (
            f" in {duration(report.seconds)} ({visited(report) / report.seconds:,.0f} objects/s, "
            f"{human_size(report.bytes / report.seconds)}/s)"
        )
    text = f"{_DONE[report.job.kind]} {what(report)}{rate}"
    if report.skipped:
        text += f"; {report.skipped:,} needed nothing"
    if report.errors:
        output.note(text)
    else:
        output.done(text)
    output.note(f"Requests: {requests(report.requests)}")
    print_notes(output, report)
    _print_files(output, "Values", report.value_files)
    _print_errors(output, report)


def _print_files(output: Output, label: str, files: list[str]) -> None:
    for name in files[:_SHOWN_FILES]:
        output.note(f"{label}: {name}")
    if len(files) > _SHOWN_FILES:
        more = counted(len(files) - _SHOWN_FILES, "more file")
        output.note(f"{label}: {more} in the same folder")


def requests(counts: Requests) -> str:
    """Return the requests: 2,003 at the source, 1,002 at the target."""
    parts = [
        f"{sum(operations.values()):,}{'' if role == 'location' else f' at the {role}'}"
        for role, operations in counts.items()
    ]
    return ", ".join(parts) or "none"


def _print_errors(output: Output, report: JobReport) -> None:
    if not report.errors:
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.error_kinds.items())
    verb = "differ" if report.job.kind == "verify" else "failed"
    output.warn(f"{report.errors:,} of {counted(visited(report), 'object')} {verb}: {kinds}.")
    if report.state == "planned":
        return
    _print_files(output, "Errors", report.error_files)
    show = output.command("jobs", "show", report.job.job_id, *records_option(output, report.job))
    output.note(f"To see them: {show} --errors")


def records_option(output: Output, job: AnyJob) -> list[str]:
    """Return --to-env with the file of the job's records, unless the global options name it."""
    file = place_of(job).env_file
    return [] if file is None or str(file) in output.options else ["--to-env", str(file)]


def record_row(record: JobRecord) -> tuple[str | Text, ...]:
    """Return a job as a row of a list."""
    if record.job is None:
        return (Text(record.job_id, "bold"), "?", "cannot be read", "", "")
    row = (Text(record.job_id, "bold"), record.job.kind)
    report = record.report
    if report is None:
        return (*row, Text("unfinished", _STATES["unfinished"]), "", "")
    errors = Text(f"{report.errors:,}", "red" if report.errors else "")
    return (*row, Text(report.state, _STATES[report.state]), f"{report.objects:,}", errors)


def print_fields(output: Output, report: JobReport) -> None:
    """Print a report, one fact on each line."""
    job = report.job
    output.fields(
        {
            "job": job.job_id,
            "does": job_in_words(job),
            "state": report.state,
            "stopped by": report.stopped_by,
            "begun": report.started_at,
            "ended": report.ended_at,
            "worked for": duration(report.seconds),
            "objects": report.objects,
            "bytes": human_size(report.bytes),
            "skipped": report.skipped,
            **{name.replace("_", " "): count for name, count in report.details.items()},
            "shards": report.shards,
            "errors": report.errors,
            **{f"  {clean(kind)}": count for kind, count in report.error_kinds.items()},
            "error files": "\n".join(report.error_files) or None,
            "value files": "\n".join(report.value_files) or None,
            "requests": requests(report.requests),
            "classes": ", ".join(f"{name} {count:,}" for name, count in report.calls().items()),
            "notes": "\n".join(report.notes) or None,
        }
    )
