"""Random numbers that a PyTorch model draws at inference become numbers drawn once: `--freeze-random SEED`.

A model is looked at once: every random number that its `forward` asks for is drawn from the seed and kept as a buffer.
From then on `forward` gets these numbers, in PyTorch, while it is traced, and in the source's own way from a file to a
mask. So the engine and its reference use the same ones.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from segc.errors import Code, SourceError
from segc.frontend.model import OnFiles, OwnMask, Source
from segc.frontend.quiet import quiet

_MORE = 64  # pixels that the second look of a dynamic model adds to each side
_UNKNOWN = (
    "randint", "randint_like", "randperm", "multinomial", "poisson", "exponential_", "geometric_", "cauchy_",
    "log_normal_", "random_", "rrelu", "alpha_dropout", "feature_alpha_dropout",
)  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """One tensor of random numbers. name: where the model asks for it; shape: for one image."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def words(self) -> str:
        """For notes: 'ham_head.py:123 forward (uniform, 1x512x64)'."""
        return f"{self.name} ({self.kind}, {'x'.join(map(str, self.shape)) or 'one number'})"


@dataclass
class _Kept:
    """The draws of a model, in the order in which one forward asks for them. values: None while it is looked at."""

    seed: int
    draws: list[Draw] = field(default_factory=list)
    arrays: list[torch.Tensor] = field(default_factory=list)
    owner: nn.Module | None = None
    at: int = 0

    def take(self, kind: str, sizes: Sequence[Any]) -> torch.Tensor:
        """The next numbers, float32. Raises SourceError where the model asks for others than at the first look."""
        if self.owner is None:
            return self._new(kind, tuple(int(size) for size in sizes))
        index = self.at % len(self.draws) if self.draws else 0  # each forward begins where the last one ended
        self.at += 1
        if not self.draws or self.draws[index].kind != kind or not _fits(self.draws[index].shape, sizes):
            found = f"{kind} numbers of shape {tuple(map(str, sizes))}"
            raise _cannot(f"{_place()} asks for {found}, which the first look did not")
        value: torch.Tensor = self.owner.get_buffer(_buffer(index))
        shape = self.draws[index].shape
        if shape[:1] == (1,) and (isinstance(sizes[0], torch.SymInt) or sizes[0] != 1):
            return value.expand(sizes[0], *shape[1:])  # all images of a batch get the same numbers
        return value

    def _new(self, kind: str, shape: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed * 2**20 + len(self.draws))
        draw = torch.rand if kind == "uniform" else torch.randn
        with torch._C.DisableTorchFunction():
            value = draw(shape, generator=generator)
        self.draws.append(Draw(_place(), kind, shape))
        self.arrays.append(value)
        return value


class _Mode(TorchFunctionMode):
    """Answers PyTorch's functions for random numbers from what is kept."""

    def __init__(self, kept: _Kept) -> None:
        super().__init__()
        self._kept = kept

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _UNKNOWN:
            raise _cannot(f"{_place()} calls {name}, of which segc has no numbers that are drawn once")
        answer = _ANSWERS.get(name)
        return func(*args, **kwargs) if answer is None else answer(self._kept, func, args, kwargs)


def _filled(kind: str) -> Callable[..., Any]:
    """torch.rand, torch.randn."""

    def answer(kept: _Kept, func: Any, args: Any, kwargs: Any) -> Any:
        given = kwargs.get("size", args)
        sizes = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list, torch.Size)) else given
        return _typed(kept.take(kind, tuple(sizes)), kwargs)

    return answer


def _filled_like(kind: str) -> Callable[..., Any]:
    """torch.rand_like, torch.randn_like."""

    def answer(kept: _Kept, func: Any, args: Any, kwargs: Any) -> Any:
        x = args[0] if args else kwargs["input"]
        return _typed(kept.take(kind, tuple(x.shape)), {"dtype": x.dtype, **kwargs})

    return answer


def _typed(value: torch.Tensor, kwargs: Any) -> torch.Tensor:
    dtype = kwargs.get("dtype")
    return value if dtype in (None, torch.float32) else value.to(dtype)


def _in_place(kind: str, first: str, second: str, defaults: tuple[float, float]) -> Callable[..., Any]:
    """Tensor.uniform_, Tensor.normal_: `first` + numbers * scale."""

    def answer(kept: _Kept, func: Any, args: Any, kwargs: Any) -> Any:
        x = args[0]
        low, high = (
            kwargs.get(name, args[at] if len(args) > at else default)
            for at, (name, default) in enumerate(zip((first, second), defaults, strict=True), 1)
        )
        scale = high - low if kind == "uniform" else high
        return x.copy_(kept.take(kind, tuple(x.shape)) * scale + low)

    return answer


def _bernoulli(kept: _Kept, func: Any, args: Any, kwargs: Any) -> Any:
    x = args[0] if args else kwargs["input"]
    p = kwargs.get("p", args[1] if len(args) > 1 else x)
    return (kept.take("uniform", tuple(x.shape)) < p).to(x.dtype)


