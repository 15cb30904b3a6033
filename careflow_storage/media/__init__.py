"""Formats and waveforms of recordings; a duration and an index for what browsers recorded.

::

    info = await probe(storage, key)             # container, codec, duration, ...
    shape = await waveform(storage, key)         # 800 points for a player
    await make_seekable(storage, key)            # adds the duration and the index

It needs the extra ``media`` (PyAV and NumPy). A child process with limits opens each file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports

if TYPE_CHECKING:
    from careflow_storage.media.errors import MediaProcessError, UnsupportedMediaError
    from careflow_storage.media.models import MediaInfo, Waveform, WaveformTrack
    from careflow_storage.media.probing import RawFormat, probe
    from careflow_storage.media.seekable import make_seekable
    from careflow_storage.media.waveforms import waveform
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "careflow_storage.media.errors": ("MediaProcessError", "UnsupportedMediaError"),
            "careflow_storage.media.models": ("MediaInfo", "Waveform", "WaveformTrack"),
            "careflow_storage.media.probing": ("RawFormat", "probe"),
            "careflow_storage.media.seekable": ("make_seekable",),
            "careflow_storage.media.waveforms": ("waveform",),
        },
    )

__all__ = [
    "MediaInfo",
    "MediaProcessError",
    "RawFormat",
    "UnsupportedMediaError",
    "Waveform",
    "WaveformTrack",
    "make_seekable",
    "probe",
    "waveform",
]
