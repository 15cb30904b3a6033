"""SigV4: the published examples of AWS, and botocore's own signer on hostile input."""

from __future__ import annotations

import hashlib
import hmac
import pickle
import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from careflow_storage._s3.signing.signer import (
    EMPTY_PAYLOAD,
    UNSIGNED_PAYLOAD,
    Credentials,
    Signer,
    canonical_query,
    derive_signing_key,
    encode_key,
)
from careflow_storage.errors import InvalidInputError

# Of "Signature Calculations for the Authorization Header" in the Amazon S3 API Reference.
AWS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
AWS_HOST = "examplebucket.s3.amazonaws.com"
AWS_NOW = datetime(2013, 5, 24, tzinfo=UTC)
SCOPE = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"

NOW = datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)
ORIGIN = "https://s3.us-west-004.backblazeb2.com"
HOST = "s3.us-west-004.backblazeb2.com"
PLAIN = Credentials("0041234567890ab0000000001", "K004abcdefghijklmnopqrstuvwxyz+")
TEMPORARY = Credentials("ASIAEXAMPLE", "secret/with+signs=", "token//with+signs=&?")

# Lone surrogates have no UTF-8 form; everything else may be in a key.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = st.one_of(
    texts.filter(bool),
    st.text("abc/ +%?#&='\"\\.~*()!@:;,äß日本🎙\u0301", min_size=1, max_size=40),
)
names = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=20)
header_values = st.text(
    st.one_of(st.sampled_from(' \t "\\,;=%'), st.characters(min_codepoint=32, max_codepoint=126)),
    max_size=40,
)
signable = st.dictionaries(
    names.map("x-amz-meta-{}".format) | st.sampled_from(["Content-Type", "Range", "If-Match"]),
    header_values,
    max_size=5,
)
credentials = st.sampled_from([PLAIN, TEMPORARY])


def aws_signature(method: str, path: str, query: str, headers: dict[str, str], sha: str) -> str:
    sent = Signer("us-east-1").sign(AWS, method, AWS_HOST, path, query, headers, sha, AWS_NOW)
    assert sent["x-amz-date"] == "20130524T000000Z"
    assert sent["x-amz-content-sha256"] == sha
    assert sent["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={SCOPE}, ")
    return sent["authorization"].partition("SignedHeaders=")[2]


def frozen_botocore(now: datetime) -> Any:
    return mock.patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None))


def theirs(credentials: Credentials) -> BotocoreCredentials:
    return BotocoreCredentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.session_token
    )


def botocore_headers(
    credentials: Credentials, method: str, url: str, headers: dict[str, str], payload: str
) -> dict[str, str]:
    request = AWSRequest(method=method, url=url, headers=headers)
    auth = S3SigV4Auth(theirs(credentials), "s3", "us-west-004")
    with frozen_botocore(NOW), mock.patch.object(auth, "payload", return_value=payload):
        auth.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def botocore_url(
    credentials: Credentials,
    method: str,
    url: str,
    params: dict[str, str],
    headers: dict[str, str],
) -> str:
    request = AWSRequest(method=method, url=url, headers=headers, params=dict(params))
    with frozen_botocore(NOW):
        S3SigV4QueryAuth(theirs(credentials), "s3", "us-west-004", 900).add_auth(request)
    return str(request.url)


def params_of(url: str) -> list[tuple[str, str]]:
    query = urlsplit(url).query
    # "+" would be read as a space: nothing may leave it bare.
    assert "+" not in query
    return sorted(parse_qsl(query, keep_blank_values=True, strict_parsing=True))


# --- the published examples ---------------------------------------------------------------


