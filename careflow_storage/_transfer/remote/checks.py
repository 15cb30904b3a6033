"""The checks of a request to a source, and of the content type that it responds with."""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from yarl import URL

from careflow_storage._s3.headers.metadata import is_header_value
from careflow_storage._transfer.bodies.limits import BodyLimits
from careflow_storage._transfer.remote.source import RemoteFile, RemoteRules
from careflow_storage._transfer.remote.source_request import SourceRequest
from careflow_storage._transfer.remote.ssrf import is_public, literal_address, parse_url, shown
from careflow_storage.content_types import HEAD_BYTES, detect_content_type
from careflow_storage.errors import InvalidInputError, SourceError

_UNKNOWN_TYPE = "application/octet-stream"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TYPE_PATTERN = re.compile(r"(\*/\*|[a-z0-9!#$&^_.+-]+/(\*|[a-z0-9!#$&^_.+-]+))", re.IGNORECASE)
# Headers that frame the request, that resuming needs, or that change the response.
_OUR_HEADERS = re.compile(
    r"host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect"
    r"|accept-encoding|range|if-.*|proxy-.*",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_MARKUP = re.compile(r"<(!doctype html|html|head|body|script)\b", re.IGNORECASE)
_MAX_TYPE_LENGTH = 255


@dataclass(frozen=True, slots=True)
class CheckedSource:
    """A request that may be sent, and the content types that are accepted in response."""

    url: URL = field(repr=False)
    rules: RemoteRules
    content_types: frozenset[str] | None

    @property
    def shown_url(self) -> str:
        """The URL for messages: without its query."""
        return shown(self.url)

    async def content_type(self, source: RemoteFile, name: str) -> str:
        """Check the content type of an open source, and return the one to store.

        ``name`` helps to detect it.

        Raises:
            SourceError: The type is not accepted, or the source failed.
        """
        head = await source.peek(HEAD_BYTES)
        _check_type(source, head, self.content_types, self.url)
        return _content_type(name, head, source.content_type)


def check_source(
    request: SourceRequest,
    *,
    max_size: int | None,
    content_types: Collection[str] | None,
    allow_private_addresses: bool,
    max_redirects: int,
    use_proxy: bool,
    only_resume: bool = False,
) -> CheckedSource:
    """Check a request to a source. Sends nothing.

    Raises:
        InvalidInputError: It must not be sent, or an option is invalid.
    """
    limits = BodyLimits(max_size)
    limits.check()
    rules = RemoteRules(
        headers=request_headers(request.auth, request.headers),
        limits=limits,
        max_redirects=_whole("max_redirects", max_redirects),
        allow_private=allow_private_addresses,
        use_proxy=use_proxy,
        only_resume=only_resume,
    )
    accepted = _checked_patterns(content_types)
    return CheckedSource(_checked_url(request.url, rules), rules, accepted)


def _checked_url(text: object, rules: RemoteRules) -> URL:
    if not isinstance(text, str):
        raise InvalidInputError(f"url must be a str, not {type(text).__name__}.")
    try:
        url = parse_url(text)
        address = literal_address(url.host or "")
    except ValueError as error:
        problem = str(error)
    else:
        if address is not None and not rules.allow_private and not is_public(address):
            raise InvalidInputError(
                f"The address in {shown(url)} is not a public one.",
                hint="For a server in your own network pass allow_private_addresses=True.",
            )
        secret = any(name.lower() in ("authorization", "cookie") for name in rules.headers)
        if url.scheme == "http" and secret and not rules.allow_private:
            raise InvalidInputError(
                "Credentials are not sent over http://, which is not encrypted.",
                hint="Use https://. In your own network pass allow_private_addresses=True.",
            )
        return url
    raise InvalidInputError(f"The URL cannot be used: {problem}.")


def request_headers(auth: object, headers: Mapping[Any, Any] | None) -> dict[str, str]:
    """Return the headers of a request, with the credentials as ``Authorization``.

    Raises:
        InvalidInputError: One cannot be sent. The message contains no value.
    """
    if headers is not None and not isinstance(headers, Mapping):
        raise InvalidInputError(f"headers must be a mapping, not {type(headers).__name__}.")
    checked: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise InvalidInputError(f"{name!r} is not a valid header name.")
        if _OUR_HEADERS.fullmatch(name):
            raise InvalidInputError(
                f"The header {name} is set by the transfer and cannot be overridden."
            )
        # The value may be a secret: no error contains it.
        if not is_header_value(value):
            raise InvalidInputError(f"The value of the header {name} must be printable ASCII.")
        checked[name] = value
    if auth is None:
        return checked
    if any(name.lower() == "authorization" for name in checked):
        raise InvalidInputError("Pass either auth or the header Authorization, not both.")
    if not (isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(x, str) for x in auth)):
        raise InvalidInputError("auth must be a tuple of two str: user and password.")
    user, password = auth
    if not user or ":" in user or _UNPRINTABLE.search(user + password):
        raise InvalidInputError(
            "The user in auth is empty or contains ':', or auth contains a control character."
        )
    token = base64.b64encode(f"{user}:{password}".encode()).decode()  # RFC 7617
    return {**checked, "Authorization": f"Basic {token}"}


