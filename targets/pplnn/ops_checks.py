"""The checks that rules of capabilities.json name. Each returns the reason why a node is refused, or None.

The names in `CHECKS` and the parameters of its functions are those of the JSON file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs

from segc.passes.support.builder import text
from segc.passes.support.edit import ints, optional, rank, small_constant
from segc.passes.support.reductions import blocks_break
from segc.passes.support.resize_kinds import kind_of
from segc.targets.checks import Check, worded
from segc.targets.pplnn.pair_checks import PAIR_CHECKS


def inputs(types: Sequence[str], at: Sequence[int] | str = (0,)) -> Check:
    """The inputs number `at` ("*": all) have one of these types; an unknown type is refused."""

    def check(node: gs.Node) -> str | None:
        indices = range(len(node.inputs)) if at == "*" else at
        for index in indices:
            tensor = optional(node, int(index))
            if tensor is not None and (type_ := _type(tensor)) not in types:
                return f"input {index} is {type_}, supported are {', '.join(types)}"
        return None

    return check


def outputs(types: Sequence[str]) -> Check:
    """The outputs have one of these types; an unknown type passes."""

    def check(node: gs.Node) -> str | None:
        found = [_type(t) for t in node.outputs if not t.is_empty() and t.dtype is not None]
        return next((f"output is {t}, supported are {', '.join(types)}" for t in found if t not in types), None)

    return check


def casts_to(types: Sequence[str]) -> Check:
    """The Cast is to one of these types."""

    def check(node: gs.Node) -> str | None:
        target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(int(node.attrs["to"]))).name
        return None if target in types else f"casts to {target}, supported are {', '.join(types)}"

    return check


def few_unnamed_outputs() -> Check:
    """At most one output of the node has no name. PPLNN refuses two in the whole graph, which a node cannot see."""

    def check(node: gs.Node) -> str | None:
        unnamed = [t for t in node.outputs if t.is_empty()]
        return f"{len(unnamed)} of its outputs have no name" if len(unnamed) > 1 else None

    return check


def nothing_empty(may: Mapping[str, Sequence[int]]) -> Check:
    """Every input has elements; may: per op the inputs that need none."""

    def check(node: gs.Node) -> str | None:
        for index, tensor in enumerate(node.inputs):
            if not tensor.is_empty() and 0 in (tensor.shape or ()) and index not in may.get(node.op, ()):
                return f"input {index} has no elements"
        return None

    return check


def has(names: Sequence[str]) -> Check:
    """These attributes are present."""

    def check(node: gs.Node) -> str | None:
        missing = [name for name in names if name not in node.attrs]
        return f"no attribute {', '.join(missing)}" if missing else None

    return check


def lacks(names: Sequence[str]) -> Check:
    """None of these attributes is present."""

    def check(node: gs.Node) -> str | None:
        found = [name for name in names if name in node.attrs]
        return f"has {', '.join(found)}" if found else None

    return check


def attribute(name: str, wanted: Sequence[Any], default: Any) -> Check:
    """The attribute has one of these values."""

    def check(node: gs.Node) -> str | None:
        value = node.attrs.get(name, default)
        value = value.decode() if isinstance(value, bytes) else value
        return None if value in wanted else f"{name}={value!r}, supported is {' or '.join(map(repr, wanted))}"

    return check


def ones(name: str) -> Check:
    """Every element of the attribute is 1."""

    def check(node: gs.Node) -> str | None:
        values = list(node.attrs.get(name, ()))
        return f"{name}={values}, supported is 1" if any(v != 1 for v in values) else None

    return check


def given(at: Sequence[int]) -> Check:
    """The inputs number `at` are present."""

    def check(node: gs.Node) -> str | None:
        missing = [str(index) for index in at if optional(node, index) is None]
        return f"input {', '.join(missing)} is missing" if missing else None

    return check


def all_outputs(count: int) -> Check:
    """The node has `count` outputs, each with a name."""

    def check(node: gs.Node) -> str | None:
        named = sum(not t.is_empty() for t in node.outputs)
        return None if named == count else f"{named} of {count} outputs have names"

    return check


def _rank_check(at: Sequence[int], accepted: Callable[[int], bool], wanted: str) -> Check:
    def check(node: gs.Node) -> str | None:
        for index in at:
            axes = rank(node.inputs[index])
            if axes is None:
                return f"input {index} has an unknown number of axes"
            if not accepted(axes):
                return f"input {index} has {axes} axes, supported are {wanted}"
        return None

    return check


def rank_in(allowed: Sequence[int]) -> Check:
    """Input 0 has one of these numbers of axes."""
    return _rank_check([0], lambda axes: axes in allowed, " and ".join(map(str, allowed)))


def least_rank(at: Sequence[int], least: int) -> Check:
    """The inputs number `at` have at least `least` axes."""
    return _rank_check(at, lambda axes: axes >= least, f"{least} and more")


def symmetric_pads() -> Check:
    """The pads before and after each axis are equal."""

    def check(node: gs.Node) -> str | None:
        pads = list(node.attrs.get("pads", ()))
        half = len(pads) // 2
        return None if pads[:half] == pads[half:] else f"pads={pads} are not symmetric"

    return check


def no_auto_pad() -> Check:
    """The pads are explicit, since PPLNN ignores auto_pad."""

    def check(node: gs.Node) -> str | None:
        auto_pad = text(node, "auto_pad", "NOTSET")
        return None if auto_pad == "NOTSET" else f"PPLNN ignores auto_pad={auto_pad!r}"

    return check


def no_output_padding() -> Check:
    """The size of a ConvTranspose's result follows from kernel, strides and pads alone."""

    def check(node: gs.Node) -> str | None:
        if any(node.attrs.get("output_padding", ())):
            return f"PPLNN ignores output_padding={list(node.attrs['output_padding'])}"
        return "PPLNN ignores output_shape" if "output_shape" in node.attrs else None

    return check


