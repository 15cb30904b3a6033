"""The doctor: each thing that can be broken is found, named, and explained."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from careflow_storage import BackblazeStorage, InvalidInputError, StorageSettings
from careflow_storage.doctor import Diagnosis, Finding, diagnose
from careflow_storage.doctor.runner import CHECKS
from careflow_storage.testing import B2Server

B2_SETTINGS: dict[str, Any] = {
    "key_id": "0041234567890ab0000000001",
    "application_key": "K004abcdefghijklmnopqrstuvwxyz1",
    "bucket_name": "careflow-recordings-test",
    "endpoint": "https://s3.us-west-004.backblazeb2.com",
}


@pytest.fixture
def no_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names have no addresses: nothing of these tests reaches Backblaze."""

    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def finding(diagnosis: Diagnosis, check: str) -> Finding:
    found = diagnosis.of(check)
    assert found is not None, [each.check for each in diagnosis.findings]
    return found


def verdicts(diagnosis: Diagnosis) -> dict[str, str]:
    return {each.check: each.verdict for each in diagnosis.findings}


def assert_explained(diagnosis: Diagnosis) -> None:
    for each in diagnosis.findings:
        assert "The check itself failed" not in each.found, each
        if each.verdict in ("warn", "fail"):
            assert each.cause, each
            assert each.solution, each


def assert_nothing_is_left(server: B2Server) -> None:
    assert server.versions() == []
    assert server.incomplete_uploads() == []


async def test_where_all_is_well_nothing_fails_and_nothing_is_left(server: B2Server) -> None:
    reported: list[Finding] = []
    diagnosis = await diagnose(server.settings(), on_finding=reported.append)
    assert tuple(reported) == diagnosis.findings
    assert {each.check for each in diagnosis.findings if each.verdict != "pass"} == {
        "lifecycle"  # a new bucket has no rule
    }
    assert diagnosis.verdict == "warn"
    assert (diagnosis.exit_code(), diagnosis.exit_code(strict=True)) == (0, 1)
    assert "expire_recordings" in str(finding(diagnosis, "lifecycle").solution)
    assert (
        Diagnosis.model_validate_json(diagnosis.model_dump_json(exclude={"verdict"})) == diagnosis
    )
    assert '"verdict":"warn"' in diagnosis.model_dump_json()
    assert_explained(diagnosis)
    assert_nothing_is_left(server)


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"application_key": "K004aaaaaaaaaaaaaaaaaaaaaaaaaaa"}, "credentials", "does not belong"),
        ({"key_id": "00412345678"}, "credentials", "master key"),
        ({"key_id": "0041234567890ab0000000009"}, "credentials", "deleted, has expired"),
        ({"region": "eu-central-003"}, "credentials", "BACKBLAZE_REGION"),
        ({"bucket_name": "careflow-recordings-prod"}, "bucket", "does not exist"),
        ({"endpoint": "http://127.0.0.1:9"}, "tcp", "No server listens"),
    ],
)
async def test_a_wrong_setting_is_the_first_that_fails_and_the_rest_is_not_looked_at(
    server: B2Server, changes: dict[str, Any], check: str, words: str
) -> None:
    diagnosis = await diagnose(server.settings(**changes))
    failed = [each for each in diagnosis.findings if each.verdict == "fail"]
    assert [each.check for each in failed] == [check]
    assert words in str(failed[0].cause)
    skipped = diagnosis.of("put")
    assert skipped is not None
    assert skipped.verdict == "skip"
    assert skipped.found == f"Skipped, because {check} failed."
    assert diagnosis.exit_code() == 1
    assert_explained(diagnosis)
    assert_nothing_is_left(server)


async def test_the_master_key_is_recognized_from_the_message_of_b2(server: B2Server) -> None:
    diagnosis = await diagnose(server.settings(key=server.master_key))
    credentials = finding(diagnosis, "credentials")
    assert "Malformed Access Key Id" in credentials.found
    assert "master key" in str(credentials.cause)


