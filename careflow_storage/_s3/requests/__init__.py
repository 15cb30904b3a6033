"""Requests to S3, by subject: objects, parts, listings, versions, object lock."""
