"""segc compiles segmentation models into verified deployment bundles.

Each command of the command line is a function here, with the same options as keywords. Names are resolved on first use,
so that `import segc` brings neither torch nor a runtime with it.

Modules log to loggers below "segc", which print nothing unless the application configures logging.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from segc import errors as errors
    from segc import passes as passes
    from segc import targets as targets
    from segc.commands.bench import BenchResult as BenchResult
    from segc.commands.bench import bench as bench
    from segc.commands.bisect import Bisection as Bisection
    from segc.commands.bisect import bisect as bisect
    from segc.commands.build import build as build
    from segc.commands.compile import Bundle as Bundle
    from segc.commands.compile import compile as compile
    from segc.commands.compile_targets import Attempt as Attempt
    from segc.commands.compile_targets import compile_targets as compile_targets
    from segc.commands.diff import Difference as Difference
    from segc.commands.diff import diff as diff
    from segc.commands.doctor import Finding as Finding
    from segc.commands.doctor import doctor as doctor
    from segc.commands.explain import Explanation as Explanation
    from segc.commands.explain import explain as explain
    from segc.commands.inspect import Inspection as Inspection
    from segc.commands.inspect import inspect as inspect
    from segc.commands.kit import Kit as Kit
    from segc.commands.kit import kit as kit
    from segc.commands.matrix import MatrixResult as MatrixResult
    from segc.commands.matrix import matrix as matrix
    from segc.commands.optimize import Optimized as Optimized
    from segc.commands.optimize import optimize as optimize
    from segc.commands.package import Package as Package
    from segc.commands.package import package as package
    from segc.commands.report import ReportPage as ReportPage
    from segc.commands.report import report as report
    from segc.commands.run import RunResult as RunResult
    from segc.commands.run import run as run
    from segc.commands.run_files import SegmentedImage as SegmentedImage
    from segc.commands.sbom import BillOfMaterials as BillOfMaterials
    from segc.commands.sbom import sbom as sbom
    from segc.commands.serve import Served as Served
    from segc.commands.serve import serve as serve
    from segc.commands.sign import Signed as Signed
    from segc.commands.sign import sign as sign
    from segc.commands.val import ValResult as ValResult
    from segc.commands.val import val as val
    from segc.commands.verify import Verification as Verification
    from segc.commands.verify import verify as verify
    from segc.comparing.masks import CaseDiff as CaseDiff
    from segc.comparing.tensors import TensorDiff as TensorDiff
    from segc.compilation import steps as steps
    from segc.errors import BundleError as BundleError
    from segc.errors import CheckpointError as CheckpointError
    from segc.errors import CompileError as CompileError
    from segc.errors import FileError as FileError
    from segc.errors import LegalityError as LegalityError
    from segc.errors import MissingPackageError as MissingPackageError
    from segc.errors import ParityError as ParityError
    from segc.errors import SegcError as SegcError
    from segc.errors import ShapeError as ShapeError
    from segc.errors import SourceError as SourceError
    from segc.errors import UsageError as UsageError
    from segc.golden.result import KitResult as KitResult
    from segc.hybrid.options import Partitioning as Partitioning
    from segc.runtime.engine import Engine as Engine
    from segc.runtime.engine import load as load
    from segc.runtime.segmentation import Segmentation as Segmentation
    from segc.streams.segment import SegmentedVideo as SegmentedVideo
    from segc.targets.protocol import ShapeRange as ShapeRange

_MEMBERS = {
    "segc.commands.bench": ("bench", "BenchResult"),
    "segc.commands.bisect": ("bisect", "Bisection"),
    "segc.commands.build": ("build",),
    "segc.commands.compile": ("compile", "Bundle"),
    "segc.commands.compile_targets": ("compile_targets", "Attempt"),
    "segc.commands.diff": ("diff", "Difference"),
    "segc.commands.doctor": ("doctor", "Finding"),
    "segc.commands.explain": ("explain", "Explanation"),
    "segc.commands.inspect": ("inspect", "Inspection"),
    "segc.commands.kit": ("kit", "Kit"),
    "segc.commands.report": ("report", "ReportPage"),
    "segc.commands.matrix": ("matrix", "MatrixResult"),
    "segc.commands.optimize": ("optimize", "Optimized"),
    "segc.commands.package": ("package", "Package"),
    "segc.commands.run": ("run", "RunResult"),
    "segc.commands.run_files": ("SegmentedImage",),
    "segc.commands.sbom": ("sbom", "BillOfMaterials"),
    "segc.commands.serve": ("serve", "Served"),
    "segc.commands.sign": ("sign", "Signed"),
    "segc.commands.val": ("val", "ValResult"),
    "segc.commands.verify": ("verify", "Verification"),
    "segc.errors": (
        "BundleError", "CheckpointError", "CompileError", "FileError", "LegalityError", "MissingPackageError",
        "ParityError", "SegcError", "ShapeError", "SourceError", "UsageError",
    ),
    "segc.comparing.masks": ("CaseDiff",),
    "segc.comparing.tensors": ("TensorDiff",),
    "segc.golden.result": ("KitResult",),
    "segc.hybrid.options": ("Partitioning",),
    "segc.runtime.engine": ("Engine", "load"),
    "segc.runtime.segmentation": ("Segmentation",),
    "segc.streams.segment": ("SegmentedVideo",),
    "segc.targets.protocol": ("ShapeRange",),
}  # fmt: skip
_HOME = {name: module for module, names in _MEMBERS.items() for name in names}
_MODULES = {
    "errors": "segc.errors", "passes": "segc.passes", "steps": "segc.compilation.steps", "targets": "segc.targets",
}  # fmt: skip

__all__ = [
    "Attempt", "BenchResult", "BillOfMaterials", "Bisection", "Bundle", "BundleError", "CaseDiff", "CheckpointError",
    "CompileError", "Difference", "Engine", "Explanation", "FileError", "Finding", "Inspection", "Kit", "KitResult",
    "LegalityError", "MatrixResult", "MissingPackageError", "Optimized", "Package", "ParityError", "Partitioning",
    "ReportPage", "RunResult", "SegcError", "Segmentation", "SegmentedImage", "SegmentedVideo", "Served", "ShapeError",
    "ShapeRange", "Signed", "SourceError", "TensorDiff", "UsageError", "ValResult", "Verification", "__version__",
    "bench", "bisect", "build", "compile", "compile_targets", "diff", "doctor", "errors", "explain", "inspect", "kit",
    "load", "matrix", "optimize", "package", "passes", "report", "run", "sbom", "serve", "sign", "steps", "targets",
    "val", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES and name not in _HOME:
        raise AttributeError(f"module 'segc' has no attribute {name!r}")
    try:
        return import_module(_MODULES[name]) if name in _MODULES else getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from segc import packages

        if (missing := packages.missing(error)) is None:
            raise
        raise missing from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
