"""Send the preflight request of a browser, and explain the response by the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from careflow_storage._s3.error_codes import error_from_response
from careflow_storage._s3.signing.signer import encode_key
from careflow_storage._s3.transport import Request, Transport
from careflow_storage._transfer.context import TransferContext
from careflow_storage.admin.cors.limits import (
    header_problem,
    method_problem,
    origin_problem,
)
from careflow_storage.admin.cors.matching import matching_rule, unreadable, why_not
from careflow_storage.admin.cors.requests import read_rules
from careflow_storage.admin.models import CorsCheck, CorsMethod, CorsRule, Preflight
from careflow_storage.errors import InvalidInputError, check_text, listed
from careflow_storage.recordings import validate_key

_OPERATION = "Preflight"
_MADE_UP_KEY = "careflow-cors-check"
# Methods that pages of any origin may use (Fetch standard, "CORS-safelisted method").
_SAFE_METHODS = ("GET", "HEAD", "POST")
_TOO_NEW = (
    "The rules allow it, but the server does not (yet): new rules take up to a minute, and rules "
    "for b2_* operations do not apply to the S3 endpoint."
)
_TOO_OPEN = (
    "No rule allows it, but the server does: removing a rule takes up to a minute, and some "
    "servers and proxies allow origins that no rule names."
)


async def check(
    context: TransferContext,
    origin: str,
    method: CorsMethod,
    headers: Iterable[str],
    *,
    key: str | None,
) -> CorsCheck:
    """Check by the rules and by a preflight whether a page of ``origin`` may use ``method``."""
    headers = _checked(origin, method, headers)
    path_key = _MADE_UP_KEY if key is None else validate_key(key)
    rules = await read_rules(context)
    rule = matching_rule(rules, origin, method, headers)
    preflight = await _send_preflight(context, path_key, origin, method, headers)
    return CorsCheck(
        origin=origin,
        method=method,
        headers=headers,
        allowed=preflight.allowed,
        rule=rule,
        preflight=preflight,
        problems=tuple(_problems(rules, rule, preflight, origin, method, headers)),
    )


def _checked(origin: str, method: str, headers: Iterable[str]) -> tuple[str, ...]:
    names = (headers,) if isinstance(headers, str) else tuple(listed(headers, "headers"))
    check_text(origin, "origin")
    check_text(method, "method")
    problem = origin_problem(origin) or ("must be one origin, without *" if "*" in origin else None)
    if problem is not None:
        raise InvalidInputError(f"origin: {problem}.")
    problem = method_problem(method)
    if problem is not None:
        raise InvalidInputError(f"method: {problem}.")
    for position, name in enumerate(names):
        check_text(name, f"headers[{position}]")
        problem = header_problem(name) or ("must be one header, without *" if "*" in name else None)
        if problem is not None:
            raise InvalidInputError(f"headers[{position}]: {problem}.")
    return names


def _problems(
    rules: Sequence[CorsRule],
    rule: CorsRule | None,
    preflight: Preflight,
    origin: str,
    method: str,
    headers: Sequence[str],
) -> list[str]:
    if rule is None:
        found = why_not(rules, origin, method, headers)
        return [*found, _TOO_OPEN] if preflight.allowed else found
    found = unreadable(rule, method)
    return found if preflight.allowed else [_TOO_NEW, *found]


async def _send_preflight(
    context: TransferContext, key: str, origin: str, method: str, headers: Sequence[str]
) -> Preflight:
    """Send the preflight unsigned, as a browser does, over the storage's own connections."""
    session = context.session
    transport, request = Transport(session, context.retry), Request(_OPERATION, "OPTIONS", key)
    sent = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        names = sorted({name.lower() for name in headers})
        sent["Access-Control-Request-Headers"] = ",".join(names)
    target = f"/{session.bucket}/{encode_key(key)}"

    async def attempt(fresh: bool) -> Preflight:
        response = await transport.ask(request, target, sent, fresh=fresh)
        if response.status >= 500 or response.status == 429:
            raise error_from_response(
                operation=_OPERATION,
                bucket=session.bucket,
                key=key,
                status=response.status,
                code=None,
                message=None,
                headers=response.headers,
            )
        return _read(response.status, response.headers, origin, method, headers)

    return await context.retry.run(attempt)


def _read(
    status: int, response: Mapping[str, str], origin: str, method: str, headers: Sequence[str]
) -> Preflight:
    """Decide as a browser does (Fetch standard, "CORS-preflight fetch")."""
    allow_origin = response.get("access-control-allow-origin")
    allow_methods = _list(response.get("access-control-allow-methods"))
    allow_headers = _list(response.get("access-control-allow-headers"))
    names = {name.lower() for name in allow_headers}
    age = response.get("access-control-max-age", "")
    return Preflight(
        status=status,
        allowed=(
            200 <= status < 300
            and allow_origin in ("*", origin)
            and (method in _SAFE_METHODS or method in allow_methods or "*" in allow_methods)
            and all(name.lower() in names or _starred(name, names) for name in headers)
        ),
        allow_origin=allow_origin,
        allow_methods=allow_methods,
        allow_headers=allow_headers,
        expose_headers=_list(response.get("access-control-expose-headers")),
        max_age_seconds=int(age) if age.isascii() and age.isdigit() else None,
    )


def _starred(name: str, allowed: set[str]) -> bool:
    # The only header that * does not include.
    return "*" in allowed and name.lower() != "authorization"


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
