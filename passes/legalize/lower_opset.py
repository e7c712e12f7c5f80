"""Say the same in an older opset, or nothing at all.

For each node the definition of its op in the new opset is compared with the one in force. Where it differs:

- what was an input becomes the attribute it used to be (axes of reductions, Squeeze, Unsqueeze; sizes of Split);
- an attribute that the older op lacks is dropped where it holds its default, and a changed default is written down;
- a few ops get another spelling: Softmax along an inner axis (before 13 it meant all axes from there on) is transposed,
  Shape with start or end is sliced, CastLike becomes Cast, Resize and Pad get one size or pad for each axis, HardSwish,
  Mish, GreaterOrEqual and LessOrEqual are composed of older ops.

Then types, inputs and attributes of each node are checked against the older definition.

All or nothing: a node without an older spelling is a skip with the reason, and the graph stays as it is, since a graph
has one opset. Ops that did not exist are the business of the passes legalize-*, which therefore come first.

Must not fire: on a graph that is not newer than asked for; where axes, pads or splits are computed at run time; where a
type, mode or attribute has no older form; and on ops that an older opset spells the same and means otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.graph.invariants import FORM_RULES, LEGALIZED, PORTABLE, RECENT_OPSET
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot, text
from segc.passes.support.edit import Names, ints, optional, rank, small_constant


def first_opset(op: str) -> int:
    """The opset that brought a standard op."""
    return min(schema.since_version for schema in onnx.defs.get_all_schemas_with_history() if _is(schema, op))


def _is(schema: onnx.defs.OpSchema, op: str) -> bool:
    return bool(schema.name == op and not schema.domain)


INT_MAX = 2**63 - 1
DIALECT_BODIES = 15  # opset of the dialect's reference bodies
KINDS = {"float32": "float", "float64": "double", "object": "string", "str": "string"}


@dataclass
class Spelling:
    """What a node becomes where it stands."""

    op: str
    attrs: dict[str, Any]
    inputs: list[gs.Tensor]


@dataclass
class Site:
    """A node whose op differs between the two opsets. `build` serves spellings of several nodes."""

    node: gs.Node
    opset: int
    old: onnx.defs.OpSchema
    new: onnx.defs.OpSchema | None  # None: the op did not exist
    build: Builder

    def input(self, at: int) -> gs.Tensor | None:
        """Input number `at`, None when it is omitted."""
        return optional(self.node, at)

    def constant(self, at: int, what: str) -> list[int] | None:
        """Input number `at` as ints, None when it is omitted. Raises Cannot when it is computed."""
        tensor = self.input(at)
        values = ints(tensor)
        if tensor is not None and values is None:
            raise Cannot(f"{what} are computed at run time")
        return values


Rule = Callable[[Site], Spelling | gs.Tensor]  # raises Cannot


@dataclass
class Plan:
    """The older spelling of one node: in place, or by the nodes of `build`, the last of which makes `result`."""

    node: gs.Node
    build: Builder
    spelling: Spelling | None = None
    result: gs.Tensor | None = None
    reason: str = ""

    @property
    def changes(self) -> bool:
        """Whether anything is written differently."""
        s, n = self.spelling, self.node
        if s is None:
            return True
        same = len(s.inputs) == len(n.inputs) and all(a is b for a, b in zip(s.inputs, n.inputs, strict=True))
        return not same or s.op != n.op or s.attrs != dict(n.attrs)

    def apply(self) -> None:
        """Write it."""
        if self.result is not None:
            self.build.replace(self.result)
        elif self.spelling is not None:
            self.node.op, self.node.attrs = self.spelling.op, self.spelling.attrs
            self.node.inputs = self.spelling.inputs


@dataclass(frozen=True)
class LowerOpset(Pass):
    """Rewrite the graph for an older opset; all of it, or nothing. opset: from 11 on."""

    name: ClassVar[str] = "lower-opset"
    algebra: ClassVar[str] = (
        "graph of opset n  ->  the same graph in an older opset, if every node has a spelling there"
    )

    ensures: ClassVar[frozenset[str]] = frozenset({"opset lowered"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {RECENT_OPSET, PORTABLE, "types legalized", "logic legalized"}

    opset: int = field(default=13)

    def __post_init__(self) -> None:
        """Refuse opsets whose ops this pass does not know; require that no op is left that the opset lacks."""
        if self.opset < 11:
            raise ValueError(f"opset {self.opset} is older than 11, the oldest that segc writes")
        newer = {f"no {op}" for op in LEGALIZED if first_opset(op) > self.opset}
        forms = {"arithmetic legalized", "types legalized"} if self.opset < 13 else set()
        object.__setattr__(self, "requires", Pass.requires | newer | forms)

    def run(self, graph: gs.Graph) -> PassResult:
        """Plan all nodes, then write all of them or none."""
        result = PassResult()
        if graph.opset <= self.opset:
            return result
        names = Names(graph)
        plans = [plan for node in ir.nodes(graph) if (plan := self._plan(graph, node, names)) is not None]
        top = {id(node) for node in graph.nodes}
        for plan in plans:
            if not plan.reason and plan.result is not None and id(plan.node) not in top:
                plan.reason = f"{plan.node.op} within a subgraph would become several nodes"
        if failed := [plan for plan in plans if plan.reason]:
            for plan in plans:
                plan.build.discard()
            for plan in failed:
                result.skip(plan.node, plan.reason)
            return result
        for plan in plans:
            result.changes += plan.changes
            plan.apply()
        for each in [graph, *graph.subgraphs(recursive=True)]:
            _declare(each, self.opset)
        result.changes += 1
        return result

    def _plan(self, graph: gs.Graph, node: gs.Node, names: Names) -> Plan | None:
        """None for a node that may stay as it is."""
        build = Builder(graph, node, names)
        build.opset = self.opset
        plan = Plan(node, build)
        if node.domain:
            if node.domain == dialect.DOMAIN and self.opset < DIALECT_BODIES:
                plan.reason = f"segc.{node.op} has no body in opset {self.opset}; lower it first"
            return plan if plan.reason else None
        old, new = schema(node.op, graph.opset), schema(node.op, self.opset)
        if old is None:
            plan.reason = f"{node.op} is unknown in opset {graph.opset}"
            return plan
        if new is not None and new.since_version == old.since_version:
            return None
        try:
            made = RULES.get(node.op, plain)(Site(node, self.opset, old, new, build))
            _fill(plan, made)
        except Cannot as why:
            plan.reason = str(why)
        return plan


def schema(op: str, opset: int) -> onnx.defs.OpSchema | None:
    """The definition of `op` in force at `opset`, None where there is none."""
    try:
        return onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return None


def plain(site: Site) -> Spelling:
    """The same node, where the older op says the same: without attributes at the default of the newer."""
    if site.new is None:
        raise Cannot(f"opset {site.opset} has no {site.node.op}")
    return Spelling(site.node.op, kept(site, dict(site.node.attrs)), list(site.node.inputs))


def kept(site: Site, attrs: dict[str, Any]) -> dict[str, Any]:
    """`attrs` as the older op takes them. Raises Cannot for one that it lacks and that is not at its default."""
    assert site.new is not None
    for name in [name for name in attrs if name not in site.new.attributes]:
        default = default_of(site.old, name)
        if default is None or as_text(attrs[name]) != default:
            raise Cannot(f"{name}={as_text(attrs[name])!r} has no form in opset {site.opset}")
        del attrs[name]
    for name in site.new.attributes:
        default = default_of(site.old, name)
        if name not in attrs and default is not None and default != default_of(site.new, name):
            attrs[name] = default
    return attrs


def default_of(definition: onnx.defs.OpSchema, name: str) -> Any:
    """An attribute's default, None where it has none."""
    if name not in definition.attributes:
        return None
    proto = definition.attributes[name].default_value
    return as_text(onnx.helper.get_attribute_value(proto)) if proto.type else None


