"""The CORS rule for pages that upload and play by presigned URLs."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from careflow_storage.admin.models import CorsMethod, CorsPreset, CorsRule
from careflow_storage.errors import InvalidInputError, check_text, listed

# What a page needs to check an upload, to play a part of a recording and to report an error.
# Browsers let pages read Content-Type and Last-Modified anyway.
_EXPOSED = (
    "ETag",
    "Content-Length",
    "Content-Range",
    "Accept-Ranges",
    "x-amz-version-id",
    "x-amz-request-id",
)

_UPLOAD_METHODS: tuple[CorsMethod, ...] = ("GET", "HEAD", "PUT")
_PRESETS: dict[str, tuple[CorsMethod, ...]] = {
    # The server begins and completes multipart uploads; the page only puts bytes.
    "put": _UPLOAD_METHODS,
    # The page itself begins, lists, completes and aborts multipart uploads.
    "multipart": (*_UPLOAD_METHODS, "POST", "DELETE"),
}


def browser_upload_rule(
    origins: str | Iterable[str],
    preset: CorsPreset | None,
    *,
    methods: Collection[CorsMethod] | None,
    name: str,
    max_age_seconds: int,
) -> CorsRule:
    """Make the rule. Raise `InvalidInputError` for arguments that cannot be in one.

    All headers are allowed: the signature of the URL decides what may be sent, and browsers do
    not explain that a header is missing here.
    """
    given = {"allowed_origins": origins, "allowed_methods": methods_of(preset, methods)}
    texts = {
        field: (each,) if isinstance(each, str) else tuple(listed(each, field))
        for field, each in given.items()
    }
    for field, each in texts.items():
        for position, text in enumerate(each):
            check_text(text, f"{field}[{position}]")
    if type(max_age_seconds) is not int:
        raise InvalidInputError(f"max_age_seconds must be an int, not {max_age_seconds!r}.")
    check_text(name, "name")
    return CorsRule(
        name=name,
        **texts,
        allowed_headers=("*",),
        expose_headers=_EXPOSED,
        max_age_seconds=max_age_seconds,
    )


def methods_of(
    preset: CorsPreset | None, methods: Collection[CorsMethod] | None
) -> Collection[CorsMethod]:
    """Return the methods of the preset, else those given, else the default."""
    if preset is None:
        return _UPLOAD_METHODS if methods is None else methods
    if preset not in tuple(_PRESETS):  # not by hash: the argument may be a list
        raise InvalidInputError(f"preset must be one of {', '.join(_PRESETS)}, not {preset!r}.")
    if methods is not None:
        raise InvalidInputError("Give either preset or methods.")
    return _PRESETS[preset]
