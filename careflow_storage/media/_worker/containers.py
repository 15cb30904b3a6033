"""Which container some bytes are, and so the only demuxer that may open them.

libavformat's own detection also finds playlists and scripts, whose demuxers open other files and
URLs. It is never used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import Message

from careflow_storage.content_types import detect_content_type
from careflow_storage.media._worker.errors import UnsupportedError

_TELEPHONE_RATE = 8000
_MAX_RATE = 768_000
MAX_CHANNELS = 16

_RAW_TYPES = {
    "audio/basic": "mulaw",
    "audio/mulaw": "mulaw",
    "audio/pcma": "alaw",
    "audio/pcmu": "mulaw",
    "audio/x-alaw": "alaw",
    "audio/x-alaw-basic": "alaw",
    "audio/x-mulaw": "mulaw",
    "audio/x-ulaw": "mulaw",
}


@dataclass(frozen=True)
class Container:
    """A container format, and the demuxer for it with its options."""

    name: str
    demuxer: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def headerless(self) -> bool:
        """Whether the file is samples only."""
        return self.name == "raw"


_CONTAINERS = {
    "audio/webm": Container("webm", "matroska"),
    "video/webm": Container("webm", "matroska"),
    "audio/matroska": Container("matroska", "matroska"),
    "video/matroska": Container("matroska", "matroska"),
    "audio/ogg": Container("ogg", "ogg"),
    "video/ogg": Container("ogg", "ogg"),
    "audio/wav": Container("wav", "wav"),
    "audio/mp4": Container("mp4", "mov"),
    "video/mp4": Container("mp4", "mov"),
    "audio/3gpp": Container("3gp", "mov"),
    "video/3gpp": Container("3gp", "mov"),
    "video/quicktime": Container("mov", "mov"),
    "audio/mpeg": Container("mp3", "mp3"),
    "audio/aac": Container("aac", "aac"),
    "audio/flac": Container("flac", "flac"),
    "audio/AMR": Container("amr", "amr"),
    "audio/AMR-WB": Container("amr", "amr"),
    "audio/aiff": Container("aiff", "aiff"),
    "audio/x-caf": Container("caf", "caf"),
    "audio/basic": Container("au", "au"),
}
# Their first bytes may also be samples of telephone audio.
_WITHOUT_SIGNATURE = {"mp3", "aac"}


def find_container(head: bytes, content_type: str, declared: str | None) -> Container:
    """Return the container of a file.

    Args:
        head: Its first bytes.
        content_type: The type that it is stored with.
        declared: ``mulaw`` or ``alaw`` for samples without a header.

    Raises:
        UnsupportedError: It is none of the supported ones.
    """
    if declared is not None:
        return _headerless(declared, content_type)
    if not head:
        raise UnsupportedError("The file is empty.")
    found = _CONTAINERS.get(detect_content_type("", head))
    raw = _RAW_TYPES.get(_parsed(content_type).get_content_type())
    if raw is not None and (found is None or found.name in _WITHOUT_SIGNATURE):
        return _headerless(raw, content_type)
    if found is not None:
        return found
    raise UnsupportedError("The file is not in a supported audio or video format.", _hint_for(head))


def _headerless(law: str, content_type: str) -> Container:
    parameters = _parsed(content_type)
    rate = _number(parameters, "rate", _TELEPHONE_RATE, _MAX_RATE)
    channels = _number(parameters, "channels", 1, MAX_CHANNELS)
    options = {"sample_rate": f"{rate}", "ch_layout": f"{channels}C"}
    return Container("raw", law, options)


def _parsed(content_type: str) -> Message:
    message = Message()
    message["content-type"] = content_type
    return message


def _number(parameters: Message, name: str, default: int, largest: int) -> int:
    given = parameters.get_param(name)
    if given is None:
        return default
    text = given if isinstance(given, str) else ""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= largest):
        raise UnsupportedError(f"The content type has an unusable {name}: {given!r:.50}.")
    return int(text[:9])


def _hint_for(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<")):
        return "It begins like a web page or XML, perhaps an error page that was stored."
    if start.startswith((b"{", b"[")):
        return "It begins like JSON, perhaps an error response that was stored."
    if start.startswith(b"#extm3u"):
        return "It is a playlist, whose parts are other files."
    return (
        "Supported are WebM, Matroska, Ogg, WAV, MP3, MP4, QuickTime, FLAC, AAC, AMR, AIFF, CAF "
        'and AU; pass format="mulaw" for mu-law samples without a header.'
    )