def as_text(value: Any) -> Any:
    """Bytes as text, all else as it is."""
    return value.decode() if isinstance(value, bytes) else value


def problem(definition: onnx.defs.OpSchema, op: str, node: Spelling, outputs: Sequence[gs.Tensor]) -> str | None:
    """Why this node is not one of `definition`, None when it is."""
    if extra := sorted(set(node.attrs) - set(definition.attributes)):
        return f"{op} has no {', '.join(extra)}"
    if len(node.inputs) > definition.max_input or len(outputs) > definition.max_output:
        return f"{op} takes {definition.max_input} inputs and gives {definition.max_output} outputs"
    bound: dict[str, str] = {}
    for formals, tensors in ((definition.inputs, node.inputs), (definition.outputs, outputs)):
        for at, tensor in enumerate(tensors):
            formal = formals[min(at, len(formals) - 1)]
            if tensor.is_empty() or tensor.dtype is None:
                continue
            kind = kind_name(tensor.dtype)
            if formal.types and kind not in formal.types:
                return f"{op} takes no {kind}"
            if formal.is_homogeneous and bound.setdefault(formal.type_str, kind) != kind:
                return f"{op} takes no {kind} beside {bound[formal.type_str]}"
    return None


def kind_name(dtype: Any) -> str:
    """ONNX's name of a tensor type, e.g. tensor(float)."""
    name = np.dtype(dtype).name
    return f"tensor({KINDS.get(name, name)})"


