"""The conditions a rule of the capability table may name. Each gives the reason for a "no" in a few words, or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs

from segc.passes.support.builder import text
from segc.passes.support.edit import ints, optional, rank, small_constant
from segc.passes.support.residual import own_input
from segc.passes.support.resize_kinds import kind_of
from segc.targets.checks import Check

SAME = ("SAME_UPPER", "SAME_LOWER")


def inputs(types: Sequence[str], at: Sequence[int] | str = (0,)) -> Check:
    """The inputs at these places ("*": all) have one of these types; an unknown type is none of them."""

    def check(node: gs.Node) -> str | None:
        places = range(len(node.inputs)) if at == "*" else at
        for place in places:
            tensor = optional(node, int(place))
            if tensor is not None and (got := _type(tensor)) not in types:
                return f"input {place} is {got}, supported are {', '.join(types)}"
        return None

    return check


def outputs(types: Sequence[str]) -> Check:
    """Nothing of another type comes out."""

    def check(node: gs.Node) -> str | None:
        found = [_type(t) for t in node.outputs if not t.is_empty() and t.dtype is not None]
        return next((f"gives {got}, supported are {', '.join(types)}" for got in found if got not in types), None)

    return check


def casts_to(types: Sequence[str]) -> Check:
    """A Cast to one of these types."""

    def check(node: gs.Node) -> str | None:
        got = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(int(node.attrs["to"]))).name
        return None if got in types else f"casts to {got}, supported are {', '.join(types)}"

    return check


def few_unnamed_outputs() -> Check:
    """At most one node of the graph leaves an output without a name; the node itself answers for what it can see."""

    def check(node: gs.Node) -> str | None:
        unnamed = [t for t in node.outputs if t.is_empty()]
        return f"{len(unnamed)} of its outputs have no name" if len(unnamed) > 1 else None

    return check


def nothing_empty(may: Mapping[str, Sequence[int]]) -> Check:
    """No input without elements, but for these places of these ops."""

    def check(node: gs.Node) -> str | None:
        for at, tensor in enumerate(node.inputs):
            if not tensor.is_empty() and 0 in (tensor.shape or ()) and at not in may.get(node.op, ()):
                return f"input {at} has no elements"
        return None

    return check


def has(names: Sequence[str]) -> Check:
    """These attributes are written down."""

    def check(node: gs.Node) -> str | None:
        missing = [name for name in names if name not in node.attrs]
        return f"no attribute {', '.join(missing)}" if missing else None

    return check


def lacks(names: Sequence[str]) -> Check:
    """None of these attributes is there."""

    def check(node: gs.Node) -> str | None:
        found = [name for name in names if name in node.attrs]
        return f"has {', '.join(found)}" if found else None

    return check


def attribute(name: str, wanted: Sequence[Any], default: Any) -> Check:
    """The attribute has one of these values."""

    def check(node: gs.Node) -> str | None:
        got = node.attrs.get(name, default)
        got = got.decode() if isinstance(got, bytes) else got
        return None if got in wanted else f"{name}={got!r}, supported is {' or '.join(map(repr, wanted))}"

    return check


def ones(name: str) -> Check:
    """Every entry of the attribute is 1."""

    def check(node: gs.Node) -> str | None:
        got = list(node.attrs.get(name, ()))
        return f"{name}={got}, supported is 1" if any(v != 1 for v in got) else None

    return check


def given(at: Sequence[int]) -> Check:
    """These inputs are there."""

    def check(node: gs.Node) -> str | None:
        missing = [str(place) for place in at if optional(node, place) is None]
        return f"input {', '.join(missing)} is left out" if missing else None

    return check


def all_outputs(count: int) -> Check:
    """So many outputs, each with a name."""

    def check(node: gs.Node) -> str | None:
        named = sum(not t.is_empty() for t in node.outputs)
        return None if named == count else f"{named} of {count} outputs have names"

    return check


def _has_rank(at: Sequence[int], good: Callable[[int], bool], wanted: str) -> Check:
    def check(node: gs.Node) -> str | None:
        for place in at:
            dims = rank(node.inputs[place])
            if dims is None:
                return f"input {place} has an unknown number of axes"
            if not good(dims):
                return f"input {place} has {dims} axes, supported are {wanted}"
        return None

    return check


def rank_in(allowed: Sequence[int]) -> Check:
    """Input 0 has one of these numbers of axes."""
    return _has_rank([0], lambda dims: dims in allowed, " and ".join(map(str, allowed)))


def least_rank(at: Sequence[int], least: int) -> Check:
    """These inputs have at least so many axes."""
    return _has_rank(at, lambda dims: dims >= least, f"{least} and more")


def symmetric_pads() -> Check:
    """Both ends of each side are padded alike."""

    def check(node: gs.Node) -> str | None:
        pads = list(node.attrs.get("pads", ()))
        half = len(pads) // 2
        return None if pads[:half] == pads[half:] else f"pads={pads} are not symmetric"

    return check


def no_auto_pad() -> Check:
    """Padding is written down, or none."""

    def check(node: gs.Node) -> str | None:
        got = text(node, "auto_pad", "NOTSET")
        return None if got == "NOTSET" else f"auto_pad={got!r} is ignored"

    return check


def no_output_padding() -> Check:
    """The size of a ConvTranspose follows from kernel, strides and pads."""

    def check(node: gs.Node) -> str | None:
        if any(node.attrs.get("output_padding", ())):
            return f"output_padding={list(node.attrs['output_padding'])} is ignored"
        return "output_shape is ignored" if "output_shape" in node.attrs else None

    return check


def not_of_own_input(channels: int) -> Check:
    """No Add of Conv(x) and x where x has fewer channels than this: the fused kernel overwrites x while it reads it."""

    def check(node: gs.Node) -> str | None:
        x = own_input(node)
        if x is None:
            return None
        size = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
        if isinstance(size, int) and size >= channels:
            return None
        return f"adds a Conv of '{x.name}' to '{x.name}' itself ({size if size is not None else '?'} channels)"

    return check


def resize_kind(kinds: Sequence[Sequence[str]]) -> Check:
    """The pair of mode and coordinates is one of these."""
    allowed = {(mode, coordinates) for mode, coordinates in kinds}

    def check(node: gs.Node) -> str | None:
        kind = kind_of(node)
        pair = (kind.mode, kind.coordinates)
        shown = ", ".join(f"{mode} {coordinates}" for mode, coordinates in sorted(allowed))
        return None if pair in allowed else f"{' '.join(pair)} is none of {shown}"

    return check


def floors() -> Check:
    """A nearest Resize rounds down."""

    def check(node: gs.Node) -> str | None:
        kind = kind_of(node)
        return None if kind.mode != "nearest" or kind.rounding == "floor" else f"nearest_mode={kind.rounding!r}"

    return check


def usual_cubic() -> Check:
    """A cubic Resize is that of PyTorch."""

    def check(node: gs.Node) -> str | None:
        kind = kind_of(node)
        if kind.mode != "cubic" or (abs(kind.cubic_coeff_a + 0.75) < 1e-6 and not kind.exclude_outside):
            return None
        return f"cubic_coeff_a={kind.cubic_coeff_a:g}, exclude_outside={int(kind.exclude_outside)}"

    return check


def spatial_resize() -> Check:
    """A Resize changes the last two of four axes."""

    def check(node: gs.Node) -> str | None:
        scales, sizes, x = optional(node, 2), optional(node, 3), node.inputs[0]
        known = None if scales is None else small_constant(scales)
        if known is not None and known.size:
            return "scales axes 0 and 1" if list(known.flat[:2]) != [1, 1] else None
        wanted = ints(sizes)
        if (
            wanted is not None
            and x.shape is not None
            and list(wanted[:2])
            != [w if not isinstance(s, int) else s for w, s in zip(wanted, x.shape[:2], strict=False)]
        ):
            return "resizes axes 0 and 1"
        return None

    return check


def not_negative(at: int) -> Check:
    """A constant without negative entries, or a computed one."""

    def check(node: gs.Node) -> str | None:
        values = ints(optional(node, at))
        return f"input {at} is {values}, nothing below 0 is supported" if values and min(values) < 0 else None

    return check


def plain_axes() -> Check:
    """Constant axes that ascend from the front."""

    def check(node: gs.Node) -> str | None:
        tensor = optional(node, 3)
        if tensor is None:
            return None
        axes = ints(tensor)
        if axes is None:
            return "axes are computed at run time"
        return None if min(axes) >= 0 and axes == sorted(axes) else f"axes={axes} are not in order from the front"

    return check


def recast(output: int) -> Check:
    """Only Cast reads this output: its type on the device is not the one ONNX says."""

    def check(node: gs.Node) -> str | None:
        users = [user.op for user in node.outputs[output].outputs if user.op != "Cast"]
        return f"{', '.join(users)} reads output {output} without a Cast" if users else None

    return check


def channel_slope() -> Check:
    """One slope for each channel, or one for all."""

    def check(node: gs.Node) -> str | None:
        x, slope = node.inputs[0], node.inputs[1]
        if slope.shape is None or x.shape is None:
            return "the shape of the slope is unknown"
        sizes = [1] * (len(x.shape) - len(slope.shape)) + list(slope.shape)
        return None if all(s == 1 for at, s in enumerate(sizes) if at != 1) else f"slope of shape {list(slope.shape)}"

    return check


def axes_or_flat() -> Check:
    """Axes are given, unless all are reduced away."""

    def check(node: gs.Node) -> str | None:
        return "no axes with keepdims=1" if "axes" not in node.attrs and node.attrs.get("keepdims", 1) else None

    return check


def ascending_axes() -> Check:
    """Axes that are reduced away ascend."""

    def check(node: gs.Node) -> str | None:
        axes, dims = list(node.attrs.get("axes", ())), rank(node.inputs[0])
        front = [a + dims if a < 0 and dims is not None else a for a in axes]
        if node.attrs.get("keepdims", 1) or front == sorted(front):
            return None
        return f"axes={axes} do not ascend, with keepdims=0"

    return check


def of_opset(opset: int) -> Check:
    """The node is one of this opset: no attribute or input that its op does not have there."""

    def check(node: gs.Node) -> str | None:
        if node.domain:
            return None
        try:
            schema = onnx.defs.get_schema(node.op, opset)
        except onnx.defs.SchemaError:
            return f"opset {opset} has no {node.op}"
        if extra := sorted(set(node.attrs) - set(schema.attributes)):
            return f"{', '.join(extra)} is no attribute in opset {opset}"
        if len(node.inputs) > schema.max_input:
            return f"{len(node.inputs)} inputs, {schema.max_input} in opset {opset}"
        return None

    return check


def _type(tensor: gs.Tensor) -> str:
    return "of unknown type" if tensor.dtype is None else str(np.dtype(tensor.dtype).name)


CHECKS: dict[str, Callable[..., Check]] = {
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
    "not_of_own_input": not_of_own_input,
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
}
