"""``careflow-storage versions`` and ``restore``."""

from __future__ import annotations

from rich.text import Text

from careflow_storage import BackblazeStorage
from careflow_storage.admin import FileVersion
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, counted, moment
from careflow_storage.cli.ui.progress import human_size

_STYLES = {"latest": "green", "hidden": "yellow", "old": "dim", "marker": "dim"}


async def list_versions(storage: BackblazeStorage, output: Output, prefix: str) -> None:
    """Print the versions below their keys, page by page."""
    versions = markers = size = 0
    key = None
    async for version in storage.admin.list_file_versions(prefix):
        versions += not version.delete_marker
        markers += version.delete_marker
        size += version.size
        if version.key != key:
            key = version.key
            output.line(Text(clean(key), style="bold"))
        output.item(version)
        output.entry(_facts(version), version.version_id or "-")
    output.note(
        f"{counted(versions, 'version')}, {counted(markers, 'delete marker')}, {human_size(size)}"
    )


def _facts(version: FileVersion) -> Text:
    state = _state(version)
    size = "" if version.delete_marker else human_size(version.size)
    return Text.assemble(
        (f"  {state:<6}", _STYLES[state]),
        f"  {moment(version.last_modified)}",
        (f"  {size:>10}", "cyan"),
    )


def _state(version: FileVersion) -> str:
    if version.delete_marker:
        return "hidden" if version.is_latest else "marker"
    return "latest" if version.is_latest else "old"


async def restore(
    storage: BackblazeStorage, output: Output, key: str, version_id: str | None
) -> None:
    """Restore a file, and print how."""
    result = await storage.admin.restore_file(key, version_id)
    output.item(result)
    message = {
        "unhidden": f"Restored {key}: it is no longer hidden",
        "copied": f"Restored {key}: the old version is the newest again",
        "was_there": f"Nothing to restore: {key} is not hidden",
    }
    output.done(f"{message[result.how]} (version {result.version_id})")
