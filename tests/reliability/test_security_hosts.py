"""Credentials go to one host only, over a connection whose certificate is verified."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from careflow_storage import BackblazeStorage, ConnectionFailedError, StorageError, StorageSettings
from tests.support.bodies import noise
from tests.support.hostile import KEY_ID, SECRET, Asked, HostileServer, raw_response

Call = Callable[[BackblazeStorage], Awaitable[Any]]

NO_VERSIONS = b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"
NO_UPLOADS = (
    b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
)
# One call of the data plane for each kind of request, and two of the control plane.
CALLS: dict[str, Call] = {
    "put": lambda storage: storage.upload_file("k", b"x"),
    "get": lambda storage: storage.get_file("k"),
    "head": lambda storage: storage.get_file_metadata("k"),
    "list": lambda storage: storage.list_files(),
    "delete": lambda storage: storage.delete_file("k"),
    "delete many": lambda storage: storage.delete_files(["k"]),
    "multipart": lambda storage: storage.upload_file("k", noise(200_000)),
    "versions": lambda storage: storage.purge_file("k"),
}
DATA_AND_CONTROL = {name: CALLS[name] for name in ("get", "versions")}


def empty(asked: Asked) -> bytes:
    """Response listings of an empty bucket."""
    _, _, query = asked.target.partition("?")
    return raw_response(NO_UPLOADS if query.startswith("uploads") else NO_VERSIONS)


def temporary_session() -> Any:
    from aiobotocore.session import AioSession

    session = AioSession()
    session.set_credentials(KEY_ID, SECRET, "a-session-token")
    return session


# --- redirects --------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("status", ["301 M", "307 T", "308 P"])
async def test_a_redirect_is_an_error_and_nothing_is_sent_to_the_other_host(
    call: Call, status: str
) -> None:
    async with (
        HostileServer(lambda _: raw_response(NO_VERSIONS)) as other,
        HostileServer(lambda _: raw_response(b"", status, Location=f"{other.url}/b/k")) as server,
        BackblazeStorage(server.settings(), session=temporary_session()) as storage,
    ):
        with pytest.raises(StorageError):
            await call(storage)
        assert server.asked
        assert not other.asked


@pytest.mark.parametrize(
    "response",
    [
        raw_response(
            b"<Error><Code>PermanentRedirect</Code><Endpoint>evil.invalid</Endpoint></Error>",
            "301 Moved",
            x_amz_bucket_region="evil-region",
        ),
        raw_response(
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>evil-region</Region></Error>",
            "400 Bad Request",
        ),
        raw_response(
            b"<Error><Code>IllegalLocationConstraintException</Code></Error>",
            "400 Bad Request",
            x_amz_bucket_region="evil-region",
        ),
        raw_response(b"", "400 Bad Request", x_amz_bucket_region="evil-region"),
    ],
    ids=["redirect", "region in the document", "location", "no document"],
)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_no_server_chooses_the_region_that_is_signed_for(response: bytes, call: Call) -> None:
    async with (
        HostileServer(lambda _: response) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(StorageError):
            await call(storage)
        assert {asked.headers["host"] for asked in server.asked} == {f"127.0.0.1:{server.port}"}
        assert not any("evil" in asked.headers["authorization"] for asked in server.asked)


async def test_the_lent_client_follows_no_redirect_either() -> None:
    async with (
        HostileServer(lambda _: raw_response(b"secret of an inner host")) as other,
        HostileServer(lambda _: raw_response(b"", "302 F", Location=other.url)) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        client = await storage.client()
        for call in (client.get_object, client.head_object):
            with pytest.raises(client.exceptions.ClientError):
                await call(Bucket=storage.settings.bucket_name, Key="k")
        assert not other.asked


# --- the surroundings -------------------------------------------------------------------


async def test_nothing_of_aws_around_us_changes_where_requests_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    executed = tmp_path / "executed"
    config = tmp_path / "config"
    config.write_text(
        f"""[default]
        region = eu-evil-1
        endpoint_url = http://127.0.0.1:9
        credential_process = touch {executed}
        ca_bundle = /nowhere.pem
        use_fips_endpoint = true
        s3 =
          use_accelerate_endpoint = true
          addressing_style = virtual
        """.replace("\n        ", "\n")
    )
    variables = {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_PROFILE": "missing",
        "AWS_ACCESS_KEY_ID": "another",
        "AWS_SECRET_ACCESS_KEY": "another",
        "AWS_SESSION_TOKEN": "another",
        "AWS_CA_BUNDLE": "/nowhere.pem",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_DEFAULTS_MODE": "auto",
        "AWS_DATA_PATH": str(tmp_path),
        "AWS_RETRY_MODE": "adaptive",
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_AUTH_SCHEME_PREFERENCE": "noAuth",
        "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "no number",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with (
        HostileServer(empty) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        await storage.purge_file("k")
        for asked in server.asked:
            assert f"Credential={KEY_ID}/" in asked.headers["authorization"]
            assert "/us-east-1/s3/" in asked.headers["authorization"]
            assert "x-amz-security-token" not in asked.headers
            assert asked.target.startswith("/recordings-bucket?")
        assert len(server.asked) == 2
    assert not executed.exists()


async def test_a_given_sessions_own_configuration_does_not_lead_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[default]\nendpoint_url = http://127.0.0.1:9\nuse_fips_endpoint = true\n"
        "s3 =\n  use_accelerate_endpoint = true\n  addressing_style = virtual\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    async with (
        HostileServer(empty) as server,
        BackblazeStorage(server.settings(), session=temporary_session()) as storage,
    ):
        await storage.purge_file("k")
        assert len(server.asked) == 2


# --- TLS --------------------------------------------------------------------------------


class Authority:
    """A certificate authority of a minute, and servers that it vouches for, or not."""

    def __init__(self, folder: Path) -> None:
        self._own = trustme.CA()
        self.file = folder / "ca.pem"
        self._own.cert_pem.write_to_path(str(self.file))

    def context(self, *names: str, not_after: datetime | None = None) -> ssl.SSLContext:
        certificate = self._own.issue_cert(*names, not_after=not_after)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def served(asked: Asked) -> bytes:
    if asked.target.startswith("/recordings-bucket?"):
        return empty(asked)
    date = "Mon, 23 Nov 2026 06:48:48 GMT"
    return raw_response(b"x", ETag='"9dd4e461268c8034f5c8564e155c67a6"', Last_Modified=date)


@pytest.mark.parametrize("call", DATA_AND_CONTROL.values(), ids=DATA_AND_CONTROL.keys())
async def test_a_private_authority_is_trusted_where_its_file_is_given(
    authority: Authority, call: Call
) -> None:
    async with (
        HostileServer(served, authority.context("127.0.0.1")) as server,
        BackblazeStorage(server.settings(ca_file=authority.file)) as storage,
    ):
        await call(storage)
    assert server.asked


@pytest.mark.parametrize("call", DATA_AND_CONTROL.values(), ids=DATA_AND_CONTROL.keys())
async def test_a_private_authority_is_trusted_by_the_variable_of_openssl(
    authority: Authority, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with (
        HostileServer(served, authority.context("127.0.0.1")) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        await call(storage)
    assert server.asked


@pytest.mark.parametrize("call", DATA_AND_CONTROL.values(), ids=DATA_AND_CONTROL.keys())
@pytest.mark.parametrize("fault", ["unknown authority", "another host", "expired"])
async def test_a_certificate_that_is_not_right_is_refused_at_once(
    authority: Authority, tmp_path: Path, call: Call, fault: str
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    context = authority.context(
        "other.invalid" if fault == "another host" else "127.0.0.1",
        not_after=yesterday if fault == "expired" else None,
    )
    changes: dict[str, Any] = {"retry_attempts": 5}
    if fault != "unknown authority":
        changes["ca_file"] = authority.file
    handshakes: list[object] = []
    context.sni_callback = lambda *greeting: handshakes.append(greeting)
    async with (
        HostileServer(served, context) as server,
        BackblazeStorage(server.settings(**changes)) as storage,
    ):
        with pytest.raises(ConnectionFailedError, match="No trusted TLS connection") as caught:
            await call(storage)
    assert not caught.value.retryable
    assert "BACKBLAZE_CA_FILE" in str(caught.value)
    assert len(handshakes) == 1
    assert not server.asked


@pytest.mark.parametrize("call", DATA_AND_CONTROL.values(), ids=DATA_AND_CONTROL.keys())
async def test_tls_below_1_2_is_refused_whatever_the_systems_policy_allows(
    authority: Authority, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ssl.create_default_context

    def lax(*args: Any, **options: Any) -> ssl.SSLContext:
        context = create(*args, **options)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    monkeypatch.setattr(ssl, "create_default_context", lax)
    context = authority.context("127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with (
        HostileServer(served, context) as server,
        BackblazeStorage(server.settings(ca_file=authority.file)) as storage,
    ):
        with pytest.raises(ConnectionFailedError):
            await call(storage)
    assert not server.asked


def test_no_setting_turns_the_verification_off() -> None:
    names = " ".join(StorageSettings.model_fields)
    assert "verify" not in names
    assert "insecure" not in names
    assert "ca_file" in names


@pytest.mark.parametrize("call", DATA_AND_CONTROL.values(), ids=DATA_AND_CONTROL.keys())
async def test_no_variable_turns_the_verification_off(
    authority: Authority, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(authority.file))
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    monkeypatch.setenv("AWS_VERIFY_SSL", "false")
    async with (
        HostileServer(served, authority.context("127.0.0.1")) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(ConnectionFailedError, match="TLS"):
            await call(storage)
    assert not server.asked


def test_the_tests_themselves_have_no_proxy_around_them() -> None:
    # Else the hosts above would be reached another way than they seem to be.
    assert not [name for name in os.environ if name.lower() in ("http_proxy", "all_proxy")]
