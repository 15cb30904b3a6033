"""The methods of `StorageAdmin` that read and write CORS rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from careflow_storage._lazy import LazyModule
from careflow_storage._transfer.context import TransferContext
from careflow_storage.admin.base import AdminMethods
from careflow_storage.errors import InvalidInputError, check_text, listed

if TYPE_CHECKING:
    from careflow_storage.admin.cors import adding, browser_rule, check, limits, requests
    from careflow_storage.admin.models import CorsCheck, CorsMethod, CorsPreset, CorsRule
else:
    adding = LazyModule("careflow_storage.admin.cors.adding")
    browser_rule = LazyModule("careflow_storage.admin.cors.browser_rule")
    check = LazyModule("careflow_storage.admin.cors.check")
    limits = LazyModule("careflow_storage.admin.cors.limits")
    requests = LazyModule("careflow_storage.admin.cors.requests")

_READING = (requests,)
_WRITING = (limits, requests)
_ADDING = (adding, browser_rule, *_WRITING)


class CorsMethods(AdminMethods):
    """CORS rules, and whether they let a browser in."""

    async def get_cors_rules(self, *, timeout: float | None = None) -> list[CorsRule]:
        """Return the CORS rules of the bucket in order. Needs readBuckets. 1 request.

        Includes the rules of other tools. A rule without an ID has the name "".
        """
        async with self._call("get_cors_rules", _READING, timeout=timeout):
            return await requests.read_rules(self._context())

    async def set_cors_rules(
        self, rules: Iterable[CorsRule], *, timeout: float | None = None
    ) -> None:
        """Replace all CORS rules. An empty list locks browsers of other origins out.

        Needs writeBuckets. 1 request.

        Raises:
            InvalidInputError: B2 would refuse a rule; the message names the field, such as
                ``rules[2].allowed_origins[0]``. No request was sent.
        """
        async with self._call("set_cors_rules", _WRITING, timeout=timeout):
            wanted = listed(rules, "rules")
            limits.check_rules(wanted)
            await requests.write_raw(self._context(), [requests.to_s3(rule) for rule in wanted])

    async def put_cors_rule(
        self, rule: CorsRule, *, timeout: float | None = None
    ) -> list[CorsRule]:
        """Add a CORS rule, or replace the rule with its name. Return all rules.

        Needs readBuckets and writeBuckets. 2 requests: S3 can only replace all rules at once, so
        one of two concurrent calls may undo the other.

        Raises:
            InvalidInputError: B2 would refuse the rule (the message names the field), or the
                bucket has 100 rules already. No rule was changed.
        """
        async with self._call("put_cors_rule", _WRITING, timeout=timeout):
            return await _put_rule(self._context(), rule)

    async def remove_cors_rule(self, name: str, *, timeout: float | None = None) -> list[CorsRule]:
        """Remove the named CORS rule; return the rest.

        Needs readBuckets and writeBuckets. 2 requests, or 1 if the bucket has no such rule.
        """
        async with self._call("remove_cors_rule", _READING, timeout=timeout):
            check_text(name, "name")
            context = self._context()
            found = await requests.read_raw(context)
            left = [each for each in found if each.get("ID") != name]
            if len(left) < len(found):
                await requests.write_raw(context, left)
            return [requests.from_s3(each) for each in left]

    async def allow_browser_uploads(
        self,
        origins: str | Iterable[str],
        preset: CorsPreset | None = None,
        *,
        methods: Collection[CorsMethod] | None = None,
        name: str = "careflow-browser-uploads",
        max_age_seconds: int = 3600,
        add: bool = False,
        timeout: float | None = None,
    ) -> list[CorsRule]:
        """Let web pages of these origins upload and play by presigned URLs.

        With a ``preset`` or ``add=True`` the origins are added. What other origins may do and
        read does not change. An origin that already has these rights changes nothing (1 request,
        else 2). An origin gets its own rule if the rule with this name grants something else.

        Without either, the rule with this name is replaced: origins that are not named again are
        locked out. Rules with other names stay. 2 requests. One of two concurrent calls may undo
        the other.

        Args:
            origins: Such as ``https://app.example`` or ``http://localhost:3000``: scheme, host
                and port, without a path. ``*`` is every origin, ``https://*.example`` every
                subdomain.
            preset: ``put`` for pages that put files or parts by presigned URLs (GET, HEAD, PUT);
                ``multipart`` for pages that also begin, complete and abort multipart uploads
                themselves (plus POST, DELETE). Both let pages read the ETag.
            methods: Instead of a preset; GET, HEAD and PUT by default. B2 has no uploads by HTML
                forms (501).
            name: The rule's name. A rule holds less than 1,000 bytes of text.
            add: Add the origins, as a preset does.

        Raises:
            InvalidInputError: An origin is malformed; the message names it and suggests a
                correction. No request was sent. Or the bucket has 100 rules already; no rule was
                changed.
        """
        async with self._call("allow_browser_uploads", _ADDING, timeout=timeout):
            rule = browser_rule.browser_upload_rule(
                origins, preset, methods=methods, name=name, max_age_seconds=max_age_seconds
            )
            if add or preset is not None:
                return await _add_rule(self._context(), rule)
            return await _put_rule(self._context(), rule)

    async def check_cors(
        self,
        origin: str,
        method: CorsMethod = "PUT",
        headers: Iterable[str] = ("content-type",),
        *,
        key: str | None = None,
        timeout: float | None = None,
    ) -> CorsCheck:
        """Find out whether a browser of ``origin`` may use ``method``, and which rule allows it.

        Reads the rules, and sends the preflight request that a browser would send. If they
        refuse, the result says what to change. Needs readBuckets. 2 requests.

        Args:
            headers: The headers that the page sends, without those that browsers add.
            key: The key of the preflight request. By default one that does not exist: rules
                apply to the whole bucket.
        """
        async with self._call("check_cors", (check,), timeout=timeout):
            return await check.check(self._context(), origin, method, headers, key=key)


async def _put_rule(context: TransferContext, rule: CorsRule) -> list[CorsRule]:
    limits.check_rule(rule, named=True)
    found = await requests.read_raw(context)
    # Other rules are written back as S3 sent them, in their order: the first match decides.
    names = [each.get("ID") for each in found]
    place = names.index(rule.name) if rule.name in names else len(found)
    merged = [*found[:place], requests.to_s3(rule)]
    merged += [each for each in found[place:] if each.get("ID") != rule.name]
    if len(merged) > limits.MAX_RULES:
        raise _too_many(len(found))
    await requests.write_raw(context, merged)
    return [requests.from_s3(each) for each in merged]


async def _add_rule(context: TransferContext, wanted: CorsRule) -> list[CorsRule]:
    limits.check_rule(wanted, named=True)
    found = await requests.read_raw(context)
    before = [requests.from_s3(each) for each in found]
    after = adding.added(before, wanted)
    if len(after) > limits.MAX_RULES:
        raise _too_many(len(found))
    for rule in after:
        if not any(rule is each for each in before):
            limits.check_rule(rule, named=False)
    raw = {id(rule): each for rule, each in zip(before, found, strict=True)}
    if after != before:
        # Rules that stay are written back as S3 sent them.
        changed = [raw.get(id(rule)) or requests.to_s3(rule) for rule in after]
        await requests.write_raw(context, changed)
    return after


def _too_many(count: int) -> InvalidInputError:
    return InvalidInputError(
        f"The bucket has {count} CORS rules already, and may have {limits.MAX_RULES}.",
        hint="No rule was changed. get_cors_rules() lists them.",
    )
