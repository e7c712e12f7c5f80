"""Rewrites of PyTorch modules and functions that make models traceable. `table` lists them."""
