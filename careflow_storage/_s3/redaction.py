"""Remove secrets from logs and tracebacks.

Our own log records and errors hold no secret. Those of the libraries below do: botocore logs
every request with its headers, its signature and a session token at DEBUG, and a failed
request's headers lie in local variables that error trackers record.
"""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from types import TracebackType
from typing import Any, Final, overload

REDACTED: Final = "[redacted]"
MAX_MESSAGE: Final = 1000
MAX_CODE: Final = 128
_MAX_RECORD: Final = 32 * 1024

# Where botocore, boto3, aiobotocore and aioboto3 log; each module has a logger of its own.
_FAMILIES: Final = ("botocore", "aiobotocore", "boto3", "aioboto3")
# Whose local variables hold signed requests, and the keys that sign them.
_SIGNERS: Final = (*_FAMILIES, "aiohttp", "careflow_storage", "b2sdk", "requests", "urllib3")
# These log requests. They are listed because a module creates its logger when imported.
_LOG_REQUESTS: Final = (
    *("botocore.auth", "botocore.awsrequest", "botocore.client", "botocore.credentials"),
    *("botocore.endpoint", "botocore.handlers", "botocore.history", "botocore.hooks"),
    *("botocore.httpsession", "botocore.parsers", "botocore.retryhandler", "botocore.utils"),
    *("aiobotocore.endpoint", "aiobotocore.hooks", "aiobotocore.httpsession"),
)
# A name, what parts it from its value (as in a header, a query, JSON or a dict's repr), and
# the value. The value of Authorization has spaces and commas in it.
_SECRETS: Final = re.compile(
    r"""
    (?P<before>
        \b(?:proxy-)?authorization ['"]? \s* [:=] \s* (?:b?['"])?
    )
    [^'"\n\r}]+
    |
    (?P<name>
        (?: \bx-amz-(?: security-token | signature
              | (?:copy-source-)?server-side-encryption-customer-key(?!-md5) )
          | \b(?:copysource)?ssecustomerkey(?!md5)
          | \b(?:aws_?)?secret_?access_?key | \b(?:aws_?)?session_?token | \bsecurity_?token
          | \bsignature )
        ['"]? \s* [:=] \s* (?:b?['"])?
    )
    [^\s'"&,;<>}]+
    |
    (?P<scheme> \bAWS4-HMAC-SHA256 [ ] Credential= ) [^'"\n\r}]+
    |
    (?P<userinfo> \b https?:// ) [^\s/'"@]+ @
    """,
    re.IGNORECASE | re.VERBOSE,
)
_FORGERY: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+"
)


def redact(text: str) -> str:
    """Replace credentials, tokens and signatures in a text; their names stay."""
    return _SECRETS.sub(_redacted, text)


def _redacted(found: re.Match[str]) -> str:
    groups = found.groupdict(default="")
    if groups["userinfo"]:
        return f"{groups['userinfo']}{REDACTED}@"
    return f"{groups['before']}{groups['name']}{groups['scheme']}{REDACTED}"


@overload
def printable(text: str, limit: int = ...) -> str: ...
@overload
def printable(text: None, limit: int = ...) -> None: ...
def printable(text: str | None, limit: int = MAX_MESSAGE) -> str | None:
    """Return text from a server as one line of at most ``limit`` characters.

    Line breaks could forge log lines; escape sequences and direction marks could forge what a
    terminal shows. Each run of these characters becomes a space.
    """
    if text is None:
        return None
    if len(text) > limit:
        text = text[:limit] + "…"
    return _FORGERY.sub(" ", text)


class _Redactor(logging.Filter):
    """Passes every record on without its secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if len(text) > _MAX_RECORD:
            # A whole document. Searching it could block the event loop for seconds.
            text = f"{text[:_MAX_RECORD]}… ({len(text)} characters)"
        record.msg, record.args = redact(text), None
        if record.exc_info and record.exc_info[0] is not None:
            # As text: a handler that walks the frames would print their local variables.
            trace = record.exc_text or "".join(traceback.format_exception(*record.exc_info))
            record.exc_info, record.exc_text = None, redact(trace[-_MAX_RECORD:].rstrip("\n"))
        return True


_REDACTOR: Final = _Redactor()


def guard_logs() -> None:
    """Add the filter to the loggers of botocore, boto3, aiobotocore and aioboto3.

    Called when an aioboto3 client is made: then the loggers exist. Each logger needs the filter,
    since a parent's filter does not see records of its children, and handlers belong to the
    program. The filter costs nothing while a logger's level is above DEBUG. It stays for the
    life of the process, also for other users of botocore, and changes only secrets.
    """
    present = [
        name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _FAMILIES
    ]
    for name in (*_FAMILIES, *_LOG_REQUESTS, *present):
        # Does nothing if the logger has it already.
        logging.getLogger(name).addFilter(_REDACTOR)


def scrub(error: BaseException) -> None:
    """Remove the request from an error and its causes.

    Clears the local variables of finished frames, which hold signed headers, and the requests
    that aiohttp and botocore attach. File names and line numbers stay in the traceback.
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        waiting += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        _drop_request(each)
        _clear_frames(each.__traceback__)


def _clear_frames(step: TracebackType | None) -> None:
    while step is not None:
        frame, step = step.tb_frame, step.tb_next
        # The caller's frames stay: the caller may want to debug its own code.
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _SIGNERS:
            # A frame that still runs cannot be cleared.
            with contextlib.suppress(RuntimeError):
                frame.clear()


def _drop_request(error: Any) -> None:
    info: Any = getattr(error, "request_info", None)
    if hasattr(info, "_replace"):
        # aiohttp's, a named tuple; it is in the arguments, too. A proxy's URL has its password.
        bare = info._replace(
            headers={}, url=info.url.with_user(None), real_url=info.real_url.with_user(None)
        )
        error.request_info = bare
        error.args = tuple(bare if each is info else each for each in error.args)
    if type(error).__module__.partition(".")[0] in _FAMILIES and hasattr(error, "request"):
        # botocore's: a prepared request prints its headers.
        error.request = None
