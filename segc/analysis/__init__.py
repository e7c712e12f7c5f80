"""Analyses of the IR: networkx views keyed by `id()`, liveness and peak memory, dominators, matching, cycles."""

from segc.analysis.dominators import dominators, post_dominators
from segc.analysis.liveness import Live, Memory, peak_memory
from segc.analysis.matching import Match, matches, pattern
from segc.analysis.views import cycle, node_graph

__all__ = [
    "cycle",
    "dominators",
    "Live",
    "Match",
    "matches",
    "Memory",
    "node_graph",
    "pattern",
    "peak_memory",
    "post_dominators",
]