def test_the_signature_of_the_published_get_object_example() -> None:
    assert aws_signature("GET", "/test.txt", "", {"Range": "bytes=0-9"}, EMPTY_PAYLOAD) == (
        "host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_the_signature_of_the_published_put_object_example() -> None:
    headers = {
        "Date": "Fri, 24 May 2013 00:00:00 GMT",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    }
    payload = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
    path = "/" + encode_key("test$file.text")
    assert path == "/test%24file.text"
    assert aws_signature("PUT", path, "", headers, payload) == (
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, "
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_the_signature_of_the_published_bucket_lifecycle_example() -> None:
    query = canonical_query({"lifecycle": ""})
    assert aws_signature("GET", "/", query, {}, EMPTY_PAYLOAD) == (
        "host;x-amz-content-sha256;x-amz-date, "
        "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )


def test_the_signature_of_the_published_list_objects_example() -> None:
    query = canonical_query({"prefix": "J", "max-keys": "2"})
    assert query == "max-keys=2&prefix=J"
    assert aws_signature("GET", "/", query, {}, EMPTY_PAYLOAD) == (
        "host;x-amz-content-sha256;x-amz-date, "
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )


def test_the_url_of_the_published_presigned_url_example() -> None:
    url = Signer("us-east-1").presign(
        AWS, "GET", f"https://{AWS_HOST}", "/test.txt", {}, {}, 86400, AWS_NOW
    )
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt"
        "?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_the_published_example_of_deriving_a_signing_key() -> None:
    # "Signature Version 4 signing process": another secret, with "+" for "/".
    key = derive_signing_key(
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam"
    )
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    to_sign = (
        "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n"
        "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
    )
    assert hmac.digest(key, to_sign.encode(), "sha256").hex() == (
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


# --- botocore on the same input -----------------------------------------------------------


@settings(deadline=None)  # machines may be busy
@given(
    credentials=credentials,
    method=st.sampled_from(["GET", "PUT", "HEAD", "DELETE", "POST"]),
    key=keys,
    params=st.dictionaries(texts.filter(bool), texts, max_size=4),
    headers=signable,
    payload=st.sampled_from([UNSIGNED_PAYLOAD, EMPTY_PAYLOAD]),
)
@example(PLAIN, "GET", "a//b/../c/./d", {"a-b": "", "a": "="}, {}, UNSIGNED_PAYLOAD)
@example(PLAIN, "PUT", "🎙 +%2F?#&", {}, {"x-amz-meta-a": "  two  spaces\t"}, UNSIGNED_PAYLOAD)
def test_signed_headers_equal_those_of_botocore(
    credentials: Credentials,
    method: str,
    key: str,
    params: dict[str, str],
    headers: dict[str, str],
    payload: str,
) -> None:
    path, query = "/bucket/" + encode_key(key), canonical_query(params)
    sent = Signer("us-west-004").sign(credentials, method, HOST, path, query, headers, payload, NOW)
    url = f"{ORIGIN}{path}?{query}"
    expected = botocore_headers(credentials, method, url, headers, payload)
    # botocore puts ", " between the parts as we do, in the same order.
    assert sent == expected


@settings(deadline=None)  # machines may be busy
@given(
    credentials=credentials,
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    key=keys,
    params=st.dictionaries(
        texts.filter(bool).filter(lambda name: not name.lower().startswith("x-amz-")),
        texts,
        max_size=4,
    ),
    headers=signable,
)
@example(PLAIN, "GET", "a b", {"A": "1", "response-content-type": "audio/webm"}, {})
@example(TEMPORARY, "PUT", "a+b", {"versionId": "4_z1"}, {"Content-Type": "audio/webm"})
def test_a_presigned_url_equals_that_of_botocore(
    credentials: Credentials,
    method: str,
    key: str,
    params: dict[str, str],
    headers: dict[str, str],
) -> None:
    path = "/bucket/" + encode_key(key)
    url = Signer("us-west-004").presign(
        credentials, method, ORIGIN, path, params, headers, 900, NOW
    )
    expected = botocore_url(credentials, method, ORIGIN + path, params, headers)
    assert url.partition("?")[0] == expected.partition("?")[0]
    assert params_of(url) == params_of(expected)


@settings(deadline=None)  # machines may be busy
@given(keys)
def test_an_encoded_key_equals_that_of_the_standard_library(key: str) -> None:
    assert encode_key(key) == quote(key.encode(), safe="/-._~")


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("recordings/CA1/1700000000000-a.webm", "recordings/CA1/1700000000000-a.webm"),
        ("a b+c", "a%20b%2Bc"),
        ("50%25?#", "50%2525%3F%23"),
        ("//a/./..//", "//a/./..//"),
        ("ä/🎙", "%C3%A4/%F0%9F%8E%99"),
        ("~-._", "~-._"),
        ("\n", "%0A"),
        ("plain\n", "plain%0A"),
    ],
)
def test_a_key_is_encoded_once_and_its_slashes_stay(key: str, encoded: str) -> None:
    assert encode_key(key) == encoded


def test_parameters_are_sorted_by_encoded_name_then_value_not_as_joined_text() -> None:
    assert canonical_query({"a-b": "1", "a": "2", "Z": "3"}) == "Z=3&a=2&a-b=1"


def test_headers_of_an_earlier_attempt_are_replaced_and_not_signed_twice() -> None:
    signer = Signer("us-west-004")
    first = signer.sign(
        TEMPORARY, "GET", HOST, "/b/k", "", {"Range": "bytes=0-"}, EMPTY_PAYLOAD, NOW
    )
    later = NOW + timedelta(seconds=5)
    again = signer.sign(TEMPORARY, "GET", HOST, "/b/k", "", first, EMPTY_PAYLOAD, later)
    fresh = signer.sign(
        TEMPORARY, "GET", HOST, "/b/k", "", {"range": "bytes=0-"}, EMPTY_PAYLOAD, later
    )
    assert again == fresh
    assert again["authorization"] != first["authorization"]


def test_headers_that_proxies_rewrite_are_sent_but_not_signed() -> None:
    headers = {"User-Agent": "careflow", "Accept-Encoding": "identity", "Range": "bytes=0-1"}
    sent = Signer("r").sign(PLAIN, "GET", HOST, "/b/k", "", headers, EMPTY_PAYLOAD, NOW)
    assert sent["user-agent"] == "careflow"
    assert sent["accept-encoding"] == "identity"
    assert "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date," in sent["authorization"]


@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "a\nb", "\0", "\x7f", "\x85"])
def test_a_header_that_would_forge_another_is_refused(value: str) -> None:
    signer = Signer("r")
    with pytest.raises(InvalidInputError, match=r"x-amz-meta-a.*control character"):
        signer.sign(PLAIN, "PUT", HOST, "/b/k", "", {"x-amz-meta-a": value}, UNSIGNED_PAYLOAD)
    with pytest.raises(InvalidInputError, match=r"content-type.*control character"):
        signer.presign(PLAIN, "PUT", ORIGIN, "/b/k", {}, {"content-type": value}, 60)


