"""`CareflowPath`: a path of universal_pathlib, which creates one for ``careflow://``."""

from __future__ import annotations

from fsspec import get_filesystem_class
from upath import UPath

# universal_pathlib warns of a protocol whose file system is not imported.
get_filesystem_class("careflow")


class CareflowPath(UPath):
    """A path in the bucket of the settings, with the methods of `pathlib.Path`.

    ::

        path = UPath("careflow://exports") / "calls.csv"
    """

    __slots__ = ()
