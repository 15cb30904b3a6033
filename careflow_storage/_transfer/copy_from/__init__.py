"""Copies from one storage to another: streamed, in parts, or made by the server."""
