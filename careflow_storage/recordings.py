"""What recordings are called in the bucket, and what kind of file they are.

Nothing here asks the server or touches a file.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from careflow_storage.errors import InvalidInputError

MAX_KEY_BYTES = 1024
"""S3's and B2's limit for a whole key, in bytes of UTF-8."""

MAX_SEGMENT_BYTES = 250
"""The limit of B2's own API for each part of a key between slashes, in bytes of UTF-8."""

HEAD_BYTES = 4096
"""How many bytes of a file's beginning are enough for ``detect_content_type``."""

DEFAULT_MAX_SIZE = 5_000_000_000
"""Bytes: a month of telephone audio. An endless source ends here."""

DEFAULT_CONTENT_TYPES = (
    "audio/*",
    "video/*",
    "application/ogg",
    "application/octet-stream",
    "binary/octet-stream",
)
"""What a recording may be called by who sends it; the last is Amazon S3's default."""

_NOT_IN_XML = re.compile("[\ufffe\uffff]")
_LAST_EPOCH_MS = 253_402_300_799_999  # the end of the year 9999
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Line breaks of Unicode, marks that reverse the reading direction and so disguise a name's
# ending, and what XML cannot carry: a listing that contains it could not be read.
_TREACHEROUS = re.compile(r"[\x80-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
# Windows gives each of these a meaning; "%" would be one to who decodes the name again.
_UNSAFE_IN_A_NAME = re.compile(
    r"[\x00-\x1f\x7f-\x9f<>:\"|?*%\ud800-\udfff\ufffe\uffff"
    # What cannot be seen: format characters (Unicode's Cf, but for the Arabic and other signs that
    # are drawn), fillers, variation selectors, and the tags, which can carry a whole text.
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_DEVICE = re.compile(
    r"con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]", re.IGNORECASE
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def validate_key(key: str) -> str:
    """Check an object key and give it back unchanged.

    Raises:
        InvalidInputError: It is empty, over 1,024 bytes of UTF-8, has a control character or
            half of a surrogate pair, or U+FFFE or U+FFFF, which no XML document can name, or a
            segment ``.`` or ``..``, which URL libraries between here and the server resolve, so
            that another object would be meant.
    """
    if _is_plain(key):
        return key
    if found := _NOT_IN_XML.search(existing_key(key)):
        raise InvalidInputError(
            f"The key has the noncharacter U+{ord(found[0]):04X} at position {found.start()}.",
            hint="No listing or batch deletion can name it in XML.",
        )
    return key


def existing_key(key: str) -> str:
    """Check the key of a file that may exist, whoever stored it; as `validate_key`.

    U+FFFE and U+FFFF are allowed: other programs may have stored such a file, and it can be read
    and deleted.
    """
    if _is_plain(key):
        return key
    size = _utf8_size("The key", key)
    if size > MAX_KEY_BYTES:
        raise InvalidInputError(
            f"The key has {size} bytes of UTF-8, {MAX_KEY_BYTES} are allowed.",
            hint="Characters outside of ASCII take 2 to 4 bytes each.",
        )
    _refuse_control("The key", key)
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise InvalidInputError(
            "The key has a segment '.' or '..'.",
            hint="Resolve such paths before they become keys.",
        )
    return key


def recording_key(call_id: str, filename: str, epoch_ms: int) -> str:
    """Make the key of a recording, ``recordings/{call_id}/{epoch_ms}-{filename}``.

    Args:
        call_id: The call, e.g. Twilio's ``CA…``; one folder holds all recordings of a call.
        filename: The name without any folder, e.g. ``recording.webm``.
        epoch_ms: When it was recorded, in milliseconds since 1970 (UTC).

    Raises:
        InvalidInputError: A part is empty, would leave its folder, has a control character or
            one that disguises the name, or is longer than 250 bytes (with the time before it).
    """
    if isinstance(epoch_ms, bool) or not isinstance(epoch_ms, int):
        raise InvalidInputError(
            f"epoch_ms must be an int, not {type(epoch_ms).__name__}.",
            hint="int(recorded_at.timestamp() * 1000)",
        )
    if not 0 <= epoch_ms <= _LAST_EPOCH_MS:
        raise InvalidInputError(
            "epoch_ms is no time between the years 1970 and 9999.",
            hint="It counts milliseconds, not microseconds or nanoseconds.",
        )
    prefix = f"{epoch_ms}-"
    _validate_segment("call_id", call_id, MAX_SEGMENT_BYTES)
    _validate_segment("filename", filename, MAX_SEGMENT_BYTES - len(prefix))
    return f"recordings/{call_id}/{prefix}{filename}"


def check_filename(name: str, value: str) -> None:
    """Refuse what is no name of a file, or looks like another one than it is.

    Raises:
        InvalidInputError: As for the ``filename`` of a recording; it calls it ``name``.
    """
    _validate_segment(name, value, MAX_SEGMENT_BYTES)


def refuse_disguise(name: str, value: str) -> None:
    """Refuse text with characters that break lines or turn the reading direction.

    Raises:
        InvalidInputError: ``name`` has one, such as U+202E, which shows ``gpj.exe`` backwards.
    """
    _refuse_control(name, value)
    if found := _TREACHEROUS.search(value):
        raise InvalidInputError(
            f"{name} has the character U+{ord(found[0]):04X} in it.",
            hint="It breaks lines, turns the reading direction or cannot be listed.",
        )


def safe_filename(key: str) -> str:
    """Make of any key, also of a stranger's bucket, the name of a file in one folder.

    ::

        path = folder / safe_filename(file.key)

    It is the key's last segment, harmless on Linux, macOS and Windows: no folder, no drive, no
    device (``CON``), nothing hidden (a leading dot), no control characters, marks of the reading
    direction or other characters that cannot be seen, at most 250 bytes of UTF-8 with the ending
    kept. What must go becomes ``_``. Different keys may get the same name: use a folder of their
    own for each call.
    """
    name = key.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _UNSAFE_IN_A_NAME.sub("_", name).rstrip(". ")
    if not name or name[0] in ". ":
        name = f"_{name[1:]}"
    if _DEVICE.fullmatch(name.partition(".")[0].rstrip()):
        name = f"_{name}"
    suffix = _suffix(name)[-32:]
    stem = name[: len(name) - len(suffix)] if suffix else name
    room = MAX_SEGMENT_BYTES - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore") + name[len(stem) :]


class RecordingClock:
    """Tells the milliseconds in recordings' keys, each only once.

    Two recordings of one call in one millisecond would hide each other.
    """

    def __init__(self) -> None:
        self._last = 0

    def epoch_ms(self, recorded_at: datetime | None = None) -> int:
        """Return a given aware moment as it is, or now, but later than the last time."""
        if recorded_at is None:
            self._last = max(time.time_ns() // 1_000_000, self._last + 1)
            return self._last
        if getattr(recorded_at, "tzinfo", None) is None:
            raise InvalidInputError(
                "recorded_at must be an aware datetime.", hint="datetime.now(UTC) is one."
            )
        return (recorded_at - _EPOCH) // timedelta(milliseconds=1)


def detect_content_type(filename: str, head: bytes) -> str:
    """Tell a recording's content type, by its bytes and else by its name.

    The same on every system: the operating system's tables are not asked.

    Args:
        filename: Only its ending counts.
        head: The file's beginning; ``HEAD_BYTES`` are enough, fewer may leave it to the name.

    Returns:
        The content type, ``application/octet-stream`` where neither tells.
    """
    suffix = _suffix(filename)
    start = bytes(head[:HEAD_BYTES])
    return _type_by_bytes(start, suffix) or _TYPE_BY_SUFFIX.get(suffix, "application/octet-stream")


def _suffix(filename: str) -> str:
    # As PurePosixPath(filename).suffix, in a tenth of its time: this runs for every upload.
    stem, dot, ending = filename.rpartition("/")[2].rpartition(".")
    return f".{ending}".lower() if stem and dot and ending else ""


def _validate_segment(name: str, value: str, limit: int) -> None:
    size = _utf8_size(name, value)
    if size > limit:
        raise InvalidInputError(
            f"{name} has {size} bytes of UTF-8, {limit} are allowed.",
            hint="Characters outside of ASCII take 2 to 4 bytes each.",
        )
    if not value.strip():
        raise InvalidInputError(f"{name} is blank.")
    if "/" in value or "\\" in value or ".." in value or value == ".":
        raise InvalidInputError(
            f"{name} has '/', '\\' or '..' in it, or is '.'.",
            hint="Pass one name, not a path; a recording stays in its call's folder.",
        )
    refuse_disguise(name, value)


def _utf8_size(name: str, value: str) -> int:
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a str, not {type(value).__name__}.")
    if not value:
        raise InvalidInputError(f"{name} is empty.")
    try:
        return len(value.encode())
    except UnicodeEncodeError as error:
        position = error.start
    raise InvalidInputError(
        f"{name} has half of a surrogate pair at position {position}, so it has no UTF-8.",
        hint="It often comes from os.listdir() on names that are not UTF-8.",
    )


def _is_plain(key: object) -> bool:
    """Whether nothing can be wrong with a key: so most are, and each of them is asked."""
    return (
        isinstance(key, str)
        and 0 < len(key) <= MAX_KEY_BYTES
        and key.isascii()
        and key.isprintable()
        and key[0] != "."
        and "/." not in key
    )


def _refuse_control(name: str, value: str) -> None:
    if found := _CONTROL.search(value):
        raise InvalidInputError(
            f"{name} has the control character U+{ord(found[0]):04X} at position {found.start()}.",
            hint="A line break often comes with a value that was read from a file.",
        )


# --- content types ----------------------------------------------------------------------

_TYPE_BY_SUFFIX = {
    ".3gp": "video/3gpp",
    ".aac": "audio/aac",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
    ".amr": "audio/AMR",
    ".au": "audio/basic",
    ".awb": "audio/AMR-WB",
    ".caf": "audio/x-caf",
    ".csv": "text/csv; charset=utf-8",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".m4a": "audio/mp4",
    ".m4b": "audio/mp4",
    ".m4v": "video/mp4",
    ".mka": "audio/matroska",
    ".mkv": "video/matroska",
    ".mov": "video/quicktime",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".srt": "application/x-subrip",
    ".txt": "text/plain; charset=utf-8",
    ".vtt": "text/vtt; charset=utf-8",
    ".wav": "audio/wav",
    ".wave": "audio/wav",
    ".weba": "audio/webm",
    ".webm": "audio/webm",
    ".zip": "application/zip",
}

_TYPE_BY_MAGIC = (
    (b"fLaC", "audio/flac"),
    (b"#!AMR-WB", "audio/AMR-WB"),
    (b"#!AMR", "audio/AMR"),
    (b"caff", "audio/x-caf"),
    (b".snd", "audio/basic"),
)

_MATROSKA_VIDEO = re.compile(rb"V_(VP8|VP9|AV1|MPEG|THEORA|MS/VFW)")
_MP4_HANDLER = re.compile(rb"hdlr.{8}(vide|soun)", re.DOTALL)


def _type_by_bytes(head: bytes, suffix: str) -> str | None:
    for magic, content_type in _TYPE_BY_MAGIC:
        if head.startswith(magic):
            return content_type
    if head.startswith(b"\x1aE\xdf\xa3"):
        return _matroska_type(head)
    if head.startswith(b"OggS"):
        return "video/ogg" if b"\x80theora" in head else "audio/ogg"
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "audio/wav"
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if head[4:8] == b"ftyp":
        return _mp4_type(head, suffix)
    if head.startswith(b"ID3") and len(head) >= 10:
        # The tag stands in front of MP3 mostly, but of other formats too.
        tag_size = sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
        )
        return _type_by_bytes(head[10 + tag_size :], suffix) or "audio/mpeg"
    return _frame_type(head)


def _matroska_type(head: bytes) -> str:
    kind = "video" if _MATROSKA_VIDEO.search(head) else "audio"
    return f"{kind}/matroska" if b"matroska" in head[:64] else f"{kind}/webm"


def _mp4_type(head: bytes, suffix: str) -> str:
    brand = head[8:12]
    if brand == b"qt  ":
        return "video/quicktime"
    container = "3gpp" if brand.startswith((b"3gp", b"3g2")) else "mp4"
    tracks = set(_MP4_HANDLER.findall(head))
    if tracks:
        kind = "video" if b"vide" in tracks else "audio"
    else:
        # The description of the tracks often stands at the file's end.
        audio = brand in (b"M4A ", b"M4B ", b"M4P ", b"F4A ") or suffix in (".m4a", ".m4b", ".aac")
        kind = "audio" if audio else "video"
    return f"{kind}/{container}"


def _frame_type(head: bytes) -> str | None:
    """Tell the two formats without a header, whose frames begin with eleven one-bits.

    Reserved values are refused: silence in 8-bit telephone audio is all one-bits, and a byte
    order mark looks like MPEG layer I, which nobody records in.
    """
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        adts = version >= 2 and head[2] >> 2 & 15 < 13
        return "audio/aac" if adts else None
    bitrate, sample_rate = head[2] >> 4, head[2] >> 2 & 3
    valid = version != 1 and layer != 3 and bitrate != 15 and sample_rate != 3
    return "audio/mpeg" if valid else None
