"""HTTP/1.1 for an S3 client, and no more: connections, and a pool of them.

A general HTTP client spends more time on a small request than all other work for it takes.
"""
