"""``careflow-storage cp`` and ``mv``."""

from __future__ import annotations

from careflow_storage import BackblazeStorage
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.progress import human_size


async def copy(
    storage: BackblazeStorage,
    output: Output,
    source: str,
    target: str,
    *,
    version_id: str | None,
    content_type: str | None,
    overwrite: bool,
) -> None:
    """Copy a file."""
    result = await storage.admin.copy_file(
        source, target, version_id=version_id, content_type=content_type, overwrite=overwrite
    )
    output.item(result)
    output.done(f"Copied {source} to {target} ({human_size(result.size)})")


async def move(
    storage: BackblazeStorage, output: Output, source: str, target: str, *, overwrite: bool
) -> None:
    """Copy a file, then hide the source."""
    result = await storage.admin.move_file(source, target, overwrite=overwrite)
    output.item(result)
    output.done(f"Moved {source} to {target} ({human_size(result.size)})")
    output.note(f"{source} is hidden; its versions are kept.")
