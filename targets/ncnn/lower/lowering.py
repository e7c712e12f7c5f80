"""From ONNX nodes to ncnn layers: what the rows (rows_*.py) work with.

Each ONNX tensor has one blob in the shape that layout.py gives it; a row that needs another shape of it asks for one,
and gets a Reshape. A row ends with `put`, which holds the result to the shape that ONNX says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.targets.ncnn.lower.layout import Layout, dims, layout_of
from segc.targets.ncnn.lower.size_expressions import LETTERS, is_size
from segc.targets.ncnn.net import layer_checks_maps as layer_checks_maps  # registers what it checks
from segc.targets.ncnn.net.layer_checks import REST, check
from segc.targets.ncnn.net.net import Blob, Layer, Net, Param, Refused, Shape, Weight, agree, require, text, total

EXACT_INTS = 2**24  # integers up to here are float32
NAME_LENGTH = 200  # ncnn reads names of up to 255 characters

Spell = Callable[["Emission", gs.Node], None]
ROWS: dict[str, Spell] = {}


def row(*ops: str) -> Callable[[Spell], Spell]:
    """Register the spelling of these ONNX ops ("domain::Op" for other domains)."""

    def register(spell: Spell) -> Spell:
        for op in ops:
            assert op not in ROWS, op
            ROWS[op] = spell
        return spell

    return register


def key(node: gs.Node) -> str:
    """The name of a node's row."""
    return f"{node.domain}::{node.op}" if node.domain else str(node.op)


class Emission:
    """A net that grows node by node. alone: blobs of tensors that no layer makes yet are made up, to try a node."""

    def __init__(self, *, alone: bool = False) -> None:
        self.net = Net()
        self.alone = alone
        self.node: gs.Node | None = None
        self._blobs: dict[int, Blob] = {}
        self._shaped: dict[tuple[int, Shape], Blob] = {}
        self._names: set[str] = set()
        self._made: set[int] = set()  # blobs of the node at hand

    def spell(self, node: gs.Node) -> None:
        """Add the layers of one node, none where it computes sizes. Raises Refused."""
        if is_size(node):
            return
        self.node, self._made = node, set()
        ROWS[key(node)](self, node)

    # tensors in

    def blob(self, tensor: gs.Tensor) -> Blob:
        """The tensor in the shape of its layout."""
        return self.shaped(tensor, layout_of(tensor).shape)

    def layout(self, tensor: gs.Tensor) -> Layout:
        """Its layout."""
        return layout_of(tensor)

    def shaped(self, tensor: gs.Tensor, shape: Shape) -> Blob:
        """The tensor in this shape of as many elements."""
        if (found := self._shaped.get((id(tensor), shape))) is not None:
            return found
        if isinstance(tensor, gs.Constant):
            made = self.memory(f"{tensor.name}", numbers(tensor), shape)
        else:
            own = self._own(tensor)
            made = own if own.shape == shape else self.reshape(own, shape, tensor.name)
        self._shaped[id(tensor), shape] = made
        return made

    def arranged(self, tensor: gs.Tensor, sizes: Sequence[Any], axes: Iterable[int]) -> Blob:
        """The tensor, broadcast to the rank of `sizes` by axes of size 1 in front, with these axes only.

        The axes left out must have size 1 in the tensor.
        """
        missing = len(sizes) - len(tensor.shape)
        require(missing >= 0, f"'{tensor.name}' has more axes than the result")
        padded = (1,) * missing + dims(tensor.shape)
        chosen = list(axes)
        left = [size for at, size in enumerate(padded) if at not in chosen]
        require(all(size == 1 for size in left), f"'{tensor.name}' is {text(padded)}, but not all its axes are there")
        return self.shaped(tensor, tuple(padded[at] for at in chosen) or (1,))

    def _own(self, tensor: gs.Tensor) -> Blob:
        if (found := self._blobs.get(id(tensor))) is not None:
            return found
        require(self.alone, f"no layer makes '{tensor.name}'")
        numeric(tensor)
        made = Blob(self.name(tensor.name or "x"), layout_of(tensor).shape)
        self._blobs[id(tensor)] = made
        return made

    def memory(self, name: str, values: np.ndarray, shape: Shape) -> Blob:
        """A constant as a layer."""
        return self._add("MemoryData", [self.name(name)], (), [Weight(values)], sides(shape))[0]

    def input(self, tensor: gs.Tensor) -> Blob:
        """The network's input."""
        shape = layout_of(tensor).shape
        blob = Blob(self.name(tensor.name), shape)
        self.net.layers.append(Layer("Input", blob.name, [], [blob], sides(shape)))
        self._blobs[id(tensor)] = blob
        return blob

    # layers

    def layer(
        self, type_: str, role: str, inputs: Sequence[Blob], *, weights: Sequence[Weight] = (), **params: Any
    ) -> Blob:
        """One layer with one output, named after the node's first output and `role`."""
        return self._add(type_, [self._role(role)], inputs, weights, params)[0]

    def layers(self, type_: str, roles: Sequence[str], inputs: Sequence[Blob], **params: Any) -> list[Blob]:
        """One layer with an output for each role."""
        return self._add(type_, [self._role(role) for role in roles], inputs, (), params)

    def _role(self, role: str) -> str:
        assert self.node is not None
        return self.name(f"{self.node.outputs[0].name}_{role}")

    def _add(
        self,
        type_: str,
        names: Sequence[str],
        inputs: Sequence[Blob],
        weights: Sequence[Weight],
        params: Mapping[str, Param],
    ) -> list[Blob]:
        """A layer named after its first output."""
        outputs = [Blob(name, (1,)) for name in names]
        served = self.node.name if self.node is not None else ""
        layer = Layer(type_, names[0], list(inputs), outputs, dict(params), list(weights), served)
        for blob, shape in zip(outputs, check(layer), strict=True):
            blob.shape = shape
            self._made.add(id(blob))
        self.net.layers.append(layer)
        return outputs

    def reshape(self, blob: Blob, shape: Shape, role: str) -> Blob:
        """`blob` with this shape; itself when it has it."""
        if blob.shape == shape:
            return blob
        params = sides(shape)
        if shape.count(None) == 1:
            params = {**sides(tuple(REST if size is None else size for size in shape))}
        elif None in shape:
            params = {"shape_expr": same_sizes(blob.shape, shape)}
        return self._add("Reshape", [self.name(f"{role}_{text(shape)}")], [blob], (), params)[0]

    def unary(self, role: str, blob: Blob, op: int) -> Blob:
        """UnaryOp."""
        return self.layer("UnaryOp", role, [blob], op_type=op)

    # results

    def put(self, tensor: gs.Tensor, blob: Blob) -> None:
        """`blob` is what the node computes for `tensor`; any row-major shape of it will do."""
        numeric(tensor)
        wanted = layout_of(tensor).shape
        if not agree(blob.shape, wanted):
            given, count = total(blob.shape), total(wanted)
            require(
                given is None or count is None or given == count,
                f"'{tensor.name}' would be {text(blob.shape)}, ONNX says {text(wanted)}",
            )
            blob = self.reshape(blob, wanted, tensor.name)
        # ONNX may know a size that ncnn computes at run time
        blob.shape = tuple(size if have is None else have for have, size in zip(blob.shape, wanted, strict=True))
        if id(blob) in self._made and id(blob) not in {id(b) for b in self._blobs.values()}:
            self._rename(blob, tensor.name)
        self._blobs[id(tensor)] = blob

    def _rename(self, blob: Blob, name: str) -> None:
        layer = next(layer for layer in reversed(self.net.layers) if any(b is blob for b in layer.outputs))
        self._names.discard(blob.name)
        new = self.name(name)
        if layer.name == blob.name:
            layer.name = new
        blob.name = new

    def name(self, wanted: str) -> str:
        """A blob name that is free: no blanks, no more than ncnn reads."""
        name = re.sub(r"[^\x21-\x7e]", "_", wanted) or "_"
        if len(name) > NAME_LENGTH:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            name = f"{name[: NAME_LENGTH - 9]}_{digest}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def sides(shape: Shape) -> dict[str, Param]:
    """A shape as the parameters c, d, h and w, as far as it is known."""
    return {name: size for name, size in zip(LETTERS[len(shape)], shape, strict=True) if size is not None}


