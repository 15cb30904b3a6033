"""``careflow-storage serve-local``: the embedded server in the foreground."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from types import FrameType

from careflow_storage._endpoint import bucket_name_problem
from careflow_storage.cli.ui.output import Output
from careflow_storage.errors import InvalidInputError
from careflow_storage.local import LocalServer, LocalServerError

DIFFERENCES = (
    "Unlike B2, this server (SeaweedFS) lists keys in an order of its own and stores // in a key "
    "as a single slash."
)
_LOOK_EVERY = 1.0


def serve(output: Output, *, data_dir: Path | None, port: int | None, bucket: str) -> None:
    """Run the server until Ctrl-C or SIGTERM; the variables go to stdout, all else elsewhere.

    Raises:
        InvalidInputError: The bucket cannot have this name.
        LocalServerError: It did not start, or ended by itself.
    """
    if problem := bucket_name_problem(bucket, b2=False):
        raise InvalidInputError(f"--bucket {bucket!r} {problem}.")
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with LocalServer(data_dir=data_dir, port=port, bucket=bucket) as server:
            _print_variables(output, server.environment())
            kept = f"kept in {data_dir}" if data_dir else "forgotten at the end (see --data-dir)"
            output.done(f"Serving at {server.endpoint}; data is {kept}. Ctrl-C ends it.")
            output.note(DIFFERENCES)
            while not server.wait(_LOOK_EVERY):
                pass
    except KeyboardInterrupt:
        output.note("Stopped.")
        return
    raise LocalServerError("The local server has ended by itself.")


def _print_variables(output: Output, variables: dict[str, str]) -> None:
    output.item(variables)
    for name, value in variables.items():
        output.line(f"export {name}={shlex.quote(value)}")
    # Whoever waits for them in a pipe gets them now.
    sys.stdout.flush()


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
