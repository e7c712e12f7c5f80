"""NetBuilder: builds an ncnn net while ONNX nodes are lowered one by one.

Every ONNX tensor has one blob, in the shape that layout.py assigns. A lowering that needs the tensor in another shape
asks for that shape and gets a Reshape. It ends with `bind`, which checks the result against the shape that ONNX infers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.targets.ncnn.lower.layout import dims, layout_of
from segc.targets.ncnn.lower.registry import lowering_of
from segc.targets.ncnn.lower.size_expressions import computes_sizes
from segc.targets.ncnn.net import layer_checks_maps  # noqa: F401 - registers its checks
from segc.targets.ncnn.net.layer_checks import INFERRED, check
from segc.targets.ncnn.net.net import (
    Blob,
    Layer,
    Net,
    Param,
    Refused,
    Shape,
    Weight,
    compatible,
    element_count,
    require,
    shape_text,
)
from segc.targets.ncnn.net.reshape_params import same_sizes, size_params

MAX_EXACT_INT = 2**24  # float32 represents every integer up to here
MAX_NAME_LENGTH = 200  # ncnn reads names of up to 255 characters


class NetBuilder:
    """Builds a net node by node.

    single_node: invent blobs for tensors that no layer computes, so that one node can be lowered out of its graph.
    """

    def __init__(self, *, single_node: bool = False) -> None:
        self.net = Net()
        self.single_node = single_node
        self.node: gs.Node | None = None
        self._blobs: dict[int, Blob] = {}  # by the tensor's id, in the shape of its layout
        self._reshaped: dict[tuple[int, Shape], Blob] = {}  # by the tensor's id and the shape
        self._names: set[str] = set()
        self._new_blobs: set[int] = set()  # ids of the blobs that the current node's layers compute

    def lower(self, node: gs.Node) -> None:
        """Append the layers of one node; none for a node that only computes sizes. Raises Refused."""
        if computes_sizes(node):
            return
        for tensor in (*node.inputs, *node.outputs):
            require(tensor.is_empty() or tensor.shape is not None, f"the rank of '{tensor.name}' is not known")
        self.node, self._new_blobs = node, set()
        lowering_of(node)(self, node)

    # tensors to blobs

    def blob(self, tensor: gs.Tensor) -> Blob:
        """The tensor's blob, in the shape of its layout."""
        return self.as_shape(tensor, layout_of(tensor).shape)

    def as_shape(self, tensor: gs.Tensor, shape: Shape) -> Blob:
        """The tensor as a blob of this shape, which has the same number of elements."""
        if (cached := self._reshaped.get((id(tensor), shape))) is not None:
            return cached
        if isinstance(tensor, gs.Constant):
            blob = self.add_constant(f"{tensor.name}", float32_values(tensor), shape)
        else:
            own = self._blob_of_variable(tensor)
            blob = own if own.shape == shape else self.reshape(own, shape, tensor.name)
        self._reshaped[id(tensor), shape] = blob
        return blob

    def align_axes(self, tensor: gs.Tensor, sizes: Sequence[Any], axes: Iterable[int]) -> Blob:
        """The tensor with leading axes of size 1 up to the rank of `sizes`, reduced to `axes`.

        The axes left out must have size 1 in the tensor. Raises Refused otherwise.
        """
        missing = len(sizes) - len(tensor.shape)
        require(missing >= 0, f"'{tensor.name}' has more axes than the result")
        aligned = (1,) * missing + dims(tensor.shape)
        kept = list(axes)
        dropped = [size for axis, size in enumerate(aligned) if axis not in kept]
        require(
            all(size == 1 for size in dropped),
            f"'{tensor.name}' is {shape_text(aligned)}, and ncnn's layout of the result lacks one of its axes",
        )
        return self.as_shape(tensor, tuple(aligned[axis] for axis in kept) or (1,))

    def _blob_of_variable(self, tensor: gs.Tensor) -> Blob:
        if (blob := self._blobs.get(id(tensor))) is not None:
            return blob
        require(self.single_node, f"no layer computes '{tensor.name}'")
        require_numeric(tensor)
        blob = Blob(self.free_name(tensor.name or "x"), layout_of(tensor).shape)
        self._blobs[id(tensor)] = blob
        return blob

    def add_constant(self, name: str, values: np.ndarray, shape: Shape) -> Blob:
        """Append a MemoryData layer, which holds a constant."""
        return self._append("MemoryData", [self.free_name(name)], (), [Weight(values)], size_params(shape))[0]

    def add_input(self, tensor: gs.Tensor) -> Blob:
        """Append the Input layer of a graph input."""
        shape = layout_of(tensor).shape
        blob = Blob(self.free_name(tensor.name), shape)
        self.net.layers.append(Layer("Input", blob.name, [], [blob], size_params(shape)))
        self._blobs[id(tensor)] = blob
        return blob

    # layers

    def add_layer(
        self, type_: str, role: str, inputs: Sequence[Blob], *, weights: Sequence[Weight] = (), **params: Any
    ) -> Blob:
        """Append a layer with one output, named after the node's first output and `role`."""
        return self._append(type_, [self._role_name(role)], inputs, weights, params)[0]

    def add_multi_output(self, type_: str, roles: Sequence[str], inputs: Sequence[Blob], **params: Any) -> list[Blob]:
        """Append a layer with one output per role."""
        return self._append(type_, [self._role_name(role) for role in roles], inputs, (), params)

    def add_unary(self, role: str, blob: Blob, op_type: int) -> Blob:
        """Append a UnaryOp; op_type: a value of `params.UNARY`."""
        return self.add_layer("UnaryOp", role, [blob], op_type=op_type)

    def reshape(self, blob: Blob, shape: Shape, role: str) -> Blob:
        """`blob` reshaped; the blob itself when it has this shape already."""
        if blob.shape == shape:
            return blob
        params = size_params(shape)
        if shape.count(None) == 1:
            params = size_params(tuple(INFERRED if size is None else size for size in shape))
        elif None in shape:
            params = {"shape_expr": same_sizes(blob.shape, shape)}
        return self._append("Reshape", [self.free_name(f"{role}_{shape_text(shape)}")], [blob], (), params)[0]

    def _role_name(self, role: str) -> str:
        assert self.node is not None
        return self.free_name(f"{self.node.outputs[0].name}_{role}")

    def _append(
        self,
        type_: str,
        names: Sequence[str],
        inputs: Sequence[Blob],
        weights: Sequence[Weight],
        params: Mapping[str, Param],
    ) -> list[Blob]:
        """Append a layer, named after its first output, and infer the shapes of its outputs."""
        outputs = [Blob(name, (1,)) for name in names]
        node_name = self.node.name if self.node is not None else ""
        layer = Layer(type_, names[0], list(inputs), outputs, dict(params), list(weights), node_name)
        for blob, shape in zip(outputs, check(layer), strict=True):
            blob.shape = shape
            self._new_blobs.add(id(blob))
        self.net.layers.append(layer)
        return outputs

    # results

    def bind(self, tensor: gs.Tensor, blob: Blob) -> None:
        """Let `blob` be the value of the node's output `tensor`, in any row-major shape of it. Raises Refused."""
        require_numeric(tensor)
        wanted = layout_of(tensor).shape
        if not compatible(blob.shape, wanted):
            count, wanted_count = element_count(blob.shape), element_count(wanted)
            require(
                count is None or wanted_count is None or count == wanted_count,
                f"'{tensor.name}' would be {shape_text(blob.shape)}, ONNX says {shape_text(wanted)}",
            )
            blob = self.reshape(blob, wanted, tensor.name)
        # ONNX may infer a size that ncnn computes only at run time
        blob.shape = tuple(size if own is None else own for own, size in zip(blob.shape, wanted, strict=True))
        if id(blob) in self._new_blobs and id(blob) not in {id(b) for b in self._blobs.values()}:
            self._rename(blob, tensor.name)
        self._blobs[id(tensor)] = blob

    def _rename(self, blob: Blob, name: str) -> None:
        layer = next(layer for layer in reversed(self.net.layers) if any(b is blob for b in layer.outputs))
        self._names.discard(blob.name)
        new_name = self.free_name(name)
        if layer.name == blob.name:
            layer.name = new_name
        blob.name = new_name

    def free_name(self, wanted: str) -> str:
        """An unused blob name: printable ASCII without blanks, short enough for ncnn."""
        name = re.sub(r"[^\x21-\x7e]", "_", wanted) or "_"
        if len(name) > MAX_NAME_LENGTH:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            name = f"{name[: MAX_NAME_LENGTH - 9]}_{digest}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def require_numeric(tensor: gs.Tensor) -> None:
    """Raise Refused unless the tensor's type is float32, an integer or bool, which ncnn holds as float32."""
    dtype = None if tensor.dtype is None else np.dtype(tensor.dtype)
    require(dtype is not None, f"the type of '{tensor.name}' is unknown")
    allowed = dtype == np.float32 or (dtype is not None and dtype.kind in "iub")
    require(allowed, f"'{tensor.name}' is {dtype}, ncnn's layers compute in float32")


def float32_values(tensor: gs.Constant) -> np.ndarray:
    """A constant's values as float32, without a copy where they are float32 already. Raises Refused if inexact."""
    values: np.ndarray = tensor.values
    if values.dtype == np.float32:
        return values
    if values.dtype.kind in "iub":
        largest = max((abs(int(v)) for v in (values.min(), values.max())), default=0) if values.size else 0
        require(largest <= MAX_EXACT_INT, f"'{tensor.name}' holds {largest}, which float32 cannot represent exactly")
        return values.astype(np.float32)
    raise Refused(f"'{tensor.name}' is {values.dtype}, ncnn's layers compute in float32")


def why_not(node: gs.Node) -> str | None:
    """Why this node cannot be lowered on its own; None when it can. Cost: one lowering, nothing is written."""
    try:
        NetBuilder(single_node=True).lower(node)
    except Refused as refusal:
        return str(refusal)
    return None
