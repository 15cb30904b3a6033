"""``careflow-storage cat``: write the bytes of a file to stdout."""

from __future__ import annotations

import codecs
import sys
from dataclasses import dataclass
from pathlib import Path

from careflow_storage import BackblazeStorage
from careflow_storage._transfer.download.stream import FileStream
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.keyfile import read_customer_key
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.pipes import stdout_writer
from careflow_storage.errors import InvalidInputError

_TEXT = ("text/", "application/json", "application/x-subrip")


@dataclass(frozen=True)
class CatJob:
    """A range of bytes of a file."""

    key: str
    start: int
    end: int | None
    version_id: str | None
    customer_key_file: Path | None

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Write the bytes while they are downloaded."""
        stream = storage.stream_file(
            self.key,
            start=self.start,
            end=self.end,
            version_id=self.version_id,
            encryption=read_customer_key(self.customer_key_file),
        )
        async with stream:
            if sys.stdout.isatty():
                await self._show(stream)
                return
            write = stdout_writer()
            async for chunk in stream:
                await write(chunk)

    async def _show(self, stream: FileStream) -> None:
        content_type = stream.metadata.content_type
        if not content_type.startswith(_TEXT):
            raise InvalidInputError(
                f"A terminal cannot show {content_type}.",
                key=self.key,
                hint="Redirect it to a file or a pipe, or use `careflow-storage download`.",
            )
        decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
        async for chunk in stream:
            sys.stdout.write(_for_terminal(decode(chunk)))
        sys.stdout.write(_for_terminal(decode(b"", True)))


def _for_terminal(text: str) -> str:
    return "\n".join("\t".join(map(clean, line.split("\t"))) for line in text.split("\n"))
