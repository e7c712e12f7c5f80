"""Helpers that several passes use. No module here defines a pass."""
