"""Residual connections."""

from __future__ import annotations

import onnx_graphsurgeon as gs


def own_input(add: gs.Node) -> gs.Tensor | None:
    """The x of Add(Conv(x), x), in either order and with a BatchNormalization after the Conv, else None."""
    for made, other in ((add.inputs[0], add.inputs[1]), (add.inputs[1], add.inputs[0])):
        maker = made.inputs[0] if made.inputs else None
        if maker is not None and maker.op == "BatchNormalization" and maker.inputs[0].inputs:
            maker = maker.inputs[0].inputs[0]
        if maker is not None and maker.op == "Conv" and maker.domain is None and maker.inputs[0] is other:
            return other
    return None
