"""The emulator holds a bucket's own settings to B2's limits and gives them back as B2 does."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server
from tests.support.b2_wire import RawClient, Reply, wire_to

pytest_plugins = ["careflow_storage.testing.plugin"]

ORIGIN = "<AllowedOrigin>https://app.example</AllowedOrigin>"
PUT = "<AllowedMethod>PUT</AllowedMethod>"


@pytest.fixture
async def wire(b2_server: B2Server) -> AsyncIterator[RawClient]:
    async with wire_to(b2_server) as opened:
        yield opened


async def put(wire: RawClient, what: str, document: str, *, bucket: str | None = None) -> Reply:
    body = document.encode()
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return await wire.ask(
        "PUT", query={what: ""}, body=body, headers={"content-md5": md5}, bucket=bucket
    )


async def put_cors(wire: RawClient, *rules: str) -> Reply:
    text = "".join(f"<CORSRule>{rule}</CORSRule>" for rule in rules)
    return await put(wire, "cors", f"<CORSConfiguration>{text}</CORSConfiguration>")


async def put_lifecycle(wire: RawClient, *rules: str) -> Reply:
    text = "".join(f"<Rule>{rule}</Rule>" for rule in rules)
    return await put(wire, "lifecycle", f"<LifecycleConfiguration>{text}</LifecycleConfiguration>")


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([], "MalformedXML"),
        ([ORIGIN], "MalformedXML"),
        ([ORIGIN + PUT] * 101, "MalformedXML"),
        ([f"<ID>same</ID>{ORIGIN}{PUT}"] * 2, "InvalidArgument"),
        ([f"<AllowedOrigin></AllowedOrigin>{PUT}"], "InvalidArgument"),
        ([f"<AllowedOrigin>https://*.*.example</AllowedOrigin>{PUT}"], "InvalidArgument"),
        ([f"{ORIGIN}<AllowedMethod>PATCH</AllowedMethod>"], "InvalidRequest"),
        ([f"{ORIGIN}{PUT}<MaxAgeSeconds>86401</MaxAgeSeconds>"], "InvalidArgument"),
        ([f"{ORIGIN}{PUT}<ExposeHeader>{'x' * 975}</ExposeHeader>"], "InvalidArgument"),
        ([f"{ORIGIN}{PUT}<ID>{'x' * 100_000}</ID>"], "MalformedXML"),
    ],
)
async def test_cors_rules_over_the_limits_are_refused(
    wire: RawClient, rules: list[str], code: str
) -> None:
    assert (await put_cors(wire, *rules)).refusal == (400, code)
    missing = await wire.ask("GET", query={"cors": ""})
    assert missing.refusal == (404, "NoSuchCORSConfiguration")


async def test_a_cors_rule_of_999_bytes_is_taken(wire: RawClient) -> None:
    # The origin has 19 bytes, s3_PUT has 6.
    rule = f"{ORIGIN}{PUT}<ExposeHeader>{'x' * 974}</ExposeHeader>"
    assert (await put_cors(wire, rule)).status == 200


async def test_the_first_rule_that_allows_a_whole_preflight_applies(
    wire: RawClient,
) -> None:
    await put_cors(
        wire,
        f"<ID>one</ID>{ORIGIN}{PUT}<AllowedHeader>x-*</AllowedHeader>",
        f"<ID>two</ID>{ORIGIN}{PUT}<AllowedHeader>*</AllowedHeader>"
        "<ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds>",
    )
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
    path = f"/{wire.server.bucket}/key"
    one = await wire.send(
        "OPTIONS", path, {**asked, "Access-Control-Request-Headers": "X-Amz-Meta-A"}
    )
    assert (one.status, one.headers["access-control-allow-headers"]) == (200, "x-amz-meta-a")
    assert "access-control-max-age" not in one.headers
    two = await wire.send(
        "OPTIONS", path, {**asked, "Access-Control-Request-Headers": "content-type,x-a"}
    )
    assert (two.headers["access-control-max-age"], two.body) == ("60", b"")
    assert two.headers["access-control-expose-headers"] == "ETag"
    for changed in ({"Origin": "http://app.example"}, {"Access-Control-Request-Method": "GET"}):
        refused = await wire.send("OPTIONS", path, asked | changed)
        assert refused.refusal == (403, "AccessDenied")
        assert "access-control-allow-origin" not in refused.headers
    nowhere = await wire.send("OPTIONS", "/no-such-bucket/key", asked)
    assert nowhere.status == 403


ENABLED = "<Status>Enabled</Status>"
LOGS = f"<Filter><Prefix>logs/</Prefix></Filter>{ENABLED}"
HIDE = "<Expiration><Days>30</Days></Expiration>"
MARKERS = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"


async def test_a_rule_that_hides_comes_back_as_two(wire: RawClient) -> None:
    missing = await wire.ask("GET", query={"lifecycle": ""})
    assert missing.refusal == (404, "NoSuchLifecycleConfiguration")
    erase = (
        "<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays>"
        "</NoncurrentVersionExpiration>"
    )
    assert (await put_lifecycle(wire, f"<ID>mine</ID>{LOGS}{HIDE}{erase}")).status == 200
    found = (await wire.ask("GET", query={"lifecycle": ""})).body.decode()
    assert found.count("<Rule>") == found.count("<Prefix>logs/</Prefix>") == 3
    assert all(each in found for each in (HIDE, MARKERS, erase))
    assert (await wire.ask("DELETE", query={"lifecycle": ""})).status == 204
    assert (await wire.ask("GET", query={"lifecycle": ""})).status == 404


async def test_rules_in_the_spelling_of_the_first_s3_are_taken(wire: RawClient) -> None:
    assert (await put_lifecycle(wire, f"<Prefix>a/</Prefix>{ENABLED}{HIDE}")).status == 200
    found = (await wire.ask("GET", query={"lifecycle": ""})).body.decode()
    assert "<Filter><Prefix>a/</Prefix></Filter>" in found


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([], "MalformedXML"),
        ([f"{ENABLED}{HIDE}"], "MalformedXML"),
        ([f"{LOGS}<Expiration><Days>0</Days></Expiration>"], "InvalidArgument"),
        ([f"{LOGS}<Expiration><Date>2030-01-01</Date></Expiration>"], "InvalidArgument"),
        ([f"{LOGS}<Transition><Days>1</Days></Transition>"], "InvalidArgument"),
        ([f"<Filter><Tag><Key>a</Key></Tag></Filter>{ENABLED}{HIDE}"], "InvalidArgument"),
        ([f"<Prefix/><Status>Disabled</Status>{HIDE}"], "InvalidArgument"),
        ([f"{LOGS}{MARKERS}"], "InvalidArgument"),
        ([f"<Prefix>{n}/</Prefix>{ENABLED}{HIDE}" for n in range(101)], "InvalidArgument"),
    ],
)
async def test_lifecycle_rules_that_b2_has_not_are_refused(
    wire: RawClient, rules: list[str], code: str
) -> None:
    assert (await put_lifecycle(wire, *rules)).refusal == (400, code)
    assert (await wire.ask("GET", query={"lifecycle": ""})).status == 404


@pytest.mark.parametrize("what", ["cors", "lifecycle", "encryption"])
async def test_a_document_that_is_none_is_malformed(wire: RawClient, what: str) -> None:
    for text in ("", "<a>", '<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'):
        assert (await put(wire, what, text)).status == 400


async def test_new_buckets_encrypt_and_no_kms_is_taken(
    wire: RawClient, b2_server: B2Server
) -> None:
    b2_server.create_bucket("careflow-another")
    for bucket in (b2_server.bucket, "careflow-another"):
        found = await wire.ask("GET", query={"encryption": ""}, bucket=bucket)
        assert found.field("SSEAlgorithm") == "AES256"
    kms = (
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
        "<SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
        "</ServerSideEncryptionConfiguration>"
    )
    assert (await put(wire, "encryption", kms)).refusal == (400, "InvalidArgument")


async def test_a_bucket_with_anything_in_it_stays(wire: RawClient, b2_server: B2Server) -> None:
    async with BackblazeStorage(b2_server.settings()) as storage:
        await storage.upload_file("key", b"hello")
        await storage.delete_file("key")
        assert (await wire.ask("DELETE")).refusal == (409, "BucketNotEmpty")
        await storage.purge_file("key")
        upload = await (await storage.client()).create_multipart_upload(
            Bucket=b2_server.bucket, Key="key"
        )
        assert (await wire.ask("DELETE")).refusal == (409, "BucketNotEmpty")
        await wire.ask("DELETE", "key", query={"uploadId": upload["UploadId"]})
        assert (await wire.ask("DELETE")).status == 204