def split_sizes(side: int, parts: int) -> list[int]:
    """What Split with num_outputs makes of a side: equal parts, the last one smaller if need be."""
    each = -(-side // parts)
    return [min(each, max(side - at * each, 0)) for at in range(parts)]


def pads_of_all_axes(pads: Sequence[int], axes: Sequence[int], dims: int) -> list[int]:
    """Pads for `axes` as pads for all axes: first all begins, then all ends."""
    whole = [0] * (2 * dims)
    for at, axis in enumerate(axes):
        whole[axis % dims] = pads[at]
        whole[axis % dims + dims] = pads[at + len(axes)]
    return whole


def _fill(plan: Plan, made: Spelling | gs.Tensor) -> None:
    """Check what a rule made against the older definitions, and take it into the plan."""
    opset = plan.build.opset
    if isinstance(made, Spelling):
        plan.spelling = made
        pending = [(made, plan.node.outputs)]
    else:
        plan.result = made
        pending = [(Spelling(n.op, dict(n.attrs), list(n.inputs)), n.outputs) for n in plan.build.nodes]
    for node, outputs in pending:
        definition = schema(node.op, opset)
        why = f"there is no {node.op}" if definition is None else problem(definition, node.op, node, outputs)
        if why is not None:
            raise Cannot(f"in opset {opset} {why}")


def _declare(graph: gs.Graph, opset: int) -> None:
    graph.opset = opset
    others = [each for each in graph.import_domains or [] if each.domain not in ("", "ai.onnx")]
    graph.import_domains = [onnx.helper.make_opsetid("", opset), *others]


def _known_rank(tensor: gs.Tensor) -> int:
    dims = rank(tensor)
    if dims is None:
        raise Cannot(f"the rank of '{tensor.name}' is unknown")
    return dims


def _axes(site: Site) -> Spelling:
    """Axes from input to attribute; for reductions also what no axes mean."""
    if site.new is None or "axes" not in site.new.attributes:
        return plain(site)
    attrs, x = dict(site.node.attrs), site.node.inputs[0]
    noop = attrs.pop("noop_with_empty_axes", 0)
    axes = site.constant(1, "axes")
    if not axes and noop:
        return Spelling("Identity", {}, [x])
    if axes:
        attrs["axes"] = axes
    return Spelling(site.node.op, kept(site, attrs), [x])


def _split(site: Site) -> Spelling:
    node, x = site.node, site.node.inputs[0]
    attrs = dict(node.attrs)
    sizes, parts = site.constant(1, "split sizes"), attrs.pop("num_outputs", None)
    axis = attrs.get("axis", 0)
    side = None if x.shape is None else x.shape[axis]
    if sizes is None and parts is not None:
        if not isinstance(side, int):
            raise Cannot(f"it splits a side of unknown size into {parts} parts")
        sizes = None if side % parts == 0 else split_sizes(side, parts)
    inputs = [x]
    if sizes is not None and site.opset < 13:
        attrs["split"] = sizes
    elif sizes is not None:
        given = site.input(1)
        inputs.append(given if given is not None else site.build.const("split", sizes))
    return Spelling("Split", kept(site, attrs), inputs)


def _pad(site: Site) -> Spelling:
    node, x = site.node, site.node.inputs[0]
    if text(node, "mode") == "wrap" and site.opset < 19:
        raise Cannot(f"mode='wrap' has no form in opset {site.opset}")
    axes = site.constant(3, "axes")
    inputs = list(node.inputs[:3])
    if axes is not None and site.opset < 18:
        pads = site.constant(1, "pads")
        assert pads is not None
        inputs[1] = site.build.const("pads", pads_of_all_axes(pads, axes, _known_rank(x)))
    elif axes is not None:
        inputs = list(node.inputs)
    return Spelling("Pad", kept(site, dict(node.attrs)), inputs)


def _resize(site: Site) -> Spelling | gs.Tensor:
    node, attrs = site.node, dict(site.node.attrs)
    x, scales, sizes = node.inputs[0], site.input(2), site.input(3)
    if text(node, "coordinate_transformation_mode") == "half_pixel_symmetric" and site.opset < 19:
        if sizes is None:
            raise Cannot(f"half_pixel_symmetric by scales has no form in opset {site.opset}")
        attrs["coordinate_transformation_mode"] = "half_pixel"
    several: gs.Tensor | None = None
    if site.opset < 18 and (axes := attrs.pop("axes", None)) is not None:
        scales = scales if scales is None else _scales(site, scales, axes)
        sizes = sizes if sizes is None else _sizes(site, sizes, axes)
        several = sizes if sizes is not None and sizes.inputs and site.build.nodes else None
        if text(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
            raise Cannot("roi along some of the axes")
    nothing = gs.Variable.empty()
    roi = site.input(1)
    if site.opset < 13:
        roi = roi if roi is not None else site.build.const("roi", np.zeros(0, np.float32))
        scales = scales if scales is not None else site.build.const("scales", np.zeros(0, np.float32))
    inputs = [x, *(nothing if t is None else t for t in (roi, scales))] + ([] if sizes is None else [sizes])
    spelling = Spelling("Resize", kept(site, attrs), inputs)
    return spelling if several is None else site.build.op("Resize", "resized", *inputs, **spelling.attrs)


def _scales(site: Site, scales: gs.Tensor, axes: Sequence[int]) -> gs.Tensor:
    values = small_constant(scales)
    if values is None:
        raise Cannot("scales are computed at run time")
    whole = np.ones(_known_rank(site.node.inputs[0]), np.float32)
    whole[list(axes)] = values
    return site.build.const("scales", whole)


def _sizes(site: Site, sizes: gs.Tensor, axes: Sequence[int]) -> gs.Tensor:
    """Sizes of some axes as sizes of all; those of a side that is not static are computed."""
    x = site.node.inputs[0]
    dims, known = _known_rank(x), ints(sizes)
    at = [a % dims for a in axes]
    whole = [None if i in at else x.shape[i] for i in range(dims)]
    if known is not None and all(i in at or isinstance(s, int) for i, s in enumerate(whole)):
        return site.build.const("sizes", [known[at.index(i)] if i in at else whole[i] for i in range(dims)])
    if at != list(range(dims - len(at), dims)):
        raise Cannot(f"sizes of axes {list(axes)} of a tensor that is not static")
    outer = site.build.slice("outer", site.build.op("Shape", "shape", x), [0], [dims - len(at)], [0])
    return site.build.op("Concat", "sizes", outer, sizes, axis=0)


def _softmax(site: Site) -> Spelling | gs.Tensor:
    """Before opset 13 all axes from `axis` on were one; on the last axis, or before sizes of 1, that is the same."""
    if site.opset >= 13:
        return plain(site)
    x, dims = site.node.inputs[0], _known_rank(site.node.inputs[0])
    axis = site.node.attrs.get("axis", -1) % dims
    if all(size == 1 for size in x.shape[axis + 1 :]):
        return Spelling(site.node.op, {"axis": axis}, [x])
    swap = list(range(dims))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    last = site.build.op(site.node.op, "last", site.build.transpose("swapped", x, swap), axis=dims - 1)
    return site.build.transpose("back", last, swap)


def _dropout(site: Site) -> Spelling:
    if site.opset >= 12:
        return plain(site)
    training = site.input(2)
    flag = None if training is None else small_constant(training)
    if training is not None and (flag is None or flag.any()):
        raise Cannot("it may be in training mode")
    return Spelling("Dropout", {}, [site.node.inputs[0]])


def _shape(site: Site) -> Spelling | gs.Tensor:
    attrs = site.node.attrs
    if site.opset >= 15 or ("end" not in attrs and attrs.get("start", 0) == 0):
        return plain(site)
    whole = site.build.op("Shape", "whole", site.node.inputs[0])
    return site.build.slice("cut", whole, [attrs.get("start", 0)], [attrs.get("end", INT_MAX)], [0])


def _cast_like(site: Site) -> Spelling:
    if site.new is not None:
        return plain(site)
    like = site.node.inputs[1].dtype
    if like is None:
        raise Cannot(f"the type of '{site.node.inputs[1].name}' is unknown")
    return Spelling("Cast", {"to": int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(like)))}, [site.node.inputs[0]])


