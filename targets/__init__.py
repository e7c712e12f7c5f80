"""Runtimes segc compiles for, one a file. Ask for one by name with `segc.targets.get`."""

if __name__ != "segc.targets":
    raise ImportError("import segc.targets: under the short name this would be a second registry")

from segc.targets.base import Check as Check
from segc.targets.base import Emitted as Emitted
from segc.targets.base import Images as Images
from segc.targets.base import NodesRefused as NodesRefused
from segc.targets.base import Option as Option
from segc.targets.base import Package as Package
from segc.targets.base import Session as Session
from segc.targets.base import Settings as Settings
from segc.targets.base import ShapeRange as ShapeRange
from segc.targets.base import Target as Target
from segc.targets.registry import get as get
from segc.targets.registry import names as names

__all__ = [
    "Check",
    "Emitted",
    "Images",
    "NodesRefused",
    "Option",
    "Package",
    "Session",
    "Settings",
    "ShapeRange",
    "Target",
    "get",
    "names",
]
