"""Erasing and exporting a person, Meta's deletion callback."""