def _bernoulli_in_place(kept: _Kept, func: Any, args: Any, kwargs: Any) -> Any:
    x = args[0]
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    return x.copy_((kept.take("uniform", tuple(x.shape)) < p).to(x.dtype))


def _dropout(kept: _Kept, func: Any, args: Any, kwargs: Any) -> Any:
    """F.dropout, which draws only where `training` says so."""
    given = dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
    if not given.get("training", True) or not given.get("p", 0.5):
        return given["input"]
    x, p = given["input"], given.get("p", 0.5)
    return x * (kept.take("uniform", tuple(x.shape)) >= p).to(x.dtype) / (1 - p)


_ANSWERS: dict[str, Callable[..., Any]] = {
    "rand": _filled("uniform"),
    "randn": _filled("normal"),
    "rand_like": _filled_like("uniform"),
    "randn_like": _filled_like("normal"),
    "uniform_": _in_place("uniform", "from", "to", (0.0, 1.0)),
    "normal_": _in_place("normal", "mean", "std", (0.0, 1.0)),
    "bernoulli": _bernoulli,
    "bernoulli_": _bernoulli_in_place,
    "dropout": _dropout,
}


def frozen(source: Source, seed: int, shape: tuple[int, int], *, dynamic: bool) -> tuple[Source, tuple[Draw, ...]]:
    """`source` with the random numbers of its module drawn once, and the draws; none if it draws none.

    shape: (height, width) of the look. dynamic: look at a second size too, whose numbers must be as many.
    Raises SourceError where numbers cannot be drawn once.
    """
    assert source.module is not None
    found = _looked_at(source.module, seed, (1, source.info.in_channels, *shape))
    if not found.draws:
        return source, ()
    if dynamic:
        larger = (1, source.info.in_channels, shape[0] + _MORE, shape[1] + _MORE)
        if [draw.shape for draw in _looked_at(source.module, seed, larger).draws] != [d.shape for d in found.draws]:
            raise SourceError(
                "the random numbers of the model cannot be drawn once", code=Code.RANDOM_NUMBERS,
                because=["their number depends on the size of the image", *(draw.words for draw in found.draws)],
                so="compile with a fixed --shape",
            )  # fmt: skip
    module = copy.copy(source.module)
    module._buffers = dict(module._buffers)
    for index, value in enumerate(found.arrays):
        module.register_buffer(_buffer(index), value, persistent=False)
    found.owner = module
    forward = type(source.module).forward

    def with_kept(x: torch.Tensor) -> Any:
        found.at = 0
        with _Mode(found):
            return forward(module, x)

    module.forward = with_kept
    on_files = source.on_files and _OnFiles(source.on_files, found)
    return replace(source, module=module, on_files=on_files), tuple(found.draws)


class _OnFiles:
    """A source's own way from a file to a mask, with the same random numbers."""

    def __init__(self, own: OnFiles, kept: _Kept) -> None:
        self._own, self._kept = own, kept
        self.shrinks = own.shrinks

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray | None:
        """See `OnFiles`."""
        with self._numbers():
            return self._own.tensor(path, fixed)

    def mask(self, path: Path, how: Any, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        """See `OnFiles`."""
        with self._numbers():
            return self._own.mask(path, how, fixed, shrink)

    @contextmanager
    def _numbers(self) -> Iterator[None]:
        self._kept.at = 0
        with _Mode(self._kept):
            yield


def _looked_at(module: nn.Module, seed: int, shape: tuple[int, int, int, int]) -> _Kept:
    """The numbers that one forward in eval mode asks for; none where the model does not run at this size."""
    kept = _Kept(seed)
    module.eval()
    try:
        with quiet(), torch.no_grad(), _Mode(kept):
            module(torch.zeros(shape))
    except SourceError:
        raise
    except Exception:  # user code may raise anything: tracing says it better
        return _Kept(seed)
    return kept


def _buffer(index: int) -> str:
    return f"segc_random_{index}"


def _fits(shape: tuple[int, ...], sizes: Sequence[Any]) -> bool:
    """Whether numbers for one image serve these sizes: the same but for the first, which may be the batch."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    if len(shape) != len(sizes):
        return False
    same = [bool(statically_known_true(size == own)) for own, size in zip(shape, sizes, strict=True)]
    return all(same[1:]) and (shape[:1] == (1,) or all(same))


def _cannot(why: str) -> SourceError:
    return SourceError(
        "the random numbers of the model cannot be drawn once", code=Code.RANDOM_NUMBERS, because=why,
        so="draw them in the model's constructor, and keep them as a buffer",
    )  # fmt: skip


def _place() -> str:
    """The model's own line that asks: the innermost frame that is not torch's or segc's."""
    for frame in reversed(traceback.extract_stack()):
        path = PurePath(frame.filename)
        if "torch" not in path.parts and path.parent != PurePath(__file__).parent and "contextlib" not in path.name:
            return f"{path.name}:{frame.lineno} {frame.name}"
    return "an unknown line"
