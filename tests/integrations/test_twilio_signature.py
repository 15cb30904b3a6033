"""The signature check accepts what Twilio's own library accepts, and nothing else."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from starlette.datastructures import FormData
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict as WerkzeugMultiDict

from careflow_storage import InvalidInputError
from careflow_storage.integrations.twilio import verify_signature

TOKEN = "12345"
# The example of Twilio's documentation, and the signature that it shows.
URL = "https://example.com/myapp.php?foo=1&bar=2"
PARAMS = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675310",
    "To": "+18005551212",
    "Caller": "+14158675310",
}
SIGNATURE = "L/OH5YylLD5NRKLltdqwSvS0BnU="
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_the_example_of_twilios_documentation_is_valid() -> None:
    assert verify_signature(TOKEN, URL, PARAMS, SIGNATURE)
    assert verify_signature(TOKEN, URL, list(PARAMS.items()), SIGNATURE)
    assert verify_signature([TOKEN, "the next one"], URL, PARAMS, SIGNATURE)
    assert verify_signature(("the former one", TOKEN), URL, PARAMS, SIGNATURE)


@pytest.mark.parametrize(
    ("token", "url", "params", "signature"),
    [
        ("1234", URL, PARAMS, SIGNATURE),
        (TOKEN, URL + "&baz=3", PARAMS, SIGNATURE),
        (TOKEN, URL.replace("https", "http"), PARAMS, SIGNATURE),
        (TOKEN, URL.replace(".com", ".com:8443"), PARAMS | {"Digits": "1"}, SIGNATURE),
        (TOKEN, URL, PARAMS | {"Digits": "1235"}, SIGNATURE),
        (TOKEN, URL, PARAMS | {"More": ""}, SIGNATURE),
        (TOKEN, URL, None, SIGNATURE),
        (TOKEN, URL, "Digits=1234", SIGNATURE),
        (TOKEN, URL, PARAMS, SIGNATURE.lower()),
        (TOKEN, URL, PARAMS, "é" + SIGNATURE),
        (TOKEN, URL, PARAMS, ""),
        (TOKEN, URL, PARAMS, None),
        (TOKEN, "", PARAMS, SIGNATURE),
        (TOKEN, URL, PARAMS, "\ud800" + SIGNATURE),
        (TOKEN, "https://[", PARAMS, SIGNATURE),
        (TOKEN, "https://[", b"{}", SIGNATURE),
        (TOKEN, f"{URL}?bodySHA256=\ud800", b"{}", SIGNATURE),
    ],
)
def test_whatever_is_changed_is_invalid(token: str, url: str, params: Any, signature: Any) -> None:
    assert not verify_signature(token, url, params, signature)


@given(
    scheme=st.sampled_from(["http", "https"]),
    port=st.sampled_from(["", ":80", ":443", ":8080"]),
    tail=st.sampled_from(["", "/", "/a", "/a?b=c", "/a?b=%20%2B+&b=@:", "/%C3%A9?x=http://y:7/"]),
    pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=5),
    algorithm=st.sampled_from(["HMAC_SHA1", "HMAC_SHA256"]),
    signed_port=st.sampled_from(["as it is", "without", "with"]),
)
def test_it_agrees_with_twilios_library(
    scheme: str,
    port: str,
    tail: str,
    pairs: list[tuple[str, str]],
    algorithm: Any,
    signed_port: str,
) -> None:
    validator = RequestValidator(TOKEN)
    url = f"{scheme}://calls.example.com{port}{tail}"
    signed_url = {
        "as it is": url,
        "without": f"{scheme}://calls.example.com{tail}",
        "with": f"{scheme}://calls.example.com"
        f"{port or (':443' if scheme == 'https' else ':80')}{tail}",
    }[signed_port]
    form = MultiDict(pairs)
    signature = validator.compute_signature(signed_url, form, algorithm)
    assert validator.validate(url, form, signature, algorithm)
    starlette: Any = list(pairs)
    kinds: list[Any] = [form, pairs, FormData(starlette), WerkzeugMultiDict(pairs)]
    if len({name for name, _ in pairs}) == len(pairs):
        kinds.append(dict(pairs))
    kinds.append({name: form.getall(name) for name in form})
    for params in kinds:
        assert verify_signature(TOKEN, url, params, signature, algorithm=algorithm)
    others = [*pairs, ("one", "more")]
    assert not verify_signature(TOKEN, url, others, signature, algorithm=algorithm)


@given(body=st.binary(max_size=200))
def test_a_json_body_is_signed_by_its_hash_in_the_url(body: bytes) -> None:
    url = f"https://calls.example.com/hook?bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = RequestValidator(TOKEN).compute_signature(url, {})
    assert verify_signature(TOKEN, url, body, signature)
    assert not verify_signature(TOKEN, url, body + b" ", signature)
    assert not verify_signature(TOKEN, url.replace("=", "=0"), body, signature)
    bare = "https://calls.example.com/hook"
    signature = RequestValidator(TOKEN).compute_signature(bare, {})
    assert not verify_signature(TOKEN, bare, body, signature)


@pytest.mark.parametrize("token", ["", [], [""], [TOKEN, ""], None, [None]])
def test_a_missing_token_is_an_error_and_accepts_nothing(token: Any) -> None:
    with pytest.raises(InvalidInputError, match="auth_token is empty"):
        verify_signature(token, URL, PARAMS, SIGNATURE)


def test_an_unknown_algorithm_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="algorithm"):
        verify_signature(TOKEN, URL, PARAMS, SIGNATURE, algorithm="MD5")  # type: ignore[arg-type]


def test_the_order_of_the_parameters_does_not_matter() -> None:
    pairs = list(PARAMS.items())
    random.Random(1).shuffle(pairs)
    assert verify_signature(TOKEN, URL, pairs, SIGNATURE)


def test_the_handshake_of_a_media_stream_is_signed_without_parameters() -> None:
    url = "wss://calls.example.com/twilio/media"
    for signed_url in (url, url.replace(".com", ".com:443")):
        signature = RequestValidator(TOKEN).compute_signature(signed_url, {})
        assert verify_signature(TOKEN, url, None, signature)
        assert not verify_signature(TOKEN, f"{url}/", None, signature)
