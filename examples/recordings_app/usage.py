"""The route of the usage chart."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from careflow_storage.usage import B2_TODAY, Stored, estimate

from .accounts import CurrentUser, call_id_of, prefix_of
from .dependencies import Storage

router = APIRouter(prefix="/api/usage")


class Bar(BaseModel):
    """One bar of a chart, in bytes. ``hidden`` is deleted, but stored and billed."""

    label: str
    stored: int
    hidden: int


class Usage(BaseModel):
    """What a user's recordings take, in bytes; ``cost`` is that of a month."""

    files: int
    stored: int
    hidden: int
    cost: str
    currency: str
    months: list[Bar]
    calls: list[Bar]


@router.get("")
async def usage(user: CurrentUser, storage: Storage) -> Usage:
    """Count what is stored. 1 request to the bucket per 1000 versions."""
    report = await storage.admin.usage(prefix_of(user), top=10)
    cost = estimate(report, B2_TODAY)
    return Usage(
        files=report.total.files,
        stored=report.total.bytes,
        hidden=report.total.hidden_bytes,
        cost=str(cost.total),
        currency=cost.currency,
        months=[_bar(month, stored) for month, stored in report.by_month.items()],
        calls=[
            _bar(call_id.removeprefix(call_id_of(user, "")), stored)
            for call_id, stored in report.by_call.items()
            if stored.bytes or stored.hidden_bytes
        ],
    )


def _bar(label: str, stored: Stored) -> Bar:
    return Bar(label=label, stored=stored.bytes, hidden=stored.hidden_bytes)
