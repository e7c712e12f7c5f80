"""Residual connections."""

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
