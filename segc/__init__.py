"""segc compiles segmentation models into verified deployment bundles.

Names are resolved on first use, so that `import segc` brings neither torch nor a runtime with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from segc import errors as errors
    from segc import passes as passes
    from segc import targets as targets
    from segc.commands.bench import bench as bench
    from segc.commands.build import build as build
    from segc.commands.compile import Bundle as Bundle
    from segc.commands.compile import compile as compile
    from segc.commands.optimize import optimize as optimize
    from segc.commands.verify import verify as verify
    from segc.compilation import steps as steps
    from segc.errors import SegcError as SegcError
    from segc.runtime.engine import Engine as Engine
    from segc.runtime.engine import load as load
    from segc.runtime.segmentation import Segmentation as Segmentation

_MODULES = {
    "errors": "segc.errors", "passes": "segc.passes", "steps": "segc.compilation.steps", "targets": "segc.targets",
}  # fmt: skip
_HOME = {
    "Bundle": "segc.commands.compile",
    "Engine": "segc.runtime.engine",
    "SegcError": "segc.errors",
    "Segmentation": "segc.runtime.segmentation",
    "bench": "segc.commands.bench",
    "build": "segc.commands.build",
    "compile": "segc.commands.compile",
    "load": "segc.runtime.engine",
    "optimize": "segc.commands.optimize",
    "verify": "segc.commands.verify",
}

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOME:
        raise AttributeError(f"module 'segc' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from segc import packages

        if (missing := packages.missing(error)) is None:
            raise
        raise missing from error


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