@pytest.mark.parametrize(
    ("skew", "verdict"), [(20, "fail"), (-20, "fail"), (-5, "warn"), (12, "fail")]
)
async def test_a_wrong_clock_is_reported_before_the_signature_fails(
    server: B2Server, skew: int, verdict: str
) -> None:
    server.clock_skew = timedelta(minutes=skew)
    diagnosis = await diagnose(server.settings())
    clock = finding(diagnosis, "clock")
    assert clock.verdict == verdict
    assert f"{abs(skew)} min {'behind' if skew > 0 else 'ahead of'}" in clock.found
    refused = abs(skew) > 15
    credentials = finding(diagnosis, "credentials")
    assert credentials.verdict == ("fail" if refused else "pass")
    assert ("clock" in str(credentials.cause)) is refused


async def test_a_cap_that_is_used_up_is_no_lack_of_permission(server: B2Server) -> None:
    server.capped = {"download"}
    diagnosis = await diagnose(server.settings())
    assert verdicts(diagnosis)["put"] == "pass"
    get = finding(diagnosis, "get")
    assert get.verdict == "fail"
    assert "cap" in str(get.cause)
    assert "Caps & Alerts" in str(get.solution)
    server.capped = {"transaction"}
    bucket = finding(await diagnose(server.settings()), "bucket")
    assert "Caps & Alerts" in str(bucket.solution)


async def test_a_key_without_list_buckets_gets_403_for_missing_files(server: B2Server) -> None:
    key = server.create_key(
        capabilities={"listFiles", "readFiles", "writeFiles"}, bucket=server.bucket
    )
    diagnosis = await diagnose(server.settings(key=key))
    found = verdicts(diagnosis)
    assert {found[check] for check in ("bucket", "list", "put", "head", "get")} == {"pass"}
    missing = finding(diagnosis, "missing file")
    assert missing.verdict == "warn"
    assert "listBuckets" in str(missing.cause)
    assert "deleteFiles" in str(finding(diagnosis, "erase").cause)
    configuration = finding(diagnosis, "configuration")
    assert "lifecycle rules (readBucketLifecycleRules)" in configuration.found
    assert found["lifecycle"] == "skip"
    assert diagnosis.exit_code() == 0
    # Without deleteFiles it can only be hidden, and the finding says so.
    left = finding(diagnosis, "clean up")
    assert left.verdict == "warn"
    assert {each.key for each in server.versions()} == {left.found.split()[4]}
    assert [
        each for each in server.versions() if each.is_latest and not each.is_delete_marker
    ] == []


@pytest.mark.parametrize(("capability", "denied"), [("writeFiles", "get"), ("readFiles", "put")])
async def test_a_key_that_only_writes_or_only_reads_is_not_broken(
    server: B2Server, capability: str, denied: str
) -> None:
    async with BackblazeStorage(server.settings()) as storage:
        await storage.upload_file("recordings/CA1/a.webm", b"voice")
    key = server.create_key(capabilities={capability, "listFiles", "listBuckets"})
    diagnosis = await diagnose(server.settings(key=key))
    assert finding(diagnosis, denied).verdict == "warn"
    assert capability not in str(finding(diagnosis, denied).cause)
    kind = "writes only" if capability == "writeFiles" else "reads only"
    assert kind in finding(diagnosis, "usable").found
    assert diagnosis.exit_code() == 0
    if capability == "readFiles":
        assert "on an existing file" in finding(diagnosis, "get").found
        assert finding(diagnosis, "presigned url").verdict == "pass"
        assert [each.key for each in server.versions()] == ["recordings/CA1/a.webm"]


async def test_a_key_limited_to_a_prefix_fails_outside_and_works_below(server: B2Server) -> None:
    key = server.create_key(name_prefix="recordings/")
    outside = await diagnose(server.settings(key=key))
    assert outside.verdict == "fail"
    usable = finding(outside, "usable")
    assert "neither read nor write" in usable.found
    assert "--probe-prefix" in str(usable.solution)
    below = await diagnose(server.settings(key=key), probe_prefix="recordings/doctor-")
    assert finding(below, "put").verdict == finding(below, "get").verdict == "pass"
    assert below.verdict == "warn"
    assert_nothing_is_left(server)


