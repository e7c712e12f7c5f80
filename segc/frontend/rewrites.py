"""Front-end rewrites: few, named, applied only while tracing and undone afterwards.

A rewrite keeps an op whole that the exporter would unroll; it never changes what the eager model computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Pool = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Rewrite:
    """owner.attribute is replaced by make(original) while tracing."""

    name: str
    summary: str
    owner: Any
    attribute: str
    make: Callable[[Callable[..., Any]], Callable[..., Any]]


def _whole_adaptive_avg_pool(original: Pool) -> Pool:
    """Trace the pool as one `segc.AdaptiveAvgPool2d`; -1 keeps a side, which torch writes as None or as that side."""

    def pool(x: torch.Tensor, output_size: Any) -> torch.Tensor:
        sizes = [output_size] * 2 if isinstance(output_size, int) else list(output_size)
        sizes = [None if _is_the_symbol(s, side) else s for s, side in zip(sizes, x.shape[-2:], strict=True)]
        if not all(s is None or type(s) is int for s in sizes):
            return original(x, output_size)  # a size computed from the input cannot be an attribute
        sides = [side if s is None else s for s, side in zip(sizes, x.shape[-2:], strict=True)]
        attributes: dict[str, Any] = {"output_size": [-1 if s is None else s for s in sizes]}
        shape = (*x.shape[:-2], *sides)
        return torch.onnx.ops.symbolic(
            "segc::AdaptiveAvgPool2d", (x,), attributes, dtype=x.dtype, shape=shape, version=1
        )

    return pool


def _is_the_symbol(size: object, side: object) -> bool:
    """Whether a size that depends on the input is that very side (F.adaptive_avg_pool2d fills None in with it)."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return isinstance(size, torch.SymInt) and statically_known_true(size == side)


REWRITES = (
    # every way to the pool (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d) ends in this function
    Rewrite(
        "adaptive-avg-pool",
        "keeps adaptive average pooling whole as segc.AdaptiveAvgPool2d",
        torch._C._nn,
        "adaptive_avg_pool2d",
        _whole_adaptive_avg_pool,
    ),
)


@contextmanager
def applied() -> Iterator[list[str]]:
    """Apply all rewrites; yields the names of those that fired, filled while tracing. Undone on the way out."""
    fired: list[str] = []
    with ExitStack() as stack:
        for rewrite in REWRITES:
            original = getattr(rewrite.owner, rewrite.attribute)
            stack.callback(setattr, rewrite.owner, rewrite.attribute, original)
            setattr(rewrite.owner, rewrite.attribute, _noting(rewrite, original, fired))
        yield fired


def _noting(rewrite: Rewrite, original: Callable[..., Any], fired: list[str]) -> Callable[..., Any]:
    made = rewrite.make(original)

    def call(*args: Any, **kwargs: Any) -> Any:
        if rewrite.name not in fired:
            fired.append(rewrite.name)
        return made(*args, **kwargs)

    return call
