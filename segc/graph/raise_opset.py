"""Older opsets, 7 to 16, written as opset 17: the same numbers, op by op.

ONNX's own converter loses numbers on the way (a Resize of opset 10 takes other samples) and knows no form of some ops,
so segc has rules of its own. An op whose definition differs between the two opsets has a rule in `RULES`, or keeps its
form because the newer definition means the same by its defaults. Weights are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.errors import Code, SourceError
from segc.graph import ir, source_info
from segc.graph.invariants import OLDEST_OPSET

FIRST_OPSET = 7  # the oldest that ONNX Runtime promises to run as ONNX defines it


class _Cannot(Exception):  # noqa: N818 - an answer, not a defect
    """The node has no form in the newer opset; the message says why."""


@dataclass
class _Site:
    """A node of the older opset, and the nodes that come before and after it. taken: names of all tensors."""

    node: gs.Node
    opset: int
    taken: set[str]
    before: list[gs.Node] = field(default_factory=list)
    after: list[gs.Node] = field(default_factory=list)

    def name(self, role: str) -> str:
        """A new name, derived from the first output."""
        made = f"{self.node.outputs[0].name}_{role}"
        while made in self.taken:
            made += "_"
        self.taken.add(made)
        return made

    def constant(self, role: str, values: np.ndarray) -> gs.Constant:
        """A new constant."""
        return gs.Constant(self.name(role), values)

    def integers(self, role: str, values: Sequence[int]) -> gs.Constant:
        """A new constant of int64 in one axis."""
        return self.constant(role, np.array(list(values), np.int64))

    def variable(self, role: str, dtype: Any = None, shape: Sequence[Any] | None = None) -> gs.Variable:
        """A new variable."""
        return gs.Variable(self.name(role), dtype, None if shape is None else list(shape))

    def op(self, op: str, role: str, *inputs: gs.Tensor, dtype: Any = None, **attrs: Any) -> gs.Variable:
        """The result of a new node in front of this one."""
        made = self.variable(role, dtype if dtype is not None else inputs[0].dtype)
        self.before.append(gs.Node(op, attrs=attrs, inputs=list(inputs), outputs=[made]))
        return made

    def dtype(self) -> np.dtype[Any]:
        """The type of the first input. Raises _Cannot where it is not known."""
        known = self.node.inputs[0].dtype
        if known is None:
            raise _Cannot(f"the type of '{self.node.inputs[0].name}' is not known")
        found: np.dtype[Any] = np.dtype(known)
        return found

    def scalar(self, role: str, value: float) -> gs.Tensor:
        """A new constant of the first input's type, which is not known in some subgraphs; its largest for more."""
        known = self.node.inputs[0].dtype
        if known is None:
            return self.op(
                "CastLike", role, self.constant(f"{role}_value", np.array(value, np.float32)), self.node.inputs[0]
            )
        if np.dtype(known).kind == "f":
            value = float(np.clip(value, np.finfo(known).min, np.finfo(known).max))
        return self.constant(role, np.array(value, known))


def raise_opset(graph: gs.Graph) -> list[str]:
    """Bring a graph of an older opset to 17, in place; types and shapes of tensors are inferred before.

    Returns what was done, in a line. Raises SourceError: the opset is below 7, or a node has no form in opset 17.
    """
    before = int(graph.opset)
    if before >= OLDEST_OPSET:
        return []
    if before < FIRST_OPSET:
        raise SourceError(
            f"the model uses opset {before}", code=Code.ONNX_OPSET,
            because=f"segc reads opset {FIRST_OPSET} and newer", so="re-export the model",
        )  # fmt: skip
    graphs = [graph, *graph.subgraphs(recursive=True)]
    taken = {name for each in graphs for name in each.tensors()}
    failed: list[str] = []
    for each in graphs:
        each.nodes = [made for node in each.nodes for made in _raised(node, before, taken, failed)]
    if failed:
        raise SourceError(
            f"opset {before} cannot be converted to {OLDEST_OPSET}",
            code=Code.ONNX_OPSET,
            because=failed,
            so="re-export the model",
        )
    ir.set_opset(graph, OLDEST_OPSET)
    ir.name_all(graph)
    ir.infer_shapes(graph)
    return [f"converted from opset {before} to {OLDEST_OPSET}"]


