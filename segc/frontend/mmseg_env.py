"""mmsegmentation from plain wheels: `mmcv-lite` without its compiled operators.

`mmcv.ops` loads a C++ extension `mmcv._ext` when it is imported, and `mmcv-lite` carries none. A stub module in its
place lets everything import; an operator that is really called says so. The operators that zoo models need are
written in plain torch by segc's front end.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NoReturn

from segc.errors import Code, MissingPackageError
from segc.frontend import pkg_resources_stand_in, torchvision_import
from segc.frontend.quiet import quiet

_EXTENSION = "mmcv._ext"


def import_mmseg() -> types.ModuleType:
    """The package `mmseg` with its models registered. Raises MissingPackageError with the install command."""
    for module in ("torch", "mmengine", "mmcv", "mmseg"):
        if importlib.util.find_spec(module) is None:
            raise MissingPackageError(
                "mmsegmentation models need packages that are not installed",
                code=Code.FRONTEND_MISSING,
                because=f"there is no module '{module}'",
                so="pip install 'segc[mmseg]'",
            )
    _stub_extension()
    pkg_resources_stand_in.install()
    torchvision_import.prepare()  # transformers, which mmseg's packages import where it is installed, imports it
    with quiet():
        mmseg = importlib.import_module("mmseg")
        importlib.import_module("mmseg.models")
        importlib.import_module("mmengine.registry").init_default_scope("mmseg")
    return mmseg


def config_root() -> Path | None:
    """The folder of the zoo's configs inside the installed mmseg; None without mmseg. Imports nothing heavy."""
    spec = importlib.util.find_spec("mmseg")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(spec.submodule_search_locations[0]) / ".mim" / "configs"
    return root if root.is_dir() else None


def _stub_extension() -> None:
    """Register the stub unless a compiled extension is there."""
    if _EXTENSION in sys.modules or importlib.util.find_spec(_EXTENSION) is not None:
        return
    stub = types.ModuleType(_EXTENSION, "segc's stand-in for mmcv's compiled operators")
    stub.__spec__ = ModuleSpec(_EXTENSION, None)
    stub.__getattr__ = _operator  # type: ignore[method-assign]
    sys.modules[_EXTENSION] = stub


def _operator(name: str) -> Callable[..., Any]:
    if name.startswith("__"):  # inspection asks modules for __file__ and the like
        raise AttributeError(name)
    if name == "psamask_forward":
        return importlib.import_module("segc.frontend.rewrites.psamask").psamask_forward  # type: ignore[no-any-return]

    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError(f"mmcv operator '{name}' needs compiled mmcv; segc has no torch version of it")

    return refuse
