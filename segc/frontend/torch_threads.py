"""The number of threads that PyTorch computes with."""

from __future__ import annotations


def use(threads: int) -> None:
    """Let PyTorch use so many in this process; 0 leaves the number to it."""
    import torch

    if threads:
        torch.set_num_threads(threads)