def _raised(node: gs.Node, opset: int, taken: set[str], failed: list[str]) -> list[gs.Node]:
    """The node in its newer form, with what comes before and after it; a reason goes to `failed`."""
    changed_in, rule = RULES.get(node.op, (0, None))
    if rule is None or node.domain not in (None, "", "ai.onnx") or opset >= changed_in:
        return [node]
    site = _Site(node, opset, taken)
    try:
        rule(site)
    except _Cannot as why:
        failed.append(f"{node.op} '{node.name}': {why}")
    where = source_info.of(node)
    for made in (*site.before, *site.after):
        source_info.put(made, replace(where, made_by="raise-opset"))
    return [*site.before, node, *site.after]


def _attribute_to_input(attribute: str) -> Callable[[_Site], None]:
    """A list of integers that became the second input; without it the op does what it did without it."""

    def rule(site: _Site) -> None:
        values = site.node.attrs.pop(attribute, None)
        if values is not None:
            site.node.inputs.append(site.integers(attribute, values))

    return rule


def _slice(site: _Site) -> None:
    """Starts, ends and axes became inputs."""
    attrs = site.node.attrs
    starts, ends, axes = attrs.pop("starts"), attrs.pop("ends"), attrs.pop("axes", None)
    given = {"starts": starts, "ends": ends, "axes": range(len(starts)) if axes is None else axes}
    site.node.inputs.extend([site.integers(role, values) for role, values in given.items()])


def _top_k(site: _Site) -> None:
    """The count became an input."""
    site.node.inputs.append(site.integers("k", [site.node.attrs.pop("k")]))


def _pad(site: _Site) -> None:
    """Pads and value became inputs."""
    attrs = site.node.attrs
    pads, value = attrs.pop("pads"), attrs.pop("value", 0.0)
    site.node.inputs.append(site.integers("pads", pads))
    if value:
        site.node.inputs.append(site.scalar("value", value))


def _clip(site: _Site) -> None:
    """The bounds became inputs; one that was not given is the type's own in both forms."""
    bounds = [site.node.attrs.pop(key, None) for key in ("min", "max")]
    while bounds and bounds[-1] is None:
        bounds.pop()
    for role, bound in zip(("min", "max"), bounds, strict=False):
        site.node.inputs.append(gs.Variable.empty() if bound is None else site.scalar(role, bound))


def _dropout(site: _Site) -> None:
    """Without training it copies; its mask, which ONNX Runtime leaves at zero, was of the data's type below 10."""
    node = site.node
    for key in ("ratio", "seed"):
        node.attrs.pop(key, None)
    if len(node.outputs) < 2 or node.outputs[1].is_empty():
        return
    mask, dtype = node.outputs[1], np.dtype(bool) if site.opset >= 10 else site.dtype()
    sizes = site.op("Shape", "sizes", node.inputs[0], dtype=np.int64)
    node.outputs = node.outputs[:1]
    value = gs.Constant(site.name("zero"), np.zeros(1, dtype))
    site.after.append(gs.Node("ConstantOfShape", attrs={"value": value}, inputs=[sizes], outputs=[mask]))


def _batch_normalization(site: _Site) -> None:
    """Inference only; without `spatial` each place of a map has statistics of its own."""
    node = site.node
    if sum(not t.is_empty() for t in node.outputs) > 1:
        raise _Cannot("it is in training mode: it has more outputs than one")
    node.outputs = node.outputs[:1]
    if node.attrs.pop("spatial", 1):
        return
    x, scale, bias, mean, variance = node.inputs
    epsilon = site.scalar("epsilon", node.attrs.get("epsilon", 1e-5))
    deviation = site.op("Sqrt", "deviation", site.op("Add", "widened", variance, epsilon))
    normalized = site.op("Div", "normalized", site.op("Sub", "centred", x, mean), deviation)
    node.op, node.attrs, node.inputs = "Add", {}, [site.op("Mul", "scaled", normalized, scale), bias]


