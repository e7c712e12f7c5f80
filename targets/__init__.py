"""The runtimes that segc compiles for, one a folder. `segc.targets.get(NAME)` gives one.

Every target has the same four files: target (what it is), ops (its capability table), emit (how its files are written)
and runtime (how they are loaded, which imports no compiler). Beside them:

    target    what a target is
    protocol  types that targets, runtimes and the compiler exchange
    checks    checks that capability tables are made of
    options   options that several targets offer
    registry  targets by name, also those of other packages
"""

if __name__ != "segc.targets":
    raise ImportError("import segc.targets: under the short name this would be a second registry")

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segc.targets.checks import Check as Check
    from segc.targets.protocol import Calibration as Calibration
    from segc.targets.protocol import Emitted as Emitted
    from segc.targets.protocol import Images as Images
    from segc.targets.protocol import LogitsBeside as LogitsBeside
    from segc.targets.protocol import NodesRefused as NodesRefused
    from segc.targets.protocol import Option as Option
    from segc.targets.protocol import Package as Package
    from segc.targets.protocol import Runtime as Runtime
    from segc.targets.protocol import Session as Session
    from segc.targets.protocol import Settings as Settings
    from segc.targets.protocol import ShapeRange as ShapeRange
    from segc.targets.registry import get as get
    from segc.targets.registry import names as names
    from segc.targets.registry import runtime as runtime
    from segc.targets.registry import runtime_names as runtime_names
    from segc.targets.target import Target as Target

_PROTOCOL = (
    "Calibration", "Emitted", "Images", "LogitsBeside", "NodesRefused", "Option", "Package", "Runtime", "Session",
    "Settings", "ShapeRange",
)  # fmt: skip
_HOME = {
    "Check": "segc.targets.checks",
    "Target": "segc.targets.target",
    **dict.fromkeys(("get", "names", "runtime", "runtime_names"), "segc.targets.registry"),
    **dict.fromkeys(_PROTOCOL, "segc.targets.protocol"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'segc.targets' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
