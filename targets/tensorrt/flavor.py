"""The two TensorRTs: TensorRT for RTX, which builds engines without a GPU, and the enterprise one, which needs its GPU.

Both have the same Python API. Which one is installed is found without importing it. Whether there is a GPU is asked of
the driver, which both need to run an engine.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from segc.errors import Code, MissingPackageError
from segc.targets.protocol import Settings
from segc.targets.tensorrt.options import AUTO, DEFER, ENTERPRISE, RTX


@dataclass(frozen=True)
class Flavor:
    """One TensorRT. modules: to import, in this order; the last has the API. distributions: any one installs it.

    install: how to install it. needs_gpu: a build needs a GPU.
    """

    name: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    install: str
    needs_gpu: bool


FLAVORS: Mapping[str, Flavor] = {
    RTX: Flavor(
        RTX,
        ("tensorrt_rtx_libs", "tensorrt_rtx_bindings"),
        ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx"),
        "pip install 'segc[tensorrt]'",
        needs_gpu=False,
    ),
    ENTERPRISE: Flavor(
        ENTERPRISE,
        ("tensorrt",),
        ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
        "pip install tensorrt, on the machine with the GPU",
        needs_gpu=True,
    ),
}


def chosen(options: Mapping[str, str]) -> Flavor:
    """The requested flavor; for `auto` the first that is installed, or RTX when none is."""
    asked = options.get("flavor", AUTO)
    if asked != AUTO:
        return FLAVORS[asked]
    return next((f for f in FLAVORS.values() if installed(f)), FLAVORS[RTX])


def defers(options: Mapping[str, str]) -> bool:
    """Whether the build is left to `segc build`."""
    return options.get(DEFER.name) == "yes"


def installed(flavor: Flavor) -> bool:
    """Whether the flavor's modules can be found."""
    return all(find_spec(module) is not None for module in flavor.modules)


def distribution_of(flavor: Flavor) -> str | None:
    """The installed distribution of the flavor, or None; there is one for each version of CUDA."""
    for name in flavor.distributions:
        with suppress(PackageNotFoundError):
            version(name)
            return name
    return None


def version_of(flavor: Flavor) -> str:
    """The installed version. Raises MissingPackageError, which says how to install it."""
    if name := distribution_of(flavor):
        return version(name)
    if installed(flavor):
        return "of unknown version"
    others = [f.name for f in FLAVORS.values() if f is not flavor and installed(f)]
    raise MissingPackageError(
        f"TensorRT ({flavor.name}) is not installed", code=Code.RUNTIME_MISSING,
        because=f"no module {flavor.modules[-1]}; installed is --flavor {' and '.join(others)}" if others else
        f"no module {flavor.modules[-1]}",
        so=[flavor.install, "or compile with --defer and build the engine on a machine that has TensorRT"],
    )  # fmt: skip


def cannot_run(settings: Settings) -> str | None:
    """Why this machine cannot run an engine, or None."""
    return why_no_gpu()


@cache
def why_no_gpu() -> str | None:
    """Why there is no usable NVIDIA GPU, or None."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver on this machine"
    if code := driver.cuInit(0):
        return f"the NVIDIA driver does not start (CUDA error {code})"
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver finds no GPU"
    return None


def explain() -> str:
    """For `segc doctor`: which flavors are installed, and how they build."""
    lines = []
    for flavor in FLAVORS.values():
        try:
            state = f"{version_of(flavor)} installed"
        except MissingPackageError:
            state = f"not installed ({flavor.install})"
        builds = "builds on a machine with its GPU only" if flavor.needs_gpu else "builds without a GPU"
        lines.append(f"flavor {flavor.name}: {state}, {builds}")
    return "; ".join(lines)
