"""Checks that capability tables are made of: each gives the reason why a node is refused, or None."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

Check = Callable[[gs.Node], str | None]  # None: fine; otherwise the reason, in a few words
BoundaryCheck = Callable[[gs.Tensor], str | None]


def static_map(tensor: gs.Tensor) -> str | None:
    """What every engine takes and gives: float32 of four axes, all of known size."""
    if tensor.dtype != np.float32:
        return f"'{tensor.name}' is {tensor.dtype}, not float32"
    if tensor.shape is None or len(tensor.shape) != 4:
        return f"'{tensor.name}' does not have four axes"
    fixed = all(isinstance(size, (int, np.integer)) for size in tensor.shape)
    return None if fixed else f"the size of '{tensor.name}' is not fixed"


def any_tensor(_: gs.Tensor) -> str | None:
    """For runtimes that exchange whatever ONNX has."""
    return None


def attr_is(name: str, want: object, default: object) -> Check:
    """Attribute `name` must equal `want`; ONNX's `default` counts when it is absent."""

    def check(node: gs.Node) -> str | None:
        got = node.attrs.get(name, default)
        return None if got == want else f"{name}={got!r}, only {want!r} is supported"

    return check


def attr_in(name: str, wanted: frozenset[object], default: object) -> Check:
    """Attribute `name` must be one of `wanted`."""

    def check(node: gs.Node) -> str | None:
        got = node.attrs.get(name, default)
        return None if got in wanted else f"{name}={got!r}, supported are {', '.join(sorted(map(repr, wanted)))}"

    return check


def input_dtype(at: int, *wanted: type) -> Check:
    """Input number `at` must have one of these NumPy types (unknown types pass: inference has the last word)."""
    names = {np.dtype(t).name for t in wanted}

    def check(node: gs.Node) -> str | None:
        if at >= len(node.inputs) or node.inputs[at].dtype is None:
            return None
        got = np.dtype(node.inputs[at].dtype).name
        return None if got in names else f"input {at} is {got}, supported are {', '.join(sorted(names))}"

    return check


def constant_input(at: int) -> Check:
    """Input number `at`, where present, must be a constant."""

    def check(node: gs.Node) -> str | None:
        if at >= len(node.inputs) or node.inputs[at].is_empty() or isinstance(node.inputs[at], gs.Constant):
            return None
        return f"input {at} is computed at run time, only a constant is supported"

    return check


def no_subgraph(node: gs.Node) -> str | None:
    """Control flow is refused."""
    return "contains a subgraph" if any(True for _ in node.subgraphs()) else None
