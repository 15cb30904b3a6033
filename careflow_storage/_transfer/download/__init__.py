"""Downloads: whole files, streams, a seekable reader."""
