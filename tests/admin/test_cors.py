"""CORS rules allow web pages, and the checker explains refusals; invalid rules are not sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    ConnectionFailedError,
    InvalidInputError,
    ServiceUnavailableError,
)
from careflow_storage.admin import CorsRule
from careflow_storage.admin.cors.limits import check_rule
from careflow_storage.admin.cors.matching import matching_rule
from careflow_storage.testing import B2Server

pytest_plugins = ["careflow_storage.testing.plugin"]

APP = "https://app.example"


@pytest.fixture
async def storage(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    settings = b2_server.settings(_env_file=None, retry_attempts=3)
    async with BackblazeStorage(settings) as opened:
        yield opened


def rule(name: str = "players", **changes: Any) -> CorsRule:
    fields = {"allowed_origins": (APP,), "allowed_methods": ("GET",)} | changes
    return CorsRule(name=name, **fields)


async def test_a_page_may_upload_and_play_after_one_call(storage: BackblazeStorage) -> None:
    assert await storage.admin.get_cors_rules() == []
    (made,) = await storage.admin.allow_browser_uploads([APP, "http://localhost:3000"])
    assert await storage.admin.get_cors_rules() == [made]
    assert made.allowed_methods == ("GET", "HEAD", "PUT")
    headers = ["content-type", "content-md5", "x-amz-meta-call"]
    put = await storage.admin.check_cors(APP, "PUT", headers)
    assert (put.allowed, put.rule, put.problems) == (True, made, ())
    play = await storage.admin.check_cors("http://localhost:3000", "GET", "range")
    assert (play.allowed, play.headers, play.problems) == (True, ("range",), ())
    assert play.preflight.max_age_seconds == 3600
    assert "ETag" in play.preflight.expose_headers


async def test_asking_again_replaces_and_leaves_the_rules_of_others(
    storage: BackblazeStorage,
) -> None:
    first, last = rule("first-rule"), rule("last-rule", max_age_seconds=0)
    await storage.admin.set_cors_rules([first, rule("careflow-browser-uploads"), last])
    rules = await storage.admin.allow_browser_uploads(APP, methods=("PUT", "POST"))
    assert [each.name for each in rules] == ["first-rule", "careflow-browser-uploads", "last-rule"]
    assert rules[1].allowed_methods == ("PUT", "POST")
    assert await storage.admin.get_cors_rules() == rules
    assert await storage.admin.remove_cors_rule("careflow-browser-uploads") == [first, last]


async def test_rules_of_other_tools_are_read_and_never_lost(storage: BackblazeStorage) -> None:
    client = await storage.client()
    odd = [
        {"AllowedOrigins": ["app.example", "*"], "AllowedMethods": ["GET"]},
        {
            "ID": "Allow GET/POST from Example site",
            "AllowedOrigins": ["https"],
            "AllowedMethods": ["POST"],
            "AllowedHeaders": ["x-*"],
            "ExposeHeaders": ["etag"],
            "MaxAgeSeconds": 5,
        },
    ]
    config = {"CORSRules": odd}
    await client.put_bucket_cors(Bucket=storage.settings.bucket_name, CORSConfiguration=config)
    nameless, named = await storage.admin.get_cors_rules()
    assert (nameless.name, named.name) == ("", "Allow GET/POST from Example site")
    await storage.admin.put_cors_rule(rule())
    found = (await client.get_bucket_cors(Bucket=storage.settings.bucket_name))["CORSRules"]
    assert [{k: v for k, v in each.items() if v} for each in found[:2]] == odd
    assert await storage.admin.remove_cors_rule("players") == [nameless, named]


async def test_nothing_is_written_where_nothing_changes(storage: BackblazeStorage) -> None:
    await storage.admin.set_cors_rules([rule()])
    assert await storage.admin.remove_cors_rule("another") == [rule()]
    assert storage.request_counts() == {"PutBucketCors": 1, "GetBucketCors": 1}


async def test_without_any_rule_the_configuration_is_gone(storage: BackblazeStorage) -> None:
    await storage.admin.set_cors_rules([rule()])
    assert await storage.admin.remove_cors_rule("players") == []
    await storage.admin.set_cors_rules([])
    assert storage.request_counts()["DeleteBucketCors"] == 2
    assert await storage.admin.get_cors_rules() == []


LONG = tuple(f"https://customer-{number}.example" for number in range(40))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "short"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": "under_score"}, "name"),
        ({"name": "B2-reserved"}, "name"),
        ({"allowed_origins": ()}, "allowed_origins"),
        ({"allowed_origins": (APP, "app.example")}, r"allowed_origins\[1\].*https://app.example"),
        ({"allowed_origins": ("localhost:3000",)}, r"allowed_origins\[0\].*http://localhost:3000"),
        ({"allowed_origins": ("",)}, r"allowed_origins\[0\]"),
        ({"allowed_origins": (f"{APP}/",)}, r"allowed_origins\[0\].*must end after.*app.example"),
        ({"allowed_origins": (f"{APP}/calls?x=1",)}, r"allowed_origins\[0\].*must end after"),
        ({"allowed_origins": ("https://*.*.example",)}, r"allowed_origins\[0\].*one \*"),
        ({"allowed_origins": ("https://App.Example",)}, r"lower case.*https://app.example"),
        ({"allowed_origins": ("https://app.example:443",)}, "omit a default port"),
        ({"allowed_origins": ("https://app.example:0",)}, "port"),
        ({"allowed_origins": ("https://app.example:99999",)}, "port"),
        ({"allowed_origins": ("https://me:pass@app.example",)}, "password"),
        ({"allowed_origins": ("https://müller.example",)}, "xn--"),
        ({"allowed_origins": ("https://[::1",)}, "scheme://host"),
        ({"allowed_origins": ("https://a b.example",)}, "scheme://host"),
        ({"allowed_methods": ()}, "allowed_methods"),
        ({"allowed_methods": ("GET", "PATCH")}, r"allowed_methods\[1\]"),
        ({"allowed_methods": ("OPTIONS",)}, "always allowed"),
        ({"allowed_headers": ("x-*-*",)}, r"allowed_headers\[0\].*one \*"),
        ({"allowed_headers": ("content type",)}, r"allowed_headers\[0\]"),
        ({"expose_headers": ("ETag", "*")}, r"expose_headers\[1\]"),
        ({"max_age_seconds": -1}, "max_age_seconds"),
        ({"max_age_seconds": 86_401}, "max_age_seconds"),
        ({"allowed_origins": LONG}, "bytes"),
    ],
)
async def test_a_rule_that_b2_would_refuse_is_named_and_not_sent(
    storage: BackblazeStorage, changes: dict[str, Any], field: str
) -> None:
    bad = rule().model_copy(update=changes)
    with pytest.raises(InvalidInputError, match=field):
        await storage.admin.put_cors_rule(bad)
    with pytest.raises(InvalidInputError, match=rf"rules\[1\].*{field}"):
        await storage.admin.set_cors_rules([rule("another-one"), bad])
    assert storage.request_counts() == {}


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ([rule(f"rule-{number:04}") for number in range(101)], "101 are too many"),
        (
            [rule("same-name"), rule("other-name"), rule("same-name")],
            r"rules\[2\].name.*rules\[0\]",
        ),
        ([rule(), "https://app.example"], r"rules\[1\]"),
        (rule(), r"rules\[0\]"),
    ],
)
async def test_rules_that_do_not_go_together_are_not_sent(
    storage: BackblazeStorage, rules: Any, field: str
) -> None:
    with pytest.raises(InvalidInputError, match=field):
        await storage.admin.set_cors_rules(rules)
    assert storage.request_counts() == {}


@pytest.mark.parametrize(
    ("origins", "more", "field"),
    [
        ([APP, "app.example"], {}, r"allowed_origins\[1\].*https://app.example"),
        ([], {}, "allowed_origins"),
        ([APP, None], {}, r"allowed_origins\[1\]"),
        (APP, {"methods": ("GET", 7)}, r"allowed_methods\[1\]"),
        (APP, {"methods": ()}, "allowed_methods"),
        (APP, {"max_age_seconds": True}, "max_age_seconds"),
        (APP, {"name": ""}, "name"),
    ],
)
async def test_origins_that_cannot_be_are_named_and_not_sent(
    storage: BackblazeStorage, origins: Any, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInputError, match=field):
        await storage.admin.allow_browser_uploads(origins, **more)
    assert storage.request_counts() == {}


def test_what_a_rule_is_made_of_is_checked_by_its_type() -> None:
    with pytest.raises(ValidationError, match="max_age_seconds"):
        rule(max_age_seconds=True)


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "https://*", "https://*.example", "https://app-*.example:8443"),
        *("capacitor://localhost", "http://127.0.0.1:8000", "http://[::1]:8000"),
        "https://xn--mller-kva.example",
    ],
)
def test_origins_that_browsers_send_are_taken(origin: str) -> None:
    check_rule(rule(allowed_origins=(origin,)), named=True)


async def test_the_hundred_and_first_rule_is_refused(storage: BackblazeStorage) -> None:
    await storage.admin.set_cors_rules([rule(f"rule-{number:04}") for number in range(100)])
    with pytest.raises(InvalidInputError, match="100"):
        await storage.admin.put_cors_rule(rule())
    assert len(await storage.admin.put_cors_rule(rule("rule-0050", max_age_seconds=1))) == 100


@pytest.mark.parametrize(
    ("origin", "method", "headers", "said"),
    [
        ("https://other.example", "PUT", (), "No rule allows the origin https://other.example"),
        ("http://app.example", "PUT", (), "A rule allows https://app.example, which is another"),
        ("https://app.example:8443", "PUT", (), "A rule allows https://app.example"),
        (APP, "DELETE", (), "'uploads' allows the origin, but not the method DELETE"),
        (APP, "PUT", ("x-amz-meta-call",), "not the header x-amz-meta-call: add"),
        (APP, "PUT", ("x-a", "Content-Type", "x-b"), "not the headers x-a, x-b"),
    ],
)
async def test_a_refused_page_gets_the_reason(
    storage: BackblazeStorage, origin: str, method: Any, headers: tuple[str, ...], said: str
) -> None:
    uploads = rule("uploads", allowed_methods=("PUT",), allowed_headers=("content-*",))
    await storage.admin.set_cors_rules([uploads])
    check = await storage.admin.check_cors(origin, method, headers)
    assert not check.allowed
    assert check.rule is None
    assert check.preflight.status == 403
    assert said in " ".join(check.problems)


async def test_without_rules_the_call_that_makes_one_is_named(storage: BackblazeStorage) -> None:
    check = await storage.admin.check_cors(APP)
    (problem,) = check.problems
    assert problem == (
        "The bucket has no CORS rules: allow_browser_uploads(['https://app.example']) creates one."
    )


async def test_headers_that_a_page_cannot_read_are_reported(storage: BackblazeStorage) -> None:
    await storage.admin.set_cors_rules([rule(allowed_methods=("GET", "PUT"))])
    put = await storage.admin.check_cors(APP, "PUT", ())
    assert put.allowed
    assert put.problems == ("The page cannot read the ETag: add ETag to expose_headers.",)
    get = await storage.admin.check_cors(APP, "GET", ())
    assert "Content-Range" in get.problems[0]


async def test_a_server_that_does_not_follow_the_rules_yet_is_distinguished(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    await storage.admin.allow_browser_uploads(APP)
    b2_server.faults.next("Preflight", status=403, code="AccessDenied")
    late = await storage.admin.check_cors(APP)
    assert (late.allowed, late.rule is not None) == (False, True)
    assert "up to a minute" in late.problems[0]
    allowance = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "PUT"}
    b2_server.faults.next("Preflight", status=204, headers=allowance)
    open_to_all = await storage.admin.check_cors("https://other.example", "PUT", ())
    assert (open_to_all.allowed, open_to_all.rule) == (True, None)
    assert "No rule allows it, but the server does" in open_to_all.problems[-1]


@pytest.mark.parametrize(
    ("response", "allowed"),
    [
        ({"Access-Control-Allow-Origin": APP, "Access-Control-Allow-Methods": "GET, PUT"}, False),
        ({"Access-Control-Allow-Headers": "*"}, False),
        (
            {
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": "*",
                "Access-Control-Allow-Headers": "Content-Type",
            },
            True,
        ),
        (
            {
                "Access-Control-Allow-Origin": "https://other.example",
                "Access-Control-Allow-Methods": "PUT",
                "Access-Control-Allow-Headers": "content-type",
            },
            False,
        ),
    ],
)
async def test_the_response_is_judged_as_a_browser_does(
    storage: BackblazeStorage, b2_server: B2Server, response: dict[str, str], allowed: bool
) -> None:
    b2_server.faults.next("Preflight", status=200, headers=response)
    assert (await storage.admin.check_cors(APP)).allowed is allowed


async def test_the_preflight_is_a_browsers(storage: BackblazeStorage, b2_server: B2Server) -> None:
    await storage.admin.check_cors(APP, "PUT", ["X-B", "content-type"], key="calls/ä b.webm")
    sent = b2_server.requests[-1]
    assert (sent.method, sent.key) == ("OPTIONS", "calls/ä b.webm")
    assert sent.headers["origin"] == APP
    assert sent.headers["access-control-request-method"] == "PUT"
    assert sent.headers["access-control-request-headers"] == "content-type,x-b"
    assert "authorization" not in sent.headers
    assert storage.request_counts() == {"GetBucketCors": 1, "Preflight": 1}


async def test_a_busy_server_is_asked_again_and_a_broken_one_is_an_error(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.next("Preflight", status=503)
    assert (await storage.admin.check_cors(APP)).preflight.status == 403
    b2_server.faults.always("Preflight", status=503)
    with pytest.raises(ServiceUnavailableError) as busy:
        await storage.admin.check_cors(APP)
    assert busy.value.operation == "Preflight"
    b2_server.faults.clear()
    b2_server.faults.always("Preflight", cut="rst")
    with pytest.raises(ConnectionFailedError):
        await storage.admin.check_cors(APP)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("app.example",), "origin.*https://app.example"),
        (("https://*.example",), "origin.*one origin"),
        (("*",), "origin.*one origin"),
        ((7,), "origin"),
        ((APP, "PATCH"), "method"),
        ((APP, "PUT", ["content-type", "x-*"]), r"headers\[1\]"),
        ((APP, "PUT", [None]), r"headers\[0\]"),
    ],
)
async def test_an_invalid_request_is_not_sent(
    storage: BackblazeStorage, arguments: Any, field: str
) -> None:
    with pytest.raises(InvalidInputError, match=field):
        await storage.admin.check_cors(*arguments)
    assert storage.request_counts() == {}


async def test_a_key_without_the_capability_is_denied(b2_server: B2Server) -> None:
    key = b2_server.create_key(capabilities={"readFiles", "writeFiles"})
    async with BackblazeStorage(b2_server.settings(key=key)) as limited:
        with pytest.raises(AccessDeniedError):
            await limited.admin.get_cors_rules()
        with pytest.raises(AccessDeniedError):
            await limited.admin.set_cors_rules([rule()])


names = st.sampled_from(["content-type", "Content-MD5", "x-amz-meta-a", "range"])


@given(
    st.text("ab.", max_size=8),
    st.text("ab.", max_size=8),
    st.text("ab.", max_size=8),
    st.lists(names, unique=True),
)
def test_a_wildcard_stands_for_anything_between_its_ends(
    before: str, between: str, after: str, headers: list[str]
) -> None:
    wide = rule(allowed_origins=(f"{before}*{after}",), allowed_headers=("*",))
    upper = [header.upper() for header in headers]
    assert matching_rule([wide], before + between + after, "GET", upper) is wide
    assert matching_rule([wide], f"x{before}{between}{after}", "GET", []) is (
        wide if not before else None
    )
    assert matching_rule([wide], before + between + after, "PUT", []) is None


def test_the_first_rule_that_allows_all_of_it_counts() -> None:
    narrow = rule("narrow", allowed_headers=("range",))
    wide = rule("wide-one", allowed_origins=("*",), allowed_headers=("*",))
    assert matching_rule([narrow, wide], APP, "GET", ["Range"]) is narrow
    assert matching_rule([wide, narrow], APP, "GET", ["Range"]) is wide
    assert matching_rule([narrow, wide], APP, "GET", ["range", "x-b"]) is wide
    assert matching_rule([narrow], "https://APP.example", "GET", []) is None


async def test_on_a_real_server_a_browser_can_upload(seaweed_storage: BackblazeStorage) -> None:
    admin = seaweed_storage.admin
    refused = await admin.check_cors(APP)
    assert (refused.allowed, refused.rule) == (False, None)
    players = rule(allowed_origins=("https://*.players.example",), max_age_seconds=60)
    await admin.put_cors_rule(players)
    await admin.allow_browser_uploads([APP])
    check = await admin.check_cors(APP, "PUT", ["content-type", "content-md5"])
    assert (check.allowed, check.problems) == (True, ())
    assert (await admin.check_cors("https://a.players.example", "GET", ())).allowed
    assert not (await admin.check_cors("https://other.example")).allowed
    assert not (await admin.check_cors(APP, "DELETE")).allowed
    url = await seaweed_storage.get_signed_url("call.webm", method="PUT", content_type="audio/webm")
    sent = {"Content-Type": "audio/webm", "Origin": APP}
    async with (
        aiohttp.ClientSession() as browser,
        browser.put(url, data=b"recording", headers=sent) as response,
    ):
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == APP
    assert await admin.remove_cors_rule("careflow-browser-uploads") == [players]
    await admin.set_cors_rules([])
    assert await admin.get_cors_rules() == []
