"""Talking S3: one request in, one typed answer out."""
