"""Read and write the CORS rules of the bucket, as S3 has them and as `CorsRule`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from careflow_storage._s3.boto.pages import nothing
from careflow_storage._transfer.context import TransferContext
from careflow_storage.admin.models import CorsRule
from careflow_storage.errors import NoSuchConfigurationError


async def read_rules(context: TransferContext) -> list[CorsRule]:
    return [from_s3(rule) for rule in await read_raw(context)]


async def read_raw(context: TransferContext) -> list[dict[str, Any]]:
    try:
        return await context.control.call("get_bucket_cors", None, {}, _rules_of)
    except NoSuchConfigurationError:
        return []


def _rules_of(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(response["CORSRules"])


async def write_raw(context: TransferContext, rules: list[dict[str, Any]]) -> None:
    if not rules:
        await context.control.call("delete_bucket_cors", None, {}, nothing)
        return
    await context.control.call(
        "put_bucket_cors", None, {"CORSConfiguration": {"CORSRules": rules}}, nothing
    )


def from_s3(rule: Mapping[str, Any]) -> CorsRule:
    return CorsRule(
        name=rule.get("ID", ""),
        allowed_origins=tuple(rule.get("AllowedOrigins", ())),
        allowed_methods=tuple(rule.get("AllowedMethods", ())),
        allowed_headers=tuple(rule.get("AllowedHeaders", ())),
        expose_headers=tuple(rule.get("ExposeHeaders", ())),
        max_age_seconds=rule.get("MaxAgeSeconds"),
    )


def to_s3(rule: CorsRule) -> dict[str, Any]:
    described: dict[str, Any] = {
        "ID": rule.name,
        "AllowedOrigins": list(rule.allowed_origins),
        "AllowedMethods": list(rule.allowed_methods),
        "AllowedHeaders": list(rule.allowed_headers),
        "ExposeHeaders": list(rule.expose_headers),
        "MaxAgeSeconds": rule.max_age_seconds,
    }
    return {name: value for name, value in described.items() if value not in (None, "", [])}
