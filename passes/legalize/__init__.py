"""Rewrites, op by op, for runtimes and opsets that lack an op or a form of it."""
