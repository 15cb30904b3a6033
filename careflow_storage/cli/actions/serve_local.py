"""``careflow-storage serve-local``: the embedded server in the foreground."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from types import FrameType

from careflow_storage._endpoint import bucket_name_problem
from careflow_storage.cli.run import report_errors
from careflow_storage.cli.ui.output import Output
from careflow_storage.errors import InvalidInputError
from careflow_storage.local import LocalServer, LocalServerError

DIFFERENCES = (
    "Unlike B2, this server (SeaweedFS) lists keys in another order, and stores // in a key as a "
    "single slash."
)
_WAIT = 1.0


def serve(*, as_json: bool, data_dir: Path | None, port: int | None, bucket: str) -> None:
    """Run the server until Ctrl-C or SIGTERM; exit with an error code if it cannot."""
    output = Output(as_json=as_json)
    with report_errors(output):
        _serve(output, data_dir=data_dir, port=port, bucket=bucket)


def _serve(output: Output, *, data_dir: Path | None, port: int | None, bucket: str) -> None:
    """Run the server; the variables go to stdout, all else to stderr.

    Raises:
        InvalidInputError: A bucket cannot have this name.
        LocalServerError: The server did not start, or stopped by itself.
    """
    if problem := bucket_name_problem(bucket, b2=False):
        raise InvalidInputError(f"--bucket {bucket!r} {problem}.")
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with LocalServer(data_dir=data_dir, port=port, bucket=bucket) as server:
            _print_variables(output, server.environment())
            data = f"kept in {data_dir}" if data_dir else "deleted at the end (see --data-dir)"
            output.done(f"Serving at {server.endpoint}. Data is {data}. Press Ctrl-C to stop.")
            output.note(DIFFERENCES)
            while not server.wait(_WAIT):
                pass
    except KeyboardInterrupt:
        output.note("Stopped.")
        return
    raise LocalServerError("The local server stopped by itself.")


def _print_variables(output: Output, variables: dict[str, str]) -> None:
    output.item(variables)
    for name, value in variables.items():
        output.line(f"export {name}={shlex.quote(value)}")
    # A program that reads them from a pipe gets them now.
    sys.stdout.flush()


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
