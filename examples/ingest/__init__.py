"""500 recordings from webhooks into the bucket, through a worker that is killed."""
