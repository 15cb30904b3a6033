"""The methods of the file system, by subject."""
