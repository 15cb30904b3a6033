"""XML documents in S3's form."""

from __future__ import annotations

from xml.sax.saxutils import escape

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def document(root: str, content: str) -> bytes:
    """Wrap XML content in a root element."""
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<{root} xmlns="{_NAMESPACE}">{content}</{root}>'.encode()


def element(name: str, value: object) -> str:
    """Return one element with escaped text."""
    return f"<{name}>{escape(str(value))}</{name}>"
