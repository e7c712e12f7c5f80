"""layers.txt: the source of each layer, beside the .param file, whose format has no comments."""

from __future__ import annotations

from pathlib import Path

import onnx_graphsurgeon as gs

from segc.graph import source_info
from segc.targets.ncnn.net.net import Net, shape_text

FILE = "layers.txt"
HEAD = "# number  layer  type  its outputs as c x d x h x w  |  ONNX node  |  line of the model\n"


def write_layer_list(net: Net, graph: gs.Graph, path: Path) -> None:
    """One line for each layer of the .param file, in its order."""
    sources = {node.name: source_info.of(node) for node in graph.nodes}
    lines = []
    for number, layer in enumerate(net.layers):
        shapes = ", ".join(shape_text(blob.shape) for blob in layer.outputs[:1])
        line_of_model = sources.get(layer.node)
        origin = f"  |  {layer.node}  |  {line_of_model}" if line_of_model is not None else ""
        lines.append(f"{number:4}  {layer.name}  {layer.type}  {shapes}{origin}")
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8", newline="\n")
