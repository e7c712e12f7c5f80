"""Graphs in which a convolution reads a Concat of channels that fill blocks and of some that do not."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, graph_of

GIVEN = "float[1,32,6,9] a, float[1,3,6,9] b, float[1,32,6,9] c"
BN = "BatchNormalization<epsilon = 0.01>({}, gamma, beta, mean, var)"
JOIN = "j = Concat<axis = 1>(a, b)"
CONV = "Conv<strides = [2, 2], pads = [1, 1, 1, 1]>({}, w, bias)"


def text(body: str, channels: int = 35, given: str = GIVEN, slope: str = "35,1,1") -> str:
    sizes = {"gamma": channels, "beta": channels, "mean": channels, "var": channels, "bias": 5}
    constants = ", ".join(f"float[{size}] {name}" for name, size in sizes.items())
    given = f"{given}, {constants}, float[5,{channels},3,3] w, float[{slope}] slope"
    return f"{HEAD} g ({given}) => (float[N,5,P,Q] y) {{ {body} }}"


def graph(body: str, channels: int = 35, given: str = GIVEN, slope: str = "35,1,1") -> gs.Graph:
    """All but a, b and c are constants."""
    made = graph_of(text(body, channels, given, slope))
    rng = np.random.default_rng(0)
    for tensor in [t for t in made.inputs if len(t.name) > 1 or t.name == "w"]:
        tensor.to_constant((0.5 + rng.random(tensor.shape)).astype(np.float32))
    made.inputs = [t for t in made.inputs if not isinstance(t, gs.Constant)]
    return made


def numbers(made: gs.Graph) -> np.ndarray:
    rng = np.random.default_rng(1)
    sizes = [[side if isinstance(side, int) else 7 for side in t.shape] for t in made.inputs]
    given = {t.name: rng.standard_normal(size).astype(np.float32) for t, size in zip(made.inputs, sizes, strict=True)}
    return np.asarray(evaluate.outputs(made, given)["y"])


STAYS = [
    (f"j = Concat<axis = 1>(a, c)  y = {CONV.format('j')}", 64, GIVEN, None),
    (f"j = Concat<axis = 1>(b, b)  y = {CONV.format('j')}", 6, GIVEN, None),
    (f"j = Concat<axis = 1>(a)  y = {CONV.format('j')}", 32, GIVEN, None),
    (f"{JOIN}  s = Sigmoid(j)  y = {CONV.format('s')}", 35, GIVEN, None),
    (f"{JOIN}  y = {CONV.format('j')}", 35, "float[1,32,6,9] a, float[1,U,6,9] b, float[1,32,6,9] c", None),
    (f"{JOIN}  y = {CONV.format('j')}", 52, GIVEN.replace("[1,3,", "[1,20,"), "20 channels"),
    (f"{JOIN}  z = {CONV.format('j')}  v = {CONV.format('j')}  y = Add(z, v)", 35, GIVEN, "'j' is also used"),
    (f"{JOIN}  p = PRelu(j, rows)  y = {CONV.format('p')}", 35, f"{GIVEN}, float[9] rows", "are per column"),
]
KERNEL = f"float[5,35,1,1] k = {{{', '.join(['1'] * 175)}}}"
COMPUTED = [
    (text(f"{JOIN}  y = {CONV.format('j')}"), "its weights are computed"),
    (
        text(f"{JOIN}  n = {BN.format('j')}  y = Conv(n, k)").replace("Q] y) {", f"Q] y) <{KERNEL}> {{"),
        "has computed parameters",
    ),
]
