"""The end of a PyTorch model, watched while it runs: what its output is, and the logits before a Sigmoid or an argmax.

The same watch makes half-precision parts compute in float32, as --precision fp32 means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from segc.frontend import output_form

NARROW = (torch.float16, torch.bfloat16)
_COMPUTED = (torch.float32, torch.float64)
_MOVES = {"squeeze", "unsqueeze", "permute", "transpose", "movedim", "contiguous", "clone", "detach"}
_CASTS = {"float", "double", "to", "type", "byte", "long", "int", "bool", "round", "clamp", "clip", "half", "bfloat16"}
_SCALES = {"mul", "__mul__", "__rmul__", "multiply", "div", "__truediv__", "true_divide"}
_RANGE = {"interpolate", "max_pool2d", "__getitem__"}
_UNITS = {"sigmoid", "softmax", "hardsigmoid"}
_ENDS = {"sigmoid", "softmax", "argmax", "max", "gt", "__gt__", "greater"}
_WATCHED = _MOVES | _CASTS | _SCALES | _RANGE | _UNITS | _ENDS
_KEPT = 64  # calls: the end of a model with a dozen outputs


class NotLogitsError(TypeError):
    """The model runs, but what it returns is not a map of classes."""


@dataclass(frozen=True)
class Call:
    """A call of a PyTorch function, and what it returned."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any

    def argument(self, at: int, name: str, otherwise: Any = None) -> Any:
        """An argument by place or by name."""
        return self.args[at] if len(self.args) > at else self.kwargs.get(name, otherwise)


class Watch(TorchFunctionMode):
    """Keeps the last calls that may end a model, and reads float16 and bfloat16 as float32."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: deque[Call] = deque(maxlen=_KEPT)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        """Call `func`, and keep the call if it may be the model's end."""
        if func in (torch.Tensor.half, torch.Tensor.bfloat16):
            func = torch.Tensor.float
        args = tuple(_wide(value) for value in args)
        kwargs = {name: _wide(value) for name, value in (kwargs or {}).items()}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "").partition(".")[0]  # exported programs call 'sigmoid.default' and the like
        if name in _WATCHED:
            self._calls.append(Call(name, func, args, kwargs, result))
        return result

    def maker(self, tensor: torch.Tensor) -> Call | None:
        """The call that returned a tensor, itself or in a tuple; None if it was none of those watched."""
        for call in reversed(self._calls):
            made = call.result if isinstance(call.result, tuple) else (call.result,)
            if any(each is tensor for each in made) and not any(arg is tensor for arg in call.args):
                return call
        return None


def _wide(value: Any) -> Any:
    return torch.float32 if isinstance(value, torch.dtype) and value in NARROW else value


