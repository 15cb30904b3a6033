"""Programs for the developers of this package."""
