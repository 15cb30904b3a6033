"""User metadata as ``x-amz-meta-*`` headers, by the limits of Backblaze B2.

Headers carry ASCII. A value that is more than that, or that a server or proxy on its way might
change, is written as RFC 2047 encoded words, as Amazon S3 does, and comes back as it was
given. The bounds are those of "Add File Information" in Backblaze's documentation.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Final

from careflow_storage.errors import InvalidInputError

# The name under which our multipart uploads leave their mark.
UPLOAD_MARKER: Final = "careflow-upload"
# The name that says, with the value "true", that a recording was cut off before its end.
PARTIAL_MARKER: Final = "careflow-partial"
# The name under which a copy has the ETag of its source.
SOURCE_ETAG: Final = "careflow-source-etag"
MAX_NAME_BYTES: Final = 50
# Names and values together. B2 takes 7,000 bytes of unencrypted files, and 2,048 of files in
# buckets that encrypt (all new ones do) or have object lock. Our marks always have their room,
# so that metadata that is good for a small file is good for a large one, and for a cut-off one.
MAX_TOTAL_BYTES: Final = 2048 - 88

META_PREFIX: Final = "x-amz-meta-"
_is_printable = re.compile(r"[\x20-\x7e]+").fullmatch
_is_name = re.compile(r"[a-z0-9\-_.~!#$%^&*'|+`]+").fullmatch
_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
# Servers sign, and some store, a run of spaces as one space.
_is_plain = re.compile(r"[!-~]+(?: [!-~]+)*").fullmatch

_MAX_WORD: Final = 75
_Q_WORD: Final = "=?utf-8?q?{}?="
_B_WORD: Final = "=?utf-8?b?{}?="
_ROOM: Final = _MAX_WORD - len(_Q_WORD.format(""))
# The characters that RFC 2047 leaves as they are in every place where a word may stand.
_Q_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")

# Charset (with RFC 2231's language), encoding and text; then words that only space parts.
_WORD: Final = r"=\?[!->@-~]+\?[bBqQ]\?[!->@-~]*\?="
_find_words = re.compile(rf"{_WORD}(?:[ \t]+{_WORD})*")
_split_word = re.compile(r"=\?([^?*]+)(?:\*[^?]*)?\?([bBqQ])\?([^?]*)\?=").findall
# What else decodes to text, and never depends on what Python happens to know.
_CHARSETS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
}


def encode_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the headers for ``metadata``.

    Names are lower-cased: HTTP ignores their case. Values may be any text without control
    characters; ``decode_metadata`` restores them exactly. Other tools see a value that is not
    plain ASCII as RFC 2047 encoded words.

    Raises:
        InvalidInputError: A name or a value is not allowed (the message gives its name, never
            its value), two names differ only in case, or all names and values are more than
            1,960 bytes as sent (Backblaze's 2,048 less what our own marks need).
    """
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(f"metadata must be a mapping, not {type(metadata).__name__}.")
    headers: dict[str, str] = {}
    for name, value in metadata.items():
        lowered = _checked_name(name)
        if lowered in (UPLOAD_MARKER, PARTIAL_MARKER):
            raise InvalidInputError(f"metadata[{name!r}]: the name is reserved for this package.")
        if META_PREFIX + lowered in headers:
            raise InvalidInputError(
                f"metadata[{name!r}]: there is another name that differs only in case.",
                hint="Names of metadata are lower-cased on their way.",
            )
        headers[META_PREFIX + lowered] = _encoded_value(name, value)
    total = sum(len(name) - len(META_PREFIX) + len(value) for name, value in headers.items())
    if total > MAX_TOTAL_BYTES:
        raise InvalidInputError(
            f"metadata: names and values are {total} bytes as sent, more than {MAX_TOTAL_BYTES}.",
            hint="Backblaze stores 2,048 bytes, and this package may need 88 of them. "
            "Text that is not ASCII takes more bytes; store long text as an object.",
        )
    return headers


def is_header_value(value: object) -> bool:
    """Whether a header can hold this as it is: printable ASCII, at least one character."""
    return isinstance(value, str) and _is_printable(value) is not None


