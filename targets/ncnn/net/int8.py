"""Convolutions in 8-bit integers: from Q and DQ in the graph to the scales in an ncnn net.

    y = Conv(DQ(Q(x, s)), w)  ->  Convolution of x with int8 weights, their scales and the input's scale 1 / s

The graph says with Q and DQ before a convolution that its input is int8 with zero point 0; its weights are multiples
of a scale for each output channel. ncnn rounds the input itself, multiplies in integers, and gives float32; or int8,
where all that reads the result is int8 convolutions, which then need not round it.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support import evaluate
from segc.targets.ncnn.net.net import Blob, Layer, Net, Weight

MOST = 127  # -128 is not used
REQUANTIZED = 100  # added to int8_scale_term: the output is int8 too
# What the layer can do before it rounds: nothing, ReLU, leaky ReLU, clip.
_ACTIVATIONS = (0, 1, 2, 3)
_BLOCK = 8  # depthwise convolutions of other numbers of channels apply a ReLU to int8 as if it were float32

Scales = dict[str, float]


def take_scales(graph: gs.Graph) -> Scales:
    """Remove all Q and DQ from a graph; the scale of the input of each node that read a DQ, by the node's name."""
    scales: Scales = {}
    for back in [node for node in graph.nodes if node.op == "DequantizeLinear"]:
        small = back.inputs[0].inputs[0]
        x, y, scale = small.inputs[0], back.outputs[0], float(evaluate.array(small.inputs[1]))
        for reader in {id(user): user for user in y.outputs}.values():
            reader.inputs = [x if t is y else t for t in reader.inputs]
            scales[reader.name] = scale
        back.outputs.clear()
    graph.cleanup()
    return scales


def quantize(net: Net, scales: Scales, kept: Blob | None = None) -> int:
    """Give the convolutions that were lowered from these nodes int8 weights and scales; how many.

    kept: a blob that the caller extracts beside the outputs; it stays float32.
    """
    made = [layer for layer in net.layers if layer.node in scales and _is_convolution(layer)]
    for layer in made:
        values, weight_scales = int8_weights(layer.weights[0].values, layer.int_param("num_output", 1))
        layer.weights[0] = Weight(values, tagged=True)
        layer.weights += [Weight(1 / weight_scales), Weight(np.array([1 / scales[layer.node]], np.float32))]
        layer.params["int8_scale_term"] = 2 if layer.type == "Convolution" else 1
    _requantize(net, made, scales, {id(blob) for blob in (*net.outputs, kept) if blob is not None})
    return len(made)


def int8_weights(values: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights and float32 (channels,) scales, such that weights * scales is the given multiple of scales."""
    rows = values.reshape(channels, -1)
    largest = np.abs(rows).max(axis=1)
    scales = np.where(largest > 0, largest / MOST, 1).astype(np.float32)
    return np.rint(rows / scales[:, None]).astype(np.int8).reshape(values.shape), scales


def _is_convolution(layer: Layer) -> bool:
    return layer.type in ("Convolution", "ConvolutionDepthWise") and not layer.int_param("dynamic_weight", 0)


def _requantize(net: Net, made: list[Layer], scales: Scales, extracted: set[int]) -> None:
    """Let convolutions write int8 where only int8 convolutions read, through Splits or not."""
    readers, int8 = net.readers(), {id(layer) for layer in made}

    def final_readers(blob: Blob) -> list[Layer | None]:
        """The layers that read the blob or a copy of it; None for the caller."""
        found: list[Layer | None] = [None] if id(blob) in extracted else []
        for layer in readers.get(id(blob), []):
            copies = layer.outputs if layer.type == "Split" else []
            found += [one for copy in copies for one in final_readers(copy)] if copies else [layer]
        return found

    for layer in made:
        read_by = final_readers(layer.outputs[0])
        rounded = {scales[one.node] for one in read_by if one is not None and id(one) in int8}
        whole = all(one is not None and id(one) in int8 for one in read_by)
        if read_by and whole and len(rounded) == 1 and _may_round(layer):
            layer.params["int8_scale_term"] = layer.int_param("int8_scale_term", 0) + REQUANTIZED
            layer.weights.append(Weight(np.array([1 / rounded.pop()], np.float32)))


def _may_round(layer: Layer) -> bool:
    """Whether the layer gives right results in int8."""
    plain = layer.int_param("activation_type", 0) in _ACTIVATIONS
    return plain and (layer.type == "Convolution" or layer.int_param("num_output", 0) % _BLOCK == 0)
