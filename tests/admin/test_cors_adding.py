"""Origins that are let in beside others: they get all of it, and others keep what they have."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, InvalidInputError, StorageSettings
from careflow_storage.admin import CorsRule
from careflow_storage.admin.cors.adding import added
from careflow_storage.admin.cors.matching import matching_rule
from careflow_storage.doctor import diagnose
from careflow_storage.testing import B2Server
from tests.support.cases import case
from tests.support.command import Command

pytest_plugins = ["careflow_storage.testing.plugin"]

APP = "https://app.example"
NEW = "https://new.example"
OTHER = "https://other.example"
ORIGINS = (APP, NEW, OTHER, "https://sub.other.example", "http://localhost:3000")
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
HEADERS: tuple[tuple[str, ...], ...] = ((), ("content-type",), ("content-type", "x-amz-meta-a"))
NEEDED = {"etag", "content-range"}


@pytest.fixture
async def storage(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings(_env_file=None)) as opened:
        yield opened


def rule(name: str, *origins: str, **changes: Any) -> CorsRule:
    values: dict[str, Any] = {
        "allowed_methods": ("GET", "HEAD", "PUT"),
        "allowed_headers": ("*",),
        "expose_headers": ("ETag", "Content-Range", "x-own"),
        "max_age_seconds": 77,
    }
    return CorsRule(name=name, allowed_origins=origins, **{**values, **changes})


OURS = "careflow-browser-uploads"
STATES: dict[str, list[CorsRule]] = {
    "no rules": [],
    "a rule for another origin": [rule("others", OTHER)],
    "our rule for another origin, as we set it": [
        rule(
            OURS,
            OTHER,
            expose_headers=(
                *("ETag", "Content-Length", "Content-Range", "Accept-Ranges"),
                *("x-amz-version-id", "x-amz-request-id"),
            ),
            max_age_seconds=3600,
        )
    ],
    "our rule for another origin, which may delete": [
        rule(OURS, OTHER, allowed_methods=("GET", "DELETE"))
    ],
    "our rule for another origin, which exposes less": [rule(OURS, OTHER, expose_headers=())],
    "our rule for another origin, of another age": [rule(OURS, OTHER, max_age_seconds=5)],
    "this origin with fewer methods": [rule("mine-only", NEW, allowed_methods=("GET",))],
    "this origin with other methods": [rule("mine-only", NEW, allowed_methods=("DELETE",))],
    "this origin with fewer headers": [rule("mine-only", NEW, allowed_headers=("x-a",))],
    "this origin without any header": [rule("mine-only", NEW, allowed_headers=())],
    "this origin, which can read no ETag": [rule("mine-only", NEW, expose_headers=())],
    "this origin beside another, with fewer methods": [
        rule(OURS, OTHER, NEW, allowed_methods=("GET",))
    ],
    "this origin beside another, unreadable": [rule(OURS, OTHER, NEW, expose_headers=("x-own",))],
    "a wildcard for all, which only plays": [
        rule("players", "*", allowed_methods=("GET",), expose_headers=())
    ],
    "a wildcard of hosts": [rule("players", "https://*.example", allowed_methods=("GET", "HEAD"))],
    "a wildcard for all, behind a narrow rule": [
        rule("narrow", NEW, OTHER, allowed_headers=("range",), expose_headers=("x-narrow",)),
        rule("players", "*", allowed_methods=("GET",)),
    ],
    "all of it already": [rule("everything", "*", allowed_methods=METHODS)],
    "a rule without a name": [rule("", OTHER, allowed_methods=("POST",))],
    "many rules": [rule(f"rule-number-{number}", OTHER) for number in range(99)],
}


def allowed(rules: list[CorsRule], origin: str) -> dict[tuple[str, tuple[str, ...]], Any]:
    """What pages of an origin may do, read and remember, by method and headers."""
    found = {}
    for method in METHODS:
        for headers in HEADERS:
            match = matching_rule(rules, origin, method, headers)
            if match is not None:
                found[method, headers] = (
                    match.allowed_methods,
                    match.allowed_headers,
                    match.expose_headers,
                    match.max_age_seconds,
                )
    return found


async def write(storage: BackblazeStorage, rules: list[CorsRule]) -> None:
    """Set rules as another tool would, in the place of all others."""
    client = await storage.client()
    if not rules:
        await client.delete_bucket_cors(Bucket=str(storage.settings.bucket_name))
        return
    described = [
        {
            **({"ID": each.name} if each.name else {}),
            "AllowedOrigins": list(each.allowed_origins),
            "AllowedMethods": list(each.allowed_methods),
            "AllowedHeaders": list(each.allowed_headers),
            "ExposeHeaders": list(each.expose_headers),
            "MaxAgeSeconds": each.max_age_seconds,
        }
        for each in rules
    ]
    config: Any = {"CORSRules": described}
    await client.put_bucket_cors(Bucket=storage.settings.bucket_name, CORSConfiguration=config)


def check_kept(before: list[CorsRule], after: list[CorsRule], *, but: str = NEW) -> None:
    for origin in ORIGINS:
        if origin != but:
            assert allowed(after, origin) == allowed(before, origin), origin
    # What the origin itself had is not taken away either.
    now = allowed(after, but)
    for asked, (_, _, exposed, _) in allowed(before, but).items():
        assert set(map(str.lower, exposed)) <= set(map(str.lower, now[asked][2]))


def check_granted(rules: list[CorsRule], methods: tuple[str, ...], *, origin: str = NEW) -> None:
    for method in methods:
        for headers in (*HEADERS, ("authorization", "x-anything")):
            match = matching_rule(rules, origin, method, headers)
            assert match is not None, (method, headers)
            assert set(map(str.lower, match.expose_headers)) >= NEEDED


@pytest.mark.parametrize(
    ("options", "methods"),
    [
        ({"preset": "put"}, ("GET", "HEAD", "PUT")),
        ({"preset": "multipart"}, METHODS),
        ({"add": True}, ("GET", "HEAD", "PUT")),
        ({"add": True, "methods": ["DELETE"]}, ("DELETE",)),
    ],
)
async def test_an_origin_that_is_added_gets_all_and_others_keep_all(
    storage: BackblazeStorage, options: dict[str, Any], methods: tuple[str, ...]
) -> None:
    for name, state in STATES.items():
        with case(name):
            await write(storage, state)
            before = await storage.admin.get_cors_rules()
            returned = await storage.admin.allow_browser_uploads([NEW], **options)
            after = await storage.admin.get_cors_rules()
            assert after == returned
            check_kept(before, after)
            check_granted(after, methods)
            # A second time there is nothing to do.
            counts = storage.request_counts()
            assert await storage.admin.allow_browser_uploads([NEW], **options) == after
            assert storage.request_counts().get("PutBucketCors") == counts.get("PutBucketCors")


@pytest.mark.parametrize("method", ["PUT", pytest.param("DELETE", marks=pytest.mark.slow)])
async def test_the_advised_command_makes_the_check_pass_and_keeps_other_origins(
    b2_server: B2Server, storage: BackblazeStorage, method: str
) -> None:
    command = Command(b2_server.settings())
    asked = ("cors", "check", NEW, "--method", method, "--header", "content-type")
    for name, state in STATES.items():
        with case(name):
            await write(storage, state)
            before = await storage.admin.get_cors_rules()
            first = await command(*asked)
            advised = re.search(r"To allow it: careflow-storage (.+)", first.err)
            # There is advice where, and only where, something is wrong.
            assert (advised is None) == (first.code == 0 and "cannot read" not in first.err)
            if advised is not None:
                ran = await command(*shlex.split(advised[1]), stdin="")
                assert ran.code == 0, ran.err
            again = await command(*asked)
            assert again.code == 0
            assert "cannot read" not in again.err
            assert "To allow it" not in again.err
            check_kept(before, await storage.admin.get_cors_rules())


async def test_the_advised_call_makes_the_check_pass_and_keeps_other_origins(
    storage: BackblazeStorage,
) -> None:
    for name, state in STATES.items():
        with case(name):
            await write(storage, state)
            before = await storage.admin.get_cors_rules()
            check = await storage.admin.check_cors(NEW, "PUT")
            for call in re.findall(r"allow_browser_uploads\(.*?\)", " ".join(check.problems)):
                await make_call(storage, call)
            if check.rule is None:
                assert (await storage.admin.check_cors(NEW, "PUT")).allowed
            check_kept(before, await storage.admin.get_cors_rules())


async def make_call(storage: BackblazeStorage, call: str) -> None:
    """Make the call of `allow_browser_uploads` that a text advises."""
    origins, _, rest = call.removeprefix("allow_browser_uploads([").partition("]")
    options: dict[str, Any] = {}
    if found := re.search(r"methods=\['(\w+)'\]", rest):
        options["methods"] = [found[1]]
    options["add"] = "add=True" in rest
    await storage.admin.allow_browser_uploads([origins.strip("'")], **options)


@pytest.mark.parametrize("name", list(STATES)[1::3])
async def test_the_doctors_advice_makes_its_check_pass_and_keeps_other_origins(
    b2_server: B2Server, name: str
) -> None:
    settings, state = b2_server.settings(), STATES[name]
    async with BackblazeStorage(settings) as storage:
        await write(storage, state)
        before = await storage.admin.get_cors_rules()
        first = await diagnose(settings, origin=NEW)
        for check in ("cors PUT", "cors GET"):
            finding = first.of(check)
            assert finding is not None
            if finding.verdict == "pass":
                continue
            advised = re.search(r"`careflow-storage (cors allow [^`]+)`", str(finding.solution))
            assert advised is not None
            ran = await Command(settings)(*shlex.split(advised[1]), stdin="")
            assert ran.code == 0, ran.err
        again = await diagnose(settings, origin=NEW)
        for check in ("cors PUT", "cors GET"):
            finding = again.of(check)
            assert finding is not None
            assert finding.verdict == "pass", finding
        check_kept(before, await storage.admin.get_cors_rules())


async def test_added_by_the_command_nothing_of_others_changes(settings: StorageSettings) -> None:
    command = Command(settings)
    given = ("cors", "allow", OTHER, "--method", "GET", "--method", "DELETE", "--max-age", "5m")
    assert (await command(*given)).code == 0
    ran = await command("cors", "allow", NEW, "--add", "--json")
    others, own = ran.items
    assert others["allowed_origins"] == [OTHER]
    assert others["allowed_methods"] == ["GET", "DELETE"]
    assert others["max_age_seconds"] == 300
    assert own["allowed_origins"] == [NEW]
    assert own["name"] == f"{OURS}-2"
    # Methods that the origin itself would lose are asked for, too.
    ran = await command("cors", "allow", OTHER, stdin="n\n")
    assert ran.code == 1
    assert "DELETE" in ran.err


async def test_a_preset_of_the_command_only_adds(settings: StorageSettings) -> None:
    command = Command(settings)
    assert (await command("cors", "allow", OTHER, "--method", "GET")).code == 0
    ran = await command("cors", "allow", NEW, "--preset", "put")
    assert ran.code == 0, ran.err
    assert "may GET, HEAD, PUT." in ran.err
    ran = await command("cors", "allow", NEW, "--preset", "multipart", "--json")
    others, own = ran.items
    assert (others["allowed_origins"], others["allowed_methods"]) == ([OTHER], ["GET"])
    assert own["allowed_origins"] == [NEW]
    assert own["allowed_methods"] == ["GET", "HEAD", "PUT", "POST", "DELETE"]
    for wrong in (("--preset", "all"), ("--preset", "put", "--method", "GET")):
        assert (await command("cors", "allow", NEW, *wrong)).code == 2


async def test_where_the_rule_is_full_the_origin_gets_another(storage: BackblazeStorage) -> None:
    origins = [f"https://customer-{number}.example" for number in range(60)]
    for origin in origins:
        await storage.admin.allow_browser_uploads(origin, "put")
    rules = await storage.admin.get_cors_rules()
    assert 1 < len(rules) < 10
    assert len({each.name for each in rules}) == len(rules)
    for origin in origins:
        check_granted(rules, ("GET", "HEAD", "PUT"), origin=origin)


async def test_beyond_a_hundred_rules_nothing_changes(storage: BackblazeStorage) -> None:
    state = [rule(f"rule-number-{number}", OTHER) for number in range(100)]
    await write(storage, state)
    with pytest.raises(InvalidInputError, match="100 CORS rules already"):
        await storage.admin.allow_browser_uploads(NEW, "put")
    assert await storage.admin.get_cors_rules() == state


async def test_a_preset_that_is_none_is_refused(storage: BackblazeStorage) -> None:
    unknown: Any = "post"
    with pytest.raises(InvalidInputError, match="put, multipart"):
        await storage.admin.allow_browser_uploads(NEW, unknown)
    with pytest.raises(InvalidInputError, match="either preset or methods"):
        await storage.admin.allow_browser_uploads(NEW, "put", methods=["GET"])
    assert storage.request_counts() == {}


_PATTERNS = (*ORIGINS, "*", "https://*.example", "https://*")
_RULES = st.lists(
    st.builds(
        CorsRule,
        name=st.sampled_from(["", OURS, "rule-a", "rule-b"]),
        allowed_origins=st.lists(st.sampled_from(_PATTERNS), min_size=1, max_size=3).map(tuple),
        allowed_methods=st.lists(st.sampled_from(METHODS), min_size=1, max_size=5, unique=True).map(
            tuple
        ),
        allowed_headers=st.sampled_from([(), ("*",), ("content-*",), ("content-type", "x-amz-*")]),
        expose_headers=st.sampled_from([(), ("etag",), ("ETag", "Content-Range"), ("x-own",)]),
        max_age_seconds=st.sampled_from([None, 0, 77, 3600]),
    ),
    max_size=5,
    unique_by=lambda each: each.name,
)


@given(_RULES, st.sampled_from(["GET", "PUT", "DELETE"]), st.booleans())
def test_whatever_the_rules_are_adding_takes_from_none(
    rules: list[CorsRule], method: str, wide: bool
) -> None:
    methods = METHODS if wide else (method,)
    wanted = rule(OURS, NEW, allowed_methods=methods, expose_headers=("ETag", "Content-Range"))
    after = added(rules, wanted)
    check_kept(rules, after)
    check_granted(after, methods)
    assert added(after, wanted) == after


@given(_RULES, st.sampled_from(["*", "https://*.example"]))
def test_a_pattern_takes_from_none(rules: list[CorsRule], pattern: str) -> None:
    after = added(rules, rule(OURS, pattern))
    for origin in ORIGINS:
        before, now = allowed(rules, origin), allowed(after, origin)
        for asked, (methods, _, exposed, age) in before.items():
            assert set(methods) <= set(now[asked][0])
            assert set(exposed) <= set(now[asked][2])
            assert now[asked][3] == age
    for origin in (NEW, OTHER):
        assert matching_rule(after, origin, "PUT", ("content-type",)) is not None
