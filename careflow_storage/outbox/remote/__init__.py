"""Recordings that the outbox fetches from a URL before it delivers them."""
