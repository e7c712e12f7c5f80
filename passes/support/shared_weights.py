"""Constants that a runtime overwrites or frees when it folds a BatchNormalization into the convolution before it."""

from __future__ import annotations

import onnx_graphsurgeon as gs

CONVOLUTIONS = ("Conv", "ConvTranspose")


def at_risk(node: gs.Node) -> list[int]:
    """Which inputs of the node are constants that folding would change for another reader, or free twice.

    Of a convolution that a BatchNormalization reads, those with other readers; of a BatchNormalization of a
    convolution, those that it reads before.
    """
    if node.op in CONVOLUTIONS and any(user.op == "BatchNormalization" for user in node.outputs[0].outputs):
        return [at for at, tensor in _constants(node) if len(tensor.outputs) > 1]
    if node.op == "BatchNormalization" and any(made.op in CONVOLUTIONS for made in node.inputs[0].inputs):
        return [at for at, tensor in _constants(node) if any(tensor is before for before in node.inputs[1:at])]
    return []


def _constants(node: gs.Node) -> list[tuple[int, gs.Constant]]:
    return [(at, tensor) for at, tensor in enumerate(node.inputs) if at and isinstance(tensor, gs.Constant)]
