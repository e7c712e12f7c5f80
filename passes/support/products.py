"""What a runtime fuses into a matrix product before it."""

from __future__ import annotations

import onnx_graphsurgeon as gs

PRODUCTS = ("MatMul", "Gemm")
# Elementwise ops that runtimes fuse into a product, one after the other.
FUSED = frozenset(
    {"Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu"}
    | {"Mish", "Mul", "Neg", "PRelu", "Relu", "Round", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"}
)


def behind_product(node: gs.Node) -> bool:
    """Whether the node, with several slopes, reads a product, or elementwise ops on one."""
    slope = node.inputs[1]
    if slope.shape is not None and all(size == 1 for size in slope.shape):
        return False
    seen, waiting = set[int](), [node.inputs[0]]
    while waiting:
        producer = next(iter(waiting.pop().inputs), None)
        if producer is None or producer.domain or id(producer) in seen:
            continue
        seen.add(id(producer))
        if producer.op in PRODUCTS:
            return True
        if producer.op in FUSED:
            waiting += producer.inputs
    return False
