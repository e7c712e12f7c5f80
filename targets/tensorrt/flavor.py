"""The two TensorRTs: for RTX, which builds engines without a GPU, and the enterprise one, which builds on its GPU.

Both have the same Python names. What is installed is found without importing it; whether a GPU is there is asked of
the driver, whose library both need to run an engine.
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

from segc.errors import MissingPackageError
from segc.targets.protocol import Option, Settings

AUTO, RTX, ENTERPRISE = "auto", "rtx", "enterprise"
FLAVOR = Option("flavor", (AUTO, RTX, ENTERPRISE), AUTO, "which TensorRT builds the engine; auto: what is installed")
DEFER = Option("defer", ("no", "yes"), "no", "write what the build needs instead of building (--defer)")


@dataclass(frozen=True)
class Flavor:
    """One TensorRT. modules: to import in this order, the last has the API. distributions: any of them brings it."""

    name: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    install: str
    needs_gpu: bool  # to build


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
    """The flavor that was asked for, or of those installed the first; RTX when none is."""
    asked = options.get("flavor", AUTO)
    if asked != AUTO:
        return FLAVORS[asked]
    return next((f for f in FLAVORS.values() if installed(f)), FLAVORS[RTX])


def defers(options: Mapping[str, str]) -> bool:
    """Whether the build is left to `segc build`."""
    return options.get(DEFER.name) == "yes"


def installed(flavor: Flavor) -> bool:
    """Whether its modules are there."""
    return all(find_spec(module) is not None for module in flavor.modules)


def distribution_of(flavor: Flavor) -> str | None:
    """The installed distribution that brings the flavor; there is one for each version of CUDA."""
    for name in flavor.distributions:
        with suppress(PackageNotFoundError):
            version(name)
            return name
    return None


def version_of(flavor: Flavor) -> str:
    """Installed version. Raises MissingPackageError with the way to install it."""
    if name := distribution_of(flavor):
        return version(name)
    if installed(flavor):
        return "of unknown version"
    others = [f.name for f in FLAVORS.values() if f is not flavor and installed(f)]
    raise MissingPackageError(
        f"TensorRT ({flavor.name}) is not installed",
        because=f"no module {flavor.modules[-1]}; installed is --flavor {' and '.join(others)}" if others else
        f"no module {flavor.modules[-1]}",
        so=[flavor.install, "or write the parts of the engine with --defer and build it where TensorRT is"],
    )  # fmt: skip


def cannot_run(settings: Settings) -> str | None:
    """Why no engine runs on this machine, or None."""
    return why_no_gpu()


@cache
def why_no_gpu() -> str | None:
    """Why there is no GPU to use, as the driver says it, or None."""
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
    """Both flavors, and whether an engine would run here, for `segc doctor`."""
    said = []
    for flavor in FLAVORS.values():
        try:
            state = f"{version_of(flavor)} installed"
        except MissingPackageError:
            state = f"not installed ({flavor.install})"
        builds = "builds on its GPU only" if flavor.needs_gpu else "builds without a GPU"
        said.append(f"flavor {flavor.name}: {state}, {builds}")
    return "; ".join(said)
