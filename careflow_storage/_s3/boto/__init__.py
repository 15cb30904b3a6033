"""The aioboto3 client, and what makes it safe."""