def resize_kind(kinds: Sequence[Sequence[str]]) -> Check:
    """The pair (mode, coordinate_transformation_mode) of the Resize is one of these."""
    allowed = {(mode, coordinates) for mode, coordinates in kinds}

    def check(node: gs.Node) -> str | None:
        kind = kind_of(node)
        pair = (kind.mode, kind.coordinates)
        shown = ", ".join(f"{mode} {coordinates}" for mode, coordinates in sorted(allowed))
        return None if pair in allowed else f"resizes {' '.join(pair)}, supported are {shown}"

    return check


def floors() -> Check:
    """A nearest Resize rounds down."""

    def check(node: gs.Node) -> str | None:
        kind = kind_of(node)
        floor = kind.mode != "nearest" or kind.rounding == "floor"
        return None if floor else f"nearest_mode={kind.rounding!r}, supported is 'floor'"

    return check


def usual_cubic() -> Check:
    """A cubic Resize is PyTorch's: cubic_coeff_a is -0.75 and exclude_outside 0."""

    def check(node: gs.Node) -> str | None:
        kind = kind_of(node)
        if kind.mode != "cubic" or (abs(kind.cubic_coeff_a + 0.75) < 1e-6 and not kind.exclude_outside):
            return None
        values = f"cubic_coeff_a={kind.cubic_coeff_a:g}, exclude_outside={int(kind.exclude_outside)}"
        return f"{values}, supported are -0.75 and 0"

    return check


def spatial_resize() -> Check:
    """A Resize keeps axes 0 and 1; where that cannot be seen it passes."""

    def check(node: gs.Node) -> str | None:
        scales, sizes, x = optional(node, 2), optional(node, 3), node.inputs[0]
        factors = None if scales is None else small_constant(scales)
        if factors is not None and factors.size:
            return "resizes axes 0 and 1" if list(factors.flat[:2]) != [1, 1] else None
        target = ints(sizes)
        if target is None or x.shape is None:
            return None
        pairs = zip(target[:2], x.shape[:2], strict=False)
        return "resizes axes 0 and 1" if any(isinstance(old, int) and new != old for new, old in pairs) else None

    return check


def not_negative(at: int) -> Check:
    """Input number `at` has no negative elements; one that is computed at run time passes."""

    def check(node: gs.Node) -> str | None:
        values = ints(optional(node, at))
        return f"input {at} is {values}, negative values are not supported" if values and min(values) < 0 else None

    return check


def plain_axes() -> Check:
    """The axes of a Slice are constant, not negative and ascending."""

    def check(node: gs.Node) -> str | None:
        tensor = optional(node, 3)
        if tensor is None:
            return None
        axes = ints(tensor)
        if axes is None:
            return "axes are computed at run time"
        return None if min(axes) >= 0 and axes == sorted(axes) else f"axes={axes} are negative or not ascending"

    return check


