"""How far rounding alone may move the logits of a model on one input, measured on that input.

PyTorch runs in float32 and in float64. ONNX Runtime, whose convolutions know no float64, runs the graph as it is and
with its own rewrites, which sum in another order. What two correct computations differ by, times `SLACK`, bounds what
rounding explains.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segc.frontend.model import Source
from segc.frontend.remembered import real_module
from segc.isolation import native
from segc.parity import kept_reference, sample_inputs
from segc.parity.difference import largest_difference
from segc.parity.reference import reference_of

SLACK = 8.0  # three bits: Winograd's transforms and fused layers lose so much more than sums in another order
_EPSILON = float(np.finfo(np.float32).eps)


def bound(source: Source, x: np.ndarray) -> float | None:
    """The largest error of a logit that rounding explains. x: float32 (N, C, H, W). None if it cannot be measured."""
    reference = reference_of(source)(x)
    largest = float(np.abs(reference[np.isfinite(reference)]).max(initial=0.0))
    found = _of_torch(source, x, largest) if source.module is not None else _of_onnx(source, reference, x)
    return None if found is None else SLACK * max(found, _EPSILON * largest)


def measure(source: Source, precision: str, *, images: bool) -> Callable[[np.ndarray], float | None] | None:
    """`bound` as a function of an engine's inputs, which are uint8 (N, H, W, 3) BGR with `images`.

    None in half precision: the limit of its pixels allows for rounding.
    """
    if precision != "fp32":
        return None
    if not images:
        return lambda x: bound(source, x)
    info = source.info
    return lambda x: bound(source, sample_inputs.normalised(x, info.mean, info.std, info.channel_order))


def _of_torch(source: Source, x: np.ndarray, largest: float) -> float | None:
    from segc.parity.noise_floor import own_error

    assert source.module is not None
    relative = own_error(real_module(source.module), x)
    return None if relative is None else relative * (largest or 1.0)


def _of_onnx(source: Source, reference: np.ndarray, x: np.ndarray) -> float:
    assert source.onnx_model is not None
    content = source.onnx_model.SerializeToString()
    run = native.call(kept_reference.run_rewritten, content, x) if native.is_guarded() else (
        kept_reference.run_rewritten(content, x)
    )  # fmt: skip
    return largest_difference(reference, np.asarray(run))[0]
