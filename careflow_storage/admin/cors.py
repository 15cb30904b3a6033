"""CORS: which web pages may reach the bucket. Read, and written rule by rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from careflow_storage._s3.boto.pages import nothing
from careflow_storage._transfer.context import TransferContext
from careflow_storage.admin.cors_adding import added
from careflow_storage.admin.cors_limits import MAX_RULES, check_rule, check_rules
from careflow_storage.admin.cors_models import CorsMethod, CorsRule
from careflow_storage.errors import InvalidInputError, NoSuchConfigurationError, check_text, listed

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

Preset = Literal["put", "multipart"]
_UPLOAD_METHODS: tuple[CorsMethod, ...] = ("GET", "HEAD", "PUT")
_PRESETS: dict[str, tuple[CorsMethod, ...]] = {
    # The server begins and completes uploads in parts; the page only puts bytes.
    "put": _UPLOAD_METHODS,
    # The page itself begins, lists, completes and aborts uploads in parts.
    "multipart": (*_UPLOAD_METHODS, "POST", "DELETE"),
}


def methods_of(
    preset: Preset | None, methods: Collection[CorsMethod] | None
) -> Collection[CorsMethod]:
    """Return what pages may do: by preset, or by the methods, or as a page that puts."""
    if preset is None:
        return _UPLOAD_METHODS if methods is None else methods
    if preset not in tuple(_PRESETS):  # it may be what cannot be hashed
        raise InvalidInputError(f"preset must be one of {', '.join(_PRESETS)}, not {preset!r}.")
    if methods is not None:
        raise InvalidInputError("Give either preset or methods.")
    return _PRESETS[preset]


def browser_upload_rule(
    origins: str | Iterable[str],
    *,
    methods: Collection[CorsMethod],
    name: str,
    max_age_seconds: int,
) -> CorsRule:
    """Make the rule for pages that upload and play by presigned URLs.

    All headers are allowed: the signature of the URL decides what may be sent, and a header that
    is missing here fails in a way that a browser does not explain.
    """
    given = {"allowed_origins": origins, "allowed_methods": methods}
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


async def get_rules(context: TransferContext) -> list[CorsRule]:
    return [_from_s3(rule) for rule in await _read(context)]


async def set_rules(context: TransferContext, rules: Iterable[CorsRule]) -> None:
    wanted = listed(rules, "rules")
    check_rules(wanted)
    await _write(context, [_to_s3(rule) for rule in wanted])


async def put_rule(context: TransferContext, rule: CorsRule) -> list[CorsRule]:
    check_rule(rule, named=True)
    found = await _read(context)
    # The rules of others are written back as S3 gave them; the order decides which one matches.
    names = [each.get("ID") for each in found]
    place = names.index(rule.name) if rule.name in names else len(found)
    merged = [*found[:place], _to_s3(rule)]
    merged += [each for each in found[place:] if each.get("ID") != rule.name]
    if len(merged) > MAX_RULES:
        raise _too_many(len(found))
    await _write(context, merged)
    return [_from_s3(each) for each in merged]


async def add_rule(context: TransferContext, wanted: CorsRule) -> list[CorsRule]:
    """Let the origins of a rule in; all that others may do stays as it is."""
    check_rule(wanted, named=True)
    found = await _read(context)
    before = [_from_s3(each) for each in found]
    after = added(before, wanted)
    if len(after) > MAX_RULES:
        raise _too_many(len(found))
    for rule in after:
        if not any(rule is each for each in before):
            check_rule(rule, named=False)
    raw = {id(rule): each for rule, each in zip(before, found, strict=True)}
    if after != before:
        # Rules that stay are written back as S3 gave them.
        await _write(context, [raw.get(id(rule)) or _to_s3(rule) for rule in after])
    return after


async def remove_rule(context: TransferContext, name: str) -> list[CorsRule]:
    check_text(name, "name")
    found = await _read(context)
    left = [each for each in found if each.get("ID") != name]
    if len(left) < len(found):
        await _write(context, left)
    return [_from_s3(each) for each in left]


def _too_many(count: int) -> InvalidInputError:
    return InvalidInputError(
        f"The bucket has {count} CORS rules already, and may have {MAX_RULES}.",
        hint="Nothing was changed. get_cors_rules() tells which there are.",
    )


async def _read(context: TransferContext) -> list[dict[str, Any]]:
    try:
        return await context.control.call("get_bucket_cors", None, {}, _rules_of)
    except NoSuchConfigurationError:
        return []


def _rules_of(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(response["CORSRules"])


async def _write(context: TransferContext, rules: list[dict[str, Any]]) -> None:
    if not rules:
        await context.control.call("delete_bucket_cors", None, {}, nothing)
        return
    await context.control.call(
        "put_bucket_cors", None, {"CORSConfiguration": {"CORSRules": rules}}, nothing
    )


def _from_s3(rule: Mapping[str, Any]) -> CorsRule:
    return CorsRule(
        name=rule.get("ID", ""),
        allowed_origins=tuple(rule.get("AllowedOrigins", ())),
        allowed_methods=tuple(rule.get("AllowedMethods", ())),
        allowed_headers=tuple(rule.get("AllowedHeaders", ())),
        expose_headers=tuple(rule.get("ExposeHeaders", ())),
        max_age_seconds=rule.get("MaxAgeSeconds"),
    )


def _to_s3(rule: CorsRule) -> dict[str, Any]:
    described: dict[str, Any] = {
        "ID": rule.name,
        "AllowedOrigins": list(rule.allowed_origins),
        "AllowedMethods": list(rule.allowed_methods),
        "AllowedHeaders": list(rule.allowed_headers),
        "ExposeHeaders": list(rule.expose_headers),
        "MaxAgeSeconds": rule.max_age_seconds,
    }
    return {name: value for name, value in described.items() if value not in (None, "", [])}
