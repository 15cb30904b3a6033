"""A form's file, streamed into an upload while the form arrives."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from careflow_storage._transfer.bodies.limits import BodyLimits
from careflow_storage.errors import (
    FileTooLargeError,
    InvalidInputError,
    MissingExtraError,
)
from careflow_storage.integrations.errors import FormError, FormTypeError
from careflow_storage.recordings import DEFAULT_MAX_SIZE, check_filename

try:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header
    from starlette.requests import Request
except ImportError as error:
    raise MissingExtraError("fastapi") from error

_MAX_BESIDE_FILE: Final = 1024 * 1024
"""The most bytes of a form beside its file: text fields, headers, boundaries."""

_PLAIN_ENCODINGS: Final = (b"binary", b"8bit", b"7bit")

# The parser would drop the folder of a Windows path without a word.
_WINDOWS_PATH = re.compile(rb';\s*filename="?(?:[^";]:)?\\', re.IGNORECASE)


class FormFile:
    """A file in a form that is still arriving: a body for one upload.

    An async iterator of bytes. It ends only after the whole form has arrived and is valid, so
    that nothing is stored of a form that is not.

    Attributes:
        filename: The name as the client gives it; it has no folder.
        content_type: The type as the client gives it; None if it gives none. Without
            ``content_type=`` an upload detects the type.
        fields: The text fields, the last one of each name: those before the file, and after the
            file's end all. A page appends its fields before the file.
    """

    def __init__(self, form: _Form, filename: str, content_type: str | None) -> None:
        self.filename = filename
        self.content_type = content_type
        self.fields = form.fields
        self._form = form

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._form.next_chunk()
        if chunk is None:
            raise StopAsyncIteration
        return chunk


@asynccontextmanager
async def form_file(
    request: Request,
    field: str = "file",
    *,
    max_size: int | None = DEFAULT_MAX_SIZE,
    read_timeout: float | None = 60.0,
    min_rate: float | None = None,
) -> AsyncIterator[FormFile]:
    """Open the file of a ``multipart/form-data`` request, to stream it into an upload.

    ::

        @app.post("/recordings/{call_id}")
        async def upload(call_id: str, request: Request, storage: Storage) -> UploadResult:
            async with form_file(request, max_size=500_000_000) as part:
                return await storage.upload_recording(call_id, part, part.filename)

    The file is never held as a whole, in memory or on disk: the upload takes the bytes as they
    arrive, at most about 64 KiB at once. The text fields, headers and boundaries may have 1 MiB
    together. The route must not declare ``File``, ``Form`` or other parameters of the body,
    since FastAPI would read it first.

    Errors of the request are raised when the block begins or while the file is read, which ends
    the upload; nothing is stored.

    Args:
        field: The name of the form's field.
        max_size: The most bytes of the file. A request whose ``Content-Length`` shows that it has
            more is refused before it is read. None: no limit.
        read_timeout: The most seconds that the client may send nothing. None: no limit.
        min_rate: The bytes per second that the client must send on average, over each 30
            seconds of waiting. None: no limit.

    Raises:
        FormTypeError: The request is no such form (415).
        FormError: The form is malformed, or ended early (400).
        InvalidInputError: The form has no file in ``field``, more than one file, or an empty file;
            or the file's name has a folder or is no valid file name (422).
        FileTooLargeError: The file has more than ``max_size`` bytes (413).
        BodyTimeoutError: The client stalls, or is too slow (408).
        ClientDisconnect: Starlette's error: the client left.
    """
    limits = BodyLimits(max_size, read_timeout, min_rate)
    limits.check()
    form = _Form(request, field, limits)
    try:
        yield await form.open()
    finally:
        await form.aclose()


class _Form:
    """Reads a form as it arrives; keeps the text fields, and passes on the bytes of the file."""

    def __init__(self, request: Request, field: str, limits: BodyLimits) -> None:
        boundary = _boundary(request.headers.get("content-type", ""))
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            limits.check_size(int(length) - _MAX_BESIDE_FILE, ended=False)
        self.fields: dict[str, str] = {}
        self._field = field
        self._limits = limits
        self._pace = limits.pace()
        self._stream: AsyncGenerator[bytes, None] = request.stream()
        self._usable = True
        self._parser = _parser(boundary, self)
        self._file: FormFile | None = None
        self._chunks: deque[bytes] = deque()
        self._received = self._file_size = 0
        self._complete = False
        # The part that is arriving.
        self._part = _Part()

    async def open(self) -> FormFile:
        """Read up to the first bytes of the file."""
        while not self._chunks:
            if not await self._feed():
                break
        if self._file is None:
            raise InvalidInputError(f"The form has no file in the field {self._field!r}.")
        if not self._chunks:
            raise InvalidInputError("The file is empty.")
        return self._file

    async def next_chunk(self) -> bytes | None:
        """Return the next bytes of the file; None when the whole form has arrived."""
        if not self._usable:
            raise FormError("The form is closed, or could not be read.")
        self._usable = False
        while not self._chunks:
            if not await self._feed():
                self._usable = True
                return None
        self._usable = True
        return self._chunks.popleft()

    async def aclose(self) -> None:
        self._usable = False
        self._chunks.clear()
        await self._stream.aclose()

    async def _feed(self) -> bool:
        """Parse the next chunk of the request; return whether there was one."""
        chunk = await self._next()
        if chunk is None:
            if not self._complete:
                raise FormError("The form ended before its last boundary.")
            return False
        self._received += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise FormError("The form is malformed.") from error
        if self._received - self._file_size > _MAX_BESIDE_FILE:
            raise FileTooLargeError(
                f"The form has more than {_MAX_BESIDE_FILE} bytes beside its file."
            )
        return True

    async def _next(self) -> bytes | None:
        read = self._read
        if self._pace is None:
            return await read()
        chunk: bytes | None = await self._pace.wait_for(read)
        self._pace.received(len(chunk or b""))
        return chunk

    async def _read(self) -> bytes | None:
        return await anext(self._stream, None)

    # What the parser calls, in this order. An exception leaves `write`.

    def begin_part(self) -> None:
        self._part = _Part()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def end_header(self) -> None:
        self._part.end_header()

    def end_headers(self) -> None:
        part = self._part
        part.read_disposition()
        if part.filename is None:
            return
        # A browser sends a file input without a file as an empty file without a name.
        if not part.filename:
            part.is_ignored = True
        elif self._file is not None or part.field != self._field:
            raise InvalidInputError(
                f"The form has another file than the one in the field {self._field!r}."
            )
        else:
            check_filename("The file's name", part.filename)
            self._file = FormFile(self, part.filename, part.content_type)

    def part_data(self, data: bytes, start: int, end: int) -> None:
        part, chunk = self._part, data[start:end]
        if part.filename is None:
            part.text += chunk
        elif not part.is_ignored:
            self._file_size += len(chunk)
            self._limits.check_size(self._file_size, ended=False)
            self._chunks.append(chunk)

    def end_part(self) -> None:
        if self._part.filename is None:
            self.fields[self._part.field] = _decoded(bytes(self._part.text))

    def end(self) -> None:
        self._complete = True


class _Part:
    """One part of a form: its headers, and the text of a text field."""

    def __init__(self) -> None:
        self.name = bytearray()
        self.value = bytearray()
        self.text = bytearray()
        self.field = ""
        self.filename: str | None = None
        self.is_ignored = False
        self._headers: dict[bytes, bytes] = {}

    def end_header(self) -> None:
        self._headers[bytes(self.name).lower()] = bytes(self.value)
        self.name.clear()
        self.value.clear()

    def read_disposition(self) -> None:
        header = self._headers.get(b"content-disposition", b"")
        if _WINDOWS_PATH.search(header):
            raise InvalidInputError("The file's name has a folder.")
        kind, options = parse_options_header(header)
        if kind != b"form-data" or b"name" not in options:
            raise FormError("A part of the form has no name.")
        # Browsers send none. curl and mail clients can, and the bytes would be stored encoded.
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise FormError("A part of the form has a Content-Transfer-Encoding.")
        self.field = _decoded(options[b"name"])
        if b"filename" in options:
            self.filename = _decoded(options[b"filename"])

    @property
    def content_type(self) -> str | None:
        value = self._headers.get(b"content-type")
        return None if value is None else value.decode("latin-1")


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise FormTypeError("The request's type must be multipart/form-data.")
    boundary = options.get(b"boundary")
    if not boundary:
        raise FormError("The request's type has no boundary.")
    return boundary


def _parser(boundary: bytes, form: _Form) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin_part,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.end_header,
                "on_headers_finished": form.end_headers,
                "on_part_data": form.part_data,
                "on_part_end": form.end_part,
                "on_end": form.end,
            },
        )
    except FormParserError as error:
        raise FormError("The form's boundary is too long.") from error


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormError("The form is not in UTF-8.") from error