def decode_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that is in a response's headers, our own marks included.

    Their names are in lower case.
    Encoded words of other writers are decoded, too, between plain text and in the charsets
    UTF-8, ASCII, ISO-8859-1 and Windows-1252. What cannot be decoded stays as it is.
    """
    return {
        name[len(META_PREFIX) :]: _decoded_value(value)
        for name, value in headers.items()
        if name.startswith(META_PREFIX)
    }


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise InvalidInputError(f"metadata: a name must be str, not {type(name).__name__}.")
    # Not before the check: "K" with a Kelvin sign would become a "k".
    if not name.isascii() or not _is_name(lowered := name.lower()):
        raise InvalidInputError(
            f"metadata[{name!r}]: the name has characters that Backblaze does not allow.",
            hint="Allowed are A-Z a-z 0-9 and - _ . ~ ! # $ % ^ & * ' | + `",
        )
    if len(lowered) > MAX_NAME_BYTES:
        raise InvalidInputError(
            f"metadata[{name!r}]: the name is longer than {MAX_NAME_BYTES} bytes."
        )
    if lowered.startswith("b2-"):
        raise InvalidInputError(f"metadata[{name!r}]: Backblaze reserves names with 'b2-'.")
    return lowered


def _encoded_value(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(
            f"metadata[{name!r}]: the value must be str, not {type(value).__name__}.",
            hint="Convert it, for example with str() or json.dumps().",
        )
    if _control(value):
        raise InvalidInputError(f"metadata[{name!r}]: the value has a control character.")
    if _is_plain(value) and "=?" not in value:
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"metadata[{name!r}]: the value has a lone surrogate.") from None
    if not value:
        # Some servers drop an empty header, and the name with it.
        return _Q_WORD.format("")
    quoted, based = " ".join(_q_words(value)), " ".join(_b_words(value))
    return quoted if len(quoted) <= len(based) else based


def _q_words(text: str) -> Iterator[str]:
    word = ""
    for char in text:
        if char == " ":
            quoted = "_"
        else:
            quoted = "".join(
                chr(byte) if byte in _Q_PLAIN else f"={byte:02X}" for byte in char.encode()
            )
        if len(word) + len(quoted) > _ROOM:
            yield _Q_WORD.format(word)
            word = ""
        word += quoted
    yield _Q_WORD.format(word)


def _b_words(text: str) -> Iterator[str]:
    room = _ROOM // 4 * 3
    word = b""
    for char in text:
        encoded = char.encode()
        if len(word) + len(encoded) > room:
            yield _B_WORD.format(base64.b64encode(word).decode())
            word = b""
        word += encoded
    yield _B_WORD.format(base64.b64encode(word).decode())


def _decoded_value(value: str) -> str:
    if not value.isascii():
        value = _repaired(value)
    if "=?" not in value:
        return value
    try:
        decoded = _find_words.sub(lambda words: _decoded_words(words[0]), value)
    except (ValueError, LookupError):
        return value
    # Refuse a line break: it would forge a header or a log line.
    return value if _control(decoded) else decoded


def _repaired(value: str) -> str:
    # Some writers send UTF-8 as it is. The data plane gives one character per byte, as HTTP's old
    # charset has it, and what is no UTF-8 stays so. aiohttp has decoded UTF-8 already; there such
    # bytes are surrogates, which no JSON and no model takes.
    try:
        data = value.encode("latin-1")
    except UnicodeEncodeError:
        data = value.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _decoded_words(words: str) -> str:
    text = ""
    pending, charset_of_pending = b"", "utf-8"
    for charset, encoding, encoded in _split_word(words):
        codec = _CHARSETS[charset.lower()]
        if codec != charset_of_pending:
            text += pending.decode(charset_of_pending)
            pending, charset_of_pending = b"", codec
        # Some writers cut between the bytes of a character, so bytes are joined first.
        pending += _from_b(encoded) if encoding in "bB" else _from_q(encoded)
    return text + pending.decode(charset_of_pending)


def _from_b(encoded: str) -> bytes:
    return binascii.a2b_base64(encoded, strict_mode=True)


def _from_q(encoded: str) -> bytes:
    return binascii.a2b_qp(encoded, header=True)
