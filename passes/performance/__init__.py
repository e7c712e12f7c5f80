"""Exact rewrites that make an engine faster; each target chooses the ones that pay in its runtime."""
