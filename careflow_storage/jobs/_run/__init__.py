"""The client of a job: checks it, hands out its shards, adds up their results."""

from __future__ import annotations
