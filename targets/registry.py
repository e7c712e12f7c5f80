"""Targets by name: segc's own and those other packages offer in the entry point group `segc.targets`."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from segc.errors import MissingPackageError, UsageError
from segc.targets.target import Target

GROUP = "segc.targets"
BUILT_IN = {
    "onnxruntime": "segc.targets.onnxruntime.target:ONNXRUNTIME",
    "openvino": "segc.targets.openvino.target:OPENVINO",
    "ncnn": "segc.targets.ncnn.target:NCNN",
    "pplnn": "segc.targets.pplnn.target:PPLNN",
    "tensorrt": "segc.targets.tensorrt.target:TENSORRT",
}


def names() -> list[str]:
    """All names `get` knows, segc's own first."""
    return [*BUILT_IN, *sorted(set(_offered()) - set(BUILT_IN))]


@cache
def get(name: str) -> Target:
    """The target `name`. Raises UsageError for an unknown name and MissingPackageError for a broken plug-in."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return _as_target(name, getattr(import_module(module), attribute))
    offered = _offered()
    if name not in offered:
        close = difflib.get_close_matches(name, names(), n=2, cutoff=0.5)
        raise UsageError(
            f"there is no target '{name}'",
            because=f"segc knows {', '.join(names())}",
            so=f"did you mean {' or '.join(close)}?" if close else "segc targets lists them",
        )
    try:
        return _as_target(name, offered[name].load())
    except ImportError as error:
        raise MissingPackageError(
            f"target '{name}' cannot be imported", because=str(error), where=offered[name].value
        ) from error


def _offered() -> dict[str, EntryPoint]:
    offered: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.value == BUILT_IN.get(point.name):
            continue
        if point.name in offered or point.name in BUILT_IN:
            raise UsageError(
                f"two packages offer a target named '{point.name}'", because=point.value, so="uninstall one of them"
            )
        offered[point.name] = point
    return offered


def _as_target(name: str, value: object) -> Target:
    if not isinstance(value, Target) or value.name != name:
        raise UsageError(f"the entry point '{name}' of {GROUP} is not a Target of that name", because=repr(type(value)))
    return value
