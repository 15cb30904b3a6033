"""One shard in a worker: lists its keys, and works on each object."""

from __future__ import annotations
