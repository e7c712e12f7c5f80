"""What rules for older opsets share: the node they read, the node they return, and ONNX's definitions of ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.defs
import onnx.helper
import onnx_graphsurgeon as gs

from segc.passes.support.builder import Builder, RewriteNotApplicable
from segc.passes.support.edit import ints, optional, rank

_TYPE_NAMES = {"float32": "float", "float64": "double", "object": "string", "str": "string"}


@dataclass
class OlderNode:
    """A node in the older opset: it replaces the op, the attributes and the inputs of the node, in place."""

    op: str
    attrs: dict[str, Any]
    inputs: list[gs.Tensor]


@dataclass
class Site:
    """A node whose op is defined differently in the two opsets. `build` makes further nodes, if a rule needs them."""

    node: gs.Node
    opset: int
    newer: onnx.defs.OpSchema
    older: onnx.defs.OpSchema | None  # None: the op does not exist in the older opset
    build: Builder

    def input(self, index: int) -> gs.Tensor | None:
        """Input `index`, None if it is omitted."""
        return optional(self.node, index)

    def constant(self, index: int, what: str) -> list[int] | None:
        """Input `index` as ints, None if it is omitted. Raises RewriteNotApplicable if it is computed."""
        tensor = self.input(index)
        values = ints(tensor)
        if tensor is not None and values is None:
            raise RewriteNotApplicable(f"its {what} are computed at run time")
        return values


# Returns the node in the older opset, or the tensor that `site.build` makes in place of the node.
# Raises RewriteNotApplicable.
Rule = Callable[[Site], OlderNode | gs.Tensor]


def schema(op: str, opset: int) -> onnx.defs.OpSchema | None:
    """The definition of `op` in force at `opset`, None if there is none."""
    try:
        return onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return None


def first_opset(op: str) -> int:
    """The opset that introduced a standard op."""
    definitions = onnx.defs.get_all_schemas_with_history()
    return min(d.since_version for d in definitions if d.name == op and not d.domain)


def same_op(site: Site) -> OlderNode:
    """The same node, without attributes at the default of the newer op.

    Raises RewriteNotApplicable if the older op differs.
    """
    if site.older is None:
        raise RewriteNotApplicable(f"opset {site.opset} has no {site.node.op}")
    return OlderNode(site.node.op, older_attributes(site, dict(site.node.attrs)), list(site.node.inputs))


def older_attributes(site: Site, attrs: dict[str, Any]) -> dict[str, Any]:
    """`attrs` as the older op takes them.

    Raises RewriteNotApplicable for an attribute that the older op lacks and that is not at its default.
    """
    assert site.older is not None
    for name in [name for name in attrs if name not in site.older.attributes]:
        default = default_of(site.newer, name)
        if default is None or as_text(attrs[name]) != default:
            raise RewriteNotApplicable(f"{name}={as_text(attrs[name])!r} has no form in opset {site.opset}")
        del attrs[name]
    for name in site.older.attributes:
        default = default_of(site.newer, name)
        if name not in attrs and default is not None and default != default_of(site.older, name):
            attrs[name] = default
    return attrs


def default_of(definition: onnx.defs.OpSchema, name: str) -> Any:
    """The default of an attribute, None if it has none."""
    if name not in definition.attributes:
        return None
    proto = definition.attributes[name].default_value
    return as_text(onnx.helper.get_attribute_value(proto)) if proto.type else None


def as_text(value: Any) -> Any:
    """Bytes as text, any other value unchanged."""
    return value.decode() if isinstance(value, bytes) else value


def why_invalid(definition: onnx.defs.OpSchema, op: str, node: OlderNode, outputs: Sequence[gs.Tensor]) -> str | None:
    """Why this node does not satisfy `definition`, None if it does."""
    if extra := sorted(set(node.attrs) - set(definition.attributes)):
        return f"{op} has no {', '.join(extra)}"
    if len(node.inputs) > definition.max_input or len(outputs) > definition.max_output:
        return f"{op} takes {definition.max_input} inputs and returns {definition.max_output} outputs"
    bound_types: dict[str, str] = {}
    for formals, tensors in ((definition.inputs, node.inputs), (definition.outputs, outputs)):
        for index, tensor in enumerate(tensors):
            formal = formals[min(index, len(formals) - 1)]
            if getattr(tensor, "type", "") == "sequence_type" and not any(t.startswith("seq") for t in formal.types):
                return f"{op} takes no sequence"
            if tensor.is_empty() or tensor.dtype is None:
                continue
            name = type_name(tensor.dtype)
            if formal.types and name not in formal.types:
                return f"{op} takes no {name}"
            if formal.is_homogeneous and bound_types.setdefault(formal.type_str, name) != name:
                return f"{op} takes no {name} beside {bound_types[formal.type_str]}"
    return None


def type_name(dtype: Any) -> str:
    """ONNX's name of a tensor type, such as tensor(float)."""
    name = np.dtype(dtype).name
    return f"tensor({_TYPE_NAMES.get(name, name)})"


def known_rank(tensor: gs.Tensor) -> int:
    """The rank. Raises RewriteNotApplicable if it is unknown."""
    dims = rank(tensor)
    if dims is None:
        raise RewriteNotApplicable(f"the rank of '{tensor.name}' is unknown")
    return dims
