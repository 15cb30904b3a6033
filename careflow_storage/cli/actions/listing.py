"""``careflow-storage ls``: keys, a table of files, or a tree of folders."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.text import Text

from careflow_storage import BackblazeStorage, FileInfo
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, counted, has_unicode, moment
from careflow_storage.cli.ui.progress import human_size


async def list_files(
    storage: BackblazeStorage, output: Output, prefix: str, *, long: bool, human: bool
) -> None:
    """Print the files page by page; only one page is in memory."""
    files = total = 0
    async for page in storage.list_files(prefix).pages():
        for file in page:
            files += 1
            total += file.size
            if output.as_json:
                output.item(file)
            elif long:
                output.entry(_facts(file, human=human), file.key)
            else:
                output.line(file.key)
        sys.stdout.flush()
    if long:
        output.note(f"{counted(files, 'file')}, {human_size(total)}")


def _facts(file: FileInfo, *, human: bool) -> Text:
    shown = f"{human_size(file.size):>10}" if human else f"{file.size:>13}"
    return Text.assemble((shown, "cyan"), "  ", (moment(file.last_modified), "dim"))


@dataclass
class _Folder:
    """A folder, with the sums of all files below it."""

    name: str
    files: int = 0
    size: int = 0
    folders: dict[str, _Folder] = field(default_factory=dict)

    def add(self, folders: list[str], size: int) -> None:
        """Count a file whose path is these folders."""
        folder = self
        folder.files, folder.size = folder.files + 1, folder.size + size
        for name in folders:
            folder = folder.folders.setdefault(name, _Folder(name))
            folder.files, folder.size = folder.files + 1, folder.size + size

    def walk(self) -> Iterator[tuple[str, str, _Folder]]:
        """Yield each folder with the lines before its name in a tree, and its path.

        Not recursive: a key may have a thousand slashes.
        """
        pending = [("", "", self.name, self)]
        while pending:
            guides, branch, path, folder = pending.pop()
            yield guides + branch, path, folder
            guides += {"": "", "├── ": "│   ", "└── ": "    "}[branch]
            below, branch = [], "└── "
            for each in reversed(folder.folders.values()):
                below.append((guides, branch, path + each.name, each))
                branch = "├── "
            pending += below


async def list_tree(
    storage: BackblazeStorage, output: Output, prefix: str, depth: int | None
) -> None:
    """Print the folders and their sums; keeps the folders in memory, not the files."""
    base = prefix[: prefix.rfind("/") + 1]
    root = _Folder(base)
    async for page in storage.list_files(prefix).pages():
        for file in page:
            folders = file.key[len(base) :].split("/")[:-1]
            root.add([f"{folder}/" for folder in folders[:depth]], file.size)
    for guides, path, folder in root.walk():
        output.item({"folder": path, "files": folder.files, "size": folder.size})
        name = folder.name or f"{storage.settings.bucket_name}/"
        output.line(_branch(output, guides, name, folder))


def _branch(output: Output, guides: str, name: str, folder: _Folder) -> Text:
    if not has_unicode(output.stdout):
        guides = guides.translate({ord("├"): "|", ord("└"): "`", ord("│"): "|", ord("─"): "-"})
    return Text.assemble(
        (guides, "dim"),
        (clean(name), "bold"),
        (f"  {counted(folder.files, 'file')}, ", "dim"),
        (human_size(folder.size), "cyan"),
    )
