"""What kind of file some bytes are: the content type of a recording.

Nothing here sends a request or reads a file.
"""

from __future__ import annotations

import re

HEAD_BYTES = 4096
"""How many of a file's first bytes ``detect_content_type`` needs."""

DEFAULT_CONTENT_TYPES = (
    "audio/*",
    "video/*",
    "application/ogg",
    "application/octet-stream",
    "binary/octet-stream",
)
"""The content types that ``upload_from_url`` accepts by default; the last is Amazon S3's."""


def detect_content_type(filename: str, head: bytes) -> str:
    """Detect a recording's content type by its first bytes, then by the ending of its name.

    The result is the same on every system: the tables of the operating system are not used.

    Args:
        filename: Only its ending counts.
        head: The first ``HEAD_BYTES`` of the file. With fewer, the name may decide.

    Returns:
        The content type; ``application/octet-stream`` if neither decides.
    """
    suffix = suffix_of(filename)
    start = bytes(head[:HEAD_BYTES])
    return _type_by_bytes(start, suffix) or _TYPE_BY_SUFFIX.get(suffix, "application/octet-stream")


def suffix_of(filename: str) -> str:
    """Return the ending of a file's name, with its dot and in lower case.

    As ``PurePosixPath(filename).suffix``, in a tenth of its time: every upload calls this.
    """
    stem, dot, ending = filename.rpartition("/")[2].rpartition(".")
    return f".{ending}".lower() if stem and dot and ending else ""


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
        # The tag precedes mostly MP3, but other formats too.
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
        # The description of the tracks is often at the end of the file.
        audio = brand in (b"M4A ", b"M4B ", b"M4P ", b"F4A ") or suffix in (".m4a", ".m4b", ".aac")
        kind = "audio" if audio else "video"
    return f"{kind}/{container}"


def _frame_type(head: bytes) -> str | None:
    """Detect MP3 and AAC, which have no header: their frames begin with eleven one-bits.

    Reserved values do not count: silence in 8-bit telephone audio is all one-bits, and a byte
    order mark looks like MPEG layer I, in which calls are not recorded.
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
