"""One small module per client. Each has ``open_client(job)``, an async context manager.

Only the module of the client under test is imported in its process.
"""