async def test_a_key_that_may_not_list_leaves_nothing_that_it_may_erase(server: B2Server) -> None:
    eraser = server.create_key(capabilities={"writeFiles", "deleteFiles"})
    diagnosis = await diagnose(server.settings(key=eraser))
    assert finding(diagnosis, "clean up").verdict == "pass"
    assert_nothing_is_left(server)
    writer = server.create_key(capabilities={"writeFiles"})
    left = finding(await diagnose(server.settings(key=writer)), "clean up")
    assert left.verdict == "warn"
    assert [f"{each.key} (hidden)" for each in server.versions() if each.is_latest] == [
        left.found.removeprefix("Left in the bucket: ")
    ]
    assert len(server.versions()) == 2  # the probe and its delete marker, no further one


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            {"status": 403, "code": "AccessDenied", "message": "it is not s3-enabled"},
            "before May 2020",
        ),
        ({"status": 301, "headers": {"x-amz-bucket-region": "eu-central-003"}}, "another region"),
    ],
)
async def test_a_bucket_of_another_endpoint_is_distinguished(
    server: B2Server, rule: dict[str, Any], words: str
) -> None:
    server.faults.always("HeadBucket", **rule)
    server.faults.always("ListObjectsV2", **rule)
    bucket = finding(await diagnose(server.settings()), "bucket")
    assert bucket.verdict == "fail"
    assert words in str(bucket.cause)
    if rule["status"] == 301:
        assert "is in eu-central-003, not in us-west-004" in bucket.found


async def test_what_the_bucket_lacks_is_named_with_its_remedy(server: B2Server) -> None:
    async with BackblazeStorage(server.settings()) as storage:
        client = await storage.client()
        await client.put_bucket_acl(Bucket=server.bucket, ACL="public-read")
        upload = await client.create_multipart_upload(Bucket=server.bucket, Key="long.webm")
        await client.upload_part(
            Bucket=server.bucket,
            Key="long.webm",
            UploadId=upload["UploadId"],
            PartNumber=1,
            Body=b"voice",
        )
    in_two_days = format_datetime(datetime.now(UTC) + timedelta(days=2), usegmt=True)
    server.faults.always("ListMultipartUploads", headers={"Date": in_two_days})
    diagnosis = await diagnose(server.settings())
    stale = finding(diagnosis, "stale uploads")
    assert stale.verdict == "warn"
    assert "1 upload" in stale.found
    assert "1 uploads" not in stale.found
    assert "5 bytes" in stale.found
    assert "careflow-storage uploads abort --older-than 1d" in str(stale.solution)
    public = finding(diagnosis, "public")
    assert public.verdict == "warn"
    assert "Private" in str(public.solution)
    assert [each.key for each in server.incomplete_uploads()] == ["long.webm"]


async def test_the_origin_of_a_web_page_is_tried_as_its_browser_would(server: B2Server) -> None:
    origin = "https://app.example"
    refused = await diagnose(server.settings(), origin=origin)
    put = finding(refused, "cors PUT")
    assert put.verdict == "fail"
    assert f"careflow-storage cors allow {origin}" in str(put.solution)
    async with BackblazeStorage(server.settings()) as storage:
        await storage.admin.allow_browser_uploads([origin])
    allowed = await diagnose(server.settings(), origin=origin)
    assert verdicts(allowed)["cors PUT"] == verdicts(allowed)["cors GET"] == "pass"
    with pytest.raises(InvalidInputError, match="origin"):
        await diagnose(server.settings(), origin="app.example/upload")


