"""Uploads from a URL."""
