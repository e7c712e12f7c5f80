"""Fuse a MatMul and the Add of its bias into one Gemm.

    MatMul(x, W) + b  ->  Gemm(x, W, b),   x: M x K, W: K x N, b a constant of N, 1 x N or one element

Exact except for the rounding of sums: Gemm may start with b where Add ended with it. One node less, the same constants.

Must not fire: x of another rank (Gemm takes matrices, and a Reshape on both sides costs what the fusion saves); a
computed bias of M x N; integers, for which few runtimes have Gemm; a product that is an output or used elsewhere; a
bias that broadcasts the product to a larger shape.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import protected, prune, rank


class FuseMatmulAdd(Pass):
    """Fuse MatMul of two matrices and a constant bias into Gemm. Cost: one walk over the nodes."""

    name = "fuse-matmul-add"
    algebra = "MatMul(x, W) + b  ->  Gemm(x, W, b), for matrices"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed"}
    invalidates = REVEALED | {"batchnorms fused"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each Add where it stands."""
        result, protected_ids = PassResult(), protected(graph)
        for node in [n for n in graph.nodes if n.op == "Add" and n.domain is None and len(n.inputs) == 2]:
            product_index = next((i for i in (0, 1) if _is_product(node.inputs[i])), None)
            if product_index is None or not isinstance(node.inputs[1 - product_index], gs.Constant):
                continue
            product, bias = node.inputs[product_index], node.inputs[1 - product_index]
            if why := _why_not(product, bias, protected_ids):
                result.skip(node, why)
                continue
            matmul = product.inputs[0]
            attrs = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
            node.op, node.attrs, node.inputs = "Gemm", attrs, [*matmul.inputs, bias]
            prune(graph, matmul, protected_ids)
            result.changes += 1
        return result


def _is_product(tensor: gs.Tensor) -> bool:
    return bool(tensor.inputs) and tensor.inputs[0].op == "MatMul" and tensor.inputs[0].domain is None


def _why_not(product: gs.Tensor, bias: gs.Constant, protected_ids: set[int]) -> str | None:
    x, w = product.inputs[0].inputs
    if rank(x) != 2 or rank(w) != 2:
        return f"the product has rank {rank(product)}, but Gemm takes matrices"
    if id(product) in protected_ids or len(product.outputs) != 1:
        return f"'{product.name}' is also used elsewhere"
    if product.dtype is None or np.dtype(product.dtype).kind != "f":
        return f"the type of the product is {product.dtype}"
    if len(bias.shape) > 2 or (len(bias.shape) == 2 and bias.shape[0] != 1):
        return f"the bias has shape {list(bias.shape)}"
    size, out_features = int(np.prod(bias.shape)), w.shape[1]
    return None if size in (1, out_features) else f"the bias has shape {list(bias.shape)}"
