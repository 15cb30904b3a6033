"""What the shell offers at TAB for keys, buckets and IDs.

The shell waits for it, and shows what it prints: a server has two seconds to respond, and every
failure offers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from careflow_storage.cli.ui.candidates import Kind

_SECONDS = 2.0
_SECONDS_TO_END = 1.0


def complete_buckets(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the buckets that the key may list."""
    return _offered(context, incomplete, "buckets")


def complete_hidden_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Offer keys that have versions, also those that are hidden."""
    return _offered(context, incomplete, "hidden keys")


def complete_job_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the jobs of the bucket, of which --to-env may be the file."""
    return _offered(context, incomplete, "jobs")


def complete_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Offer keys and prefixes up to the next slash."""
    return _offered(context, incomplete, "keys")


def complete_source_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Offer keys and prefixes of the bucket that a job reads."""
    return _offered(context, incomplete, "source keys")


def complete_upload_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the unfinished uploads of the KEY before."""
    return _offered(context, incomplete, "uploads")


def complete_upload_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the keys of unfinished uploads."""
    return _offered(context, incomplete, "upload keys")


def complete_version_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the versions of the KEY before."""
    return _offered(context, incomplete, "versions")


def _offered(context: typer.Context, incomplete: str, kind: Kind) -> list[str]:
    # --help does without these.
    import logging
    import os
    import threading
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    given = {**context.find_root().params, **context.params}
    # Behind an option that lacks its value, arguments have no names yet.
    words = (given.get("key"), *(given.get("keys") or ()), *context.args)
    given["key"] = next((word for word in words if word), None)
    try:
        from careflow_storage.cli.ui.candidates import offered

        # A thread may wait for a name server, for which Python would wait when it exits.
        limit = threading.Timer(_SECONDS + _SECONDS_TO_END, os._exit, (0,))
        limit.daemon = True
        limit.start()
        return offered(kind, incomplete, given, timeout=_SECONDS)
    # A traceback would stand in the middle of the line that the user types.
    except Exception:  # noqa: BLE001
        return []