def recast(output: int) -> Check:
    """Only Casts read this output, whose type on the device is not the one that ONNX defines."""

    def check(node: gs.Node) -> str | None:
        users = [user.op for user in node.outputs[output].outputs if user.op != "Cast"]
        return f"{', '.join(users)} reads output {output} without a Cast" if users else None

    return check


def channel_slope() -> Check:
    """A PRelu has one slope per channel, or one for all."""

    def check(node: gs.Node) -> str | None:
        x, slope = node.inputs[0], node.inputs[1]
        if slope.shape is None or x.shape is None:
            return "the shape of the slope is unknown"
        sizes = [1] * (len(x.shape) - len(slope.shape)) + list(slope.shape)
        per_channel = all(size == 1 for axis, size in enumerate(sizes) if axis != 1)
        return None if per_channel else f"slope of shape {list(slope.shape)}, supported is one per channel"

    return check


def axes_or_flat() -> Check:
    """A reduction has axes, or keepdims=0."""

    def check(node: gs.Node) -> str | None:
        without_axes = "axes" not in node.attrs and node.attrs.get("keepdims", 1)
        return "no axes with keepdims=1" if without_axes else None

    return check


def ascending_axes() -> Check:
    """The axes of a reduction with keepdims=0 ascend."""

    def check(node: gs.Node) -> str | None:
        axes, count = list(node.attrs.get("axes", ())), rank(node.inputs[0])
        not_negative = [axis + count if axis < 0 and count is not None else axis for axis in axes]
        if node.attrs.get("keepdims", 1) or not_negative == sorted(not_negative):
            return None
        return f"axes={axes} do not ascend, with keepdims=0"

    return check


def whole_blocks() -> Check:
    """A reduction of other than the last axes leaves no remainder that its kernel loses."""

    def check(node: gs.Node) -> str | None:
        if not blocks_break(node):
            return None
        return f"reduces axes before the last ones of {list(node.inputs[0].shape)}"

    return check


def gives_something() -> Check:
    """The result is not known to be empty."""

    def check(node: gs.Node) -> str | None:
        shape = node.outputs[0].shape
        return f"its result of shape {list(shape)} is empty" if shape is not None and 0 in shape else None

    return check


def overruns() -> Check:
    """Never right: the kernel writes beyond its result, and only what lies there decides whether it shows."""

    def check(_: gs.Node) -> str | None:
        return "writes beyond its result"

    return check


def of_opset(opset: int) -> Check:
    """The node is valid in this opset: the op, its attributes and its number of inputs."""

    def check(node: gs.Node) -> str | None:
        if node.domain:
            return None
        try:
            schema = onnx.defs.get_schema(node.op, opset)
        except onnx.defs.SchemaError:
            return f"opset {opset} has no {node.op}"
        if extra := sorted(set(node.attrs) - set(schema.attributes)):
            return f"opset {opset} has no attribute {', '.join(extra)}"
        if len(node.inputs) > schema.max_input:
            return f"{len(node.inputs)} inputs, opset {opset} has {schema.max_input}"
        return None

    return worded(check, f"Opset {opset} has the op, its attributes and as many inputs.")


def _type(tensor: gs.Tensor) -> str:
    return "of unknown type" if tensor.dtype is None else str(np.dtype(tensor.dtype).name)


CHECKS: dict[str, Callable[..., Check]] = {
    **PAIR_CHECKS,
    "inputs": inputs,
    "outputs": outputs,
    "casts_to": casts_to,
    "few_unnamed_outputs": few_unnamed_outputs,
    "nothing_empty": nothing_empty,
    "has": has,
    "lacks": lacks,
    "attribute": attribute,
    "ones": ones,
    "given": given,
    "all_outputs": all_outputs,
    "rank": rank_in,
    "least_rank": least_rank,
    "symmetric_pads": symmetric_pads,
    "no_auto_pad": no_auto_pad,
    "no_output_padding": no_output_padding,
    "resize_kind": resize_kind,
    "floors": floors,
    "usual_cubic": usual_cubic,
    "spatial_resize": spatial_resize,
    "not_negative": not_negative,
    "plain_axes": plain_axes,
    "recast": recast,
    "channel_slope": channel_slope,
    "axes_or_flat": axes_or_flat,
    "ascending_axes": ascending_axes,
    "whole_blocks": whole_blocks,
    "gives_something": gives_something,
    "overruns": overruns,
}
