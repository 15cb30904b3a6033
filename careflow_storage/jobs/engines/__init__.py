"""Where shards run: in this process, in several processes, or on a cluster."""

from __future__ import annotations
