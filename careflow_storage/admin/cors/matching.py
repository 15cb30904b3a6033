"""Find the CORS rule that allows a request, or explain why none does.

S3 applies the first rule that allows the origin, the method and every header (Amazon S3 User
Guide, "How does Amazon S3 evaluate the CORS configuration on a bucket?").
"""

from __future__ import annotations

from collections.abc import Sequence

from careflow_storage.admin.models import CorsRule

_UPLOADS = ("PUT", "POST")


def matching_rule(
    rules: Sequence[CorsRule], origin: str, method: str, headers: Sequence[str]
) -> CorsRule | None:
    """Return the first rule that allows origin, method and headers, or None."""
    for rule in rules:
        if (
            allows_origin(rule, origin)
            and method in rule.allowed_methods
            and not refused_headers(rule, headers)
        ):
            return rule
    return None


def allows_origin(rule: CorsRule, origin: str) -> bool:
    """Whether one of the rule's origins equals this one, or matches it by its ``*``."""
    return any(_fits(pattern, origin) for pattern in rule.allowed_origins)


def refused_headers(rule: CorsRule, headers: Sequence[str]) -> list[str]:
    """Return the headers that the rule does not allow. Case does not matter."""
    patterns = [pattern.lower() for pattern in rule.allowed_headers]
    return [
        header
        for header in headers
        if not any(_fits(pattern, header.lower()) for pattern in patterns)
    ]


def _fits(pattern: str, text: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == text
    return (
        len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
    )


def why_not(
    rules: Sequence[CorsRule], origin: str, method: str, headers: Sequence[str]
) -> list[str]:
    """Explain why no rule matches, and what to change. Call it only if none does."""
    if not rules:
        return [f"The bucket has no CORS rules: allow_browser_uploads([{origin!r}]) creates one."]
    of_origin = [rule for rule in rules if allows_origin(rule, origin)]
    if not of_origin:
        return [
            f"No rule allows the origin {origin}; {_call(origin, method)} adds it to "
            "those that are allowed already.",
            *_near_misses(rules, origin),
        ]
    of_method = [rule for rule in of_origin if method in rule.allowed_methods]
    if not of_method:
        found = sorted({each for rule in of_origin for each in rule.allowed_methods})
        return [
            f"{_named(of_origin)} the origin, but not the method {method} "
            f"(only {', '.join(found)}): {_call(origin, method)} adds it for this origin alone."
        ]
    missing = min((refused_headers(rule, headers) for rule in of_method), key=len)
    return [
        f"{_named(of_method)} the origin and {method}, but not the "
        f"header{'s' if len(missing) > 1 else ''} {', '.join(missing)}: add all headers, for "
        f"this origin alone, by {_call(origin, method)}."
    ]


def _call(origin: str, method: str) -> str:
    """Write the call that allows this, without a change for other origins."""
    return f"allow_browser_uploads([{origin!r}], methods=[{method!r}], add=True)"


def _near_misses(rules: Sequence[CorsRule], origin: str) -> list[str]:
    """Find origins in the rules that differ only in scheme, port, case or a slash."""
    host = _host(origin)
    near = {
        allowed
        for rule in rules
        for allowed in rule.allowed_origins
        if host and _host(allowed) == host
    }
    return [
        f"A rule allows {allowed}, which is another origin: scheme, host and port must all be "
        "the same."
        for allowed in sorted(near)
    ]


def _host(origin: str) -> str:
    host = origin.lower().partition("://")[2].partition("/")[0]
    # The colon before a port follows the brackets of an IPv6 address.
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _named(rules: Sequence[CorsRule]) -> str:
    names = [repr(rule.name) for rule in rules if rule.name]
    if len(rules) == 1 and names:
        return f"The rule {names[0]} allows"
    return f"The rules {', '.join(names)} allow" if names else "A rule without a name allows"


def unreadable(rule: CorsRule, method: str) -> list[str]:
    """Describe the response headers that a page needs and cannot read."""
    exposed = {header.lower() for header in rule.expose_headers}
    if method in _UPLOADS and "etag" not in exposed:
        return ["The page cannot read the ETag: add ETag to expose_headers."]
    if method == "GET" and "content-range" not in exposed:
        return [
            "The page cannot read which part of a file it received: add Content-Range to "
            "expose_headers (an <audio> element does not need it)."
        ]
    return []
