"""Remove nodes that return their input.

The following become x: Identity(x); Dropout(x) in inference; Cast to the type of x; Concat of one tensor; Transpose
with perm 0..n-1; Pad by 0; Slice from 0 to the end with step 1; Reshape and Expand to the shape of x; Resize to the
size of x (by numbers, or by symbols if the size is computed); Split into one part; x + 0, x - 0, x * 1 and x / 1 (also
with arrays of zeros or ones, such as an empty bias); Cast(Cast(x, wide), type of x) if `wide` holds every value of x;
sum, mean, largest, least and product over axes of size 1 that are kept, or that an Unsqueeze of x put there.

Must not fire: a Slice with step -1 keeps the shape but mirrors; a Resize whose scales are not exactly 1 may keep the
shape and still move samples, as does tf_half_pixel_for_nn; x + 0 broadcasts where the constant has a larger shape;
0 - x and 1 / x are not identities; a Dropout with training_mode drops.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.dtypes import dtype_of, holds
from segc.passes.support.edit import (
    forward,
    ints,
    optional,
    protected,
    rank,
    reaches,
    same_shape,
    same_symbols,
    scalar,
    small_constant,
)
from segc.passes.support.slices import slice_bounds


class RemoveIdentities(Pass):
    """Remove nodes that return their input unchanged; -0.0 + 0 counts as unchanged. Cost: one walk over the nodes."""

    name = "remove-identities"
    algebra = "Identity(x), Cast to the same type, no-op Reshape/Transpose/Pad/Slice/Resize, x + 0, x * 1, ...  ->  x"
    requires = Pass.requires | {PORTABLE, "constants folded"}
    ensures = frozenset({"identities removed"})
    invalidates = REVEALED | {"pads merged", "batchnorms fused", "convolutions hoisted"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph; removing one node can only help later ones."""
        result, protected_ids = PassResult(), protected(graph)
        for node in list(graph.nodes):
            source = None if node.domain or not node.outputs else identity_source(node, graph.opset)
            if source is None or any(t.outputs or id(t) in protected_ids for t in node.outputs[1:]):
                continue
            if why := forward(graph, node.outputs[0], source, protected_ids):
                result.skip(node, why)
                continue
            node.inputs.clear()
            node.outputs.clear()
            result.changes += 1
        if result.changes:
            graph.nodes = [n for n in graph.nodes if n.outputs]
        return result


def identity_source(node: gs.Node, opset: int) -> gs.Tensor | None:
    """The input that the node returns unchanged, None if there is none."""
    rule = RULES.get(node.op)
    return rule(node, opset) if rule is not None and node.inputs else None


def first_input_if(condition: Callable[[gs.Node], bool]) -> Callable[[gs.Node, int], gs.Tensor | None]:
    """A rule that returns the first input if `condition` holds, otherwise None."""
    return lambda node, opset: node.inputs[0] if condition(node) else None


def _cast(node: gs.Node, _: int) -> gs.Tensor | None:
    x, to = node.inputs[0], dtype_of(node.attrs["to"])
    if to is not None and x.dtype is not None and dtype_of(x.dtype) == to:
        return x
    if x.inputs and x.inputs[0].op == "Cast" and x.inputs[0].domain is None:
        source = x.inputs[0].inputs[0]
        if source.dtype is not None and dtype_of(source.dtype) == to and holds(dtype_of(x.dtype), to):
            return source
    return None


def _dropout(node: gs.Node) -> bool:
    training = optional(node, 2)
    return training is None or (scalar(training) == 0)


def _transpose(node: gs.Node) -> bool:
    perm = node.attrs.get("perm")
    if perm is None:
        return rank(node.inputs[0]) in (0, 1)
    return list(perm) == sorted(perm)


def _pad(node: gs.Node) -> bool:
    pads = node.attrs.get("pads", ints(optional(node, 1)))
    return pads is not None and all(p == 0 for p in pads)


def _reshape(node: gs.Node) -> bool:
    """Whether the shapes are equal. At most one size may be unknown: the element count determines it."""
    x, y = node.inputs[0].shape, node.outputs[0].shape
    if x is None or y is None or len(x) != len(y):
        return False
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if not (isinstance(a, int) and isinstance(b, int))]
    known = [(a, b) for a, b in zip(x, y, strict=True) if isinstance(a, int) and isinstance(b, int)]
    return len(pairs) <= 1 and all(a == b for a, b in known) and (not pairs or all(a > 0 for a, _ in known))


