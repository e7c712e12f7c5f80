"""The patterns that PPLNN gets wrong, crashes on or leaves uninitialised, looked for in a file by plain ONNX.

Nothing here knows the capability table or segc's IR: what the table forgets, this finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

ABSENT = {
    "Or", "GreaterOrEqual", "LessOrEqual", "LayerNormalization", "GroupNormalization", "Einsum", "Elu", "Selu", "Atan",
    "Tan", "LogSoftmax", "Size", "Trilu", "GlobalMaxPool", "GridSample", "Upsample", "Gelu", "HardSwish", "Mish",
    "CastLike", "EyeLike", "Mean", "Celu", "QuantizeLinear", "DequantizeLinear", "ReduceL1", "ReduceSumSquare",
    "ReduceLogSum", "ReduceLogSumExp", "LRN", "LpNormalization", "Softsign", "ThresholdedRelu", "IsNaN", "SpaceToDepth",
    "SplitToSequence", "SequenceAt",
}  # fmt: skip
ABSENT_ON = {
    "x86": {
        "InstanceNormalization", "Reciprocal", "GatherElements", "Round", "Mod", "Softplus", "Abs", "ReduceL2", "Xor",
        "ArgMin", "Dropout", "ReduceProd",
    },
    "cuda": {"HardSigmoid", "Sign", "Sum", "GRU", "RandomUniform"},
}  # fmt: skip
FLOAT, INT64, INT32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
TYPES = {FLOAT, TensorProto.DOUBLE, INT64, INT32, BOOL}
KIND_OF_DATA: dict[str, frozenset[int]] = {
    **dict.fromkeys(("Gather", "Transpose", "Tile", "Expand"), frozenset(TYPES - {BOOL})),
    **dict.fromkeys(("GatherND", "ScatterND"), frozenset({FLOAT, INT32})),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), frozenset({FLOAT, INT32, INT64})),
    **dict.fromkeys(("Slice", "Equal", "Greater", "Less", "Neg"), frozenset({FLOAT, INT64})),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), frozenset({FLOAT, INT64})),
    **dict.fromkeys(("TopK", "ArgMax", "DepthToSpace", "CumSum", "Resize", "Pad"), frozenset({FLOAT})),
    "NonZero": frozenset({FLOAT, BOOL}),
    "Cast": frozenset(TYPES),
}
WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
KINDS = {
    "x86": {("linear", "pytorch_half_pixel"), ("cubic", "pytorch_half_pixel"), ("nearest", "asymmetric")},
    "cuda": {
        *((m, c) for m in ("linear", "cubic") for c in ("half_pixel", "pytorch_half_pixel", "align_corners")),
        ("linear", "asymmetric"),
        ("cubic", "asymmetric"),
        ("nearest", "asymmetric"),
    },
}  # fmt: skip
Attributes = dict[str, Any]


class File:
    """A model, the constants in it, and what ONNX infers of the rest."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.nodes = model, list(model.graph.node)
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
        infos = [*graph.input, *graph.output, *graph.value_info]
        self.infos = {info.name: info.type.tensor_type for info in infos}
        self.constants = {t.name: t for t in model.graph.initializer}
        self.made = {name: node for node in self.nodes for name in node.output if name}

    def kind(self, name: str) -> int | None:
        """The element type, None when it is not known."""
        if name in self.constants:
            return int(self.constants[name].data_type)
        return int(self.infos[name].elem_type) if name in self.infos else None

    def dims(self, name: str) -> list[int | None] | None:
        """Sizes, None for one or all that are not known."""
        if name in self.constants:
            return list(self.constants[name].dims)
        if name not in self.infos or not self.infos[name].HasField("shape"):
            return None
        return [d.dim_value if d.HasField("dim_value") else None for d in self.infos[name].shape.dim]

    def value(self, name: str) -> np.ndarray | None:
        """A constant's value."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None


def violations(model: onnx.ModelProto, device: str) -> list[str]:
    """Every pattern found, with the node it is in."""
    file = File(model)
    opsets = [(o.domain, o.version) for o in model.opset_import]
    found = [] if opsets == [("", 11)] else [f"opset {opsets}"]
    found += ["functions"] * bool(model.functions) + ["sparse"] * bool(model.graph.sparse_initializer)
    for info in model.graph.input:
        found += [
            f"{info.name} has an unnamed size" for d in info.type.tensor_type.shape.dim if not d.WhichOneof("value")
        ]
    found += [f"{name} is of type {t.data_type}" for name, t in file.constants.items() if t.data_type not in TYPES]
    found += [f"{x.name} is of type {file.kind(x.name)}" for x in model.graph.input if file.kind(x.name) not in TYPES]
    found += ["two nodes with unnamed outputs"] * (sum("" in node.output for node in file.nodes) > 1)
    for node in file.nodes:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        found += [f"{node.op_type} '{node.name}': {why}" for why in _of_node(file, node, attributes, device)]
    return found


def _of_node(file: File, node: onnx.NodeProto, attributes: Attributes, device: str) -> Iterator[str]:
    op = node.op_type
    if node.domain or op in ABSENT | ABSENT_ON[device]:
        yield "no such op"
        return
    yield from (f"gives type {file.kind(y)}" for y in node.output if y and file.kind(y) not in {*TYPES, None})
    for at, name in enumerate(node.input):
        if name and 0 in (file.dims(name) or []) and (op, at) not in (("Resize", 1), ("Resize", 2)):
            yield f"input {at} is empty"
    if op in KIND_OF_DATA and file.kind(node.input[0]) not in KIND_OF_DATA[op]:
        yield f"data of type {file.kind(node.input[0])}"
    for look in LOOKS.get(op, ()):
        yield from look(file, node, attributes, device)


def _windows(file: File, node: onnx.NodeProto, a: Attributes, _: str) -> Iterator[str]:
    wanted = ("kernel_shape",) if node.op_type == "Conv" else ("kernel_shape", "strides")
    wanted = (*wanted, "pads", "dilations") if node.op_type == "ConvTranspose" else wanted
    yield from (f"no {name}" for name in wanted if name not in a)
    pads = list(a.get("pads", ()))
    if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
        yield "uneven pads"
    if a.get("auto_pad", b"NOTSET") != b"NOTSET":
        yield "auto_pad"
    if node.op_type == "ConvTranspose" and (
        a.get("group", 1) != 1 or any(a.get("output_padding", ())) or "output_shape" in a
    ):
        yield "group, output_padding or output_shape"
    if node.op_type == "MaxPool" and any(d != 1 for d in a.get("dilations", ())):
        yield "dilations"
    dims = file.dims(node.input[0])
    if dims is None or (len(dims) != 4 and not (len(dims) == 3 and "Conv" in node.op_type)):
        yield f"rank of {dims}"


def _resize(file: File, node: onnx.NodeProto, a: Attributes, device: str) -> Iterator[str]:
    kind = (a.get("mode", b"nearest").decode(), a.get("coordinate_transformation_mode", b"half_pixel").decode())
    if kind not in KINDS[device]:
        yield f"kind {kind}"
    if kind[0] == "nearest" and a.get("nearest_mode") != b"floor":
        yield "nearest that rounds"
    if len(file.dims(node.input[0]) or ()) != 4:
        yield "not four axes"
    if device == "cuda" and (len(node.input) < 3 or not node.input[2]):
        yield "no scales"


def _is_empty(file: File, node: onnx.NodeProto) -> bool:
    """Whether an axis of a Slice with constant bounds keeps nothing."""
    dims, values = file.dims(node.input[0]), [file.value(name) for name in node.input[1:]]
    if dims is None or any(value is None for value in values) or len(values) < 3:
        return False
    starts, ends, axes, *steps = (list(map(int, value)) for value in values if value is not None)
    cuts = zip(starts, ends, axes, steps[0] if steps else [1] * len(axes), strict=True)
    return any(
        size is not None and not range(*slice(start, end, step).indices(size))
        for start, end, axis, step in cuts
        for size in [dims[axis]]
    )


def _slice(file: File, node: onnx.NodeProto, _: Attributes, __: str) -> Iterator[str]:
    axes = file.value(node.input[3]) if len(node.input) > 3 and node.input[3] else np.zeros(0)
    if _is_empty(file, node):
        yield "an empty result"
    if axes is None or (axes < 0).any() or sorted(axes) != list(axes):
        yield f"axes {axes}"
    yield from (f"type {file.kind(name)} of {name}" for name in node.input[1:] if file.kind(name) != TensorProto.INT64)


def _int64_at(at: int) -> Callable[..., Iterator[str]]:
    def look(file: File, node: onnx.NodeProto, _: Attributes, __: str) -> Iterator[str]:
        if file.kind(node.input[at]) != TensorProto.INT64:
            yield f"input {at} is not int64"

    return look


def _floats(file: File, node: onnx.NodeProto, _: Attributes, __: str) -> Iterator[str]:
    yield from (f"{name} is no float32" for name in node.input if name and file.kind(name) != TensorProto.FLOAT)


def _has(name: str) -> Callable[..., Iterator[str]]:
    def look(_: File, __: onnx.NodeProto, a: Attributes, ___: str) -> Iterator[str]:
        if name not in a:
            yield f"no {name}"

    return look


def _matmul(file: File, node: onnx.NodeProto, _: Attributes, __: str) -> Iterator[str]:
    if any(len(file.dims(name) or ()) < 2 for name in node.input):
        yield "an operand of fewer than two axes"


def _pad(file: File, node: onnx.NodeProto, a: Attributes, device: str) -> Iterator[str]:
    pads = file.value(node.input[1])
    if file.kind(node.input[1]) != TensorProto.INT64 or (pads is not None and (pads < 0).any()):
        yield "pads below 0 or not int64"
    if device == "cuda" and len(node.input) < 3:
        yield "no value"


def _reduction(_: File, __: onnx.NodeProto, a: Attributes, ___: str) -> Iterator[str]:
    if "axes" not in a and a.get("keepdims", 1):
        yield "no axes"
    if not a.get("keepdims", 1) and sorted(axes := list(a.get("axes", ()))) != axes:
        yield "axes out of order"


def _lost_rows(file: File, node: onnx.NodeProto, a: Attributes, device: str) -> Iterator[str]:
    dims = file.dims(node.input[0])
    if device == "cuda" or dims is None or file.kind(node.input[0]) == INT64 or "axes" not in a:
        return
    behind = dims[max(axis % len(dims) for axis in a["axes"]) + 1 :]
    row = 1
    for size in behind:
        row = -1 if size is None or row < 0 else row * size
    if row < 0 or row % 32 in range(25, 32) or row % 16 in range(13, 16):
        yield f"rows of {behind} behind the reduced axes"


def _own_input(file: File, node: onnx.NodeProto, _: Attributes, __: str) -> Iterator[str]:
    for conv, other in (node.input, tuple(node.input)[::-1]):
        made = file.made.get(conv)
        if made is not None and made.op_type == "Conv" and made.input[0] == other:
            channels = (file.dims(other) or [None, None])[1]
            if channels is None or channels < 32:
                yield f"Conv(x) + x of {channels} channels"


def _cast(_: File, __: onnx.NodeProto, a: Attributes, ___: str) -> Iterator[str]:
    if a["to"] not in TYPES:
        yield f"to {a['to']}"


def _top_k(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    if len([name for name in node.output if name]) != 2:
        yield "an output is left out"
    readers = [n.op_type for n in file.nodes if node.output[-1] in n.input]
    if device == "cuda" and (
        set(readers) - {"Cast"} or any(node.output[-1] == y.name for y in file.model.graph.output)
    ):
        yield "indices without a Cast"


def _recurrent(_: File, node: onnx.NodeProto, a: Attributes, __: str) -> Iterator[str]:
    states, outputs = {"LSTM": (2, 3), "GRU": (1, 2)}[node.op_type]
    given = [name for name in node.input[5 : 5 + states] if name]
    if len(given) < states or len([y for y in node.output if y]) < outputs:
        yield "initial states or outputs are left out"
    if node.op_type == "GRU" and a.get("linear_before_reset", 0) != 1:
        yield "reset before the product"


def _depth_to_space(_: File, __: onnx.NodeProto, a: Attributes, ___: str) -> Iterator[str]:
    if a.get("mode") != b"CRD":
        yield "mode DCR"


def _compared(file: File, node: onnx.NodeProto, _: Attributes, __: str) -> Iterator[str]:
    good = (TensorProto.FLOAT, TensorProto.INT64)
    yield from (f"{name} is of type {file.kind(name)}" for name in node.input if file.kind(name) not in good)


def _where(file: File, node: onnx.NodeProto, a: Attributes, device: str) -> Iterator[str]:
    chosen = onnx.NodeProto(input=node.input[1:])
    yield from _compared(file, chosen, a, device)


def _readers(file: File, name: str) -> list[onnx.NodeProto]:
    """The nodes that read a tensor, one entry for each time; the model itself counts where it is an output."""
    inner = [node for node in file.nodes for read in node.input if read == name]
    return inner + [onnx.NodeProto() for y in file.model.graph.output if y.name == name]


def _is_own_convolution(file: File, name: str) -> bool:
    made = file.made.get(name)
    return made is not None and made.op_type == "Conv" and len(_readers(file, name)) == 1


def _second_sum(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    """(Conv + a) + b, and (a + Conv) + Conv; the runtime looks at the first operand first."""
    if device != "x86" or _is_own_convolution(file, node.input[0]):
        return
    for name in node.input:
        inner = file.made.get(name)
        if inner is None or inner.op_type != "Add" or len(_readers(file, name)) != 1:
            continue
        sizes = [file.dims(read) for read in node.input]
        if any(_is_own_convolution(file, read) for read in inner.input) and (None in sizes or sizes[0] == sizes[1]):
            yield f"adds to {name}, the sum of a Conv"


def _other_rank(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    ranks = [len(dims) for name in node.input if (dims := file.dims(name)) is not None]
    floats = any(file.kind(name) == TensorProto.FLOAT for name in node.input)
    if device == "x86" and floats and len(set(ranks)) == 2 and min(ranks) > 1 and max(ranks) < 5:
        yield f"operands of {ranks} axes"


def _operand_twice(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    if device == "x86" and node.input[0] == node.input[1] and node.input[0] in file.made:
        yield "one operand twice"


def _one_number(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    """Several sizes with one number."""
    for number, sizes in (node.input, tuple(node.input)[::-1]):
        value, dims = file.value(number), file.dims(sizes)
        is_sizes = sizes in file.made and file.kind(sizes) == TensorProto.INT64 and len(dims or ()) == 1
        if device == "x86" and value is not None and value.size == 1 and is_sizes and (dims or [0])[0] not in (None, 1):
            yield "several sizes with one number"


def _few_operands(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    ranks = [len(dims) for name in node.input if (dims := file.dims(name)) is not None]
    stops = any(axes <= at for at, axes in enumerate(ranks))
    if device == "x86" and (len(ranks) < len(node.input) or not stops):
        yield f"{len(node.input)} operands of {ranks} axes"


def _no_bias(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    """Conv, perhaps an activation, depthwise Conv: both need a bias."""
    if device != "x86" or (file.dims(node.input[1]) or [None, None])[1] != 1:
        return
    before = file.made.get(node.input[0])
    if before is not None and before.op_type in ("Relu", "Clip"):
        before = file.made.get(before.input[0])
    if before is not None and before.op_type == "Conv":
        biases = {*node.input[2:], *before.input[2:]}
        if len(biases) < 2 or any(len(_readers(file, name)) > 1 for name in biases):
            yield "depthwise behind a Conv, and one of the two has no bias of its own"


def _one_by_vector(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    made = file.made.get(node.input[0])
    if device == "x86" and made is not None and made.op_type == "Shape" and file.dims(node.input[1]) == [1]:
        yield "a size by a vector of one"


def _overruns(_: File, __: onnx.NodeProto, ___: Attributes, device: str) -> Iterator[str]:
    if device == "x86":
        yield "writes beyond its result"


def _folded(file: File, node: onnx.NodeProto, _: Attributes, device: str) -> Iterator[str]:
    """A BatchNormalization of a convolution changes what others read of it, and frees each of its own constants."""
    made = file.made.get(node.input[0])
    if device != "x86" or made is None or made.op_type not in ("Conv", "ConvTranspose"):
        return
    yield from (f"{name} is read elsewhere" for name in made.input[1:] if name and len(_readers(file, name)) > 1)
    if len(set(node.input)) < len(node.input):
        yield "one constant twice"


Looks = Sequence[Callable[[File, onnx.NodeProto, Attributes, str], Iterator[str]]]
LOOKS: dict[str, Looks] = {
    **dict.fromkeys(WINDOWS, (_windows,)),
    "Conv": (_windows, _no_bias),
    **dict.fromkeys(("Sub", "Mul", "Div"), (_other_rank, _operand_twice, _one_number)),
    **dict.fromkeys(("Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements"), (_int64_at(1),)),
    **dict.fromkeys(("Reshape", "Expand", "Tile"), (_int64_at(1),)),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), (_reduction,)),
    **dict.fromkeys(("ReduceMean", "ReduceMin", "ReduceSum"), (_reduction, _lost_rows)),
    **dict.fromkeys(("Equal", "Greater", "Less"), (_compared,)),
    "Gather": (_int64_at(1), _one_by_vector),
    **dict.fromkeys(("Min", "Max", "Sum"), (_floats, _few_operands)),
    **dict.fromkeys(("Clip", "Erf", "Sqrt", "Exp", "Relu", "Pow"), (_floats,)),
    "BatchNormalization": (_folded,),
    "Sign": (_overruns,),
    "Resize": (_resize,),
    "Slice": (_slice,),
    "Split": (_has("split"),),
    "Squeeze": (_has("axes"),),
    "Unsqueeze": (_has("axes"),),
    "MatMul": (_matmul, _floats),
    "Gemm": (_floats,),
    "Pad": (_pad,),
    "Softmax": (_floats,),
    "Add": (_own_input, _second_sum, _other_rank, _operand_twice, _one_number),
    "Cast": (_cast,),
    "TopK": (_top_k,),
    "DepthToSpace": (_depth_to_space,),
    "LSTM": (_recurrent,),
    "GRU": (_recurrent,),
    "Where": (_where,),
}
