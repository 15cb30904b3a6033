"""Uploads: a single PUT, in parts, resumed."""
