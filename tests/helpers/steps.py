"""Passes made of a function, for tests of pipelines and of what hangs on them."""

from __future__ import annotations

from collections.abc import Callable

import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult


def step(
    name: str,
    requires: str = "",
    ensures: str = "",
    invalidates: str = "",
    edit: Callable[[gs.Graph], int] = lambda _: 0,
) -> Pass:
    """A pass made of a function that returns the number of its changes."""

    class Step(Pass):
        def run(self, graph: gs.Graph) -> PassResult:
            return PassResult(edit(graph))

    Step.name = name
    Step.requires, Step.ensures, Step.invalidates = (frozenset(t.split()) for t in (requires, ensures, invalidates))
    return Step()