def _softmax(site: _Site) -> None:
    """Below 13 it normalizes over all axes from `axis` on; one axis is enough where the others have size 1."""
    node = site.node
    x, axis = node.inputs[0], int(node.attrs.pop("axis", 1))
    shape = None if x.shape is None else list(x.shape)
    if shape is not None:
        axis += len(shape) if axis < 0 else 0
        if all(size == 1 for size in shape[axis + 1 :]):
            node.attrs["axis"] = axis
            return
    sizes = ir.static_shape(x)
    whole = site.integers("sizes", sizes) if sizes is not None else site.op("Shape", "sizes", x, dtype=np.int64)
    node.inputs = [site.op("Flatten", "rows", x, axis=axis)]
    node.attrs["axis"] = -1
    (result,) = node.outputs
    rows = site.variable("normalized", result.dtype)
    node.outputs = [rows]
    site.after.append(gs.Node("Reshape", inputs=[rows, whole], outputs=[result]))


def _upsample(site: _Site) -> None:
    """A Resize that never shrinks; below 9 its scales are an attribute."""
    node = site.node
    node.op = "Resize"
    if (scales := node.attrs.pop("scales", None)) is not None:
        node.inputs.append(site.constant("scales", np.array(scales, np.float32)))
    _sample_corners(site, shrinks=False)


def _resize(site: _Site) -> None:
    """Opset 10 samples from corners; opsets 11 and 12 know a mode that is gone."""
    node = site.node
    if site.opset == 10:
        _sample_corners(site, shrinks=True)
    elif node.attrs.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        if node.attrs.get("mode", "nearest") != "nearest" or node.attrs.get("nearest_mode") != "floor":
            raise _Cannot("tf_half_pixel_for_nn has a newer form with nearest_mode floor only")
        # floor((x + 0.5) / s) is round_prefer_ceil((x + 0.5) / s - 0.5)
        node.attrs |= {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}


def _sample_corners(site: _Site, *, shrinks: bool) -> None:
    """Sample as opsets before 11 do: output x reads input x / scale, the nearest below it, but above it to shrink.

    Nearest samples are rounded alike along all axes of a node, so that a node which enlarges some axes and shrinks
    others, or may do so, becomes two.
    """
    node = site.node
    x, scales = node.inputs
    mode = node.attrs.get("mode", "nearest")
    attrs = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    node.attrs, node.inputs = dict(attrs), [x, gs.Variable.empty(), scales]
    if mode != "nearest":
        return
    values = ir.constant(scales)
    node.attrs["nearest_mode"] = "floor"
    if not shrinks or (values is not None and (values >= 1).all()):
        return
    node.attrs["nearest_mode"] = "ceil"
    if values is not None and (values <= 1).all():
        return
    one = site.constant("one", np.ones(1, np.float32))
    enlarging, shrinking = (
        site.op(op, role, scales, one) if values is None else site.constant(role, choose(values, 1).astype(np.float32))
        for op, role, choose in (("Max", "enlarging", np.maximum), ("Min", "shrinking", np.minimum))
    )
    enlarged = site.op("Resize", "enlarged", x, gs.Variable.empty(), enlarging, **attrs, nearest_mode="floor")
    node.inputs = [enlarged, gs.Variable.empty(), shrinking]


def _scatter(site: _Site) -> None:
    """It has another name since opset 11."""
    site.node.op = "ScatterElements"


def _roi_align(site: _Site) -> None:
    """Below 16 regions are not shifted by half a pixel."""
    site.node.attrs["coordinate_transformation_mode"] = "output_half_pixel"


def _scan(site: _Site) -> None:
    raise _Cannot("opset 8 scans each element of a batch")


# op: the opset from which on it has its form of opset 17, and how to give it that form
RULES: dict[str, tuple[int, Callable[[_Site], None]]] = {
    "BatchNormalization": (14, _batch_normalization),
    "Clip": (11, _clip),
    "Dropout": (12, _dropout),
    "Hardmax": (13, _softmax),
    "LogSoftmax": (13, _softmax),
    "Pad": (11, _pad),
    "ReduceSum": (13, _attribute_to_input("axes")),
    "Resize": (13, _resize),
    "RoiAlign": (16, _roi_align),
    "Scan": (9, _scan),
    "Scatter": (11, _scatter),
    "Slice": (10, _slice),
    "Softmax": (13, _softmax),
    "Split": (13, _attribute_to_input("split")),
    "Squeeze": (13, _attribute_to_input("axes")),
    "TopK": (10, _top_k),
    "Unsqueeze": (13, _attribute_to_input("axes")),
    "Upsample": (10, _upsample),
}
