"""Recordings in progress: the writer, and the queue of its parts."""
