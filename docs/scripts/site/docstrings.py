"""Reads the docstrings of the package as Markdown.

They mark literal blocks with ``::``, as the Python standard library does.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ONLY_COLONS = re.compile(r"^[ \t]*::[ \t]*\n", re.MULTILINE)
_AFTER_TEXT = re.compile(r"::[ \t]*$", re.MULTILINE)


class LiteralBlocks(griffe.Extension):
    """Turns ``::`` before a literal block into what Markdown expects."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of what was loaded."""
        if obj.docstring is not None:
            value = _ONLY_COLONS.sub("\n", obj.docstring.value)
            obj.docstring.value = _AFTER_TEXT.sub(":", value)