def _slice(node: gs.Node) -> bool:
    shape = node.inputs[0].shape
    bounds = slice_bounds(node)

    def whole(start: int, end: int, axis: int, step: int) -> bool:
        size = shape[axis] if shape is not None else None
        return start == 0 and step == 1 and (end >= 2**31 - 1 or (isinstance(size, int) and end >= size))

    return bounds is not None and all(whole(*each) for each in zip(*bounds, strict=True))


def _resize(node: gs.Node) -> bool:
    if node.attrs.get("coordinate_transformation_mode") in ("tf_crop_and_resize", "tf_half_pixel_for_nn"):
        return False
    scales = optional(node, 2) if len(node.inputs) > 2 else optional(node, 1)
    if scales is not None and scales.shape is not None and list(scales.shape) != [0]:
        value = small_constant(scales)
        return value is not None and bool(np.all(value == 1))
    if ints(optional(node, 3)) is None:
        return same_symbols(node.inputs[0], node.outputs[0])
    return same_shape(node.inputs[0], node.outputs[0])


def _neutral(value: float, *, right_only: bool) -> Callable[[gs.Node, int], gs.Tensor | None]:
    def rule(node: gs.Node, _: int) -> gs.Tensor | None:
        for constant_index in (1,) if right_only else (1, 0):
            x = node.inputs[1 - constant_index]
            if (
                all_equal(node.inputs[constant_index], value)
                and rank(x) is not None
                and broadcasts_into(x, node.inputs[constant_index])
            ):
                return x
        return None

    return rule


def all_equal(tensor: gs.Tensor, value: float) -> bool:
    """Whether the tensor is a small constant whose every element is `value`."""
    values = small_constant(tensor)
    return values is not None and values.size > 0 and values.dtype.kind in "iuf" and bool(np.all(values == value))


def broadcasts_into(x: gs.Tensor, constant: gs.Tensor) -> bool:
    """Whether the constant broadcasts into `x` without enlarging it."""
    return (int(np.prod(constant.shape)) == 1 and len(constant.shape) <= len(x.shape)) or reaches(
        x.shape, constant.shape
    )


def _reduction(node: gs.Node, _: int) -> gs.Tensor | None:
    """The input of a reduction over axes of size 1, or what an Unsqueeze of these very axes read."""
    x = node.inputs[0]
    axes, shape = _axes(node, x), x.shape
    if axes is None or shape is None or any(shape[axis] != 1 for axis in axes):
        return None
    if node.attrs.get("keepdims", 1):
        return x
    before = x.inputs[0] if x.inputs and not x.inputs[0].domain else None
    if before is None or before.op != "Unsqueeze" or _axes(before, x) != axes:
        return None
    return before.inputs[0]


def _axes(node: gs.Node, x: gs.Tensor) -> set[int] | None:
    """The axes that a node names, from the front of `x`. None if it names none, or they are computed."""
    given, count = node.attrs.get("axes", ints(optional(node, 1))), rank(x)
    return None if not given or count is None else {axis % count for axis in given}


def _expand(node: gs.Node) -> bool:
    return ir.static_shape(node.outputs[0]) is not None and same_shape(node.inputs[0], node.outputs[0])


RULES: dict[str, Callable[[gs.Node, int], gs.Tensor | None]] = {
    "Identity": first_input_if(lambda node: True),
    "Dropout": first_input_if(_dropout),
    "Cast": _cast,
    "Concat": first_input_if(lambda node: len(node.inputs) == 1),
    "Split": first_input_if(lambda node: len(node.outputs) == 1),
    "Transpose": first_input_if(_transpose),
    "Pad": first_input_if(_pad),
    "Reshape": first_input_if(_reshape),
    "Expand": first_input_if(_expand),
    "Slice": first_input_if(_slice),
    "Resize": first_input_if(_resize),
    "Add": _neutral(0, right_only=False),
    "Sub": _neutral(0, right_only=True),
    "Mul": _neutral(1, right_only=False),
    "Div": _neutral(1, right_only=True),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), _reduction),
}
