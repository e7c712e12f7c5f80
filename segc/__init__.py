"""segc compiles segmentation models into verified deployment bundles.

Names are resolved on first use, so that `import segc` brings neither torch nor a runtime with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "compile": "segc.commands.compile",
    "load": "segc.runtime.engine",
    "Engine": "segc.runtime.engine",
    "Segmentation": "segc.runtime.segmentation",
    "SegcError": "segc.errors",
}

if TYPE_CHECKING:
    from segc.commands.compile import compile as compile
    from segc.errors import SegcError as SegcError
    from segc.runtime.engine import Engine as Engine
    from segc.runtime.engine import load as load
    from segc.runtime.segmentation import Segmentation as Segmentation

__all__ = ["__version__", "compile", "load", "Engine", "Segmentation", "SegcError"]


def __getattr__(name: str) -> Any:
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
    return sorted([*globals(), *_HOME])
