"""Front-end rewrites: replacements for PyTorch functions that make models traceable.

table: all rewrites, and how they are applied while tracing. base: what a rewrite is. The other modules hold one
replacement each.
"""
