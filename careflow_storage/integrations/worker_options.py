"""What the storage of a worker takes beside its settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from careflow_storage.hooks import Hooks
from careflow_storage.rate_limit import RateLimit


class StorageOptions(TypedDict, total=False):
    """Keywords for the `BackblazeStorage` of each process, which have no place in the settings."""

    hooks: Iterable[Hooks]
    """Called for each call, request and retry."""

    rate_limit: RateLimit | None
    """The most requests per second, for each process."""
