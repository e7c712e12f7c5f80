"""A graph of an opset newer than a target's, in the target's: most ops mean the same, the others have exact rules."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from segc.errors import Code, SourceError
from segc.graph import ir
from segc.passes.base import Pass
from segc.passes.legalize.attention import LegalizeAttention
from segc.passes.legalize.group_normalization import LegalizeGroupNormalization
from segc.passes.legalize.lower_opset import LowerOpset

NEWEST = 20  # that every runtime of segc's knows
_PER_CHANNEL = 21  # the opset from which on GroupNormalization scales channels, before that groups


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own ops that a model imports."""
    return next(int(o.version) for o in model.opset_import if o.domain in ir.STANDARD)


def at_most(model: onnx.ModelProto, newest: int) -> onnx.ModelProto:
    """The model, which may be changed, at the opset `newest` if its own is newer. Raises SourceError."""
    if opset_of(model) <= newest:
        return model
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    lower_newer(graph, newest)
    return ir.to_model(graph, origins=True)


def lower_newer(graph: gs.Graph, newest: int) -> list[str]:
    """Bring a graph with types and shapes to opset `newest`, in place, if its own is newer.

    Returns what was done, in a line. Raises SourceError with the nodes that have no form there.
    """
    before = int(graph.opset)
    if before <= newest:
        return []
    expanding: list[Pass] = [LegalizeAttention()]
    if newest < _PER_CHANNEL <= before:
        expanding.append(LegalizeGroupNormalization())
    reasons = [skip.reason for step in expanding for skip in step.run(graph).skips]
    lowered = LowerOpset(newest).run(graph)
    if graph.opset > newest:
        raise SourceError(
            f"the model uses opset {before}", code=Code.ONNX_OPSET,
            because=[*(f"'{skip.node}': {skip.reason}" for skip in lowered.skips), *reasons],
            so=f"export it for opset {newest}",
        )  # fmt: skip
    ir.name_all(graph)
    ir.infer_shapes(graph)
    return [f"converted from opset {before} to {newest}"]