def test_a_lone_surrogate_is_refused_wherever_it_is() -> None:
    signer = Signer("r")
    with pytest.raises(InvalidInputError, match="surrogate"):
        encode_key("a\ud800")
    with pytest.raises(InvalidInputError, match="surrogate"):
        canonical_query({"prefix": "\udfff"})
    with pytest.raises(InvalidInputError, match="surrogate"):
        signer.sign(PLAIN, "PUT", HOST, "/b/k", "", {"x-amz-meta-a": "\ud800"}, EMPTY_PAYLOAD)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://s3.example.com", "s3.example.com"),
        ("https://s3.example.com:443", "s3.example.com"),
        ("https://s3.example.com:80", "s3.example.com:80"),
        ("http://s3.example.com:80", "s3.example.com"),
        ("http://127.0.0.1:8333", "127.0.0.1:8333"),
        ("https://S3.Example.com", "s3.example.com"),
        ("http://[::1]:8333", "[::1]:8333"),
        ("http://[::1]", "[::1]"),
    ],
)
def test_the_signed_host_is_what_clients_send_for_the_origin(origin: str, host: str) -> None:
    signer = Signer("us-west-004")
    url = signer.presign(PLAIN, "GET", origin, "/b/k", {}, {}, 900, NOW)
    assert url.startswith(f"{origin}/b/k?")
    assert params_of(url) == params_of(botocore_url(PLAIN, "GET", f"{origin}/b/k", {}, {}))
    by_host = signer.presign(PLAIN, "GET", f"https://{host}", "/b/k", {}, {}, 900, NOW)
    assert params_of(url) == params_of(by_host)


