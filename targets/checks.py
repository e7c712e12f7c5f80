"""Checks for capability tables. A check returns the reason why the target refuses a node, or None."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

Check = Callable[[gs.Node], str | None]  # None: accepted; otherwise the reason, in a few words
BoundaryCheck = Callable[[gs.Tensor], str | None]  # the same for a tensor that enters or leaves a segment


def worded(check: Check, words: str) -> Check:
    """`check`, which is described by these words: what it accepts, for `segc explain`."""
    check.__doc__ = words
    return check


def condition(check: Callable[..., object]) -> str:
    """What a check, or the function that makes it, accepts: the first line of its docstring."""
    lines = (check.__doc__ or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def static_map(tensor: gs.Tensor) -> str | None:
    """Accept float32 tensors of four axes of known size, which every engine can take and return."""
    if tensor.dtype != np.float32:
        return f"'{tensor.name}' is {tensor.dtype}, not float32"
    if tensor.shape is None or len(tensor.shape) != 4:
        return f"'{tensor.name}' does not have four axes"
    static = all(isinstance(size, (int, np.integer)) for size in tensor.shape)
    return None if static else f"the size of '{tensor.name}' is not fixed"


def any_tensor(_: gs.Tensor) -> str | None:
    """Accept every tensor, for runtimes whose engines take and return any ONNX type and shape."""
    return None


def attr_is(name: str, want: object, default: object) -> Check:
    """Attribute `name` must equal `want`; `default`: ONNX's, for nodes without the attribute."""

    def check(node: gs.Node) -> str | None:
        value = node.attrs.get(name, default)
        return None if value == want else f"{name}={value!r}, only {want!r} is supported"

    return worded(check, f"{name} is {want!r}.")


def attr_in(name: str, wanted: frozenset[object], default: object) -> Check:
    """Attribute `name` must be one of `wanted`; `default`: ONNX's, for nodes without the attribute."""

    def check(node: gs.Node) -> str | None:
        value = node.attrs.get(name, default)
        return None if value in wanted else f"{name}={value!r}, supported are {', '.join(sorted(map(repr, wanted)))}"

    return worded(check, f"{name} is one of {', '.join(sorted(map(repr, wanted)))}.")


def input_dtype(index: int, *wanted: type) -> Check:
    """Input number `index` must have one of these NumPy types; an unknown type passes."""
    names = {np.dtype(t).name for t in wanted}

    def check(node: gs.Node) -> str | None:
        if index >= len(node.inputs) or node.inputs[index].dtype is None:
            return None
        name = np.dtype(node.inputs[index].dtype).name
        return None if name in names else f"input {index} is {name}, supported are {', '.join(sorted(names))}"

    return worded(check, f"Input {index} is {', '.join(sorted(names))}.")


def constant_input(index: int) -> Check:
    """Input number `index`, where present, must be a constant."""

    def check(node: gs.Node) -> str | None:
        if index >= len(node.inputs) or node.inputs[index].is_empty() or isinstance(node.inputs[index], gs.Constant):
            return None
        return f"input {index} is computed at run time, only a constant is supported"

    return worded(check, f"Input {index} is a constant.")


def no_subgraph(node: gs.Node) -> str | None:
    """The node contains no subgraph: control flow is refused."""
    return "contains a subgraph" if any(True for _ in node.subgraphs()) else None