async def test_a_check_that_fails_by_itself_does_not_stop_the_others(
    server: B2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Signature=0123456789abcdef broke")

    monkeypatch.setattr("careflow_storage.admin.cors.check.check", broken)
    server.faults.always("GetBucketAcl", status=500, code="InternalError", message="Oops")
    diagnosis = await diagnose(server.settings(), origin="https://app.example")
    cors = finding(diagnosis, "cors")
    assert cors.verdict == "fail"
    assert "The check itself failed (RuntimeError" in cors.found
    assert "0123456789abcdef" not in cors.found
    assert finding(diagnosis, "public").verdict == "warn"
    assert finding(diagnosis, "object lock").verdict == "pass"
    assert_nothing_is_left(server)


async def test_a_cancelled_diagnosis_erases_its_probes(server: B2Server) -> None:
    hanging = server.faults.next("HeadObject", cut="hang")
    running = asyncio.ensure_future(diagnose(server.settings()))
    await hanging.fired.wait()
    assert len(server.versions()) == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert_nothing_is_left(server)


@contextlib.asynccontextmanager
async def answering(words: bytes) -> AsyncIterator[str]:
    """A server that gives the same response to whatever comes; none if it is empty."""
    writers: list[asyncio.StreamWriter] = []

    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if await reader.read(1) and words:
            writer.write(words)
            writer.close()

    server = await asyncio.start_server(response, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.slow
async def test_where_listings_hang_the_probes_are_erased_all_the_same(server: B2Server) -> None:
    server.faults.always("ListObjectVersions", cut="hang")
    diagnosis = await diagnose(server.settings())
    assert finding(diagnosis, "list versions").verdict == "fail"
    assert finding(diagnosis, "clean up").verdict == "pass"
    server.faults.clear()
    assert_nothing_is_left(server)


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("careflow_storage.doctor.context.REQUEST_SECONDS", 0.05)
    async with answering(b"") as address:
        diagnosis = await diagnose(
            StorageSettings(**{**B2_SETTINGS, "endpoint": f"http://{address}"})
        )
    assert finding(diagnosis, "tcp").verdict == "pass"
    assert finding(diagnosis, "http").verdict == "fail"
    assert finding(diagnosis, "credentials").verdict == "skip"


async def test_a_web_server_in_the_place_of_s3_is_noticed() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: https://portal.example/login\r\n"
    async with answering(redirect + b"Content-Length: 0\r\nConnection: close\r\n\r\n") as address:
        settings = StorageSettings(**{**B2_SETTINGS, "endpoint": f"http://{address}"})
        http = finding(await diagnose(settings), "http")
    assert http.verdict == "fail"
    assert "portal.example" in http.found


async def test_a_private_authority_is_named_and_trusted_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", organization_name="Our own").configure_cert(context)
    for name, each in (("right.pem", authority), ("wrong.pem", other)):
        each.cert_pem.write_to_path(str(tmp_path / name))
    with B2Server(tls=context) as server:
        unknown = finding(await diagnose(server.settings()), "tls")
        wrong = finding(await diagnose(server.settings(ca_file=tmp_path / "wrong.pem")), "tls")
        right = await diagnose(server.settings(ca_file=tmp_path / "right.pem"))
    assert unknown.verdict == wrong.verdict == "fail"
    assert "127.0.0.1, by trustme" in unknown.found
    assert "BACKBLAZE_CA_FILE" in str(unknown.solution)
    assert "wrong.pem" in str(wrong.cause)
    assert "TLSv1.3" in finding(right, "tls").found
    assert right.exit_code() == 0


async def test_https_on_a_port_that_speaks_http_is_reported() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") as address:
        settings = StorageSettings(**{**B2_SETTINGS, "endpoint": f"https://{address}"})
        tls = finding(await diagnose(settings), "tls")
    assert tls.verdict == "fail"
    assert "does not support TLS" in str(tls.cause)


@pytest.mark.usefixtures("no_dns")
@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, "pass", "cluster 004"),
        ({"key_id": "0051234567890ab0000000001"}, "warn", "cluster 005"),
        (
            {"endpoint": "https://s3.eu-central-003.backblazeb2.com"},
            "warn",
            "region eu-central-003",
        ),
        ({"application_key": "K004abcdefghijkl"}, "warn", "16 characters"),
        ({"key_id": "GOOGIOSFODNN7EXA"}, "warn", "16 characters"),
        ({"key_id": "004xxxxxxxxxxxxxxxxxxxxxx"}, "fail", "placeholder"),
        ({"application_key": "your-secret-key-here"}, "fail", "placeholder"),
    ],
)
async def test_the_form_of_a_key_of_b2_is_judged_before_any_request(
    changes: dict[str, str], verdict: str, words: str
) -> None:
    diagnosis = await diagnose(StorageSettings(**{**B2_SETTINGS, **changes}))
    form = finding(diagnosis, "key form")
    assert form.verdict == verdict
    assert words in form.found
    assert finding(diagnosis, "dns").verdict == "fail"


