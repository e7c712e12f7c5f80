"""Two graphs as text, and what differs between them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping

import onnx
import onnx.helper

from segc.graph.source_info import origins


def op_counts(a: onnx.ModelProto, b: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """How often each op occurs in A and in B, by name."""
    counts = [Counter(node.op_type for node in model.graph.node) for model in (a, b)]
    return {op: (counts[0][op], counts[1][op]) for op in sorted(counts[0] | counts[1])}


def difference(a: onnx.ModelProto, b: onnx.ModelProto, names: tuple[str, str], pairs: Mapping[str, str]) -> str:
    """A unified diff of one line a node. pairs: tensors of B -> those of A, whose names B's lines have too."""
    found = difflib.unified_diff(_lines(a, {}), _lines(b, pairs), names[0], names[1], lineterm="", n=2)
    return "\n".join(found)


def _lines(model: onnx.ModelProto, called: Mapping[str, str]) -> list[str]:
    known, weights = origins(model), {tensor.name: tensor for tensor in model.graph.initializer}

    def named(name: str) -> str:
        if name in weights:
            kind = onnx.helper.tensor_dtype_to_np_dtype(weights[name].data_type)
            return f"{kind}{list(weights[name].dims)}"
        return called.get(name, name)

    def line(node: onnx.NodeProto) -> str:
        values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        texts = {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in values.items()}
        plain = [f"{k}={v}" for k, v in sorted(texts.items()) if isinstance(v, int | float | list | str)]
        given = ", ".join(map(named, node.input))
        origin = str(known.get(node.output[0], "")) if node.output else ""
        where = "" if origin in ("", "unknown origin") else f"  # {origin}"
        shown = f"<{', '.join(plain)}>" if plain else ""
        return f"{', '.join(map(named, node.output))} = {node.op_type}{shown}({given}){where}"

    return [line(node) for node in model.graph.node]
