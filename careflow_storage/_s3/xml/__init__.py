"""S3's XML documents: a bounded reader, and a fast path for listings."""