def same_sizes(given: Shape, wanted: Shape) -> str:
    """An expression for a shape that differs from the given one by axes of size 1 only. Raises Refused otherwise."""
    own = [f"0{letter}" for letter, size in zip(LETTERS[len(given)], given, strict=True) if size != 1]
    require(
        agree(tuple(s for s in given if s != 1), tuple(s for s in wanted if s != 1)),
        f"reshaping {text(given)} to {text(wanted)} needs sizes known at run time only",
    )
    return ",".join(["1" if size == 1 else own.pop() for size in reversed(wanted)])


def numeric(tensor: gs.Tensor) -> None:
    """Raise Refused for what floats cannot stand in for."""
    dtype = None if tensor.dtype is None else np.dtype(tensor.dtype)
    require(dtype is not None, f"the type of '{tensor.name}' is unknown")
    allowed = dtype == np.float32 or (dtype is not None and dtype.kind in "iub")
    require(allowed, f"'{tensor.name}' is {dtype}, ncnn's layers compute in float32")


def numbers(tensor: gs.Constant) -> np.ndarray:
    """A constant as float32, by reference where it is that already."""
    values: np.ndarray = tensor.values
    if values.dtype == np.float32:
        return values
    if values.dtype.kind in "iub":
        largest = max((abs(int(v)) for v in (values.min(), values.max())), default=0) if values.size else 0
        require(largest <= EXACT_INTS, f"'{tensor.name}' holds {largest}, which no float32 is exactly")
        return values.astype(np.float32)
    raise Refused(f"'{tensor.name}' is {values.dtype}, ncnn's layers compute in float32")


def why_not(node: gs.Node) -> str | None:
    """Why this node alone cannot be spelled, None when it can."""
    try:
        Emission(alone=True).spell(node)
    except Refused as reason:
        return str(reason)
    return None
