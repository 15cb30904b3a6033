"""HTTP/1.1 as an S3 client needs it, and no more: one connection, and the pool of them.

It exists because moving bytes is what this package is for, and what a general HTTP client does
around each request costs more than everything else that a small S3 request needs.
"""
