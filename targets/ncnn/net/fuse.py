"""Put into one layer what ncnn computes in one: exact, and each blob less is a pass over memory less.

    Convolution, then ReLU / Clip / Sigmoid / Mish / HardSwish  ->  the Convolution's activation, InnerProduct's too
    Reshape of a map to a row, then InnerProduct                ->  InnerProduct of the map
    Gemm, then BinaryOp add of a row                            ->  the Gemm's C
    Scale, then Scale by ones with a bias                       ->  Scale with that bias
    Reshape, then Reshape                                       ->  the second one
    MatMul, Softmax, MatMul                                     ->  SDPA (attention.py)
    Permute of the last two axes, then MatMul by it             ->  MatMul by the transpose
    Tile, then BinaryOp with an operand of that size            ->  BinaryOp, which broadcasts
    UnaryOp square, then Reduction sum                          ->  Reduction sum of squares

Must not fire: where somebody else reads the blob between, or it is an output.
"""

from __future__ import annotations

from collections.abc import Callable

from segc.targets.ncnn.net.fuse_attention import fuse_attention
from segc.targets.ncnn.net.net import Layer, Net, Weight, total
from segc.targets.ncnn.net.params import BINARY, REDUCTION, UNARY
from segc.targets.ncnn.net.readers import Readers

ACTIVATED = ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise", "InnerProduct")
HARD_SWISH = (1 / 6, 0.5)
LAST_TWO = 1  # the order_type of a Permute that swaps the last two axes, at any rank


def activation(layer: Layer) -> tuple[int, list[float]] | None:
    """A convolution's activation type and parameters that do what this layer does."""
    params = layer.params
    if layer.type == "ReLU":
        slope = params.get("slope", 0.0)
        return (2, [float(slope)]) if slope else (1, [])  # type: ignore[arg-type]
    if layer.type == "Clip":
        return 3, [float(params["min"]), float(params["max"])]  # type: ignore[arg-type]
    if layer.type == "HardSwish" and (params["alpha"], params["beta"]) == HARD_SWISH:
        return 6, list(HARD_SWISH)
    return {"Sigmoid": (4, []), "Mish": (5, [])}.get(layer.type)


def fuse(net: Net) -> None:
    """Fuse what can be fused, in the order of the net."""
    for step in (_reshapes, _rows, _activations, _biases, _scales, _tiles, _squares):
        step(net, Readers(net))
    fuse_attention(net)
    _transposes(net, Readers(net))


def _swallow(net: Net, readers: Readers, into: Callable[[Layer, Readers], Layer | None]) -> None:
    """Let each layer that `into` finds a place for disappear there."""
    kept: list[Layer] = []
    for layer in net.layers:
        if (earlier := into(layer, readers)) is None:
            kept.append(layer)
            continue
        earlier.outputs = layer.outputs
        for blob in layer.outputs:
            readers.made_by(blob, earlier)
    net.layers = kept


def _activations(net: Net, readers: Readers) -> None:
    def into(layer: Layer, found: Readers) -> Layer | None:
        made = activation(layer)
        earlier = found.maker(layer.inputs[0]) if made is not None else None
        if made is None or earlier is None or earlier.type not in ACTIVATED or "activation_type" in earlier.params:
            return None
        if not found.alone(layer.inputs[0]):
            return None
        earlier.params["activation_type"] = made[0]
        if made[1]:
            earlier.params["activation_params"] = made[1]
        return earlier

    _swallow(net, readers, into)


def _biases(net: Net, readers: Readers) -> None:
    def into(layer: Layer, found: Readers) -> Layer | None:
        if layer.type != "BinaryOp" or layer.params.get("op_type") != BINARY["add"] or len(layer.inputs) != 2:
            return None
        for product, row in (layer.inputs, layer.inputs[::-1]):
            gemm, memory = found.maker(product), found.maker(row)
            if gemm is None or gemm.type != "Gemm" or memory is None or memory.type != "MemoryData":
                continue
            unbiased = gemm.params["constant_broadcast_type_c"] == -1
            if unbiased and found.alone(product) and row.shape == (1, gemm.params["constant_n"]):
                gemm.params["constant_broadcast_type_c"] = 4
                gemm.weights.append(Weight(memory.weights[0].values, tagged=True))
                return gemm
        return None

    _swallow(net, readers, into)


def _scales(net: Net, readers: Readers) -> None:
    def into(layer: Layer, found: Readers) -> Layer | None:
        earlier = found.maker(layer.inputs[0]) if layer.type == "Scale" else None
        if earlier is None or earlier.type != "Scale" or not found.alone(layer.inputs[0]):
            return None
        if earlier.params["bias_term"] or not layer.params["bias_term"] or (layer.weights[0].values != 1).any():
            return None
        earlier.params["bias_term"] = 1
        earlier.weights.append(layer.weights[1])
        return earlier

    _swallow(net, readers, into)


def _reshapes(net: Net, readers: Readers) -> None:
    for layer in net.layers:
        while layer.type == "Reshape" and len(layer.inputs) == 1 and "shape_expr" not in layer.params:
            earlier = readers.maker(layer.inputs[0])
            if earlier is None or earlier.type != "Reshape" or len(earlier.inputs) != 1:
                break
            if total(earlier.inputs[0].shape) != total(layer.outputs[0].shape):
                break
            layer.inputs = earlier.inputs


def _transposes(net: Net, readers: Readers) -> None:
    for layer in [layer for layer in net.layers if layer.type == "MatMul" and "trans_b" not in layer.params]:
        turned = layer.inputs[1]
        turn = readers.maker(turned)
        if turn is None or turn.type != "Permute" or not readers.alone(turned):
            continue
        if turn.params["order_type"] == LAST_TWO:
            layer.inputs = [layer.inputs[0], turn.inputs[0]]
            layer.params["trans_b"] = 1


def _tiles(net: Net, readers: Readers) -> None:
    for layer in [layer for layer in net.layers if layer.type == "BinaryOp" and len(layer.inputs) == 2]:
        for at, other in ((0, 1), (1, 0)):
            tile, against = readers.maker(layer.inputs[at]), layer.inputs[other].shape
            if tile is None or tile.type != "Tile" or not readers.alone(layer.inputs[at]):
                continue
            sizes = zip(tile.inputs[0].shape, tile.wholes("repeats"), against, strict=True)
            if all(times == 1 or (size == 1 and times == wanted) for size, times, wanted in sizes):
                layer.inputs = [tile.inputs[0] if i == at else blob for i, blob in enumerate(layer.inputs)]


def _squares(net: Net, readers: Readers) -> None:
    for layer in [layer for layer in net.layers if layer.type == "Reduction"]:
        square = readers.maker(layer.inputs[0])
        if layer.params["operation"] != REDUCTION["sum"] or square is None or square.type != "UnaryOp":
            continue
        if square.params["op_type"] == UNARY["square"] and readers.alone(layer.inputs[0]):
            layer.inputs = square.inputs
            layer.params["operation"] = REDUCTION["sumsq"]


def _rows(net: Net, readers: Readers) -> None:
    for layer in [layer for layer in net.layers if layer.type == "InnerProduct"]:
        reshape = readers.maker(layer.inputs[0])
        if reshape is None or reshape.type != "Reshape" or len(reshape.inputs) != 1:
            continue
        if reshape.inputs[0].rank == 3 and total(reshape.inputs[0].shape) is not None:
            layer.inputs = reshape.inputs
