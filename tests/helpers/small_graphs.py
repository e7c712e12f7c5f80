"""Small random graphs, to compare analyses with brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from hypothesis import strategies as st


@st.composite
def graphs(draw: Any, most: int = 8) -> gs.Graph:
    """A sorted graph of unnamed ops over one or two inputs; tensors have sizes of 1 to 9 floats."""
    inputs = [gs.Variable(f"x{i}", np.float32, [draw(st.integers(1, 9))]) for i in range(draw(st.integers(1, 2)))]
    tensors, nodes = list(inputs), []
    for at in range(draw(st.integers(1, most))):
        read = draw(st.lists(st.sampled_from(tensors), min_size=0 if draw(st.integers(0, 9)) == 0 else 1, max_size=3))
        made = [
            gs.Variable(f"t{at}_{i}", np.float32, [draw(st.integers(1, 9))]) for i in range(draw(st.integers(1, 2)))
        ]
        nodes.append(gs.Node(draw(st.sampled_from("AB")), f"n{at}", inputs=read, outputs=made))
        tensors += made
    outputs = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=2, unique_by=id))
    return gs.Graph(nodes, inputs, outputs)
