"""Invented measurements for the tests of reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from careflow_storage.usage import Stored, UsageReport


def a_report(
    by_month: dict[str, Stored], *, bucket: str = "bucket", notes: tuple[str, ...] = ()
) -> UsageReport:
    total = Stored(
        **{
            name: sum(getattr(month, name) for month in by_month.values())
            for name in Stored.model_fields
        }
    )
    return UsageReport(
        bucket=bucket,
        prefix="",
        measured_at=datetime(2026, 11, 24, tzinfo=UTC),
        took=timedelta(seconds=1),
        total=total,
        by_folder={},
        folders=0,
        by_call={},
        calls=0,
        by_month=by_month,
        notes=notes,
    )