def _grid_sample(site: Site) -> Spelling:
    if site.new is None or site.opset >= 20:
        return plain(site)
    if _known_rank(site.node.inputs[0]) != 4:
        raise Cannot(f"opset {site.opset} samples maps with two sides only")
    mode = text(site.node, "mode", "linear")
    older = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return Spelling("GridSample", {**site.node.attrs, "mode": older}, list(site.node.inputs))


def _pool(site: Site) -> Spelling:
    attrs = dict(site.node.attrs)
    if all(step == 1 for step in attrs.get("dilations", ())) and site.new and "dilations" not in site.new.attributes:
        attrs.pop("dilations", None)
    return Spelling(site.node.op, kept(site, attrs), list(site.node.inputs))


def _reshape(site: Site) -> Spelling:
    attrs = dict(site.node.attrs)
    if site.opset < 14 and attrs.get("allowzero", 0):
        sizes = site.constant(1, "sizes with allowzero")
        if sizes is None or 0 in sizes:
            raise Cannot(f"a size of 0 has no form in opset {site.opset}")
        del attrs["allowzero"]
    return Spelling("Reshape", kept(site, attrs), list(site.node.inputs))


def _quantize(site: Site) -> Spelling:
    attrs = dict(site.node.attrs)
    if site.opset < 13:
        if rank(site.node.inputs[1]) != 0:
            raise Cannot(f"a scale for each channel has no form in opset {site.opset}")
        attrs.pop("axis", None)
    return Spelling(site.node.op, kept(site, attrs), list(site.node.inputs))


