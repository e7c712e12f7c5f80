"""Random graphs of what the clean-up passes move, merge and remove, grown from a seed."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs


def grown(seed: int) -> gs.Graph:
    """A random graph of what the clean-up moves about: transposes, reshapes, slices, pads, arithmetic by element."""
    rng = np.random.default_rng(seed)
    x = gs.Variable("x", np.float32, (1, 2, 3, 4))
    nodes: list[gs.Node] = []
    tensors: list[gs.Variable] = [x]

    def constant(name: str, value: object, dtype: type = np.int64) -> gs.Constant:
        return gs.Constant(f"{name}{len(nodes)}", np.array(value, dtype))

    def add(op: str, inputs: list[gs.Tensor], shape: list[int], **attrs: object) -> None:
        y = gs.Variable(f"t{len(nodes)}", np.float32, shape)
        nodes.append(gs.Node(op, f"n{len(nodes)}", attrs, inputs, [y]))
        tensors.append(y)

    for _ in range(int(rng.integers(3, 14))):
        t = tensors[int(rng.integers(max(0, len(tensors) - 3), len(tensors)))]
        shape, dims = [int(s) for s in t.shape], len(t.shape)
        kind = int(rng.integers(0, 10))
        axis = int(rng.integers(0, dims))
        if kind <= 2:
            order = [int(a) for a in rng.permutation(dims)]
            add("Transpose", [t], [shape[a] for a in order], perm=order)
        elif kind == 3:
            made: list[int] = []
            total = math.prod(shape)
            while total > 1 and len(made) < 4:
                made.append(int(rng.choice([d for d in (1, 2, 3, 4, 6) if total % d == 0])))
                total //= made[-1]
            add("Reshape", [t, constant("s", [*made, total])], [*made, total])
        elif kind == 4:
            add("Unsqueeze", [t, constant("a", [axis])], [*shape[:axis], 1, *shape[axis:]])
        elif kind == 5:
            add("Relu", [t], shape)
        elif kind == 6:
            width = [shape[-1]] if rng.integers(0, 2) else []
            add("Add", [t, gs.Constant(f"c{len(nodes)}", rng.standard_normal(width).astype(np.float32))], shape)
        elif kind == 7:
            add("Softmax", [t], shape, axis=axis)
        elif kind == 8 and shape[axis] > 1:
            bounds = [constant("f", [1]), constant("e", [shape[axis]]), constant("x", [axis])]
            add("Slice", [t, *bounds], [s - (at == axis) for at, s in enumerate(shape)])
        else:
            others = [o for o in tensors if list(o.shape) == shape]
            other = others[int(rng.integers(0, len(others)))]
            add("Concat", [t, other], [s * (1 + (at == axis)) for at, s in enumerate(shape)], axis=axis)
        if math.prod(tensors[-1].shape) > 4096:
            break
    ends = [t for t in tensors[1:] if not t.outputs]
    return gs.Graph(nodes, [x], ends, opset=17, ir_version=9)
