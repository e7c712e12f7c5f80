"""Transforms of one's own: Python classes that a bundle names, run only where the caller allows it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segc.bundle.preprocessing import OwnStep, Step
from segc.errors import Code, MissingPackageError, UsageError

Array = npt.NDArray[Any]
Own = Mapping[str, Callable[[Array], Array]]


def key(step: OwnStep) -> str:
    """One for each class with its settings."""
    return json.dumps([step.module, step.name, dict(step.settings)], sort_keys=True)


def named(chain: Sequence[Step]) -> list[str]:
    """The classes that the steps need, as 'module.Class'."""
    return [f"{step.module}.{step.name}" for step in chain if isinstance(step, OwnStep)]


def load_own(chain: Sequence[Step], *, allowed: bool, where: str) -> Own:
    """The functions of the steps that are Python classes. Imports and makes them, which runs their code.

    Raises UsageError unless `allowed`, MissingPackageError where a class cannot be imported.
    """
    steps = [step for step in chain if isinstance(step, OwnStep)]
    if steps and not allowed:
        raise _not_allowed(steps, where)
    return {key(step): _function(step, where) for step in steps}


def run_own(image: Array, step: OwnStep, own: Own | None) -> Array:
    """The image after the step. Raises UsageError where its function was not loaded."""
    function = (own or {}).get(key(step))
    if function is None:
        raise _not_allowed([step], "")
    return function(image)


def _not_allowed(steps: Sequence[OwnStep], where: str) -> UsageError:
    return UsageError(
        f"the bundle needs Python code of its source: {', '.join(named(steps))}", code=Code.NEEDS_PYTHON,
        because="its preprocessing has a transform of one's own, and nothing is run that was not asked for",
        where=where, so="segc.load(..., python=True) or --python, if you trust the bundle and that code",
    )  # fmt: skip


def _function(step: OwnStep, where: str) -> Callable[[Array], Array]:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        made = getattr(importlib.import_module(step.module), step.name)(**step.settings)
    except Exception as error:  # code of one's own may raise anything
        raise MissingPackageError(
            f"the transform {step.module}.{step.name} cannot be made", code=Code.OPTIONAL_PACKAGE,
            because=f"{type(error).__name__}: {error}", where=where,
            so=f"set PYTHONPATH to the folder that holds {step.module.partition('.')[0]}, and install what it imports",
        ) from error  # fmt: skip

    def transformed(image: Array) -> Array:
        size = image.shape[:2]
        results = made({"img": image.copy(), "img_shape": size, "ori_shape": size, "img_path": None})
        if not isinstance(results, dict) or not isinstance(results.get("img"), np.ndarray):
            raise UsageError(
                f"the transform {step.module}.{step.name} gives no image", code=Code.INPUT_TYPE,
                because="it must return a dictionary with an array 'img'",
            )  # fmt: skip
        image = results["img"]
        return image

    return transformed
