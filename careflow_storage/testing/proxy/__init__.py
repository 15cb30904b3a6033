"""A proxy that injects faults."""

from __future__ import annotations

from careflow_storage.testing.proxy.proxy import FaultProxy

__all__ = ["FaultProxy"]