def _roi_align(site: Site) -> Spelling:
    attrs = dict(site.node.attrs)
    if site.opset < 16 and text(site.node, "coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise Cannot(f"half_pixel has no form in opset {site.opset}")
    if site.opset < 16:
        del attrs["coordinate_transformation_mode"]
    return Spelling("RoiAlign", kept(site, attrs), list(site.node.inputs))


def _compare(strict: str) -> Rule:
    def rule(site: Site) -> Spelling | gs.Tensor:
        if site.new is not None:
            return plain(site)
        pair = site.node.inputs
        apart = site.build.op(strict, "apart", *pair)
        return site.build.op("Or", "either", apart, site.build.op("Equal", "equal", *pair))

    return rule


def _hard_swish(site: Site) -> Spelling | gs.Tensor:
    if site.new is not None:
        return plain(site)
    x = site.node.inputs[0]
    return site.build.op("Mul", "swish", x, site.build.op("HardSigmoid", "gate", x, alpha=1 / 6, beta=0.5))


def _mish(site: Site) -> Spelling | gs.Tensor:
    if site.new is not None:
        return plain(site)
    x = site.node.inputs[0]
    return site.build.op("Mul", "mish", x, site.build.op("Tanh", "gate", site.build.op("Softplus", "soft", x)))


def _means_otherwise(site: Site) -> Spelling:
    if site.new is None:
        return plain(site)
    raise Cannot(f"{site.node.op} means something else in opset {site.opset}")


def _reductions() -> Iterator[str]:
    for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        yield f"Reduce{kind}"


RULES: dict[str, Rule] = {
    **dict.fromkeys([*_reductions(), "Squeeze", "Unsqueeze"], _axes),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax"], _softmax),
    **dict.fromkeys(["AveragePool", "LpPool"], _pool),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], _quantize),
    "Split": _split,
    "Pad": _pad,
    "Resize": _resize,
    "Dropout": _dropout,
    "Shape": _shape,
    "CastLike": _cast_like,
    "GridSample": _grid_sample,
    "Reshape": _reshape,
    "RoiAlign": _roi_align,
    "GreaterOrEqual": _compare("Greater"),
    "LessOrEqual": _compare("Less"),
    "HardSwish": _hard_swish,
    "Mish": _mish,
    "DFT": _means_otherwise,
    "GroupNormalization": _means_otherwise,
}
