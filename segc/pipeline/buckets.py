"""One graph specialized to several sizes: copies that share their weights."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from segc.graph import source_info
from segc.passes.inputs.specialize_shapes import SpecializeShapes
from segc.passes.support import evaluate

Bucket = tuple[int | None, int | None, int | None]


def specialize(source: gs.Graph, buckets: Sequence[Bucket]) -> list[gs.Graph]:
    """One graph per bucket (N, H, W), specialized to it; None keeps a size as it is.

    source: with types and shapes of all tensors; it is not modified. The graphs share its weights: a bucket only adds
    nodes and shapes, so do not modify a model afterwards. Raises ValueError, which names the bucket and the size that
    disagrees. Cost: one SpecializeShapes per bucket.
    """
    graphs = []
    for bucket in buckets:
        graph = shared_copy(source)
        try:
            SpecializeShapes(*bucket).run(graph)
        except ValueError as error:
            wanted = " x ".join("any" if size is None else str(size) for size in bucket)
            raise ValueError(f"bucket {wanted}: {error}") from error
        graph.cleanup(remove_unused_graph_inputs=False).toposort()
        graphs.append(graph)
    return graphs


def shared_copy(graph: gs.Graph) -> gs.Graph:
    """A copy with its own nodes and tensors that shares the arrays of the constants."""
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant):
            tensor.values = evaluate.array(tensor)  # read once, so that the copies share one array
    copy = graph.copy()
    for node, former in zip(copy.nodes, graph.nodes, strict=True):
        source_info.put(node, source_info.of(former))
    return copy
