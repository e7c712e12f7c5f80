"""Traces that are kept on disk, each with a digest of every file that it was made from."""
