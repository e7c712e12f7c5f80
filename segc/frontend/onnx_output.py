"""The output of an ONNX file as logits (N, classes, H, W): found among several, and taken back where it is further on.

A Sigmoid or Softmax at the end is undone by leaving it out, an ArgMax or a comparison with a constant too: what enters
them are the logits. Where nothing can be left out, new nodes make logits with the same classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from segc.errors import Code, SourceError
from segc.frontend import output_form
from segc.frontend.onnx_edit import FileGraph, attribute, standard
from segc.suggestions import did_you_mean

_LAYOUT = ("Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose")
_VALUES = (
    "Cast",
    "Clip",
    "Round",
    "Mul",
    "Div",
    "Where",
    "QuantizeLinear",
    "DequantizeLinear",
)  # of a probability or a class map, on their way to a picture
_COMPARISONS = {"Greater": (0, False), "GreaterOrEqual": (0, True), "Less": (1, False), "LessOrEqual": (1, True)}
_KEEPS_RANGE = (*_LAYOUT, "Cast", "Slice", "Gather", "Split", "MaxPool", "DepthToSpace", "Dropout")
_JOINS = ("Mul", "Max", "Min", "Concat", "Mean")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True)
class Asked:
    """What the user says about the output. classes: how many there are, 0 if not said."""

    name: str | None = None
    values: str | None = None
    classes: int = 0


@dataclass
class Found:
    """What came of it. threshold: None where the file says nothing. shifted: probabilities less 0.5."""

    threshold: float | None = None
    shifted: bool = False
    notes: list[str] = field(default_factory=list)


def choose(graph: FileGraph, asked: Asked, size: tuple[int, int], path: Path) -> tuple[str, list[str]]:
    """The name of the output that counts, and notes. Raises SourceError."""
    names = [info.name for info in graph.graph.output]
    if asked.name is not None:
        if asked.name not in names:
            raise SourceError(
                f"'{path}' has no output '{asked.name}'", code=Code.NOT_SEGMENTATION,
                because=f"its outputs are {', '.join(names)}", so=did_you_mean(asked.name, names) or "name one of them",
            )  # fmt: skip
        return asked.name, []
    if len(names) == 1:
        return names[0], []
    keys = {name: output_form.rank(name, graph.shape(name), size, at) for at, name in enumerate(names)}
    maps = {name: key for name, key in keys.items() if key is not None}
    if not maps:
        raise SourceError(
            f"'{path}' has {len(names)} outputs, and none is a map", code=Code.NOT_SEGMENTATION,
            because=", ".join(f"{name} of shape {graph.shape(name)}" for name in names), so="keep the logits only",
        )  # fmt: skip
    best = min(maps, key=lambda name: maps[name])
    others = ", ".join(name for name in names if name != best)
    return best, [f"of {len(names)} outputs '{best}' is taken, without {others}; --output-name takes another one"]


def as_logits(graph: FileGraph, name: str, asked: Asked, size: tuple[int, int], path: Path) -> Found:
    """Make the logits behind the output `name` the graph's only output. size: of the sizes that were inferred with.

    Raises SourceError.
    """
    return _Reading(graph, name, asked, size, path).run()


class _Reading:
    def __init__(self, graph: FileGraph, name: str, asked: Asked, size: tuple[int, int], path: Path) -> None:
        self.graph, self.name, self.asked, self.size, self.path = graph, name, asked, size, path
        self.found = Found()

    def run(self) -> Found:
        """Find the logits, and make them the graph's only output."""
        logits = self._logits()
        if self.graph.dtype(logits) == onnx.TensorProto.DOUBLE:
            logits = self.graph.add("Cast", [logits], f"{self.name}_float", to=onnx.TensorProto.FLOAT)
        self.graph.give(self._planar(logits))
        return self.found

    def _logits(self) -> str:
        """The logits, or what is next to them, with axes as the file has them."""
        values = self.asked.values
        if values == "logits":
            return self._floats()
        if (before := self._cut()) is not None:
            return before
        integers = self.graph.dtype(self.name) not in (0, *_FLOATS)
        unit = values is None and not integers and self._channels() == 1 and self._is_unit(self.name, 0)
        if values == "probabilities" or unit:
            return self._shifted()
        if values == "classes" or integers or (self._channels() == 1 and self._counted()):
            return self._opaque_classes()
        return self.name

    def _note(self, text: str) -> None:
        self.found.notes.append(text)

    def _refuse(self, because: str, so: str) -> SourceError:
        return SourceError(
            f"output '{self.name}' of '{self.path}' is no map of classes", code=Code.NOT_SEGMENTATION, because=because,
            so=so,
        )  # fmt: skip

    # ---- nodes at the end that can be left out

    def _cut(self) -> str | None:
        """The logits before what ends the graph; None where nothing can be left out."""
        passed, end = self._walk(self.name)
        node = self.graph.producers.get(end)
        if standard(node, "Sigmoid"):
            assert node is not None
            self._note(
                f"output '{self.name}' holds probabilities, by a Sigmoid: the bundle's logits are what enters it"
            )
            return self._replayed(passed, node.input[0])
        if standard(node, "Softmax"):
            assert node is not None
            return self._before_softmax(passed, node)
        if standard(node, "ArgMax"):
            assert node is not None
            return self._before_argmax(passed, node)
        if node is not None and standard(node, *_COMPARISONS):
            return self._before_comparison(passed, node)
        return None

    def _walk(self, name: str) -> tuple[list[onnx.NodeProto], str]:
        """The nodes back from `name` that only move or rescale values, the last first, and the tensor before them."""
        passed: list[onnx.NodeProto] = []
        while (node := self.graph.producers.get(name)) is not None:
            data = self._data_input(node)
            if data is None:
                break
            passed.append(node)
            name = data
        return passed, name

    def _data_input(self, node: onnx.NodeProto) -> str | None:
        """The input that a node moves or rescales; None for other nodes."""
        if standard(node, "Mul", "Div"):
            values = [self.graph.constant(name) for name in node.input]
            at = 1 if values[1] is not None else 0
            scale = values[at]
            if scale is None or scale.size != 1 or not scale.item() > 0 or (at == 0 and node.op_type == "Div"):
                return None
            return str(node.input[1 - at])
        if standard(node, "Where"):
            yes, no = (self.graph.constant(name) for name in node.input[1:3])
            rising = yes is not None and no is not None and yes.size == no.size == 1 and yes.item() > no.item()
            return str(node.input[0]) if rising else None
        return str(node.input[0]) if standard(node, *_LAYOUT, *_VALUES) else None

    def _replayed(self, passed: Sequence[onnx.NodeProto], x: str) -> str:
        """`x` with its axes moved as the nodes do."""
        for node in reversed(passed):
            if node.op_type in _LAYOUT and node.op_type != "Identity":
                copy = onnx.NodeProto.FromString(node.SerializeToString())
                copy.input[0], copy.name = x, ""
                copy.output[0] = x = self.graph.new(f"{node.output[0]}_logits")
                self.graph.graph.node.append(copy)
        return x

    def _axes_of(self, passed: Sequence[onnx.NodeProto], rank: int) -> list[int | None] | None:
        """For each axis after the nodes, the axis before them it was; None where a Reshape hides that."""
        axes: list[int | None] = list(range(rank))
        for node in reversed(passed):
            if standard(node, "Transpose"):
                perm = attribute(node, "perm", list(range(len(axes)))[::-1])
                axes = [axes[at] for at in perm]
            elif standard(node, "Squeeze", "Unsqueeze"):
                given = attribute(node, "axes") if len(node.input) < 2 else self.graph.constant(node.input[1])
                before = self.graph.shape(node.input[0])
                if given is None and before is not None and node.op_type == "Squeeze":
                    given = [at for at, side in enumerate(before) if side == 1]
                if given is None:
                    return None
                wanted = len(axes) + (len(given) if node.op_type == "Unsqueeze" else 0)
                at_each = sorted(int(axis) % wanted for axis in given)
                if node.op_type == "Squeeze":
                    axes = [axis for at, axis in enumerate(axes) if at not in at_each]
                else:
                    for at in at_each:
                        axes.insert(at, None)
            elif standard(node, "Reshape", "Flatten") and self._reshapes(node):
                return None
        return axes

    def _reshapes(self, node: onnx.NodeProto) -> bool:
        return self.graph.shape(node.input[0]) != self.graph.shape(node.output[0])

    def _before_softmax(self, passed: Sequence[onnx.NodeProto], node: onnx.NodeProto) -> str | None:
        """Leave a Softmax out that normalizes each pixel: then the largest stays the largest."""
        shape, final = self.graph.shape(node.input[0]), self.graph.shape(self.name)
        axes = None if shape is None else self._axes_of(passed, len(shape))
        if shape is None or final is None or axes is None:
            return None
        at = output_form.channel_axis(final, self.size)
        axis = int(attribute(node, "axis", -1 if self.graph.opset >= 13 else 1)) % len(shape)
        channel = None if at is None else axes[at]
        if channel is None or not (axis == channel or (self.graph.opset < 13 and axis <= channel)):
            return None
        self._note(f"output '{self.name}' holds probabilities, by a Softmax: the bundle's logits are what enters it")
        return self._replayed(passed, node.input[0])

    def _before_argmax(self, passed: Sequence[onnx.NodeProto], node: onnx.NodeProto) -> str | None:
        """The scores that an ArgMax compares, with the channels moved to their place."""
        x, shape, final = node.input[0], self.graph.shape(node.input[0]), self.graph.shape(self.name)
        if shape is None or final is None or attribute(node, "select_last_index", 0):
            return None
        axis = int(attribute(node, "axis", 0)) % len(shape)
        rest = [side for at, side in enumerate(shape) if at != axis]
        moved = any(standard(n, "Transpose") and self._turns(n) for n in passed)
        if moved or [s for s in rest if s != 1] != [s for s in final if s != 1]:
            return None
        orders = {(4, 1): None, (4, 3): [0, 3, 1, 2], (4, 2): [0, 2, 1, 3], (3, 0): None, (3, 2): [2, 0, 1]}
        if (len(shape), axis) not in orders:
            return None
        self._note(f"output '{self.name}' is a class map, by an ArgMax: the bundle's logits are what it compares")
        if (perm := orders[len(shape), axis]) is not None:
            x = self.graph.add("Transpose", [x], f"{self.name}_logits", perm=perm)
        return self.graph.unsqueeze(x, [0], f"{self.name}_batch") if len(shape) == 3 else x

    def _turns(self, node: onnx.NodeProto) -> bool:
        """Whether a Transpose changes the order of axes longer than 1."""
        shape = self.graph.shape(node.input[0])
        perm = attribute(node, "perm")
        if shape is None or perm is None:
            return True
        long = [at for at in perm if shape[at] != 1]
        return long != sorted(long)

    def _before_comparison(self, passed: Sequence[onnx.NodeProto], node: onnx.NodeProto) -> str | None:
        """The logits of a foreground where a probability, or a logit, exceeds a constant."""
        larger, equal = _COMPARISONS[node.op_type]
        limit = self.graph.constant(node.input[1 - larger])
        if limit is None or limit.size != 1 or self._channels() != 1:
            return None
        level = np.float32(limit.item())
        inner, end = self._walk(node.input[larger])
        sigmoid = self.graph.producers.get(end)
        scaled = [n for n in inner if n.op_type in ("Mul", "Div", "Clip", "Round", "Where")]
        if standard(sigmoid, "Sigmoid") and 0 < level < 1 and not scaled:
            assert sigmoid is not None
            self.found.threshold = float(np.nextafter(level, np.float32(0))) if equal else float(level)
            x = self._replayed(inner, sigmoid.input[0])
        else:
            self.found.threshold = 0.5
            x = node.input[larger]
            if self.graph.dtype(x) not in _FLOATS:
                return None
            level = np.nextafter(level, np.float32(-np.inf)) if equal else level
            if level:
                level_named = self.graph.constant_named(f"{self.name}_level", np.array(level, np.float32))
                x = self.graph.add("Sub", [x, level_named], f"{self.name}_logits")
        self._note(f"output '{self.name}' is a foreground by a comparison: the bundle's logits are what it compares")
        return self._replayed(passed, x)

    # ---- what nothing can be left out of

    def _floats(self) -> str:
        """The output as it is, as floats."""
        if self.graph.dtype(self.name) in (0, *_FLOATS):
            return self.name
        return self.graph.add("Cast", [self.name], f"{self.name}_float", to=onnx.TensorProto.FLOAT)

    def _shifted(self) -> str:
        """Probabilities of one channel less 0.5: a sigmoid of that keeps their order, and 0.5 where it is."""
        if self._channels() != 1:
            self._note(f"output '{self.name}' holds probabilities: the largest decides")
            return self.name
        self.found.shifted = True
        self._note(
            f"output '{self.name}' holds probabilities that no Sigmoid at the end makes: the bundle's logits are the"
            " probabilities less 0.5"
        )
        level_named = self.graph.constant_named(f"{self.name}_level", np.array(0.5, np.float32))
        return self.graph.add("Sub", [self._floats(), level_named], f"{self.name}_logits")

    def _opaque_classes(self) -> str:
        """A class map as logits -|class - c|, whose largest is the class."""
        boolean = self.graph.dtype(self.name) == onnx.TensorProto.BOOL
        count = 2 if boolean else self.asked.classes or self._counted()
        if count < 2:
            raise self._refuse(
                "it holds classes, and how many there are is not known", "name them: --classes FILE, one name a line"
            )
        if self._channels() != 1:
            raise self._refuse(f"it holds integers of shape {self.graph.shape(self.name)}", "keep the logits only")
        x = self.graph.add("Cast", [self.name], f"{self.name}_float", to=onnx.TensorProto.FLOAT)
        x = self._planar(x)
        each = self.graph.constant_named(f"{self.name}_each", np.arange(count, dtype=np.float32).reshape(1, -1, 1, 1))
        apart = self.graph.add("Sub", [x, each], f"{self.name}_apart")
        distance = self.graph.add("Abs", [apart], f"{self.name}_distance")
        self._note(
            f"output '{self.name}' is a class map that cannot be taken back to its scores: the bundle's logits are"
            " 0 for the class and less for the others"
        )
        return self.graph.add("Neg", [distance], f"{self.name}_logits")

    def _counted(self) -> int:
        """How many classes an ArgMax behind the class map tells apart; 0 where none is found."""
        name = self.name
        while (node := self.graph.producers.get(name)) is not None:
            if standard(node, "ArgMax"):
                shape = self.graph.shape(node.input[0])
                side = None if shape is None else shape[int(attribute(node, "axis", 0))]
                return side or 0
            if not standard(node, *_LAYOUT, "Cast", "Resize", "Upsample", "Slice", "Pad", "MaxPool", "Gather"):
                return 0
            name = node.input[0]
        return 0

    def _channels(self) -> int | None:
        """The channels of the output; None where they are not known."""
        shape = self.graph.shape(self.name)
        if shape is None or len(shape) == 2:
            return None if shape is None else 1
        at = output_form.channel_axis(shape, self.size)
        if len(shape) == 3 and at == 0 and shape[0] in (None, self.graph.batch):
            return 1
        return None if at is None else shape[at]

    def _is_unit(self, name: str, depth: int) -> bool:
        """Whether all values of a tensor lie between 0 and 1."""
        node = self.graph.producers.get(name)
        if node is None or depth > 32:
            return False
        if standard(node, "Sigmoid", "HardSigmoid", "Softmax", *_COMPARISONS):
            return True
        if standard(node, "Clip"):
            bounds = self._bounds(node)
            return None not in bounds and bounds[0] >= 0 and bounds[1] <= 1  # type: ignore[operator]
        if standard(node, "Resize", "Upsample"):
            mode = attribute(node, "mode", b"nearest")
            return mode != b"cubic" and self._is_unit(node.input[0], depth + 1)
        if standard(node, *_JOINS):
            return all(self._is_unit(each, depth + 1) for each in node.input)
        return standard(node, *_KEEPS_RANGE) and self._is_unit(node.input[0], depth + 1)

    def _bounds(self, node: onnx.NodeProto) -> list[float | None]:
        """The bounds of a Clip."""
        if self.graph.opset < 11:
            return [attribute(node, "min"), attribute(node, "max")]
        given = [self.graph.constant(name) if name else None for name in node.input[1:3]]
        return [None if value is None else float(value.item()) for value in (*given, None, None)][:2]

    # ---- axes

    def _planar(self, x: str) -> str:
        """`x` as (N, C, H, W)."""
        self.graph.infer_again()
        shape = self.graph.shape(x)
        if shape is None:
            return x
        at = output_form.channel_axis(shape, self.size)
        if len(shape) == 2 and output_form.is_map(shape, self.size):
            return self.graph.unsqueeze(x, [0, 1], f"{self.name}_planar")
        if len(shape) == 3 and at == 0:  # (N, H, W), or (C, H, W) of one image
            channels = shape[0] not in (None, self.graph.batch)
            return self.graph.unsqueeze(x, [0 if channels else 1], f"{self.name}_planar")
        if len(shape) == 3 and at == 2:
            moved = self.graph.add("Transpose", [x], f"{self.name}_moved", perm=[2, 0, 1])
            return self.graph.unsqueeze(moved, [0], f"{self.name}_planar")
        if len(shape) == 4 and at == 3:
            self._note(f"output '{self.name}' has its channels last: they are moved before height and width")
            return self.graph.add("Transpose", [x], f"{self.name}_planar", perm=[0, 3, 1, 2])
        if len(shape) != 4:
            raise self._refuse(f"its shape is {shape}", "export the model with a map (N, classes, H, W) as its output")
        return x
