"""Requests that find out what Backblaze B2 really does."""
