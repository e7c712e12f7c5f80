"""Options of segc's own targets that are flags of the command line. Options of other packages' targets use --set.

Imports no target: a test holds the list to what the targets declare.
"""

from __future__ import annotations

from segc.targets.option import Option
from segc.targets.pplnn.options import DEVICE
from segc.targets.tensorrt.options import DEFER, FLAVOR

FLAGS: tuple[tuple[str, Option], ...] = (("tensorrt", FLAVOR), ("pplnn", DEVICE), ("tensorrt", DEFER))
