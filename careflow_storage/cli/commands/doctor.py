"""The command that finds out why it does not work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from careflow_storage.cli.run import Globals, run
from careflow_storage.cli.ui.options import ACCOUNT, Json, examples
from careflow_storage.cli.ui.output import Output

if TYPE_CHECKING:
    from careflow_storage.doctor import Diagnosis, Finding


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        "doctor",
        rich_help_panel=ACCOUNT,
        epilog=examples(
            "careflow-storage doctor",
            "careflow-storage doctor --origin https://app.example",
            "careflow-storage --env-file prod.env doctor --strict --json > health.json || alert",
        ),
    )(doctor)


def doctor(
    context: typer.Context,
    origin: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="May web pages of this origin upload and play? Such as https://app.example.",
            show_default=False,
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Also compare B2 with what this library takes for granted."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")
    ] = False,
    probe_prefix: Annotated[
        str,
        typer.Option(
            metavar="PREFIX",
            help="Where the probes are stored; for a key that is limited to a prefix, below that.",
        ),
    ] = "careflow-doctor/",
    as_json: Json = False,
) -> None:
    """Find out why it does not work, and what to do.

    Looks at the settings, the network, the key, the bucket and its rules. Stores probes of some
    bytes and erases them. Exits with 1 when something fails.
    """
    given = Globals.of(context)
    values: dict[str, Any] = {}
    if given.bucket is not None:
        values["bucket_name"] = given.bucket
    if given.env_file is not None:
        values["_env_file"] = given.env_file

    async def main(output: Output) -> int:
        diagnosis = await _examined(
            output, values, origin=origin, live=live, probe_prefix=probe_prefix
        )
        output.data(diagnosis)
        return diagnosis.exit_code(strict=strict)

    run(main, as_json=as_json, given=given)


async def _examined(output: Output, values: dict[str, Any], **options: Any) -> Diagnosis:
    """Diagnose, and for people show each finding as it comes."""
    # Here, since both cost time that other commands need not spend.
    from careflow_storage.cli.actions.doctor import Findings
    from careflow_storage.doctor import diagnose

    def to_be_typed(finding: Finding) -> Finding:
        solution = finding.solution
        advice = output.advice(solution) if solution is not None else None
        return finding.model_copy(update={"solution": advice})

    if output.as_json:
        diagnosis = await diagnose(values, **options)
        typed = tuple(map(to_be_typed, diagnosis.findings))
        return diagnosis.model_copy(update={"findings": typed})
    with Findings(output.stdout) as findings:
        diagnosis = await diagnose(
            values, on_finding=lambda finding: findings.add(to_be_typed(finding)), **options
        )
    findings.summary(diagnosis)
    return diagnosis
