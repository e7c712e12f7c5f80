"""Sums of convolutions, which runtimes fuse."""

from __future__ import annotations

import onnx_graphsurgeon as gs


def own_input(add: gs.Node) -> gs.Tensor | None:
    """The x of Add(Conv(x), x), in either order, also with a BatchNormalization after the Conv; otherwise None."""
    for summand, other in ((add.inputs[0], add.inputs[1]), (add.inputs[1], add.inputs[0])):
        producer = summand.inputs[0] if summand.inputs else None
        if producer is not None and producer.op == "BatchNormalization" and producer.inputs[0].inputs:
            producer = producer.inputs[0].inputs[0]
        if producer is not None and producer.op == "Conv" and producer.domain is None and producer.inputs[0] is other:
            return other
    return None


def is_read_once(tensor: gs.Tensor) -> bool:
    """Whether exactly one node input reads the tensor."""
    return sum(t is tensor for node in tensor.outputs for t in node.inputs) == 1


def is_convolution(tensor: gs.Tensor) -> bool:
    """Whether a Conv writes the tensor, also with a BatchNormalization after it."""
    producer = tensor.inputs[0] if tensor.inputs else None
    if producer is not None and producer.op == "BatchNormalization" and producer.inputs[0].inputs:
        producer = producer.inputs[0].inputs[0]
    return producer is not None and producer.op == "Conv" and producer.domain is None


def second_sum(add: gs.Node) -> int | None:
    """Which operand of an Add is itself an Add of a convolution: a runtime may fuse both Adds into that one Conv.

    Not an Add whose first operand is a convolution of its own: that one is fused with the convolution. Sums whose
    shapes are known to differ are not fused either.
    """
    if is_convolution(add.inputs[0]) and is_read_once(add.inputs[0]):
        return None
    for at in (0, 1):
        tensor = add.inputs[at]
        inner = tensor.inputs[0] if tensor.inputs else None
        if inner is None or inner.op != "Add" or inner.domain is not None or not is_read_once(tensor):
            continue
        if any(is_convolution(t) and is_read_once(t) for t in inner.inputs) and _may_be_equal(*add.inputs):
            return at
    return None


def _may_be_equal(x: gs.Tensor, y: gs.Tensor) -> bool:
    """Whether two shapes are equal, or may be."""
    if x.shape is None or y.shape is None:
        return True
    if len(x.shape) != len(y.shape):
        return False
    return all(m == n for m, n in zip(x.shape, y.shape, strict=True) if isinstance(m, int) and isinstance(n, int))
