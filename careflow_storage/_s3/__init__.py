"""Talking S3: one request in, one typed response out."""