@pytest.mark.parametrize("expires_in", [0, -1, 604_801, True, 60.0, "60", None])
def test_an_expiry_out_of_bounds_is_refused(expires_in: Any) -> None:
    with pytest.raises(InvalidInputError, match="from 1 to 604800"):
        Signer("r").presign(PLAIN, "GET", ORIGIN, "/b/k", {}, {}, expires_in)


@pytest.mark.parametrize("expires_in", [1, 604_800])
def test_an_expiry_at_its_bounds_is_taken(expires_in: int) -> None:
    url = Signer("r").presign(PLAIN, "GET", ORIGIN, "/b/k", {}, {}, expires_in)
    assert f"&X-Amz-Expires={expires_in}&" in url


@pytest.mark.parametrize("name", ["X-Amz-Expires", "x-amz-signature", "X-Amz-Security-Token"])
def test_a_parameter_that_the_signature_sets_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        Signer("r").presign(PLAIN, "GET", ORIGIN, "/b/k", {name: "1"}, {}, 60)


def test_a_naive_time_is_refused_and_any_zone_means_the_same_moment() -> None:
    signer = Signer("r")
    with pytest.raises(InvalidInputError, match="aware"):
        signer.presign(PLAIN, "GET", ORIGIN, "/b/k", {}, {}, 60, datetime(2024, 1, 1))  # noqa: DTZ001
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-11)))
    assert signer.presign(PLAIN, "GET", ORIGIN, "/b/k", {}, {}, 60, elsewhere) == signer.presign(
        PLAIN, "GET", ORIGIN, "/b/k", {}, {}, 60, NOW
    )


def test_without_a_given_time_the_clock_is_read_every_time() -> None:
    signer = Signer("r")
    clock = "careflow_storage._s3.signing.signer.time.time"
    with mock.patch(clock, side_effect=[0.0, 0.9, 86400.0]):
        urls = [signer.presign(PLAIN, "GET", ORIGIN, "/b/k", {}, {}, 60) for _ in range(3)]
    assert urls[0] == urls[1]
    assert "X-Amz-Date=19700101T000000Z" in urls[1]
    assert "X-Amz-Date=19700102T000000Z" in urls[2]


def test_rotated_credentials_and_new_days_never_reuse_a_cached_key() -> None:
    signer = Signer("us-west-004")
    rotated = [Credentials(f"id{n}", f"secret{n}", "t" * n or None) for n in range(20)]
    for days in (0, 1, 0):
        now = NOW + timedelta(days=days)
        for credentials in [*rotated, *reversed(rotated)]:
            cached = signer.sign(credentials, "GET", HOST, "/b/k", "", {}, EMPTY_PAYLOAD, now)
            fresh = Signer("us-west-004").sign(
                credentials, "GET", HOST, "/b/k", "", {}, EMPTY_PAYLOAD, now
            )
            assert cached == fresh
    assert len(signer._keys) <= 16


def test_the_same_key_id_with_another_secret_or_token_signs_differently() -> None:
    signer = Signer("r")
    signatures = {
        signer.presign(Credentials("id", secret, token), "GET", ORIGIN, "/b", {}, {}, 60, NOW)
        for secret in ("s1", "s2")
        for token in (None, "t1", "t2")
    }
    assert len(signatures) == 6


def test_no_repr_shows_a_secret() -> None:
    signer = Signer("r")
    signer.presign(TEMPORARY, "GET", ORIGIN, "/b/k", {}, {}, 60, NOW)
    shown = repr(TEMPORARY) + repr(signer) + repr(signer._last)
    assert "secret/with" not in shown
    assert "token//" not in shown
    assert "ASIAEXAMPLE" in shown
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(TEMPORARY)
