"""The records of a job in the bucket: the job, a manifest per finished shard, the report."""

from __future__ import annotations
