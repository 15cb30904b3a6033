"""The keys and file names of recordings.

Nothing here sends a request or reads a file.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports
from careflow_storage.content_types import suffix_of
from careflow_storage.errors import InvalidInputError

MAX_KEY_BYTES = 1024
"""S3's and B2's limit for a whole key, in bytes of UTF-8."""

MAX_SEGMENT_BYTES = 250
"""The limit of B2's native API for each segment of a key, in bytes of UTF-8."""

DEFAULT_MAX_SIZE = 5_000_000_000
"""In bytes: a month of telephone audio. ``upload_from_url`` refuses a longer source."""

_NOT_IN_XML = re.compile("[\ufffe\uffff]")
_LAST_EPOCH_MS = 253_402_300_799_999  # the end of the year 9999
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Line breaks of Unicode; marks that reverse the reading direction, and so disguise the ending of
# a name; and characters that XML cannot carry, which would make a listing unreadable.
_TREACHEROUS = re.compile(r"[\x80-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
# Windows gives each of these a meaning; "%" matters to programs that decode the name again.
_UNSAFE_IN_A_NAME = re.compile(
    r"[\x00-\x1f\x7f-\x9f<>:\"|?*%\ud800-\udfff\ufffe\uffff"
    # Invisible characters: format characters (Unicode's Cf without the Arabic and other visible
    # signs), fillers, variation selectors, and tags, which can carry a whole text.
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_DEVICE = re.compile(
    r"con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]", re.IGNORECASE
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def validate_key(key: str) -> str:
    """Check an object key and return it unchanged.

    Raises:
        InvalidInputError: The key is empty or longer than 1,024 bytes of UTF-8. Or it has a
            control character, half of a surrogate pair, U+FFFE or U+FFFF (which XML cannot
            name), or a segment ``.`` or ``..`` (which URL libraries resolve: the request would
            reach another object).
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
    """Check the key of an object that another program may have stored; see `validate_key`.

    U+FFFE and U+FFFF are allowed: such an object can be read and deleted.
    """
    if _is_plain(key):
        return key
    _check_size("The key", key, MAX_KEY_BYTES)
    _refuse_control("The key", key)
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise InvalidInputError(
            "The key has a segment '.' or '..'.",
            hint="Resolve such paths before they become keys.",
        )
    return key


def recording_key(call_id: str, filename: str, epoch_ms: int) -> str:
    """Return the key of a recording, ``recordings/{call_id}/{epoch_ms}-{filename}``.

    Args:
        call_id: The call, e.g. Twilio's ``CA…``. All recordings of a call share a folder.
        filename: The name without a folder, e.g. ``recording.webm``.
        epoch_ms: The time of the recording, in milliseconds since 1970 (UTC).

    Raises:
        InvalidInputError: ``call_id`` or ``filename`` is empty, leaves its folder, has a control
            character or one that disguises the name, or is longer than 250 bytes (the time
            included). Or ``epoch_ms`` is no such time.
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
    """Check the name of a file as `recording_key` checks ``filename``.

    Raises:
        InvalidInputError: The message calls the value ``name``.
    """
    _validate_segment(name, value, MAX_SEGMENT_BYTES)


def refuse_disguise(name: str, value: str) -> None:
    """Refuse a text with characters that break lines or reverse the reading direction.

    Raises:
        InvalidInputError: The text has such a character: U+202E, for one, shows ``gpj.exe`` as
            ``exe.jpg``. The message calls the text ``name``.
    """
    _refuse_control(name, value)
    if found := _TREACHEROUS.search(value):
        raise InvalidInputError(
            f"{name} has the character U+{ord(found[0]):04X} in it.",
            hint="It breaks lines, reverses the reading direction or cannot be listed.",
        )


def safe_filename(key: str) -> str:
    """Return a safe file name for any key, even one of an untrusted bucket.

    ::

        path = folder / safe_filename(file.key)

    The name is the key's last segment, harmless on Linux, macOS and Windows: no folder, drive or
    device (``CON``), not hidden (no leading dot), without control characters, marks of the
    reading direction and invisible characters, at most 250 bytes of UTF-8 with the ending kept.
    ``_`` replaces what is removed. Different keys may get the same name: use one folder per call.
    """
    name = key.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _UNSAFE_IN_A_NAME.sub("_", name).rstrip(". ")
    if not name or name[0] in ". ":
        name = f"_{name[1:]}"
    if _DEVICE.fullmatch(name.partition(".")[0].rstrip()):
        name = f"_{name}"
    suffix = suffix_of(name)[-32:]
    stem = name[: len(name) - len(suffix)] if suffix else name
    room = MAX_SEGMENT_BYTES - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore") + name[len(stem) :]


class RecordingClock:
    """Gives each recording its own millisecond, which goes into the key.

    Two recordings of one call in the same millisecond would overwrite each other.
    """

    def __init__(self) -> None:
        self._last = 0

    def epoch_ms(self, recorded_at: datetime | None = None) -> int:
        """Return ``recorded_at`` in milliseconds; by default now, later than the last result."""
        if recorded_at is None:
            self._last = max(time.time_ns() // 1_000_000, self._last + 1)
            return self._last
        if getattr(recorded_at, "tzinfo", None) is None:
            raise InvalidInputError(
                "recorded_at must be an aware datetime.", hint="datetime.now(UTC) is one."
            )
        return (recorded_at - _EPOCH) // timedelta(milliseconds=1)


def _validate_segment(name: str, value: str, limit: int) -> None:
    _check_size(name, value, limit)
    if not value.strip():
        raise InvalidInputError(f"{name} is blank.")
    if "/" in value or "\\" in value or ".." in value or value == ".":
        raise InvalidInputError(
            f"{name} has '/', '\\' or '..' in it, or is '.'.",
            hint="Pass one name, not a path; a recording stays in its call's folder.",
        )
    refuse_disguise(name, value)


def _check_size(name: str, value: str, limit: int) -> None:
    """Refuse what is no text, is empty, or takes more than ``limit`` bytes as UTF-8."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a str, not {type(value).__name__}.")
    if not value:
        raise InvalidInputError(f"{name} is empty.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{name} has half of a surrogate pair at position {error.start}, so it has no UTF-8.",
            hint="It often comes from os.listdir() on names that are not UTF-8.",
        ) from None
    if size > limit:
        raise InvalidInputError(
            f"{name} has {size} bytes of UTF-8, {limit} are allowed.",
            hint=None
            if size == len(value)
            else "Characters outside of ASCII take 2 to 4 bytes each.",
        )


def _is_plain(key: object) -> bool:
    """Whether a key is certainly valid. A fast check that most keys pass."""
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


if TYPE_CHECKING:
    from careflow_storage.content_types import DEFAULT_CONTENT_TYPES as DEFAULT_CONTENT_TYPES
    from careflow_storage.content_types import HEAD_BYTES as HEAD_BYTES
    from careflow_storage.content_types import detect_content_type as detect_content_type
else:
    __getattr__, _ = lazy_exports(
        __name__,
        {},
        moved={
            "careflow_storage.content_types": (
                "DEFAULT_CONTENT_TYPES",
                "HEAD_BYTES",
                "detect_content_type",
            )
        },
    )
