"""500 recordings from webhooks into the bucket, through workers of which one is killed."""
