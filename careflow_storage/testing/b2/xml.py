"""XML documents in S3's form."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from careflow_storage._s3.xml.reader import decoded
from careflow_storage.errors import ServerResponseError
from careflow_storage.testing.b2.errors import malformed

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def document(root: str, content: str) -> bytes:
    """Wrap XML content in a root element."""
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<{root} xmlns="{_NAMESPACE}">{content}</{root}>'.encode()


def element(name: str, value: object) -> str:
    """Return one element with escaped text."""
    return f"<{name}>{escape(str(value))}</{name}>"


def parsed(body: bytes) -> ElementTree.Element:
    """Parse the document in a request; refuse it if it is malformed."""
    try:
        # Document types are refused, so there are no entities to expand.
        return ElementTree.fromstring(decoded(body))  # noqa: S314
    except (ServerResponseError, ElementTree.ParseError):
        raise malformed() from None


def texts_of(element: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Yield name and text of each child."""
    for each in element:
        yield name_of(each), each.text or ""


def name_of(element: ElementTree.Element) -> str:
    """Return the name without its namespace."""
    return element.tag.rpartition("}")[2]
