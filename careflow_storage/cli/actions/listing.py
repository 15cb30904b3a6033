"""``careflow-storage ls``: keys, a table of them, or their folders."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from careflow_storage import BackblazeStorage
from careflow_storage._s3.presign import SignedMethod
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.keyfile import read_customer_key
from careflow_storage.cli.ui.output import Output, counted, moment
from careflow_storage.cli.ui.progress import human_size


async def list_files(
    storage: BackblazeStorage, output: Output, prefix: str, *, long: bool, human: bool
) -> None:
    """Print the files as their pages come; a page is all that is held."""
    files = total = 0
    async for page in storage.list_files(prefix).pages():
        for file in page:
            files += 1
            total += file.size
            if output.as_json:
                output.item(file)
            elif long:
                output.line(_row(file.key, file.size, moment(file.last_modified), human=human))
            else:
                output.line(file.key)
        sys.stdout.flush()
    if long:
        output.note(f"{counted(files, 'file')}, {human_size(total)}")


def _row(key: str, size: int, time: str, *, human: bool) -> Text | str:
    shown = f"{human_size(size):>10}" if human else f"{size:>13}"
    if not sys.stdout.isatty():
        return f"{shown}  {time}  {key}"
    return Text.assemble((shown, "cyan"), "  ", (time, "dim"), "  ", clean(key))


@dataclass
class _Folder:
    """A folder, and what is in it and below it."""

    name: str
    files: int = 0
    size: int = 0
    folders: dict[str, _Folder] = field(default_factory=dict)

    def add(self, folders: list[str], size: int) -> None:
        """Count a file that is in the last of these folders, one within the other."""
        folder = self
        folder.files, folder.size = folder.files + 1, folder.size + size
        for name in folders:
            folder = folder.folders.setdefault(name, _Folder(name))
            folder.files, folder.size = folder.files + 1, folder.size + size

    def walk(self) -> Iterator[tuple[str, str, _Folder]]:
        """Give each folder with the lines before its name in a tree, and with its path.

        Without recursion: a key may have a thousand slashes.
        """
        waiting = [("", "", self.name, self)]
        while waiting:
            guides, branch, path, folder = waiting.pop()
            yield guides + branch, path, folder
            guides += {"": "", "├── ": "│   ", "└── ": "    "}[branch]
            below, branch = [], "└── "
            for each in reversed(folder.folders.values()):
                below.append((guides, branch, path + each.name, each))
                branch = "├── "
            waiting += below


async def list_tree(
    storage: BackblazeStorage, output: Output, prefix: str, depth: int | None
) -> None:
    """Print the folders, each with what is below it; holds the folders, not the files."""
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
    if not output.stdout.encoding.lower().startswith("utf"):
        guides = guides.translate({ord("├"): "|", ord("└"): "`", ord("│"): "|", ord("─"): "-"})
    return Text.assemble(
        (guides, "dim"),
        (clean(name), "bold"),
        (f"  {counted(folder.files, 'file')}, ", "dim"),
        (human_size(folder.size), "cyan"),
    )


async def info(
    storage: BackblazeStorage,
    output: Output,
    key: str,
    version_id: str | None,
    customer_key_file: Path | None,
) -> None:
    """Show what the server knows about a file."""
    encryption = read_customer_key(customer_key_file)
    found = await storage.get_file_metadata(key, version_id=version_id, encryption=encryption)
    output.data(found)
    shown = dict(found)
    shown["size"] = f"{found.size:,} ({human_size(found.size)})"
    output.fields(shown)


async def url(
    storage: BackblazeStorage,
    output: Output,
    key: str,
    seconds: int,
    *,
    method: SignedMethod,
    download_as: str | None,
    content_type: str | None,
    version_id: str | None,
) -> None:
    """Print a presigned URL, and nothing else."""
    signed = await storage.get_signed_url(
        key,
        seconds,
        method=method,
        download_as=download_as,
        content_type=content_type,
        version_id=version_id,
    )
    output.line(signed)
    output.item({"key": key, "url": signed, "method": method, "expires_in": seconds})
