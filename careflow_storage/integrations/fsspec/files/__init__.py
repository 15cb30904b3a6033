"""The open files of the file system: read by ranges, written in parts."""
