"""NVIDIA TensorRT: engines built ahead of time, with TensorRT for RTX also where no GPU is.

rows: what the parser accepts. flavor: the two TensorRTs. builder and child: the build, in a process of its own.
network: interface and profiles. deferred: what travels to the machine that builds. load and cuda: running on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from segc.passes import (
    LegalizeMaskType,
    LegalizeTopK,
    LegalizeUnsignedInput,
    LowerPSAMask,
    LowerResizeArgMax,
    SplitResizeArgMax,
)
from segc.passes.base import Pass
from segc.targets.base import Emitted, Option, Package, Session, Settings, Target
from segc.targets.half import HALF, by_types
from segc.targets.tensorrt import builder, deferred, rows
from segc.targets.tensorrt.flavor import (
    ENTERPRISE,
    FLAVOR,
    FLAVORS,
    RTX,
    Flavor,
    cannot_run,
    chosen,
    distribution_of,
    explain,
)

ARGMAX = Option(
    "argmax",
    ("auto", "plain", "planes"),
    "auto",
    "how a mask is made: ArgMax (plain), comparing planes of one class (planes), or what is cheaper (auto)",
)
TF32 = Option(
    "tf32",
    ("off", "on"),
    "off",
    "let float32 products round what they multiply to 10 bits, as TensorRT does by itself: faster, no longer float32",
)
_EXTRAS = {RTX: "tensorrt", ENTERPRISE: None}
_TAILS: Mapping[str, Pass] = {
    "auto": SplitResizeArgMax(),
    "plain": LowerResizeArgMax(),
    "planes": SplitResizeArgMax(classes=65536, scratch=0),
}


def _emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
    flavor = chosen(settings.options)
    if deferred.asked(settings):
        return deferred.write(model, directory, settings, flavor)
    built = builder.build(model, directory, settings, flavor)
    return Emitted((builder.ENGINE, builder.SIDECAR), {"flavor": flavor.name, "version": built["version"]})


def _load(directory: Path, options: Mapping[str, Any], threads: int) -> Session:
    from segc.targets.tensorrt.load import load

    return load(directory, options, threads)


def _configure(target: Target, settings: Settings) -> Target:
    """The rows of the flavor, the spelling of masks, types for fp16, and no package where the build is deferred."""
    flavor = chosen(settings.options).name
    target = replace(
        by_types(target, settings),
        ops=rows.RTX if flavor == RTX else rows.ENTERPRISE,
        mask_tail=_TAILS[settings.options.get("argmax", "auto")],
        package=_package(FLAVORS[flavor]),
    )
    return deferred.configured(target) if deferred.asked(settings) else target


def _package(flavor: Flavor) -> Package:
    """What brings the flavor: the distribution that is installed, the usual one where none is."""
    return Package(flavor.modules[-1], distribution_of(flavor) or flavor.distributions[0], extra=_EXTRAS[flavor.name])


TENSORRT = Target(
    name="tensorrt",
    summary="NVIDIA TensorRT: engines for NVIDIA GPUs, built without one by TensorRT for RTX",
    opset=20,
    package=Package("tensorrt_rtx_bindings", "tensorrt-rtx-cu12-bindings", extra="tensorrt"),
    ops=rows.RTX,
    emit=_emit,
    load=_load,
    legalize=(LowerPSAMask(), LegalizeTopK(rows.MOST_K), LegalizeMaskType(), LegalizeUnsignedInput()),
    table="targets/tensorrt/rows.py",
    mask_tail=SplitResizeArgMax(),
    precisions=("fp32", "fp16"),
    options=(FLAVOR, ARGMAX, HALF, TF32, deferred.DEFER),
    configure=_configure,
    cannot_run=cannot_run,
    images=True,
    origins=True,
    bounded=True,
    explain=explain,
    finish=deferred.finish,
)
