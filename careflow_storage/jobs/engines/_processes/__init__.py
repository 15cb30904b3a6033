"""Shards in child processes, for work that needs the processor."""
