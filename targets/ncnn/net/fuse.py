"""Fuse ncnn layers. Every fusion is exact, and each blob that disappears saves one pass over memory.

    Convolution, then ReLU / Clip / Sigmoid / Mish / HardSwish  ->  the Convolution's activation, InnerProduct's too
    Reshape of a map to a row, then InnerProduct                ->  InnerProduct of the map
    Gemm, then BinaryOp add of a row                            ->  the Gemm's C
    Scale, then Scale by ones with a bias                       ->  Scale with that bias
    Reshape, then Reshape                                       ->  the second one
    MatMul, Softmax, MatMul                                     ->  SDPA (fuse_attention.py)
    Permute of the last two axes, then MatMul by it             ->  MatMul by the transpose
    Tile, then BinaryOp with an operand of that size            ->  BinaryOp, which broadcasts
    UnaryOp square, then Reduction sum                          ->  Reduction sum of squares

Must not fire where another layer reads the blob in between, or where that blob is an output of the net.
"""

from __future__ import annotations

from collections.abc import Callable

from segc.targets.ncnn.net.def_use import DefUse
from segc.targets.ncnn.net.fuse_attention import fuse_attention
from segc.targets.ncnn.net.net import Layer, Net, Weight, element_count
from segc.targets.ncnn.net.params import BINARY, REDUCTION, UNARY

WITH_ACTIVATION = ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise", "InnerProduct")
HARD_SWISH = (1 / 6, 0.5)
LAST_TWO = 1  # the order_type of a Permute that swaps the last two axes, at any rank


def activation(layer: Layer) -> tuple[int, list[float]] | None:
    """The activation_type and activation_params that equal this layer; None where there are none."""
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
    """Apply all fusions, in place."""
    for fusion in (
        _fuse_reshapes,
        _fuse_flattening,
        _fuse_activations,
        _fuse_gemm_biases,
        _fuse_scales,
        _fuse_tiles,
        _fuse_squares,
    ):
        fusion(net, DefUse(net))
    fuse_attention(net)
    _fuse_transposes(net, DefUse(net))


def _absorb(net: Net, uses: DefUse, absorber_of: Callable[[Layer, DefUse], Layer | None]) -> None:
    """Remove each layer for which `absorber_of` returns an earlier layer; that layer takes over its outputs."""
    kept: list[Layer] = []
    for layer in net.layers:
        if (absorber := absorber_of(layer, uses)) is None:
            kept.append(layer)
            continue
        absorber.outputs = layer.outputs
        for blob in layer.outputs:
            uses.set_producer(blob, absorber)
    net.layers = kept


def _fuse_activations(net: Net, uses: DefUse) -> None:
    def absorber_of(layer: Layer, uses: DefUse) -> Layer | None:
        fused = activation(layer)
        producer = uses.producer(layer.inputs[0]) if fused is not None else None
        if fused is None or producer is None or producer.type not in WITH_ACTIVATION:
            return None
        if "activation_type" in producer.params or not uses.has_one_reader(layer.inputs[0]):
            return None
        type_, params = fused
        producer.params["activation_type"] = type_
        if params:
            producer.params["activation_params"] = params
        return producer

    _absorb(net, uses, absorber_of)


def _fuse_gemm_biases(net: Net, uses: DefUse) -> None:
    def absorber_of(layer: Layer, uses: DefUse) -> Layer | None:
        if layer.type != "BinaryOp" or layer.params.get("op_type") != BINARY["add"] or len(layer.inputs) != 2:
            return None
        for product, row in (layer.inputs, layer.inputs[::-1]):
            gemm, constant = uses.producer(product), uses.producer(row)
            if gemm is None or gemm.type != "Gemm" or constant is None or constant.type != "MemoryData":
                continue
            unbiased = gemm.params["constant_broadcast_type_c"] == -1
            if unbiased and uses.has_one_reader(product) and row.shape == (1, gemm.params["constant_n"]):
                gemm.params["constant_broadcast_type_c"] = 4
                gemm.weights.append(Weight(constant.weights[0].values, tagged=True))
                return gemm
        return None

    _absorb(net, uses, absorber_of)


def _fuse_scales(net: Net, uses: DefUse) -> None:
    def absorber_of(layer: Layer, uses: DefUse) -> Layer | None:
        producer = uses.producer(layer.inputs[0]) if layer.type == "Scale" else None
        if producer is None or producer.type != "Scale" or not uses.has_one_reader(layer.inputs[0]):
            return None
        if producer.params["bias_term"] or not layer.params["bias_term"] or (layer.weights[0].values != 1).any():
            return None
        producer.params["bias_term"] = 1
        producer.weights.append(layer.weights[1])
        return producer

    _absorb(net, uses, absorber_of)


def _fuse_reshapes(net: Net, uses: DefUse) -> None:
    for layer in net.layers:
        while layer.type == "Reshape" and len(layer.inputs) == 1 and "shape_expr" not in layer.params:
            producer = uses.producer(layer.inputs[0])
            if producer is None or producer.type != "Reshape" or len(producer.inputs) != 1:
                break
            if element_count(producer.inputs[0].shape) != element_count(layer.outputs[0].shape):
                break
            layer.inputs = producer.inputs


def _fuse_transposes(net: Net, uses: DefUse) -> None:
    for layer in [layer for layer in net.layers if layer.type == "MatMul" and "trans_b" not in layer.params]:
        right = layer.inputs[1]
        permute = uses.producer(right)
        if permute is None or permute.type != "Permute" or not uses.has_one_reader(right):
            continue
        if permute.params["order_type"] == LAST_TWO:
            layer.inputs = [layer.inputs[0], permute.inputs[0]]
            layer.params["trans_b"] = 1


def _fuse_tiles(net: Net, uses: DefUse) -> None:
    for layer in [layer for layer in net.layers if layer.type == "BinaryOp" and len(layer.inputs) == 2]:
        for index, other in ((0, 1), (1, 0)):
            tile, other_shape = uses.producer(layer.inputs[index]), layer.inputs[other].shape
            if tile is None or tile.type != "Tile" or not uses.has_one_reader(layer.inputs[index]):
                continue
            sizes = zip(tile.inputs[0].shape, tile.int_list_param("repeats"), other_shape, strict=True)
            if all(times == 1 or (size == 1 and times == wanted) for size, times, wanted in sizes):
                layer.inputs = [tile.inputs[0] if i == index else blob for i, blob in enumerate(layer.inputs)]


def _fuse_squares(net: Net, uses: DefUse) -> None:
    for layer in [layer for layer in net.layers if layer.type == "Reduction"]:
        square = uses.producer(layer.inputs[0])
        if layer.params["operation"] != REDUCTION["sum"] or square is None or square.type != "UnaryOp":
            continue
        if square.params["op_type"] == UNARY["square"] and uses.has_one_reader(layer.inputs[0]):
            layer.inputs = square.inputs
            layer.params["operation"] = REDUCTION["sumsq"]


def _fuse_flattening(net: Net, uses: DefUse) -> None:
    for layer in [layer for layer in net.layers if layer.type == "InnerProduct"]:
        reshape = uses.producer(layer.inputs[0])
        if reshape is None or reshape.type != "Reshape" or len(reshape.inputs) != 1:
            continue
        if reshape.inputs[0].rank == 3 and element_count(reshape.inputs[0].shape) is not None:
            layer.inputs = reshape.inputs
