"""Whose requests the emulator takes, and what each key may do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    InvalidCredentialsError,
    InvalidInputError,
)
from careflow_storage.testing import ApplicationKey, B2Server
from tests.support.b2_wire import RawClient, wire_to

pytest_plugins = ["careflow_storage.testing.plugin"]

BODY = b"hello"
MALFORMED = (403, "InvalidAccessKeyId")
WRONG = (403, "SignatureDoesNotMatch")
DENIED = (403, "AccessDenied")


@pytest.fixture
async def wire(b2_server: B2Server) -> AsyncIterator[RawClient]:
    async with wire_to(b2_server) as opened:
        yield opened


@pytest.fixture
async def storage(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings()) as opened:
        yield opened


def test_keys_look_like_b2s_and_hide_their_secret(b2_server: B2Server) -> None:
    key = b2_server.create_key()
    assert re.fullmatch(r"004[0-9a-f]{12}\d{10}", key.key_id)
    assert re.fullmatch(r"K004[A-Za-z0-9+/]{27}", key.application_key)
    assert key.application_key not in repr(key)
    assert re.fullmatch(r"[0-9a-f]{12}", b2_server.master_key.key_id)
    with pytest.raises(InvalidInputError, match="writeFile"):
        b2_server.create_key(capabilities={"writeFile"})


async def test_the_master_key_is_refused_in_b2s_words(wire: RawClient) -> None:
    reply = await wire.ask("GET", who=wire.server.master_key)
    assert reply.refusal == MALFORMED
    assert reply.field("Message") == "Malformed Access Key Id"


async def test_unknown_deleted_and_expired_keys_are_refused(wire: RawClient) -> None:
    server = wire.server
    unknown = ApplicationKey("0" * 25, "K004" + "x" * 27, frozenset())
    deleted = server.create_key()
    assert (await wire.ask("GET", who=deleted)).status == 200
    server.delete_key(deleted)
    expired = server.create_key(expires_in=60)
    assert (await wire.ask("GET", who=expired)).status == 200
    server.clock_skew = timedelta(seconds=61)
    for who in (unknown, deleted, expired):
        assert (await wire.ask("GET", who=who)).refusal == (403, "InvalidAccessKeyId")


async def test_a_wrong_secret_or_region_or_changed_request_is_refused(wire: RawClient) -> None:
    key = wire.server.key
    wrong = ApplicationKey(key.key_id, "K004" + "x" * 27, key.capabilities)
    reply = await wire.ask("GET", who=wrong)
    assert reply.refusal == WRONG
    assert reply.field("Message") == "Signature validation failed"
    assert (await wire.ask("GET", region="eu-central-003")).refusal == WRONG


async def test_an_unsigned_request_is_refused_and_so_is_signature_version_2(
    wire: RawClient,
) -> None:
    path = f"/{wire.server.bucket}/key"
    assert (await wire.send("GET", path, {})).refusal == DENIED
    old = await wire.send("GET", path, {"Authorization": "AWS key:c2lnbmF0dXJl"})
    assert old.refusal == (400, "InvalidRequest")
    bad = await wire.send("GET", path, {"Authorization": "AWS4-HMAC-SHA256 nonsense"})
    assert bad.refusal == (400, "AuthorizationHeaderMalformed")


async def test_an_object_of_a_public_bucket_is_read_without_a_key_but_not_listed(
    wire: RawClient,
) -> None:
    public = {"x-amz-acl": "public-read"}
    assert (await wire.ask("PUT", bucket="public-one", headers=public)).status == 200
    assert (await wire.ask("PUT", "key", body=BODY, bucket="public-one")).status == 200
    assert (await wire.send("GET", "/public-one/key", {})).body == BODY
    assert (await wire.send("GET", "/public-one", {})).refusal == DENIED


@pytest.mark.parametrize(("minutes", "status"), [(14, 200), (16, 403), (-14, 200), (-16, 403)])
async def test_clocks_may_differ_by_15_minutes(wire: RawClient, minutes: int, status: int) -> None:
    wire.server.clock_skew = timedelta(minutes=minutes)
    reply = await wire.ask("GET")
    assert reply.status == status
    if status == 403:
        assert reply.refusal == (403, "RequestTimeTooSkewed")


async def test_the_storage_reports_a_skewed_clock(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.clock_skew = timedelta(hours=1)
    with pytest.raises(InvalidCredentialsError, match="clock"):
        await storage.get_file("key")


class TestSignedByBotocore:
    """Another implementation of the signature, and what is done to it."""

    def signed(self, server: B2Server, method: str, target: str, **headers: str) -> AWSRequest:
        request = AWSRequest(method, server.endpoint + target, dict(headers), BODY)
        S3SigV4Auth(self.credentials(server), "s3", server.region).add_auth(request)
        return request

    def credentials(self, server: B2Server) -> BotocoreCredentials:
        return BotocoreCredentials(server.key.key_id, server.key.application_key)

    @pytest.mark.parametrize("key", ["plain", "a%20b%2B%C3%BC", "it%27s~%281%29%21%2A%24", "a//b"])
    async def test_its_headers_are_taken_and_any_change_is_refused(
        self, wire: RawClient, key: str
    ) -> None:
        target = f"/{wire.server.bucket}/{key}?x-id=PutObject"
        request = self.signed(wire.server, "PUT", target, **{"x-amz-meta-a": "b  c"})
        headers = dict(request.headers.items())
        assert (await wire.send("PUT", target, headers, BODY)).status == 200
        for changed_target, changed in (
            (target + "y", {}),
            (target.replace("x-id", "y-id"), {}),
            (target, {"x-amz-meta-a": "other"}),
            (target.replace("/careflow", "/dareflow"), {}),
        ):
            reply = await wire.send("PUT", changed_target, headers | changed, BODY)
            assert reply.refusal == WRONG
        more = await wire.send("PUT", target, headers | {"x-amz-meta-more": "1"}, BODY)
        assert more.refusal == DENIED
        other = await wire.send("PUT", target, headers, b"other")
        assert other.refusal == (400, "XAmzContentSHA256Mismatch")

    async def test_its_urls_are_taken_until_they_end(self, wire: RawClient) -> None:
        await wire.ask("PUT", "a b+c", body=BODY)
        server = wire.server
        request = AWSRequest("GET", f"{server.endpoint}/{server.bucket}/a%20b%2Bc")
        S3SigV4QueryAuth(self.credentials(server), "s3", server.region, expires=60).add_auth(
            request
        )
        assert (await wire.send("GET", request.url, {})).body == BODY
        assert (await wire.send("HEAD", request.url, {})).status == 403
        longer = request.url.replace("X-Amz-Expires=60", "X-Amz-Expires=61")
        assert (await wire.send("GET", longer, {})).refusal == WRONG
        for expires in ("0", "604801", "x"):
            url = request.url.replace("X-Amz-Expires=60", f"X-Amz-Expires={expires}")
            reply = await wire.send("GET", url, {})
            assert reply.refusal == (400, "AuthorizationQueryParametersError")
        server.clock_skew = timedelta(seconds=61)
        over = await wire.send("GET", request.url, {})
        assert over.refusal == (401, "UnauthorizedAccess")
        signed_at = re.search("X-Amz-Date=([0-9TZ]+)", request.url)
        assert signed_at is not None
        assert over.field("Message") == (
            f"Request has expired given timestamp: '{signed_at[1]}' and expiration: 60"
        )


async def test_a_presigned_upload_must_be_sent_as_it_was_signed(
    wire: RawClient, storage: BackblazeStorage
) -> None:
    url = await storage.get_signed_url("key", method="PUT", content_type="audio/webm")
    good = {"Content-Type": "audio/webm"}
    assert (await wire.send("PUT", url, {"Content-Type": "audio/ogg"}, BODY)).refusal == WRONG
    smuggled = await wire.send("PUT", url, good | {"x-amz-meta-a": "b"}, BODY)
    assert smuggled.refusal == DENIED
    assert (await wire.send("PUT", url, good, BODY)).status == 200
    assert await storage.get_file("key") == BODY


async def test_a_url_ends_with_the_key_that_signed_it(wire: RawClient) -> None:
    key = wire.server.create_key()
    async with BackblazeStorage(wire.server.settings(key=key)) as storage:
        await storage.upload_file("key", BODY)
        url = await storage.get_signed_url("key")
    assert (await wire.send("GET", url, {})).body == BODY
    wire.server.delete_key(key)
    assert (await wire.send("GET", url, {})).refusal == (403, "InvalidAccessKeyId")


class TestCapabilities:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_without_list_buckets_a_missing_key_is_a_403(
        self, wire: RawClient, method: str
    ) -> None:
        blind = wire.server.create_key(capabilities={"readFiles"})
        seeing = wire.server.create_key(capabilities={"readFiles", "listBuckets"})
        reply = await wire.ask(method, "missing", who=blind)
        assert reply.status == 403
        if method == "GET":
            assert reply.field("Message") == "Cannot access bucket"
        assert (await wire.ask(method, "missing", who=seeing)).status == 404

    async def test_file_exists_with_such_a_key_looks_in_a_listing_or_raises(
        self, b2_server: B2Server
    ) -> None:
        lists = b2_server.create_key(capabilities={"readFiles", "listFiles"})
        async with BackblazeStorage(b2_server.settings(key=lists)) as storage:
            assert not await storage.file_exists("missing")
        blind = b2_server.create_key(capabilities={"readFiles"})
        async with BackblazeStorage(b2_server.settings(key=blind)) as storage:
            with pytest.raises(AccessDeniedError, match="listBuckets"):
                await storage.file_exists("missing")

    async def test_a_write_only_key_writes_and_hides_and_nothing_else(
        self, b2_server: B2Server
    ) -> None:
        key = b2_server.create_key(capabilities={"writeFiles"})
        settings = b2_server.settings(key=key, part_size=5 * 2**20, multipart_threshold=2**20)
        async with BackblazeStorage(settings) as storage:
            stored = await storage.upload_file("key", BODY)
            large = await storage.upload_file("large", bytes(5 * 2**20 + 1))
            assert large.parts == 2
            for call in (
                storage.get_file("key"),
                storage.list_files(),
                storage.delete_file("key", version_id=stored.version_id),
                storage.purge_file("key"),
            ):
                with pytest.raises(AccessDeniedError):
                    await call
            assert (await storage.delete_file("key")).delete_marker
        assert [version.is_delete_marker for version in b2_server.versions("key")] == [True, False]

    async def test_each_entry_of_a_batch_needs_its_own_capability(self, wire: RawClient) -> None:
        stored = await wire.ask("PUT", "key", body=BODY)
        version = stored.headers["x-amz-version-id"]
        body = (
            f"<Delete><Object><Key>key</Key><VersionId>{version}</VersionId></Object>"
            "<Object><Key>key</Key></Object></Delete>"
        ).encode()
        hides = wire.server.create_key(capabilities={"writeFiles"})
        reply = await wire.ask("POST", query={"delete": ""}, body=body, who=hides)
        assert reply.status == 200
        assert reply.body.count(b"<Error>") == 1
        assert reply.field("Code") == "AccessDenied"
        assert len(wire.server.versions("key")) == 2
        erases = wire.server.create_key(capabilities={"deleteFiles"})
        reply = await wire.ask("POST", query={"delete": ""}, body=body, who=erases)
        assert reply.body.count(b"<Error>") == 1
        assert [v.is_delete_marker for v in wire.server.versions("key")] == [True]

    async def test_a_batch_has_at_most_1000_entries(self, wire: RawClient) -> None:
        for count, status in ((1000, 200), (1001, 400), (0, 400)):
            entries = "".join(f"<Object><Key>k{n}</Key></Object>" for n in range(count))
            body = f"<Delete>{entries}</Delete>".encode()
            assert (await wire.ask("POST", query={"delete": ""}, body=body)).status == status

    async def test_a_key_of_one_bucket_is_not_entitled_to_another(self, wire: RawClient) -> None:
        wire.server.create_bucket("another-one")
        key = wire.server.create_key(bucket="another-one")
        assert (await wire.ask("PUT", "k", who=key, body=BODY)).refusal == DENIED
        assert (await wire.ask("PUT", "k", who=key, bucket="another-one")).status == 200
        source = {"x-amz-copy-source": f"{wire.server.bucket}/k"}
        copy = await wire.ask("PUT", "c", who=key, bucket="another-one", headers=source)
        assert copy.refusal == DENIED

    async def test_a_key_of_a_prefix_stays_in_it(self, wire: RawClient) -> None:
        key = wire.server.create_key(name_prefix="tenant1/")
        assert (await wire.ask("PUT", "tenant1/a", who=key, body=BODY)).status == 200
        for method, name in (("PUT", "tenant10/a"), ("GET", "a"), ("DELETE", "tenant2/a")):
            reply = await wire.ask(method, name, who=key)
            assert reply.refusal == DENIED
            assert reply.field("Message") == "Not Entitled"
        for prefix, status in (("tenant1/", 200), ("tenant1/a", 200), ("", 403), ("t", 403)):
            query = {"list-type": "2", "prefix": prefix}
            assert (await wire.ask("GET", query=query, who=key)).status == status

    async def test_listing_buckets_needs_list_all_bucket_names(self, wire: RawClient) -> None:
        key = wire.server.create_key(capabilities={"listBuckets"})
        assert (await wire.ask("GET", bucket="", who=key)).refusal == DENIED
        assert (await wire.ask("HEAD", who=key)).status == 200
        reply = await wire.ask("GET", bucket="")
        assert reply.field("Name") == wire.server.bucket