def _whole(name: str, value: int) -> int:
    if type(value) is not int or value < 0:
        raise InvalidInputError(f"{name} must be an int of 0 or more, not {value!r}.")
    return value


def _checked_patterns(content_types: Collection[Any] | None) -> frozenset[str] | None:
    if content_types is None:
        return None
    if isinstance(content_types, str):
        raise InvalidInputError(
            "content_types must be a collection such as ('audio/*',), not a str."
        )
    for pattern in content_types:
        if not isinstance(pattern, str) or not _TYPE_PATTERN.fullmatch(pattern):
            raise InvalidInputError(
                f"{pattern!r} is not a content type.",
                hint="Valid are for example audio/wav, audio/* and */*.",
            )
    return frozenset(pattern.lower() for pattern in content_types)


def _check_type(source: RemoteFile, head: bytes, accepted: frozenset[str] | None, url: URL) -> None:
    """Refuse a content type that is not accepted, both the declared one and that of the bytes."""
    if accepted is None:
        return
    declared = _essence(source.content_type)
    if not _accepts(accepted, declared):
        _refuse_type(url, f"its content type is {declared!r:.80}")
    text = _text_type(head)
    if text is not None and not _accepts(accepted, text):
        _refuse_type(url, f"it is declared as {declared!r:.80}, but its bytes are {text}")


def _refuse_type(url: URL, problem: str) -> NoReturn:
    raise SourceError(
        f"The source {shown(url)} is not a recording: {problem}.",
        hint="It may be a login or an error page. If it is a recording, pass content_types=.",
    )


def _accepts(accepted: frozenset[str], essence: str) -> bool:
    family = essence.partition("/")[0]
    return not accepted.isdisjoint((essence, f"{family}/*", "*/*"))


def _essence(content_type: str | None) -> str:
    # Without a Content-Type the type is unknown: RFC 9110, section 8.3.
    return (content_type or _UNKNOWN_TYPE).partition(";")[0].strip().lower()


def _text_type(head: bytes) -> str | None:
    """Return the type of HTML, XML or JSON by its first bytes; None for all else, such as audio."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start not in (b"<", b"{", b"["):
        return None
    try:
        # Incremental: the last character may be cut in two.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head).lstrip()
    except UnicodeDecodeError:
        return None
    if _CONTROL.search(text):
        return None
    if start == b"<":
        return "text/html" if _MARKUP.match(text) else "application/xml"
    return "application/json"


def _content_type(name: str, head: bytes, declared: str | None) -> str:
    found = detect_content_type(name, head)
    if found == _UNKNOWN_TYPE and declared and len(declared) <= _MAX_TYPE_LENGTH:
        return declared if is_header_value(declared) else found
    return found
