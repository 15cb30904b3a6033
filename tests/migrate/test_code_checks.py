"""Code for AWS S3 keeps working; where it does not, the finding says what to change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import aioboto3
import aiohttp
import boto3
import pytest

from careflow_storage import (
    AccessDeniedError,
    InvalidCredentialsError,
    InvalidInputError,
    NotConfiguredError,
    StorageSettings,
)
from careflow_storage.local import LocalServer
from careflow_storage.migrate import OldCodeReport, check_old_code
from careflow_storage.testing import B2Server

BODY = b"a recording\n" * 1000


@pytest.fixture(scope="module")
def b2() -> Iterator[B2Server]:
    with B2Server() as server:
        yield server


@pytest.fixture
def environment(b2: B2Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    b2.reset()
    variables = b2.environment()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def seaweed_environment(
    seaweedfs: LocalServer, seaweed_settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = seaweed_settings.application_key
    assert key is not None
    for name in ("KEY_ID", "BUCKET_NAME", "ENDPOINT", "REGION"):
        monkeypatch.setenv(f"BACKBLAZE_{name}", getattr(seaweed_settings, name.lower()))
    monkeypatch.setenv("BACKBLAZE_APPLICATION_KEY", key.get_secret_value())


# --- the guide's own code -----------------------------------------------------------------


def client_arguments() -> dict[str, str]:
    """The guide's "Just change the endpoint", in Python."""
    return {
        "region_name": os.environ["BACKBLAZE_REGION"],
        "endpoint_url": os.environ["BACKBLAZE_ENDPOINT"],
        "aws_access_key_id": os.environ["BACKBLAZE_KEY_ID"],
        "aws_secret_access_key": os.environ["BACKBLAZE_APPLICATION_KEY"],
    }


def old_boto3_code() -> tuple[str, bytes]:
    client: Any = boto3.client("s3", **client_arguments())
    where = {"Bucket": os.environ["BACKBLAZE_BUCKET_NAME"], "Key": "recordings/CA1/1-a.webm"}
    client.put_object(**where, Body=BODY, ContentType="audio/webm")
    assert client.head_object(**where)["ContentLength"] == len(BODY)
    listed = client.list_objects_v2(Bucket=where["Bucket"], Prefix="recordings/CA1/")
    assert [each["Key"] for each in listed["Contents"]] == [where["Key"]]
    content = client.get_object(**where)["Body"].read()
    url: str = client.generate_presigned_url("get_object", where, ExpiresIn=3600)
    client.close()
    return url, content


async def old_aioboto3_code() -> tuple[str, bytes]:
    bucket, key = os.environ["BACKBLAZE_BUCKET_NAME"], "recordings/CA2/1-a.webm"
    async with aioboto3.Session().client("s3", **client_arguments()) as client:
        await client.put_object(Bucket=bucket, Key=key, Body=BODY)
        content = await (await client.get_object(Bucket=bucket, Key=key))["Body"].read()
        url: str = await client.generate_presigned_url(
            "get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=3600
        )
    return url, content


async def play(url: str) -> bytes:
    async with aiohttp.ClientSession() as browser, browser.get(url) as response:
        assert response.status == 200, await response.text()
        return await response.read()


@pytest.mark.usefixtures("environment")
async def test_the_guides_code_works_on_b2() -> None:
    for url, content in (await asyncio.to_thread(old_boto3_code), await old_aioboto3_code()):
        assert content == BODY
        assert await play(url) == BODY


@pytest.mark.usefixtures("seaweed_environment")
async def test_the_guides_code_works_on_a_real_server() -> None:
    for url, content in (await asyncio.to_thread(old_boto3_code), await old_aioboto3_code()):
        assert content == BODY
        assert await play(url) == BODY


# --- the check ----------------------------------------------------------------------------


def verdicts(report: OldCodeReport) -> dict[str, str]:
    return {each.what: each.verdict for each in report.findings}


