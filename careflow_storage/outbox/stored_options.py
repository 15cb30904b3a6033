"""The options of an object as columns of the database, and back."""

from __future__ import annotations

import json
import sqlite3

from careflow_storage.options import ObjectOptions
from careflow_storage.protection import Retention

# These have columns of their own.
_COLUMNS = ("content_type", "metadata", "checksum")


def columns_of(options: ObjectOptions) -> dict[str, str | None]:
    """Return the values of the columns content_type, metadata, checksum and options.

    A customer's key must not be among the options: the database would hold it in the clear.
    """
    others: dict[str, object] = {
        name: value.model_dump(mode="json") if isinstance(value, Retention) else value
        for name, value in options.items()
        if name not in _COLUMNS and value is not None
    }
    return {
        "content_type": options.get("content_type"),
        "metadata": json.dumps(options.get("metadata") or {}),
        "checksum": options.get("checksum"),
        "options": json.dumps(others),
    }


def options_of(row: sqlite3.Row) -> ObjectOptions:
    """Return the options of a row."""
    others: ObjectOptions = json.loads(row["options"])
    if retention := others.get("retention"):
        others["retention"] = Retention.model_validate(retention)
    return {
        **others,
        "content_type": row["content_type"],
        "metadata": json.loads(row["metadata"]),
        "checksum": row["checksum"],
    }
