"""What a response must be to be believed: S3's, whole, and of a possible size."""
