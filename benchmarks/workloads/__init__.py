"""The measured sections, run in the client's own process.

Every workload warms its client up first with the same calls it measures: connections are open,
lazy imports done. What that costs is reported apart (``ready_s``).
"""

from __future__ import annotations

from benchmarks.workloads.base import Workload
from benchmarks.workloads.choose import make_workload

__all__ = ["Workload", "make_workload"]