async def test_missing_settings_are_named_with_the_places_that_were_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKBLAZE_BUCKET_NAME", "careflow-recordings-test")
    (tmp_path / ".env").write_text("BACKBLAZE_BUCKET_NAME=another-bucket\n")
    diagnosis = await diagnose()
    key_id = finding(diagnosis, "BACKBLAZE_KEY_ID")
    assert (key_id.verdict, key_id.found) == ("fail", "is not set")
    assert str(tmp_path / ".env") in str(key_id.cause)
    assert "Application Keys" in str(key_id.solution)
    bucket = finding(diagnosis, "BACKBLAZE_BUCKET_NAME")
    assert bucket.verdict == "warn"
    assert "careflow-recordings-test" in bucket.found
    assert str(tmp_path / ".env") in str(bucket.cause)
    assert finding(diagnosis, "BACKBLAZE_REGION").verdict == "skip"
    assert finding(diagnosis, "dns").verdict == "skip"


async def test_malformed_settings_are_explained_and_their_values_not_shown(
    server: B2Server,
) -> None:
    secret = server.key.application_key
    diagnosis = await diagnose(
        {**B2_SETTINGS, "key_id": secret, "endpoint": "https://user:passw0rd@host"}
    )
    assert "swapped" in finding(diagnosis, "BACKBLAZE_KEY_ID").found
    assert finding(diagnosis, "settings").verdict == "fail"
    text = diagnosis.model_dump_json()
    assert secret not in text
    assert "passw0rd" not in text
    contradicting = await diagnose({**B2_SETTINGS, "region": "us-east-005"})
    assert "us-west-004" in finding(contradicting, "settings together").found


async def test_no_secret_is_in_any_finding(server: B2Server) -> None:
    for settings in (server.settings(), server.settings(application_key="K004" + "sEcReT" * 4)):
        text = (await diagnose(settings, live=True)).model_dump_json()
        assert settings.application_key is not None
        secret = settings.application_key.get_secret_value()
        assert secret not in text
        assert not any(secret[start : start + 5] in text for start in range(len(secret) - 5))


async def test_halves_of_a_key_from_two_places_are_suspicious(
    server: B2Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment().items():
        if name != "BACKBLAZE_APPLICATION_KEY":
            monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("BACKBLAZE_APPLICATION_KEY=K004" + 27 * "a")
    pair = finding(await diagnose(), "key pair")
    assert pair.verdict == "warn"
    assert "two keys" in str(pair.cause)


async def test_a_probe_prefix_that_cannot_begin_a_key_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        await diagnose(probe_prefix="a\nb")


async def test_the_emulator_is_all_that_is_taken_for_granted_of_b2(server: B2Server) -> None:
    diagnosis = await diagnose(server.settings(), live=True)
    live = [each for each in diagnosis.findings if each.group == "live"]
    assert len(live) >= 24
    assert [each for each in live if each.verdict != "pass"] == []
    assert_nothing_is_left(server)


async def test_another_server_may_behave_differently_and_keeps_nothing(
    seaweed_settings: StorageSettings,
) -> None:
    diagnosis = await diagnose(seaweed_settings, live=True)
    assert diagnosis.exit_code() == 0
    assert_explained(diagnosis)
    conditional = finding(diagnosis, "conditional put")
    assert conditional.verdict == "warn"
    assert conditional.found.startswith("B2 behaves differently: expected 501 NotImplemented")
    async with BackblazeStorage(seaweed_settings) as storage:
        client = await storage.client()
        versions = await client.list_object_versions(Bucket=seaweed_settings.bucket_name)
        uploads = await client.list_multipart_uploads(Bucket=seaweed_settings.bucket_name)
    assert "Versions" not in versions
    assert "DeleteMarkers" not in versions
    assert "Uploads" not in uploads


def test_every_check_is_in_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    names = {check.name for check in CHECKS} - {"settings", "cors"} | {"key pair"}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
