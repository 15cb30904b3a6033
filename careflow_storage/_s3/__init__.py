"""S3 requests and responses: signing, sending, retrying, parsing."""