@dataclass
class Found:
    """What the model's output turned out to be.

    threshold: None where the model says nothing. shifted: the logits are probabilities less 0.5.
    """

    threshold: float | None = None
    shifted: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What the user says about the output. classes: how many there are, 0 if not said."""

    name: str | None = None
    values: str | None = None
    classes: int = 0


class Reader:
    """Turns what a model returns into logits (N, C, H, W); what the first run decides holds for all runs."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.found = Found()
        self._choice: str | None = None
        self._axis: tuple[int, int | None] | None = None

    def logits(self, output: Any, watch: Watch, size: tuple[int, int]) -> torch.Tensor:
        """The logits in `output`. size: (height, width) of the input. Raises NotLogitsError."""
        self.found = Found()
        tensor = self._chosen(output, size)
        values = self.asked.values
        if values != "logits":
            if (before := self._cut(tensor, watch, size)) is not None:
                return self._planar(before, size)
            if values == "probabilities" or (values is None and self._is_unit(tensor, watch, size)):
                return self._shifted(self._planar(tensor, size))
            if values == "classes" or not tensor.is_floating_point():
                return self._spread(self._planar(tensor.float(), size))
        return self._planar(tensor if tensor.dtype in _COMPUTED else tensor.float(), size)

    def _chosen(self, output: Any, size: tuple[int, int]) -> torch.Tensor:
        named = _tensors(output)
        if self.asked.name is not None:
            if self.asked.name not in named:
                raise NotLogitsError(f"the model returns no '{self.asked.name}', but {', '.join(named) or 'no tensor'}")
            return named[self.asked.name]
        shapes = {name: sizes_of(tensor) for name, tensor in named.items()}
        keys = {
            name: (*self._misfit(shape, size), *key)
            for at, (name, shape) in enumerate(shapes.items())
            if (key := output_form.rank(name, shape, size, at)) is not None and len(shape) > 2
        }
        if not keys:
            raise NotLogitsError(f"the model returned {_said(output)}; logits of shape (N, classes, H, W) are needed")
        if self._choice not in keys:
            self._choice = min(keys, key=lambda name: keys[name])
        if len(named) > 1:
            others = ", ".join(name for name in named if name != self._choice)
            self.found.notes.append(
                f"of what the model returns '{self._choice}' is taken, without {others}; --output-name takes another"
            )
        return named[self._choice]

    def _misfit(self, shape: Sequence[int], size: tuple[int, int]) -> tuple[bool, ...]:
        """Whether the channels are not as many as the classes that the user named."""
        at = output_form.channel_axis(shape, size)
        known = max(self.asked.classes, 0)
        return (known > 2 and at is not None and len(shape) == 4 and shape[at] not in (1, known),)

    # ---- the end of the model

    def _walk(self, tensor: torch.Tensor, watch: Watch, through: set[str]) -> tuple[list[Call], Call | None]:
        """The calls back from a tensor that only move or rescale it, the last first, and the call before them."""
        passed: list[Call] = []
        while (call := watch.maker(tensor)) is not None and call.name in through:
            if call.name in _SCALES and not _positive_scale(call):
                return passed, call
            passed.append(call)
            tensor = call.args[0] if isinstance(call.args[0], torch.Tensor) else call.args[1]
        return passed, call

    def _cut(self, tensor: torch.Tensor, watch: Watch, size: tuple[int, int]) -> torch.Tensor | None:
        passed, call = self._walk(tensor, watch, _MOVES | _CASTS | _SCALES)
        if call is None or call.name not in _ENDS or not isinstance(call.args[0], torch.Tensor):
            return None
        x = call.args[0]
        if call.name == "sigmoid":
            return self._left_out("holds probabilities, by a Sigmoid", _replayed(passed, x))
        if call.name == "softmax":
            dim = call.argument(1, "dim")
            at = output_form.channel_axis(sizes_of(x), size)
            if not isinstance(dim, int) or at is None or dim % x.ndim != at:
                return None
            return self._left_out("holds probabilities, by a Softmax", _replayed(passed, x))
        if call.name in ("argmax", "max"):
            dim = call.argument(1, "dim")
            if (
                not isinstance(dim, int)
                or x.ndim not in (3, 4)
                or (call.name == "max" and _values_of(call, passed, tensor))
            ):
                return None
            return self._left_out("is a class map, by an argmax", x.movedim(dim, 1 if x.ndim == 4 else 0))
        return self._before_comparison(call, passed, watch, size)

    def _before_comparison(
        self, call: Call, passed: list[Call], watch: Watch, size: tuple[int, int]
    ) -> torch.Tensor | None:  # fmt: skip
        x, level = call.args[0], call.argument(1, "other")
        shape = sizes_of(x)
        at = output_form.channel_axis(shape, size)
        one = at is not None and (len(shape) == 3 or shape[at] == 1)
        if isinstance(level, bool) or not isinstance(level, (int, float)) or not one:
            return None
        inner, end = self._walk(x, watch, _MOVES)
        if end is not None and end.name == "sigmoid" and 0 < level < 1:
            self.found.threshold = float(level)
            x = _replayed(inner, end.args[0])
        else:
            self.found.threshold = 0.5
            x = x - level if level else x
        return self._left_out("is a foreground by a comparison", _replayed(passed, x))

    def _left_out(self, what: str, logits: torch.Tensor) -> torch.Tensor:
        self.found.notes.append(f"the model's output {what}: the bundle's logits are what is before it")
        return logits

    def _is_unit(self, tensor: torch.Tensor, watch: Watch, size: tuple[int, int]) -> bool:
        """Whether this is one channel of values between 0 and 1."""
        shape = sizes_of(tensor)
        at = output_form.channel_axis(shape, size)
        if at is None or not tensor.is_floating_point() or (len(shape) == 4 and shape[at] != 1):
            return False
        _, call = self._walk(tensor, watch, _MOVES | _RANGE | {"float", "to"})
        if call is not None and call.name in ("clamp", "clip"):
            least, most = call.argument(1, "min"), call.argument(2, "max")
            return least is not None and most is not None and least >= 0 and most <= 1
        return call is not None and call.name in _UNITS

    def _shifted(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != 1:
            self.found.notes.append("the model's output holds probabilities: the largest decides")
            return x
        self.found.shifted = True
        self.found.notes.append(
            "the model's output holds probabilities that no Sigmoid at its end makes: the bundle's logits are the"
            " probabilities less 0.5"
        )
        return x - 0.5

    def _spread(self, x: torch.Tensor) -> torch.Tensor:
        """A class map (N, 1, H, W) as logits -|class - c|, whose largest is the class."""
        if x.shape[1] != 1:
            raise NotLogitsError(f"the model returned integers of shape {tuple(x.shape)}; logits are needed")
        if self.asked.classes < 2:
            raise NotLogitsError("the model returned classes, and how many there are is not known: name them")
        self.found.notes.append(
            "the model's output is a class map that cannot be taken back to its scores: the bundle's logits are 0 for"
            " the class and less for the others"
        )
        each = torch.arange(self.asked.classes, dtype=torch.float32).reshape(1, -1, 1, 1)
        return -(x - each).abs()

    # ---- axes

    def _planar(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """`x` as (N, C, H, W)."""
        if self._axis is None or self._axis[0] != x.ndim:
            self._axis = (x.ndim, output_form.channel_axis(sizes_of(x), size))
        at = self._axis[1]
        if x.ndim == 4 and at == 3:
            self.found.notes.append("the model's output has its channels last: they are moved before height and width")
            return x.permute(0, 3, 1, 2)
        if x.ndim == 3 and at == 0:
            return x.unsqueeze(1)
        if x.ndim != 4:
            raise NotLogitsError(f"the model returned a tensor of shape {tuple(x.shape)}; (N, classes, H, W) is needed")
        return x


def _tensors(output: Any) -> dict[str, torch.Tensor]:
    """The tensors in what a model returns, by key or place; of a list in it the first."""
    if isinstance(output, torch.Tensor):
        return {"output": output}
    if isinstance(output, Mapping):
        entries = {str(key): value for key, value in output.items()}
    elif isinstance(output, (list, tuple)):
        entries = {str(at): value for at, value in enumerate(output)}
    else:
        return {}
    found = {}
    for name, value in entries.items():
        first = next(iter(_tensors(value).values()), None)
        if first is not None:
            found[name] = first
    return found


def sizes_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape as numbers; of a size that is traced as a symbol, the one it is traced at."""
    return tuple(side if isinstance(side, int) else int(side.node.hint) for side in tensor.shape)


def _positive_scale(call: Call) -> bool:
    other = call.args[1] if len(call.args) > 1 else None
    return isinstance(other, (int, float)) and other > 0 and isinstance(call.args[0], torch.Tensor)


def _values_of(call: Call, passed: list[Call], tensor: torch.Tensor) -> bool:
    """Whether the largest values, not their places, are what the model goes on with."""
    used = passed[-1].args[0] if passed else tensor
    return not isinstance(call.result, tuple) or used is call.result[0]


def _replayed(passed: Sequence[Call], x: torch.Tensor) -> torch.Tensor:
    """`x` with its axes moved as the calls do."""
    for call in reversed(passed):
        if call.name in _MOVES:
            x = call.function(x, *call.args[1:], **call.kwargs)
    return x


def _said(output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return f"a {type(output).__name__}"
