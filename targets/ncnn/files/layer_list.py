"""A side file that says where each layer comes from; ncnn's own format has no comments."""

from __future__ import annotations

from pathlib import Path

import onnx_graphsurgeon as gs

from segc.graph import source_info
from segc.targets.ncnn.net.net import Net, text

FILE = "layers.txt"
HEAD = "# number  layer  type  its outputs as c x d x h x w  |  ONNX node  |  line of the model\n"


def write_comments(net: Net, graph: gs.Graph, path: Path) -> None:
    """One line for each layer of the .param file, in its order."""
    sources = {node.name: source_info.of(node) for node in graph.nodes}
    lines = []
    for at, layer in enumerate(net.layers):
        shapes = ", ".join(text(blob.shape) for blob in layer.outputs[:1])
        where = sources.get(layer.node)
        served = f"  |  {layer.node}  |  {where}" if where is not None else ""
        lines.append(f"{at:4}  {layer.name}  {layer.type}  {shapes}{served}")
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8", newline="\n")
