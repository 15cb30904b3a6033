"""Moving bytes: from every kind of body into the bucket, and back out of it."""
