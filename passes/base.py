"""The contract between a pass and the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import onnx_graphsurgeon as gs

from segc.graph.invariants import RECENT_OPSET, SINGLE


@dataclass(frozen=True, slots=True)
class Skip:
    """A site the pass recognised and left alone, and why."""

    node: str
    reason: str


@dataclass(slots=True)
class PassResult:
    """What a pass did. `changes == 0` promises that the graph was not touched. notes: sentences for the user.

    details: of a pass that measures, plain values for report.json.
    """

    changes: int = 0
    skips: list[Skip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def skip(self, node: gs.Node, reason: str) -> None:
        """Record that `node` was recognised and left alone."""
        self.skips.append(Skip(node.name, reason))


class Pass:
    """A graph edit in place.

    Invariants are short strings that name a property of a graph; `segc.graph.invariants` holds a check for each. The
    pipeline refuses, before a model is loaded, a pass that `requires` what no earlier pass `ensures`, or what one
    between `invalidates`. Subclasses are frozen dataclasses when they have options; every option is a field with a
    default, so that `segc passes` can list it.
    """

    name: ClassVar[str]
    algebra: ClassVar[str]  # one line for `segc passes`: left side -> right side
    # must hold before; a subclass that adds to it writes `requires = Pass.requires | {...}`
    requires: ClassVar[frozenset[str]] = frozenset({RECENT_OPSET, SINGLE})
    ensures: ClassVar[frozenset[str]] = frozenset()  # holds after, but for what the pass skipped
    invalidates: ClassVar[frozenset[str]] = frozenset()  # may no longer hold after

    def run(self, graph: gs.Graph) -> PassResult:
        """Edit `graph` in place; count the changes honestly."""
        raise NotImplementedError
