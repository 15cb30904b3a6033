"""A report says how fast a job was, and what its requests cost."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from careflow_storage import InvalidInputError
from careflow_storage.jobs import AnyJob, CopyJob, JobReport, Location, PurgeJob, VerifyJob
from careflow_storage.usage import AWS_S3, B2_TODAY

GIB = 1 << 30
REQUESTS = {
    "source": {"ListObjectsV2": 1000, "GetObject": 1_000_000},
    "target": {"ListObjectsV2": 1000, "PutObject": 1_001_000},
}


def report(job: AnyJob, requests: dict[str, dict[str, int]] = REQUESTS) -> JobReport:
    now = datetime.now(UTC)
    values: dict[str, Any] = {"details": {}, "error_kinds": {}, "error_files": []}
    return JobReport(
        job=job,
        state="finished",
        objects=1_000_000,
        bytes=500 * GIB,
        skipped=0,
        errors=0,
        requests=requests,
        shards=1000,
        seconds=2000.0,
        started_at=now,
        ended_at=now,
        **values,
    )


def test_rates_and_classes() -> None:
    found = report(CopyJob(source=Location(), target=Location(bucket="other")))
    assert found.objects_per_second == 500
    assert found.bytes_per_second == GIB / 4
    assert found.calls() == {"A": 1_001_000, "B": 1_000_000, "C": 2000, "D": 0}


def test_leaving_aws_costs_requests_and_downloads_there_and_nothing_at_b2() -> None:
    found = report(CopyJob(source=Location(), target=Location(bucket="other")))
    source = found.cost("source", AWS_S3)
    assert source.cost_of("download") == Decimal("36.0000")  # 400 GB beyond the first 100
    assert source.cost_of("calls") == Decimal("0.4050")  # 1000 lists, 1,000,000 GETs
    assert source.total == Decimal("36.4050")
    assert source.cost_of("storage") == 0
    assert found.cost("target", B2_TODAY).total == 0
    assert found.cost("target", AWS_S3).cost_of("download") == 0


def test_only_a_deep_verification_downloads() -> None:
    here, there = Location(), Location(bucket="other")
    assert (
        report(VerifyJob(source=here, target=there)).cost("source", AWS_S3).cost_of("download") == 0
    )
    deep = report(VerifyJob(source=here, target=there, deep=True))
    assert deep.cost("target", AWS_S3).cost_of("download") == Decimal("36.0000")


def test_a_location_that_the_job_does_not_have() -> None:
    found = report(PurgeJob(), {"location": {"DeleteObjects": 1000}})
    assert found.cost("location", AWS_S3).total == Decimal("0.0050")
    with pytest.raises(InvalidInputError, match="location"):
        found.cost("source")
