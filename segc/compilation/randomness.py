"""`--freeze-random`: the random numbers of a source are drawn once, or it is refused with that advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from segc.errors import Code, SourceError
from segc.frontend import onnx_random
from segc.frontend.model import Source

if TYPE_CHECKING:
    import onnx

_SHOWN = 3


def settle(source: Source, seed: int | None, image: Sequence[int | None]) -> tuple[Source, str | None]:
    """The source with its random numbers drawn once, and a note; as it is without a seed.

    image: (N, C, H, W) of the engine, None for what is not fixed. Raises SourceError.
    """
    if seed is None:
        return source, None
    if source.onnx_model is not None:
        model, drawn = onnx_random.frozen(source.onnx_model, seed, image)
        source = replace(source, onnx_model=model)
    else:
        from segc.frontend.random_numbers import frozen

        fixed, sides = source.info.shape, image[2:]
        height, width = (own if side is None else side for own, side in zip(fixed, sides, strict=True))
        source, draws = frozen(source, seed, (height, width), dynamic=None in sides)
        drawn = tuple(draw.words for draw in draws)
    if not drawn:
        return source, f"--freeze-random {seed}: the model draws no random numbers"
    many = "number tensor is" if len(drawn) == 1 else "number tensors are"
    note = (
        f"--freeze-random {seed}: {len(drawn)} random {many} drawn once, the same for every image: {'; '.join(drawn)}"
    )
    return replace(source, info=replace(source.info, random_seed=seed)), note


def require_none(model: onnx.ModelProto, seed: int | None) -> None:
    """Refuse a model that would draw random numbers at inference. Raises SourceError."""
    left = onnx_random.random_nodes(model.graph)
    if not left:
        return
    names = [f"{node.op_type} '{node.name or node.output[0]}'" for node in left]
    shown = "; ".join(names[:_SHOWN]) + (f"; {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if seed is None:
        so = ["--freeze-random SEED draws them once, the same for every image", "or draw them in the constructor"]
    else:
        so = ["draw them in the model's constructor, and keep them as a buffer"]
    raise SourceError(
        "the model draws random numbers at inference, so its results cannot be compared", code=Code.RANDOM_NUMBERS,
        because=shown, so=so,
    )  # fmt: skip