async def test_the_check_finds_differences_of_b2_and_leaves_nothing(
    b2: B2Server,
) -> None:
    b2.reset()
    report = await check_old_code(b2.settings())
    assert verdicts(report) == {
        "Upload": "works",
        "Download": "works",
        "Metadata": "works",
        "List": "works",
        "Copy": "works",
        "Multipart upload": "works",
        "Presigned download": "works",
        "Presigned upload": "works",
        "Browser form": "fails",
        "Bucket in the host name": "works",
        "Upload only if it is new": "fails",
        "Tags": "fails",
        "Public file": "works",
        "Owner's ACL": "fails",
        "Encryption by KMS": "fails",
        "Storage class": "works",
        "Attributes": "fails",
        "Delete many": "works",
        "Delete": "differs",
    }
    assert all(bool(each.change) == (each.verdict != "works") for each in report.findings)
    responses = {each.what: each.response for each in report.findings}
    assert responses["Browser form"] == "501 NotImplemented"
    assert "x-amz-tagging" in (responses["Tags"] or "")
    assert not report.unchanged
    assert report.left == ()
    assert (b2.versions(), b2.incomplete_uploads()) == ([], [])
    assert len(b2.requests) < 50


async def test_the_check_works_on_a_real_server(seaweed_settings: StorageSettings) -> None:
    report = await check_old_code(seaweed_settings)
    found = verdicts(report)
    for what in ("Upload", "Download", "List", "Multipart upload", "Presigned download"):
        assert found[what] == "works"
    assert found["Delete"] == "differs"
    assert report.left == ()


async def test_a_region_of_aws_signs_urls_that_b2_refuses() -> None:
    async with B2Server(region="us-east-1") as server:
        report = await check_old_code(server.settings())
    findings = {each.what: each for each in report.findings}
    presigned = findings["Presigned download"]
    assert (presigned.verdict, presigned.response) == ("fails", "400 InvalidRequest")
    assert 'signature_version="s3v4"' in (presigned.change or "")
    assert findings["Upload"].verdict == "works"


async def test_a_server_without_the_new_checksums_is_reported_and_the_rest_is_checked(
    b2: B2Server,
) -> None:
    b2.reset()
    b2.faults.next("PutObject", status=400, code="InvalidArgument")
    report = await check_old_code(b2.settings())
    upload = report.findings[0]
    assert (upload.what, upload.verdict) == ("Upload", "fails")
    assert "when_required" in (upload.change or "")
    assert verdicts(report)["Download"] == "works"
    assert b2.versions() == []


async def test_with_few_capabilities_skipped_checks_and_leftovers_are_reported(
    b2: B2Server,
) -> None:
    b2.reset()
    key = b2.create_key(capabilities={"writeFiles", "listFiles"}, name_prefix="careflow-probe/")
    report = await check_old_code(b2.settings(key=key))
    found = verdicts(report)
    assert (found["Upload"], found["Download"]) == ("works", "skipped")
    assert report.left
    assert all(each.startswith("careflow-probe/") for each in report.left)
    assert {each.key for each in b2.versions()} == set(report.left)


async def test_where_nothing_can_be_stored_the_error_comes_out(b2: B2Server) -> None:
    b2.reset()
    with pytest.raises(InvalidCredentialsError):
        await check_old_code(b2.settings(application_key="K004" + "x" * 27))
    reading = b2.create_key(capabilities={"readFiles", "listFiles"})
    with pytest.raises(AccessDeniedError):
        await check_old_code(b2.settings(key=reading))
    with pytest.raises(NotConfiguredError):
        await check_old_code(StorageSettings(bucket_name="bucket", region="us-west-004"))


@pytest.mark.parametrize("prefix", ["", "probe", "../", "/a/../b/"])
async def test_a_prefix_that_cannot_be_is_refused_before_any_request(
    b2: B2Server, prefix: str
) -> None:
    b2.reset()
    with pytest.raises(InvalidInputError):
        await check_old_code(b2.settings(), prefix=prefix)
    assert b2.requests == []
