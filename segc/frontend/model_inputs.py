"""Inputs of a PyTorch model besides the image: constants that the source names, or a refusal by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segc.errors import Code, SourceError

if TYPE_CHECKING:
    from torch import nn

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def bound(model: nn.Module, constants: Mapping[str, Any], name: str) -> nn.Module:
    """The model as a function of the image alone. constants: of its other inputs, by name; tensors become buffers.

    Raises SourceError for inputs that have no value, and for constants that are no input.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    others = [p for p in parameters[1:] if p.kind in (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)]
    missing = [p.name for p in others if p.default is inspect.Parameter.empty and p.name not in constants]
    if missing:
        raise more_inputs(name, missing)
    if unknown := sorted(set(constants) - {p.name for p in others}) if not takes_any else []:
        takes = ", ".join(p.name for p in others) or "nothing"
        raise SourceError(
            f"`meta['inputs']` names what the model of '{name}' does not take", code=Code.PYTHON_CONTRACT,
            because=f"{', '.join(unknown)}; besides the image it takes {takes}",
        )  # fmt: skip
    return _with_constants(model, constants) if constants else model


def more_inputs(name: str, missing: list[str]) -> SourceError:
    """The refusal of a model that needs `missing` besides the image."""
    return SourceError(
        f"the model of '{name}' needs more than the image", code=Code.MODEL_INPUTS,
        because=f"its inputs {', '.join(missing)} have no value" if len(missing) > 1
        else f"its input {missing[0]} has no value",
        so=f"if it is always the same: meta = dict(inputs={{'{missing[0]}': ...}}) in a Python file",
    )  # fmt: skip


def _with_constants(model: nn.Module, constants: Mapping[str, Any]) -> nn.Module:
    import numpy as np
    import torch
    from torch import nn

    class Bound(nn.Module):
        """The model with its other inputs as buffers."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.plain: dict[str, Any] = {}
            for name, value in constants.items():
                tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                if isinstance(tensor, torch.Tensor):
                    self.register_buffer(f"input_{name}", tensor)
                else:
                    self.plain[name] = value

        def forward(self, x: torch.Tensor) -> Any:
            tensors = {name: getattr(self, f"input_{name}") for name in constants if name not in self.plain}
            return self.model(x, **self.plain, **tensors)

    return Bound()
