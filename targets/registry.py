"""Targets and their runtimes by name: segc's own, and those that other packages offer as entry points.

Group `segc.targets` holds Targets, which import the compiler. Group `segc.runtimes` may hold the Runtime of the same
name in a module that does not: bundles then load without the compiler.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from segc import packages
from segc.errors import Code, MissingPackageError, UsageError
from segc.suggestions import closest
from segc.targets.protocol import Runtime

if TYPE_CHECKING:
    from segc.targets.target import Target

GROUP, RUNTIMES = "segc.targets", "segc.runtimes"
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


def runtime_names() -> list[str]:
    """All names `runtime` knows."""
    return [*names(), *sorted(set(_offered(RUNTIMES)) - set(names()))]


@cache
def get(name: str) -> Target:
    """The target `name`. Raises UsageError for an unknown name and MissingPackageError for a broken plug-in."""
    if name in BUILT_IN:
        return _as_target(name, _attribute(BUILT_IN[name]))
    return _as_target(name, _loaded(_point(name, GROUP)))


@cache
def runtime(name: str) -> Runtime:
    """What loads the bundles of target `name`, without the compiler where it can be had so. Raises as `get`."""
    if name in BUILT_IN:
        return _as_runtime(name, _attribute(f"segc.targets.{name}.runtime:RUNTIME"))
    if name in _offered(RUNTIMES):
        return _as_runtime(name, _loaded(_point(name, RUNTIMES)))
    return get(name).runtime


def _attribute(path: str) -> object:
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise packages.missing(error) or error from error


def _point(name: str, group: str) -> EntryPoint:
    """The entry point that another package offers under this name. Raises UsageError where there is none."""
    offered = _offered(group)
    if name not in offered:
        close = closest(name, names())
        raise UsageError(
            f"there is no target '{name}'",
            code=Code.UNKNOWN_NAME,
            because=f"segc knows {', '.join(names())}",
            so=f"did you mean {' or '.join(close)}?" if close else "segc targets lists them",
        )
    return offered[name]


def _loaded(point: EntryPoint) -> object:
    try:
        return point.load()
    except ImportError as error:
        raise packages.missing(error) or MissingPackageError(
            f"target '{point.name}' cannot be imported", code=Code.RUNTIME_BROKEN,
            because=str(error), where=point.value,
            so="install the package that it needs, or uninstall the one that offers the target",
        ) from error  # fmt: skip


def _offered(group: str = GROUP) -> dict[str, EntryPoint]:
    offered: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.value == BUILT_IN.get(point.name):
            continue
        if point.name in offered or point.name in BUILT_IN:
            raise UsageError(
                f"two packages offer a target named '{point.name}'",
                code=Code.BROKEN_TARGET_PACKAGE,
                because=point.value,
                so="uninstall one of them",
            )
        offered[point.name] = point
    return offered


def _as_runtime(name: str, value: object) -> Runtime:
    if not isinstance(value, Runtime):
        raise UsageError(
            f"the entry point '{name}' of {RUNTIMES} is not a Runtime",
            code=Code.BROKEN_TARGET_PACKAGE,
            because=repr(type(value)),
        )
    return value


def _as_target(name: str, value: object) -> Target:
    from segc.targets.target import Target

    if not isinstance(value, Target) or value.name != name:
        raise UsageError(
            f"the entry point '{name}' of {GROUP} is not a Target of that name",
            code=Code.BROKEN_TARGET_PACKAGE,
            because=repr(type(value)),
        )
    return value
