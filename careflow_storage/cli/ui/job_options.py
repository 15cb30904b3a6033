"""Arguments and options of bulk jobs, each declared once."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from careflow_storage.cli.ui.completion import complete_job_ids, complete_source_keys
from careflow_storage.cli.ui.values import parse_moment, parse_positive_time

JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB_ID",
        help="The job's ID.",
        show_default=False,
        autocompletion=complete_job_ids,
    ),
]
FromEnv = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The .env file of the source.", show_default="the environment"
    ),
]
ToEnv = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The .env file of the target, which keeps the job's records.",
        show_default="--env-file, else the environment",
    ),
]
InEnv = Annotated[
    Path | None,
    typer.Option(
        "--to-env",
        metavar="FILE",
        help="The .env file of the bucket.",
        show_default="--env-file, else the environment",
    ),
]
FromBucket = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Another bucket as the source.", show_default=False),
]
Prefix = Annotated[
    str,
    typer.Option(
        metavar="PREFIX",
        help="Only keys that begin with this prefix.",
        autocompletion=complete_source_keys,
    ),
]
ToPrefix = Annotated[
    str | None,
    typer.Option(metavar="PREFIX", help="Replaces --prefix in the copies.", show_default=False),
]
Keys = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Only these keys: one on each line, or a job's file of errors.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Use N processes of this machine.", show_default="this one"
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Use the workers of this Dask scheduler, such as tcp://10.0.0.5:8786.",
        show_default=False,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        help="At most R requests per second at each location, of all workers together.",
        show_default="no limit",
    ),
]
IfExists = Annotated[
    Literal["replace", "error", "return"],
    typer.Option(
        metavar="CHOICE",
        help="For a different object under the key: replace it, report an error, or "
        "return (keep it).",
    ),
]
KeepRetention = Annotated[
    bool, typer.Option("--keep-retention", help="Lock the copies as their sources are.")
]
KeepLegalHold = Annotated[
    bool, typer.Option("--keep-legal-hold", help="Keep the sources' legal holds.")
]
Encryption = Annotated[
    Literal["SSE-B2"] | None,
    typer.Option(metavar="SSE-B2", help="Encrypt the copies.", show_default="the bucket's"),
]
Deep = Annotated[bool, typer.Option("--deep", help="Read and compare all bytes of both sides.")]
OlderThan = Annotated[
    timedelta | None,
    typer.Option(
        parser=parse_positive_time,
        metavar="TIME",
        help="Only versions of at least this age, such as 365d, by the server's clock.",
        show_default=False,
    ),
]
Which = Annotated[
    Literal["all", "noncurrent", "current"],
    typer.Option(metavar="WHICH", help="Which versions: all, noncurrent or current."),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        parser=parse_moment,
        metavar="DATE",
        help="Lock until then, such as 2027-01-31.",
        show_default=False,
    ),
]
Days = Annotated[
    int | None,
    typer.Option(
        metavar="DAYS",
        min=1,
        help="Lock for this many days from each file's upload.",
        show_default=False,
    ),
]
Mode = Annotated[
    Literal["governance", "compliance"],
    typer.Option(
        metavar="MODE",
        help="governance: keys with bypassGovernance can lift it; compliance: no key can.",
    ),
]
LegalHold = Annotated[
    Literal["on", "off"] | None,
    typer.Option(metavar="on|off", help="Set or end the legal hold.", show_default=False),
]
BypassGovernance = Annotated[
    bool, typer.Option("--bypass-governance", help="Allow shortening a governance lock.")
]
Function = Annotated[
    str,
    typer.Argument(
        metavar="FUNCTION", help="An async function: package.module:name.", show_default=False
    ),
]
Errors = Annotated[
    bool,
    typer.Option(
        "--errors", help="Show each error instead. With --json they are a file for --keys."
    ),
]
MovedSource = Annotated[
    Path | None,
    typer.Option(
        "--from-env",
        metavar="FILE",
        help="The .env file of the source, if it has moved.",
        show_default="as before",
    ),
]
NewRate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        metavar="R",
        help="At most R requests per second at each location, from now on.",
        show_default="as before",
    ),
]
