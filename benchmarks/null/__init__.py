"""A server that discards uploads and generates downloads.

It is there to make the client the limit: bodies that arrive are read into one scratch buffer and
forgotten, bodies that leave are slices of one block of noise, responses are ready-made bytes. It
verifies nothing, not even signatures. ``python -m benchmarks.null --help`` tells the options,
`benchmarks.servers.null_server` starts it.

What exists: every key. ``.../size-<N>`` and ``.../size-<N>.<ext>`` hold N bytes, other keys
``--size``; a key that was written holds as many bytes as were written. The bytes are always
those of `benchmarks.null.content.expected`. Their ETag is no MD5, so that nobody compares it
with what was sent; but ``.../md5-<N>`` holds N bytes and has their MD5 as its ETag, for clients
that verify what they read.

Listings show ``--keys`` recordings of their own.
"""
