"""The calls of B2's native API that the emulator responds."""

from __future__ import annotations

import base64
import http.client
import json
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from b2sdk.v2 import B2Api as ApiOfVersion3
from b2sdk.v2 import InMemoryAccountInfo
from b2sdk.v3 import B2Api

from careflow_storage import BackblazeStorage, InvalidCredentialsError
from careflow_storage.testing import ApplicationKey, B2Server

pytest_plugins = ["careflow_storage.testing.plugin"]


class Reply(NamedTuple):
    status: int
    document: dict[str, Any]

    @property
    def refusal(self) -> tuple[int, str]:
        assert self.document["status"] == self.status
        return self.status, self.document["code"]


class Client:
    """Speaks to the native API without b2sdk."""

    def __init__(self, server: B2Server, version: str = "v4") -> None:
        self._server = server
        self._version = version
        self.token = ""

    def call(self, name: str, given: Any = None, *, token: str | None = None) -> Reply:
        body = given if isinstance(given, bytes) else json.dumps(given or {}).encode()
        return self._ask(name, body, self.token if token is None else token)

    def sign_in(self, key: ApplicationKey, secret: str | None = None) -> Reply:
        pair = f"{key.key_id}:{secret or key.application_key}".encode()
        reply = self._ask("b2_authorize_account", b"", f"Basic {base64.b64encode(pair).decode()}")
        self.token = reply.document.get("authorizationToken", "")
        return reply

    def _ask(self, name: str, body: bytes, authorization: str) -> Reply:
        place = urlsplit(self._server.endpoint)
        connection = http.client.HTTPConnection(place.hostname or "", place.port)
        try:
            path = f"/b2api/{self._version}/{name}"
            connection.request("POST", path, body, {"Authorization": authorization})
            response = connection.getresponse()
            assert response.getheader("Content-Type") == "application/json"
            return Reply(response.status, json.loads(response.read()))
        finally:
            connection.close()


@pytest.fixture
def client(b2_server: B2Server) -> Client:
    opened = Client(b2_server)
    assert opened.sign_in(b2_server.master_key).status == 200
    return opened


def test_signing_in_returns_the_urls_and_permissions(b2_server: B2Server) -> None:
    key = b2_server.create_key(
        capabilities={"readFiles"}, bucket=b2_server.bucket, name_prefix="a/"
    )
    status, document = Client(b2_server).sign_in(key)
    api = document["apiInfo"]["storageApi"]
    assert status == 200
    assert document["accountId"] == b2_server.master_key.key_id
    assert api["apiUrl"] == api["s3ApiUrl"] == b2_server.endpoint
    assert api["absoluteMinimumPartSize"] == 5_000_000
    allowed = api["allowed"]
    assert (allowed["capabilities"], allowed["namePrefix"]) == (["readFiles"], "a/")
    assert [each["name"] for each in allowed["buckets"]] == [b2_server.bucket]
    old = Client(b2_server, "v3").sign_in(key).document["apiInfo"]["storageApi"]
    assert old["bucketName"] == b2_server.bucket


@pytest.mark.parametrize("secret", ["K004wrong", "ä"])
def test_a_wrong_secret_is_unauthorized(b2_server: B2Server, secret: str) -> None:
    assert Client(b2_server).sign_in(b2_server.key, secret).refusal == (401, "unauthorized")


def test_an_unknown_call_or_a_body_without_json_is_refused(client: Client) -> None:
    assert client.call("b2_upload_file").refusal == (404, "not_found")
    assert client.call("b2_list_keys", b"[]").refusal == (400, "bad_json")
    assert client.call("b2_list_keys", b"{").refusal == (400, "bad_json")
    assert client.call("b2_list_keys", token="4_old").refusal == (401, "bad_auth_token")
    assert client.call("b2_list_keys", {"accountId": "0"}).refusal == (401, "unauthorized")


def test_a_token_ends_after_a_day_and_with_its_key(b2_server: B2Server) -> None:
    key = b2_server.create_key()
    client = Client(b2_server)
    client.sign_in(key)
    b2_server.clock_skew = timedelta(hours=25)
    assert client.call("b2_list_keys").refusal == (401, "expired_auth_token")
    client.sign_in(key)
    b2_server.delete_key(key)
    assert client.call("b2_list_keys").refusal == (401, "bad_auth_token")


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        ("b2_list_buckets", "listBuckets"),
        ("b2_list_keys", "listKeys"),
        ("b2_create_key", "writeKeys"),
        ("b2_delete_key", "deleteKeys"),
    ],
)
def test_each_call_needs_its_capability(b2_server: B2Server, call: str, needed: str) -> None:
    others = {"listBuckets", "listKeys", "writeKeys", "deleteKeys"} - {needed}
    client = Client(b2_server)
    client.sign_in(b2_server.create_key(capabilities=others))
    assert client.call(call).refusal == (401, "unauthorized")


