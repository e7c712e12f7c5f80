"""The checks of capabilities.json that look at several nodes or operands, which PPLNN fuses or broadcasts wrongly.

Each returns the reason why a node is refused, or None. `PAIR_CHECKS` has the names in the JSON file.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_graphsurgeon as gs

from segc.passes.support.edit import optional, rank
from segc.passes.support.operands import (
    is_repeated,
    lower_operand,
    needs_more_operands,
    short_constant,
    takes_one_by_vector,
)
from segc.passes.support.residual import own_input, second_sum
from segc.passes.support.shared_weights import at_risk
from segc.targets.checks import Check

ACTIVATIONS = ("Relu", "Clip")  # that PPLNN fuses into a Conv


def not_of_own_input(channels: int) -> Check:
    """No Add of Conv(x) and x where x has fewer than `channels`: the fused kernel overwrites x while reading it."""

    def check(node: gs.Node) -> str | None:
        x = own_input(node)
        if x is None:
            return None
        size = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
        if isinstance(size, int) and size >= channels:
            return None
        return f"adds '{x.name}' to a Conv of it ({size if size is not None else '?'} channels)"

    return check


def not_a_second_sum() -> Check:
    """No Add of an Add of a Conv: PPLNN fuses both into that Conv, which has room for one."""

    def check(node: gs.Node) -> str | None:
        at = second_sum(node)
        return None if at is None else f"adds to '{node.inputs[at].name}', which is a sum of a Conv already"

    return check


def bias_beside_depthwise() -> Check:
    """Of a Conv and a depthwise Conv that reads its result, each has a bias of its own."""

    def check(node: gs.Node) -> str | None:
        bias = optional(node, 2)
        if bias is not None and len(bias.outputs) == 1:
            return None
        before, after = _conv_before(node), _conv_after(node)
        pairs = [(before, node)] * (before is not None) + [(node, after)] * (after is not None)
        if any(_is_depthwise(second) for _, second in pairs):
            return "has no bias of its own beside a depthwise Conv"
        return None

    return check


def own_weights() -> Check:
    """Nothing else reads what folding a BatchNormalization into a convolution changes or frees."""

    def check(node: gs.Node) -> str | None:
        at = at_risk(node)
        return f"'{node.inputs[at[0]].name}' is read more than once, beside a BatchNormalization" if at else None

    return check


def _conv_before(node: gs.Node) -> gs.Node | None:
    """The Conv whose result, perhaps after an activation, a Conv reads; None if another op is there."""
    producer = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    if producer is not None and producer.op in ACTIVATIONS:
        producer = producer.inputs[0].inputs[0] if producer.inputs[0].inputs else None
    return producer if producer is not None and producer.op == "Conv" else None


def _conv_after(node: gs.Node) -> gs.Node | None:
    """The only Conv that reads the result, perhaps after an activation."""
    readers = list(node.outputs[0].outputs)
    if len(readers) == 1 and readers[0].op in ACTIVATIONS:
        readers = list(readers[0].outputs[0].outputs)
    return readers[0] if len(readers) == 1 and readers[0].op == "Conv" else None


def _is_depthwise(conv: gs.Node | None) -> bool:
    if conv is None:
        return False
    group, weights = conv.attrs.get("group", 1), conv.inputs[1].shape
    return group > 1 and (weights is None or group == weights[0])


def operand_ranks() -> Check:
    """No float operand has fewer axes than the other, but two or more."""

    def check(node: gs.Node) -> str | None:
        at = lower_operand(node)
        if at is None:
            return None
        return f"input {at} has {rank(node.inputs[at])} axes, input {1 - at} has {rank(node.inputs[1 - at])}"

    return check


def distinct_operands() -> Check:
    """The operands are not the same computed tensor."""

    def check(node: gs.Node) -> str | None:
        return f"both operands are '{node.inputs[0].name}'" if is_repeated(node) else None

    return check


def more_inputs_than_axes() -> Check:
    """There are more inputs than axes, or another input with no more axes than its number."""

    def check(node: gs.Node) -> str | None:
        ranks = [axes for tensor in node.inputs if (axes := rank(tensor)) is not None]
        if len(ranks) < len(node.inputs):
            return "an input has an unknown number of axes"
        return f"{len(ranks)} inputs of {max(ranks)} axes" if needs_more_operands(ranks) else None

    return check


def size_by_number() -> Check:
    """A Gather takes a single size by a number."""

    def check(node: gs.Node) -> str | None:
        return "takes one size by a vector" if takes_one_by_vector(node) else None

    return check


def full_shape_constants() -> Check:
    """No computed int64 vector is combined with a constant of one element."""

    def check(node: gs.Node) -> str | None:
        at = short_constant(node)
        return None if at is None else f"combines {node.inputs[1 - at].shape[0]} sizes with one number"

    return check


PAIR_CHECKS: dict[str, Callable[..., Check]] = {
    "not_of_own_input": not_of_own_input,
    "not_a_second_sum": not_a_second_sum,
    "bias_beside_depthwise": bias_beside_depthwise,
    "own_weights": own_weights,
    "operand_ranks": operand_ranks,
    "distinct_operands": distinct_operands,
    "more_inputs_than_axes": more_inputs_than_axes,
    "size_by_number": size_by_number,
    "full_shape_constants": full_shape_constants,
}
