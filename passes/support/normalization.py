"""Building blocks of the normalization ops: mean and variance, scale and bias."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.passes.support.builder import Builder


def normalize(b: Builder, x: gs.Tensor, axes: list[int], epsilon: float) -> gs.Variable:
    """x with mean 0 and variance 1 over `axes`."""
    centered = b.op("Sub", "centered", x, b.reduce("ReduceMean", "mean", x, axes))
    variance = b.reduce("ReduceMean", "variance", b.op("Mul", "squares", centered, centered), axes)
    stabilized = b.op("Add", "steady", variance, b.const("epsilon", epsilon, x.dtype))
    return b.op("Div", "normalized", centered, b.op("Sqrt", "deviation", stabilized))


def per_channel(b: Builder, role: str, values: gs.Tensor, dims: int) -> gs.Tensor:
    """A vector along axis 1 of a tensor with `dims` axes; a constant is reshaped at once."""
    shape = [-1, *[1] * (dims - 2)]
    if isinstance(values, gs.Constant):
        return b.const(role, values.values.reshape(shape))
    return b.op("Reshape", role, values, b.const(f"{role}_shape", shape))