def test_a_restricted_key_must_name_its_bucket(b2_server: B2Server) -> None:
    b2_server.create_bucket("another-bucket")
    client = Client(b2_server)
    client.sign_in(b2_server.create_key(bucket=b2_server.bucket))
    assert client.call("b2_list_buckets").refusal == (401, "unauthorized")
    [own] = client.call("b2_list_buckets", {"bucketName": b2_server.bucket}).document["buckets"]
    again = client.call("b2_list_buckets", {"bucketId": own["bucketId"]})
    assert again.document["buckets"] == [own]
    other = client.call("b2_list_buckets", {"bucketName": "another-bucket"})
    assert other.refusal == (401, "unauthorized")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"keyName": "a b"}, "bad_request"),
        ({"keyName": "a" * 101}, "bad_request"),
        ({"capabilities": []}, "bad_request"),
        ({"capabilities": ["readFile"]}, "bad_request"),
        ({"validDurationInSeconds": 0}, "bad_request"),
        ({"validDurationInSeconds": 86_400_000}, "bad_request"),
        ({"bucketIds": ["0"]}, "bad_bucket_id"),
    ],
)
def test_a_key_that_cannot_be_is_refused(client: Client, given: dict[str, Any], code: str) -> None:
    wanted = {"keyName": "app", "capabilities": ["readFiles"]} | given
    assert client.call("b2_create_key", wanted).refusal == (400, code)


def test_the_secret_is_returned_once_and_an_expired_key_disappears(
    b2_server: B2Server, client: Client
) -> None:
    wanted = {"keyName": "app", "capabilities": ["readFiles"], "validDurationInSeconds": 60}
    made = client.call("b2_create_key", wanted).document
    assert made["applicationKey"].startswith("K004")
    _, listed = client.call("b2_list_keys").document["keys"]
    assert listed == {name: made[name] for name in made if name != "applicationKey"}
    b2_server.clock_skew = timedelta(minutes=2)
    assert len(client.call("b2_list_keys").document["keys"]) == 1
    gone = client.call("b2_delete_key", {"applicationKeyId": made["applicationKeyId"]})
    assert gone.refusal == (400, "bad_request")


def test_keys_come_in_pages(b2_server: B2Server, client: Client) -> None:
    for _ in range(4):
        b2_server.create_key()
    found: list[str] = []
    start = None
    for _ in range(3):
        page = client.call(
            "b2_list_keys", {"maxKeyCount": 2, "startApplicationKeyId": start}
        ).document
        found += [key["applicationKeyId"] for key in page["keys"]]
        start = page["nextApplicationKeyId"]
    assert start is None
    assert len(set(found)) == 5
    assert client.call("b2_list_keys", {"maxKeyCount": 10_001}).refusal == (400, "bad_request")


def test_version_3_leaves_out_keys_of_several_buckets(b2_server: B2Server, client: Client) -> None:
    b2_server.create_bucket("another-bucket")
    buckets = client.call("b2_list_buckets").document["buckets"]
    wanted = {
        "keyName": "both",
        "capabilities": ["listBuckets"],
        "bucketIds": [each["bucketId"] for each in buckets],
    }
    made = client.call("b2_create_key", wanted).document
    assert sorted(made["bucketIds"]) == sorted(wanted["bucketIds"])
    old = Client(b2_server, "v3")
    old.sign_in(b2_server.master_key)
    listed = [key["keyName"] for key in old.call("b2_list_keys").document["keys"]]
    assert listed == ["emulator"]
    assert len(client.call("b2_list_keys").document["keys"]) == 2


@pytest.mark.parametrize("api_class", [ApiOfVersion3, B2Api])
async def test_b2sdk_of_either_version_makes_keys_that_sign_s3_requests(
    b2_server: B2Server, api_class: Any
) -> None:
    api = api_class(InMemoryAccountInfo() if api_class is ApiOfVersion3 else _account_info())
    master = b2_server.master_key
    if api_class is ApiOfVersion3:
        api.authorize_account(b2_server.endpoint, master.key_id, master.application_key)
    else:
        api.authorize_account(master.key_id, master.application_key, b2_server.endpoint)
    bucket = api.get_bucket_by_name(b2_server.bucket)
    limit = (
        {"bucket_id": bucket.id_} if api_class is ApiOfVersion3 else {"bucket_ids": [bucket.id_]}
    )
    made = api.create_key(["writeFiles", "readFiles"], "app", 3600, name_prefix="a/", **limit)
    settings = b2_server.settings(key_id=made.id_, application_key=made.application_key)
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("a/b.txt", b"hello")
        assert await storage.get_file("a/b.txt") == b"hello"
        assert api.get_key(made.id_).key_name == "app"
        api.delete_key_by_id(made.id_)
        with pytest.raises(InvalidCredentialsError):
            await storage.get_file("a/b.txt")


def _account_info() -> Any:
    from b2sdk.v3 import InMemoryAccountInfo as AccountInfo

    return AccountInfo()


def test_requests_are_recorded_by_their_name_and_without_secrets(
    b2_server: B2Server, client: Client
) -> None:
    client.call("b2_list_keys")
    assert [each.operation for each in b2_server.requests] == [
        "b2_authorize_account",
        "b2_list_keys",
    ]
    assert {each.headers["authorization"] for each in b2_server.requests} == {"REDACTED"}
