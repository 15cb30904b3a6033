"""The child process that opens media: it holds no credentials and sends no request.

It receives bytes and returns facts through pipes. Nothing here is imported by the parent process,
apart from `protocol`.
"""
