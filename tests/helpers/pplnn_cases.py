"""The models behind the probes of targets/pplnn/facts.json, written anew from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser

RNG = np.random.default_rng(11)


def _random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _lively(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2, 8).astype(np.float32)


CONSTANTS: dict[str, Any] = {
    "w3": _random(8, 8, 3, 3),
    "w4": np.random.default_rng(4).standard_normal((8, 8, 3, 3)).astype(np.float32),
    "w16": _random(16, 16, 3, 3),
    "w32": _random(32, 32, 3, 3),
    "wimage": _random(8, 3, 3, 3),
    "wdepth": _random(8, 1, 3, 3),
    "wgroup": _random(8, 2, 3, 3),
    "wone": _random(8, 8, 1, 1),
    "wline": _random(8, 8, 3),
    "wcube": _random(8, 8, 3, 3, 3),
    "wup2": _random(8, 8, 2, 2),
    "wup4": _random(8, 8, 4, 4),
    "wuphalf": _random(8, 4, 2, 2),
    "wupdepth": _random(8, 1, 2, 2),
    "whalf": _random(8, 8, 3, 3).astype(np.float16),
    **{f"b{at}": _lively(at) for at in range(5)},  # what a BatchNormalization reads
    "c8": np.linspace(0.5, 2, 8, dtype=np.float32),
    "row": _random(7),
    "channel": _random(8, 1, 1),
    "square": _random(7, 5),
    "deep": _random(1, 8, 7, 4),
    "vector": _random(7),
    "ints7x5": np.arange(35).reshape(7, 5),
    "zero": np.float32(0),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "two": np.float32(2),
    "six": np.float32(6),
    "lowest": np.float32(-np.inf),
    "twos": np.full((7,), 2, np.float32),
    "two_int": np.int64(2),
    "doubled": np.float32([1, 1, 2, 2]),
    "larger": np.int64([1, 8, 15, 17]),
    "smaller": np.int64([1, 8, 3, 4]),
    "line": np.int64([1, 8, 13]),
    "none": np.zeros(0, np.float32),
    "pads": np.int64([0, 0, 1, 2, 0, 0, 2, 1]),
    "crop": np.int64([0, 0, -1, 0, 0, 0, 0, -2]),
    "pads_channel": np.int64([0, 1, 0, 0, 0, 2, 0, 0]),
    **{f"i{value}".replace("-", "m"): np.int64([value]) for value in (-2, -1, 0, 1, 2, 3, 4, 5, 6)},
    "i8": np.int64([8]),
    "i32": np.int64([32]),
    "i11": np.int64([1, 1]),
    "m1": np.int64([-1]),
    "c32x1x1": _random(32, 1, 1),
    "side8x8": _random(8, 8),
    "plane8x8": _random(1, 8, 8),
    "block32x8x8": _random(32, 8, 8),
    "n1x32x1x1": _random(1, 32, 1, 1),
    "n1x1x8x8": _random(1, 1, 8, 8),
    "line8": _random(8),
    "bias32": _random(32),
    "other32": _random(32),
    "wpoint32": _random(32, 32, 1, 1),
    "wdepth32": _random(32, 1, 3, 3),
    "s0": np.int64(0),
    "s1": np.int64(1),
    "s3": np.int64(3),
    "s6": np.int64(6),
    "far": np.int64([-100]),
    "axes12": np.int64([1, 2]),
    "a32": np.int32([1]),
    "b32": np.int32([4]),
    "both": np.int64([0, 2]),
    "back": np.int64([-1, 1]),
    "grid": np.int64([[0, 2], [1, 1]]),
    "both32": np.int32([0, 2]),
    "points": np.int64([[0, 1], [0, 3]]),
    "updates": _random(2, 6, 7),
    "updates_int": np.arange(84).reshape(2, 6, 7),
    "cells": np.arange(336).reshape(1, 8, 6, 7) % 6,
    "few": np.arange(56).reshape(1, 8, 1, 7) % 6,
    "values_few": _random(1, 8, 1, 7),
    "eight": np.int64([1, 8, 6, 7]),
    "expanded": np.int64([2, 8, 6, 7]),
    "flat": np.int64([0, -1]),
    "repeats": np.int64([1, 2, 1, 1]),
    "made": np.int64([2, 3]),
    "depth": np.int64([4]),
    "depth_scalar": np.int64(4),
    "onoff": np.float32([0, 1]),
    "parts": np.int64([3, 5]),
    "byte": np.uint8(3),
    "rois": np.float32([[0, 0, 4, 4]]),
    "of": np.int64([0]),
    "where_to": np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 3, 4, 2),
    "lstm_w": _random(1, 12, 4),
    "lstm_r": _random(1, 12, 3),
    "lstm_b": _random(1, 24),
    "gru_w": _random(1, 9, 4),
    "gru_r": _random(1, 9, 3),
    "gru_b": _random(1, 18),
    "state": _random(1, 2, 3),
    "yes": np.bool_(True),
    "swapped": np.int64([2, 1]),
}
X = "float[1,8,6,7] x"
WINDOW = "kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]"
UP = "kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1]"
RESIZE = 'y = Resize<mode = "{}", coordinate_transformation_mode = "{}", nearest_mode = "{}">(x, none, {})'
SOFT = "y = Softmax<axis = {}>(x)"

# name -> body, or "signature | body"; the signature is `float[1,8,6,7] x` otherwise.
CASES: dict[str, str] = {
    "Resize13 linear pytorch_half_pixel blank roi,scales + sizes":
        'y = Resize<mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel">(x, , , larger)',
    "Resize11 linear pytorch_half_pixel 3D(NCW)":
        f"float[1,8,6] x | {RESIZE.format('linear', 'pytorch_half_pixel', 'floor', 'none, line')}",
    "Resize11 linear pytorch_half_pixel downscale sizes":
        RESIZE.format("linear", "pytorch_half_pixel", "floor", "none, smaller"),
    "Resize11 linear pytorch_half_pixel sizes computed at run time":
        "float[1,8,6,7] x, float[1,8,A,B] z | s = Shape(z)  "
        + RESIZE.format("linear", "pytorch_half_pixel", "floor", "none, s"),
    "Resize11 nearest int64 input": f"int64[1,8,6,7] x | {RESIZE.format('nearest', 'asymmetric', 'floor', 'doubled')}",
    "Upsample9 nearest": 'y = Upsample<mode = "nearest">(x, doubled)',
    "Pad11 constant 4D HW": "y = Pad(x, pads)",
    "Pad11 reflect 4D HW": 'y = Pad<mode = "reflect">(x, pads)',
    "Pad11 edge 4D HW": 'y = Pad<mode = "edge">(x, pads)',
    "Pad11 constant value input": "y = Pad(x, pads, two)",
    "Pad11 constant -inf value": "y = Pad(x, pads, lowest)",
    "Pad11 negative pads (crop)": "y = Pad(x, crop)",
    "Pad11 int64 data": "int64[1,8,6,7] x | y = Pad(x, pads)",
    "Pad11 channel pad": "y = Pad(x, pads_channel)",
    "Pad11 pads computed at run time": "float[1,8,6,7] x, int64[8] p | y = Pad(x, p)",
    "Pad2 attr": "y = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1]>(x)",
    "Pad11 after Conv (n16cx layout) reflect": f't = Conv<{WINDOW}>(x, w3)  y = Pad<mode = "reflect">(t, pads)',
    "Slice11 basic": "y = Slice(x, i1, i4, i2)",
    "Slice11 no axes": "y = Slice(x, i0, i1)",
    "Slice11 negative axis, start 1": "y = Slice(x, i1, i4, im1)",
    "Slice11 negative axis, step 2": "y = Slice(x, i0, i4, im1, i2)",
    "Slice11 positive axis, step 2": "y = Slice(x, i0, i4, i2, i2)",
    "Slice11 step -1 (flip)": "y = Slice(x, im1, far, i2, im1)",
    "Slice11 int32 index tensors": "y = Slice(x, a32, b32, a32)",
    "Slice11 int64 data": "int64[1,8,6,7] x | y = Slice(x, i1, i4, i2)",
    "Slice11 int32 data": "int32[1,8,6,7] x | y = Slice(x, i1, i4, i2)",
    "Slice11 bool data": "bool[1,8,6,7] x | y = Slice(x, i1, i4, i2)",
    "Slice9 attr": "y = Slice<starts = [1], ends = [4], axes = [2]>(x)",
    "Slice11 starts from graph input": "float[1,8,6,7] x, int64[1] s | y = Slice(x, s, i6, i2)",
    "Slice11 empty result": "y = Slice(x, i4, i1, i2)",
    "Gather11 axis1": "y = Gather<axis = 1>(x, both)",
    "Gather11 negative index": "y = Gather<axis = 1>(x, back)",
    "Gather11 scalar index": "y = Gather<axis = 1>(x, s1)",
    "Gather11 int32 indices": "y = Gather<axis = 1>(x, both32)",
    "Gather11 2D indices": "y = Gather<axis = 1>(x, grid)",
    "Gather11 bool data": "bool[1,8,6,7] x | y = Gather<axis = 1>(x, both)",
    "GatherND11": "y = GatherND(x, points)",
    "GatherND11 int64 data": "int64[1,8,6,7] x | y = GatherND(x, points)",
    "GatherND12 batch_dims=0": "y = GatherND<batch_dims = 0>(x, points)",
    "GatherElements11": "y = GatherElements<axis = 2>(x, cells)",
    "ScatterND11": "y = ScatterND(x, points, updates)",
    "ScatterND11 int64 data": "int64[1,8,6,7] x | y = ScatterND(x, points, updates_int)",
    "ScatterElements11": "y = ScatterElements<axis = 2>(x, few, values_few)",
    "TopK11 largest": "y, i = TopK<axis = 3>(x, i3)",
    "TopK11 smallest axis1": "y, i = TopK<axis = 1, largest = 0>(x, i3)",
    "TopK11 k from graph input": "float[1,8,6,7] x, int64[1] k | y, i = TopK<axis = 3>(x, k)",
    "TopK11 int64 data": "int64[1,8,6,7] x | y, i = TopK<axis = 3>(x, i3)",
    "ArgMax11 axis1 keepdims0 4D": "y = ArgMax<axis = 1, keepdims = 0>(x)",
    "ArgMax11 axis1 keepdims1 4D": "y = ArgMax<axis = 1, keepdims = 1>(x)",
    "ArgMax11 axis=-1": "y = ArgMax<axis = -1>(x)",
    "ArgMax12 axis1": "y = ArgMax<axis = 1>(x)",
    "ArgMax11 int64 data": "int64[1,8,6,7] x | y = ArgMax<axis = 1>(x)",
    "ArgMax11 after Conv": f"t = Conv<{WINDOW}>(x, w3)  y = ArgMax<axis = 1>(t)",
    "ArgMin11": "y = ArgMin<axis = 1>(x)",
    "Where11 fp32 broadcast": "bool[1,8,6,1] c, float[1,8,6,7] x | y = Where(c, x, row)",
    "Where11 int64": "bool[1,8,6,1] c, int64[1,8,6,7] x | y = Where(c, x, two_int)",
    "Where11 int32": "bool[1,8,6,1] c, int32[1,8,6,7] x | y = Where(c, x, a32)",
    "Where11 scalar y": "bool[1,8,6,1] c, float[1,8,6,7] x | y = Where(c, x, two)",
    "Expand11 fp32": "y = Expand(x, expanded)",
    "Expand11 int64": "int64[1,8,6,7] x | y = Expand(x, expanded)",
    "Expand11 bool": "bool[1,8,6,7] x | y = Expand(x, expanded)",
    "Expand11 shape from Shape": "float[1,8,6,7] z, float[1,8,1,1] x | s = Shape(z)  y = Expand(x, s)",
    "Equal11 bool": "bool[1,8,6,7] x, bool[7] z | y = Equal(x, z)",
    "Greater11 fp32 scalar const": "y = Greater(x, half)",
    "GreaterOrEqual12": "y = GreaterOrEqual(x, row)",
    "LessOrEqual12": "y = LessOrEqual(x, row)",
    **{f"{op}11": f"bool[2,3] x, bool[3] z | y = {op}(x, z)" for op in ("And", "Or", "Xor")},
    "Not11": "bool[2,3] x | y = Not(x)",
    "Softmax11 4D axis1": SOFT.format(1),
    "Softmax11 4D axis-1": SOFT.format(-1),
    "Softmax11 4D axis3": SOFT.format(3),
    "Softmax13 4D axis1, H*W multiple of 16": f"float[1,8,4,8] x | {SOFT.format(1)}",
    "Softmax13 4D axis1": SOFT.format(1),
    "Softmax13 4D axis-1": SOFT.format(-1),
    "Softmax13 4D axis3": SOFT.format(3),
    "LogSoftmax11": "y = LogSoftmax<axis = 1>(x)",
    "ReduceMean11 axes[-1] keepdims0": "y = ReduceMean<axes = [-1], keepdims = 0>(x)",
    "ReduceMean11 axes[2,1] (unsorted) keepdims0": "y = ReduceMean<axes = [2, 1], keepdims = 0>(x)",
    "ReduceMean11 no axes keepdims1": "y = ReduceMean(x)",
    "ReduceMean11 no axes keepdims0": "y = ReduceMean<keepdims = 0>(x)",
    "ReduceSum13 axes input": "y = ReduceSum(x, i1)",
    "ReduceMax11 int64": "int64[1,8,6,7] x | y = ReduceMax<axes = [1]>(x)",
    "ReduceSum11 int64": "int64[1,8,6,7] x | y = ReduceSum<axes = [1]>(x)",
    "Conv 3x3": f"y = Conv<{WINDOW}>(x, w3)",
    "Conv 3x3 big (winograd)": f"float[1,32,40,40] x | y = Conv<{WINDOW}>(x, w32)",
    "Conv depthwise": f"y = Conv<{WINDOW}, group = 8>(x, wdepth)",
    "Conv group4": f"y = Conv<{WINDOW}, group = 4>(x, wgroup)",
    "Conv dilation2": "y = Conv<kernel_shape = [3, 3], pads = [2, 2, 2, 2], dilations = [2, 2]>(x, w3)",
    "Conv stride2": "y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x, w3)",
    "Conv asymmetric pads": "y = Conv<kernel_shape = [3, 3], pads = [0, 0, 1, 1]>(x, w3)",
    "Conv pads h!=w": "y = Conv<kernel_shape = [3, 3], pads = [1, 2, 1, 2]>(x, w3)",
    "Conv auto_pad SAME_UPPER": 'y = Conv<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x, w3)',
    "Conv no kernel_shape attr": "y = Conv<pads = [1, 1, 1, 1]>(x, w3)",
    "Conv only kernel_shape attr": "y = Conv<kernel_shape = [3, 3]>(x, w3)",
    "Conv weights from graph input": f"float[1,8,6,7] x, float[4,8,3,3] w | y = Conv<{WINDOW}>(x, w)",
    "Conv1D": "float[1,8,9] x | y = Conv<kernel_shape = [3], pads = [1, 1]>(x, wline)",
    "Conv3D": "float[1,8,4,5,6] x | y = Conv<kernel_shape = [3, 3, 3]>(x, wcube)",
    "Conv(x)+Add(x)+Relu, x the graph input itself, 16 ch":
        f"float[1,16,12,12] x | t = Conv<{WINDOW}>(x, w16)  s = Add(t, x)  y = Relu(s)",
    "ResNet basic block mid-graph":
        f"float[1,16,12,12] x | p = Conv<{WINDOW}>(x, w16)  r = Relu(p)  t = Conv<{WINDOW}>(r, w16)  u = Relu(t)"
        f"  v = Conv<{WINDOW}>(u, w16)  s = Add(v, r)  y = Relu(s)",
    "Conv+Clip(0,6)": f"t = Conv<{WINDOW}>(x, w3)  y = Clip(t, zero, six)",
    "Conv+Sigmoid*x (swish)": f"t = Conv<{WINDOW}>(x, w3)  s = Sigmoid(t)  y = Mul(t, s)",
    "Conv+HardSigmoid*x (hswish)": f"t = Conv<{WINDOW}>(x, w3)  s = HardSigmoid(t)  y = Mul(t, s)",
    "Conv+BN": f"t = Conv<{WINDOW}>(x, w3)  y = BatchNormalization(t, c8, c8, c8, c8)",
    "ConvTranspose k2s2": f"y = ConvTranspose<{UP}>(x, wup2)",
    "ConvTranspose k4s2p1": "y = ConvTranspose<kernel_shape = [4, 4], strides = [2, 2], pads = [1, 1, 1, 1],"
                            " dilations = [1, 1]>(x, wup4)",
    "ConvTranspose output_padding1": f"y = ConvTranspose<{UP}, output_padding = [1, 1]>(x, wup2)",
    "ConvTranspose group2": f"y = ConvTranspose<{UP}, group = 2>(x, wuphalf)",
    "ConvTranspose depthwise": f"y = ConvTranspose<{UP}, group = 8>(x, wupdepth)",
    "ConvTranspose no attrs but strides": "y = ConvTranspose<strides = [2, 2]>(x, wup2)",
    "MaxPool k3s2p1": "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)",
    "MaxPool ceil_mode": "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)",
    "MaxPool k2s2 ceil_mode odd":
        "float[1,8,7,9] x | y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x)",
    "MaxPool with indices": "y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)",
    "MaxPool dilation2": "y = MaxPool<kernel_shape = [2, 2], strides = [1, 1], dilations = [2, 2]>(x)",
    "MaxPool no strides attr": "y = MaxPool<kernel_shape = [2, 2]>(x)",
    "MaxPool asymmetric pads": "y = MaxPool<kernel_shape = [2, 2], strides = [1, 1], pads = [0, 0, 1, 1]>(x)",
    "AveragePool count_include_pad": f"y = AveragePool<{WINDOW}, count_include_pad = 1>(x)",
    "AveragePool exclude": f"y = AveragePool<{WINDOW}>(x)",
    "AveragePool ceil_mode": "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)",
    "GlobalAveragePool": "y = GlobalAveragePool(x)",
    "GlobalMaxPool": "y = GlobalMaxPool(x)",
    "MaxPool1D": "float[1,8,9] x | y = MaxPool<kernel_shape = [2], strides = [2]>(x)",
    **{f"BatchNormalization alone opset{n}": "y = BatchNormalization(x, c8, c8, c8, c8)" for n in (9, 11, 13, 14, 15)},
    "BatchNormalization 3D": "float[1,8,9] x | y = BatchNormalization(x, c8, c8, c8, c8)",
    "InstanceNormalization11": "y = InstanceNormalization(x, c8, c8)",
    "LayerNormalization17": "y = LayerNormalization(x, twos, row)",
    "LRN": "y = LRN<size = 3>(x)",
    "LpNormalization": "y = LpNormalization<axis = 1>(x)",
    "Gemm transB": "float[2,5] x | y = Gemm<transB = 1>(x, square)",
    "Gemm transA alpha beta": "float[7,2] x | y = Gemm<transA = 1, alpha = 0.5, beta = 2.0>(x, square)",
    "Gemm both dynamic": "float[2,5] x, float[5,3] z | y = Gemm(x, z)",
    "MatMul 2D const": "float[2,7] x | y = MatMul(x, square)",
    "MatMul 3Dx2D const": "float[2,3,7] x | y = MatMul(x, square)",
    "MatMul 4Dx4D": "y = MatMul(x, deep)",
    "MatMul batch broadcast": "float[2,8,6,7] x | y = MatMul(x, deep)",
    "MatMul 1D": "float[2,3,7] x | y = MatMul(x, vector)",
    "MatMul int64": "int64[2,7] x | y = MatMul(x, ints7x5)",
    "Einsum12 i,j->ij": 'float[3] x, float[4] z | y = Einsum<equation = "i,j->ij">(x, z)',
    "Einsum12 bij,bjd->bid": 'float[2,3,4] x, float[2,4,5] z | y = Einsum<equation = "bij,bjd->bid">(x, z)',
    "Einsum12 bid,bjd->bij": 'float[2,3,4] x, float[2,5,4] z | y = Einsum<equation = "bid,bjd->bij">(x, z)',
    "Einsum12 bqc,bchw->bqhw": 'float[2,3,4] x, float[2,4,5,6] z | y = Einsum<equation = "bqc,bchw->bqhw">(x, z)',
    "Einsum12 ij,jk->ik": 'float[2,3] x, float[3,4] z | y = Einsum<equation = "ij,jk->ik">(x, z)',
    "Add11 fp32 5D": "float[1,2,3,4,5] x, float[3,1,5] z | y = Add(x, z)",
    "Add11 uint8": "uint8[2,3] x | y = Add(x, byte)",
    "Pow11 scalar exp": "y = Pow(x, two)",
    "Pow11 tensor exp": "y = Pow(x, twos)",
    "Pow12 int64 exponent": "y = Pow(x, two_int)",
    "Pow11 0.5": "a = Relu(x)  y = Pow(a, half)",
    "Relu11 4D after Conv": f"t = Conv<{WINDOW}>(x, w3)  y = Relu(t)",
    "HardSwish14": "y = HardSwish(x)",
    "PRelu channel slope": "y = PRelu(x, channel)",
    "PRelu scalar slope": "y = PRelu(x, half)",
    "Clip11 min,max": "y = Clip(x, zero, one)",
    "Clip11 only min": "y = Clip(x, zero)",
    "Clip11 blank min": "y = Clip(x, , one)",
    "Clip12 int64": "int64[2,3] x | y = Clip(x, s0, s3)",
    "Clip6 attrs": "y = Clip<min = 0.0, max = 6.0>(x)",
    **{f"{op}11 fp32 3 inputs": f"y = {op}(x, row, channel)" for op in ("Min", "Max", "Sum", "Mean")},
    "Max12 int64": "int64[2,3] x | y = Max(x, s3)",
    "Mod11 int64": "int64[2,3] x | y = Mod(x, s3)",
    "Shape": "y = Shape(x)",
    "Shape15": "y = Shape<start = 2>(x)",
    "Size": "y = Size(x)",
    "Reshape const 0,-1": "y = Reshape(x, flat)",
    "Reshape runtime": "float[1,8,6,7] x, int64[2] s | y = Reshape(x, s)",
    "Flatten": "y = Flatten(x)",
    "Squeeze11": "y = Squeeze<axes = [0]>(x)",
    "Unsqueeze11": "y = Unsqueeze<axes = [0, 2]>(x)",
    "Squeeze11 no axes": "float[1,8,1,7] x | y = Squeeze(x)",
    "Unsqueeze11 negative axis": "y = Unsqueeze<axes = [-1]>(x)",
    "Split11 attr": "y, z = Split<axis = 1, split = [3, 5]>(x)",
    "Split11 equal": "y, z = Split<axis = 1>(x)",
    "Squeeze13": "y = Squeeze(x, i0)",
    "Unsqueeze13": "y = Unsqueeze(x, i0)",
    "Split13 input": "y, z = Split<axis = 1>(x, parts)",
    "Split13 equal": "y, z = Split<axis = 1>(x)",
    "Concat fp32": "y = Concat<axis = 1>(x, x)",
    "Concat negative axis": "y = Concat<axis = -1>(x, x)",
    "Concat int64": "int64[2,3] x | y = Concat<axis = 1>(x, x)",
    "Concat bool": "bool[2,3] x | y = Concat<axis = 1>(x, x)",
    "Transpose 0231": "y = Transpose<perm = [0, 2, 3, 1]>(x)",
    "Transpose no perm": "y = Transpose(x)",
    "Transpose 5D": "float[1,2,3,4,5] x | y = Transpose<perm = [0, 2, 1, 4, 3]>(x)",
    "Transpose 6D": "float[1,2,3,4,5,6] x | y = Transpose<perm = [0, 2, 1, 4, 3, 5]>(x)",
    "Transpose int64": "int64[2,3] x | y = Transpose(x)",
    "Transpose bool": "bool[2,3] x | y = Transpose(x)",
    "Tile fp32": "y = Tile(x, repeats)",
    "Tile bool": "bool[1,8,6,7] x | y = Tile(x, repeats)",
    "Constant node": "c = Constant<value = float {2.0}>()  y = Add(x, c)",
    "Constant value_int": "int64[2,3] x | c = Constant<value_int = 2>()  y = Add(x, c)",
    "Constant value_ints": "c = Constant<value_ints = [8, 42]>()  y = Reshape(x, c)",
    "ConstantOfShape fp32": "int64[2] s | y = ConstantOfShape<value = float[1] {2.0}>(s)",
    "ConstantOfShape int64": "int64[2] s | y = ConstantOfShape<value = int64[1] {2}>(s)",
    "ConstantOfShape bool": "int64[2] s | y = ConstantOfShape<value = bool[1] {1}>(s)",
    "Range int64": "int64 n | y = Range(s0, n, s1)",
    "Range fp32": "float n | y = Range(zero, n, one)",
    "DepthToSpace DCR": 'y = DepthToSpace<blocksize = 2, mode = "DCR">(x)',
    "DepthToSpace CRD": 'y = DepthToSpace<blocksize = 2, mode = "CRD">(x)',
    "SpaceToDepth": "float[1,2,6,8] x | y = SpaceToDepth<blocksize = 2>(x)",
    "CumSum": "y = CumSum(x, s1)",
    "CumSum int32 axis": "y = CumSum(x, a32)",
    "CumSum negative axis": "y = CumSum(x, im1)",
    "CumSum exclusive reverse": "y = CumSum<exclusive = 1, reverse = 1>(x, s1)",
    "CumSum int64": "int64[2,3] x | y = CumSum(x, s1)",
    "OneHot11": "int64[2,3] x | y = OneHot<axis = 1>(x, depth, onoff)",
    "OneHot scalar depth": "int64[2,3] x | y = OneHot<axis = -1>(x, depth_scalar, onoff)",
    "NonZero fp32": "y = NonZero(x)",
    "NonZero bool": "bool[2,3] x | y = NonZero(x)",
    "NonZero int64": "int64[2,3] x | y = NonZero(x)",
    "NonZero13 bool": "bool[2,3] x | y = NonZero(x)",
    "NonMaxSuppression11": "float[1,3,4] a, float[1,1,3] b | y = NonMaxSuppression(a, b, i3, half, half)",
    "RoiAlign11": "y = RoiAlign<output_height = 2, output_width = 2>(x, rois, of)",
    "GridSample16 onnx": "y = GridSample(x, where_to)",
    **{f"mmcv::grid_sampler bilinear zeros align_corners={n}":
       f"y = mmcv.grid_sampler<interpolation_mode = 0, padding_mode = 0, align_corners = {n}>(x, where_to)"
       for n in (0, 1)},
    "Trilu14": "float[3,4] x | y = Trilu(x)",
    "EyeLike": "float[3,4] x | y = EyeLike(x)",
    "Dropout11 (inference)": "y = Dropout(x)",
    "Identity then Add": "t = Identity(x)  y = Add(t, row)",
    "LSTM torch form (blank seq_lens, h0 c0, 3 outputs)":
        "float[5,2,4] x | y, h, c = LSTM<hidden_size = 3>(x, lstm_w, lstm_r, lstm_b, , state, state)",
    "LSTM no initial_h, 1 output": "float[5,2,4] x | y = LSTM<hidden_size = 3>(x, lstm_w, lstm_r, lstm_b)",
    "GRU torch form": "float[5,2,4] x | y, h = GRU<hidden_size = 3, linear_before_reset = 1>"
        "(x, gru_w, gru_r, gru_b, , state)",
    "GRU linear_before_reset 0": "float[5,2,4] x | y, h = GRU<hidden_size = 3>(x, gru_w, gru_r, gru_b, , state)",
    "GRU no initial_h, 1 output": "float[5,2,4] x | y = GRU<hidden_size = 3>(x, gru_w, gru_r, gru_b)",
    "If (cond from graph input)": "float[1,8,6,7] x, bool c | y = If(c)<"
        "then_branch = a () => (float[1,8,6,7] p) { p = Relu(x) },"
        " else_branch = b () => (float[1,8,6,7] q) { q = Sigmoid(x) }>",
    "Loop 3 trips": "y = Loop(s3, yes, x)<body = b (int64 i, bool k, float[1,8,6,7] v) =>"
        " (bool l, float[1,8,6,7] w) { l = Identity(k)  w = Add(v, v) }>",
    "QuantizeLinear": "y = QuantizeLinear(x, half, byte)",
    "SequenceConstruct+ConcatFromSequence":
        "s = SequenceConstruct(x, x)  y = ConcatFromSequence<axis = 1>(s)",
    "SplitToSequence+SequenceAt": "s = SplitToSequence<axis = 1>(x, s1)  y = SequenceAt(s, s0)",
    "graph: fp16 Conv model": f"float16[1,8,6,7] x | y = Conv<{WINDOW}>(x, whalf)",
    "graph: float64 Add": "double[2,3] x | y = Add(x, x)",
    "graph: dynamic H,W (dim_param) Conv+Resize by scales":
        f"float[1,8,H,W] x | t = Conv<{WINDOW}>(x, w3)  "
        + RESIZE.format("linear", "pytorch_half_pixel", "floor", "doubled").replace("(x", "(t"),
    "graph: dynamic batch Reshape/MatMul": "float[N,8,7] x | r = Reshape(x, flat3)  y = MatMul(r, square)",
    "graph: input dim with neither value nor param": "float[?,8,6,7] x | y = Relu(x)",
    "graph: uint8 input Cast+Conv": f"uint8[1,8,6,7] x | t = Cast<to = 1>(x)  y = Conv<{WINDOW}>(t, w3)",
    "graph: output is a graph input too": "y = Relu(x)",
    "graph: unused node output '' (MaxPool indices)": "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)",
    "graph: two nodes with '' outputs":
        "t = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)  y = MaxPool<kernel_shape = [2, 2],"
        " strides = [1, 1]>(t)",
    "graph: opset17 Relu": "y = Relu(x)",
    "graph: opset16 Relu": "y = Relu(x)",
    "graph: batch 4 Conv": f"float[4,8,6,7] x | y = Conv<{WINDOW}>(x, w3)",
    "graph: denormal input passes Mul": "y = Mul(x, one)",
}  # fmt: skip
CONSTANTS["flat3"] = np.int64([0, 0, 7])
KINDS = {"fp32": "float", "int64": "int64", "int32": "int32", "float32": "float", "bool": "bool", "uint8": "uint8",
         "float16": "float16"}  # fmt: skip
BLOCKS = "BLOCKS"  # an input float[1,32,8,8] for each of x, a and b that is read: PPLNN refuses others
C32 = "Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1], dilations = [1, 1], group = {group}>({args})"

POINT = "Conv<kernel_shape = [1, 1], pads = [0, 0, 0, 0], strides = [1, 1], dilations = [1, 1]>"

# Sizes behind the reduced axes that a kernel's blocks do not divide.
CASES |= {
    f"rows: {op} over channels of {size}": f"float[1,16,{size.replace('x', ',')}] x | y = {op}<axes = [1]>(x)"
    for op in ("ReduceSum", "ReduceMean", "ReduceMin", "ReduceMax")
    for size in ("4x7", "5x5", "4x6", "5x7")
}

# A BatchNormalization behind convolutions, and what else reads their constants.
_UP = "ConvTranspose<kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1]>"
CASES |= {
    f"weights: {name}": body
    for name, body in {
        "Conv, BatchNormalization": f"t = Conv<{WINDOW}>(x, w3)  y = BatchNormalization(t, b0, b1, b2, b3)",
        "Conv, BatchNormalization with one constant twice":
            f"t = Conv<{WINDOW}>(x, w3)  y = BatchNormalization(t, b0, b1, b1, b3)",
        "BatchNormalization with one constant twice": "t = Neg(x)  y = BatchNormalization(t, b0, b1, b1, b3)",
        "two Convs of the same": f"n = Neg(x)  t = Conv<{WINDOW}>(x, w3, b0)  u = Conv<{WINDOW}>(n, w3, b0)"
            "  y = Sub(t, u)",
        **{f"two {op.split('<')[0]}s of the same, BatchNormalization of one":
            f"n = Neg(x)  t = {op}(x, w3)  b = BatchNormalization(t, b0, b1, b2, b3)  u = {op}(n, w3)  y = Sub(b, u)"
            for op in (f"Conv<{WINDOW}>", _UP)},
        "two Convs with the same bias, BatchNormalization of one":
            f"t = Conv<{WINDOW}>(x, w3, b0)  b = BatchNormalization(t, b1, b2, b3, b4)  u = Conv<{WINDOW}>(x, w4, b0)"
            "  y = Sub(b, u)",
    }.items()
}  # fmt: skip
SIGNS = "  ".join(f"s{at} = Sign(v{at})  v{at + 1} = Add(s{at}, x)" for at in range(8))
CASES["rows: eight Signs of 80 numbers"] = f"float[1,4,4,5] x | v0 = Neg(x)  {SIGNS}  y = Neg(v8)"


def _conv(args: str, group: int = 1) -> str:
    return C32.format(group=group, args=args)


# Pairs and triples of nodes, each of which alone is right.
COMBINED: dict[str, str] = {
    "pair: (Conv + a) + b": f"{BLOCKS} | c = {_conv('x, w32')}  s = Add(c, a)  y = Add(s, b)",
    "pair: b + (Conv + a)": f"{BLOCKS} | c = {_conv('x, w32')}  s = Add(c, a)  y = Add(b, s)",
    "pair: (a + Conv) + Conv": f"{BLOCKS} | c = {_conv('x, w32')}  s = Add(a, c)  d = {_conv('b, w32')}  y = Add(s, d)",
    "pair: Conv + (a + Conv)": f"{BLOCKS} | c = {_conv('x, w32')}  s = Add(a, c)  d = {_conv('b, w32')}  y = Add(d, s)",
    "pair: (Conv + a) - (-b)": f"{BLOCKS} | c = {_conv('x, w32')}  s = Add(c, a)  n = Neg(b)  y = Sub(s, n)",
    "pair: Relu(Conv + a) + b": f"{BLOCKS} | c = {_conv('x, w32')}  s = Add(c, a)  r = Relu(s)  y = Add(r, b)",
    **{
        f"pair: {op} of Conv and {shape}": f"{BLOCKS} | c = {_conv('x, w32')}  y = {op}(c, {name})"
        for op in ("Add", "Sub", "Mul", "Div")
        for shape, name in (
            ("[C,1,1]", "c32x1x1"), ("[H,W]", "side8x8"), ("[1,H,W]", "plane8x8"), ("[C,H,W]", "block32x8x8"),
            ("[1,C,1,1]", "n1x32x1x1"), ("[1,1,H,W]", "n1x1x8x8"), ("[W]", "line8"), ("a scalar", "two"),
        )
    },
    "pair: Mul of Conv and a computed [C,1,1]":
        f"{BLOCKS} | c = {_conv('x, w32')}  e = Exp(c32x1x1)  m = ReduceMax<axes = [0, 2, 3], keepdims = 0>(a)"
        "  u = Unsqueeze<axes = [1, 2]>(m)  v = Mul(u, e)  y = Mul(c, v)",
    **{
        f"pair: {op} of {count} and a rank of 4":
            f"{BLOCKS} | r = Relu(x)  y = {op}({', '.join(islice(cycle(('r', 'a', 'b')), count))})"
        for op in ("Max", "Min", "Sum")
        for count in (2, 3, 4, 5)
    },
    **{
        f"pair: {op}(a, a) of {what}": f"{BLOCKS} | r = Relu(x)  {after}"
        for op in ("Add", "Sub", "Mul", "Div")
        for what, after in (
            ("a value that nothing else reads", f"y = {op}(r, r)"),
            ("a value that is read again", f"q = {op}(r, r)  y = Add(q, r)"),
            ("a value and its copy", f"k = Mul(r, one)  y = {op}(r, k)"),
        )
    },
    **{
        f"pair: Conv{' with' if first else ' without'} bias{relu and ', Relu'},"
        f" depthwise Conv{' with' if second else ' without'} bias":
            f"{BLOCKS} | c = {POINT}(x, wpoint32{first})  {relu and 'r = Relu(c)  '}"
            f"y = {_conv(('r' if relu else 'c') + ', wdepth32' + second, 32)}"
        for first in ("", ", bias32")
        for second in ("", ", other32")
        for relu in ("", "Relu")
    },
    "pair: Conv, depthwise Conv with the same bias":
        f"{BLOCKS} | c = {POINT}(x, wpoint32, bias32)  y = {_conv('c, wdepth32, bias32', 32)}",
    "pair: Shape, Gather of [i], Concat of three, Reshape":
        f"{BLOCKS} | r = Relu(x)  s = Shape(r)  n = Gather<axis = 0>(s, i0)  t = Concat<axis = 0>(n, i4, i8, m1)"
        "  y = Reshape(r, t)",
    "pair: Shape, Gather of i, Unsqueeze, Concat of three, Reshape":
        f"{BLOCKS} | r = Relu(x)  s = Shape(r)  n = Gather<axis = 0>(s, s0)  u = Unsqueeze<axes = [0]>(n)"
        "  t = Concat<axis = 0>(u, i4, i8, m1)  y = Reshape(r, t)",
    "pair: Shape, Slice, Concat of three, Reshape":
        f"{BLOCKS} | r = Relu(x)  s = Shape(r)  n = Slice(s, i0, i1)  t = Concat<axis = 0>(n, i4, i8, m1)"
        "  y = Reshape(r, t)",
    "pair: Shape, Slice of two, Mul with [k], Concat, Expand":
        f"{BLOCKS} | r = Relu(x)  s = Shape(r)  n = Slice(s, i2, i4)  d = Mul(n, i1)  t = Concat<axis = 0>(i1, i32, d)"
        "  y = Expand(r, t)",
    "pair: Shape, Slice of two, Mul with [k, k], Concat, Expand":
        f"{BLOCKS} | r = Relu(x)  s = Shape(r)  n = Slice(s, i2, i4)  d = Mul(n, i11)  t = Concat<axis = 0>(i1, i32, d)"
        "  y = Expand(r, t)",
}  # fmt: skip
BINARY = ("Add", "Sub", "Mul", "Div", "Equal", "Greater", "Less")


def body_of(name: str) -> str:
    """`signature | body` of a probe: written above, or spelled out by its name."""
    if name in COMBINED:
        body = COMBINED[name].partition(" | ")[2]
        read = [x for x in "xab" if re.search(rf"[(, ]{x}[,)]", body)]
        return f"{', '.join(f'float[1,32,8,8] {x}' for x in read)} | {body}"
    if name in CASES:
        return CASES[name] if " | " in CASES[name] else f"{X} | {CASES[name]}"
    words = name.split()
    if found := re.fullmatch(r"Resize11 (\w+) (\w+)(?: (\w+))? (scales2 4D|sizes 4D|sizes)", name):
        mode, coordinates, rounding, sizes = found.groups()
        given = "doubled" if sizes == "scales2 4D" else "none, larger"
        return f"{X} | {RESIZE.format(mode, coordinates, rounding or 'floor', given)}"
    if found := re.fullmatch(r"Cast11 (\w+)->(\w+)", name):
        return f"{KINDS[found[1]]}[2,3] x | y = Cast<to = {onnx.TensorProto.DataType.Value(found[2])}>(x)"
    if found := re.fullmatch(r"(Reduce\w+?)11 axes\[2,3\] keepdims1", name):
        return f"{X} | y = {found[1]}<axes = [2, 3], keepdims = 1>(x)"
    if found := re.fullmatch(r"([A-Z]\w+?)1[13] (fp32|int64|int32)(?: broadcast)?", name):
        op, kind = found[1], KINDS[found[2]]
        if op in BINARY:
            return f"{kind}[1,8,6,7] x, {kind}[7] z | y = {op}(x, z)"
        return f"{kind}[1,8,6,7] x | y = {op}(x)"
    raise KeyError(f"no model for the probe '{name}' ({words})")


def model_of(probe: Mapping[str, Any]) -> onnx.ModelProto:
    """The model that a probe describes, with constants in place; types and shapes of outputs are left to inference."""
    signature, _, body = body_of(probe["name"]).partition(" | ")
    head = f'<ir_version: 9, opset_import: ["" : {probe["opset"]}, "mmcv" : 1]>'
    model: onnx.ModelProto = onnx.parser.parse_model(f"{head} g ({signature}) => (float y) {{ {body} }}")
    inner = [a.g.node for node in model.graph.node for a in node.attribute if a.HasField("g")]
    read = [name for nodes in (model.graph.node, *inner) for node in nodes for name in node.input]
    for name in dict.fromkeys(name for name in read if name in CONSTANTS):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(CONSTANTS[name]), name))
    return model
