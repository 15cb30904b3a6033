"""Headers of S3 requests and responses: metadata, encryption, object lock."""
