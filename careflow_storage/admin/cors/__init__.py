"""CORS: which web pages may reach the bucket."""
