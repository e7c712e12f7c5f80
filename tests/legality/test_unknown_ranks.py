"""Every op of every target's table answers for tensors whose rank or sizes nothing is known of: a reason, or None."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import defs

from segc import targets

SHAPES: tuple[list[int | str] | None, ...] = (None, [1, 4, 8, 8], ["N", 4, "H", "W"])


def nodes(op: str, opset: int) -> Iterator[gs.Node]:
    """Nodes with every number of inputs and outputs that ONNX allows, up to five and three, of mixed ranks."""
    schema = defs.get_schema(op, opset)
    kinds = {name: attribute.type for name, attribute in schema.attributes.items() if attribute.required}
    attrs = {name: [1, 1] if kind == defs.OpSchema.AttrType.INTS else 1 for name, kind in kinds.items()}
    counts = product(
        range(schema.min_input, min(schema.max_input, 5) + 1), range(schema.min_output, min(schema.max_output, 3) + 1)
    )
    for (many_inputs, many_outputs), taken, given in product(counts, SHAPES, SHAPES):
        inputs = [gs.Variable(f"x{i}", np.float32, taken) for i in range(many_inputs)]
        # the first output is known in half of the nodes, since shape inference may know one and not the other
        outputs = [gs.Variable(f"y{i}", np.float32, given if i else taken) for i in range(many_outputs)]
        yield gs.Node(op, "n", attrs, inputs, outputs)


def opset_of(target: targets.Target) -> int:
    return target.file_opset or target.opset


@pytest.mark.parametrize("name", targets.names())
def test_every_op_answers(name: str) -> None:
    target = targets.get(name)
    asked = 0
    for op in target.ops:
        if "::" in op or not defs.has(op, opset_of(target)):
            continue
        for node in nodes(op, opset_of(target)):
            reason = target.why_not(node)
            assert reason is None or reason, node
            asked += 1
    assert asked > 500
