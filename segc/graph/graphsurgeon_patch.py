"""Makes cutting a link between node and tensor quick and exact: by identity, and near where the last one was cut.

graphsurgeon finds the link to cut with `list.remove`: a scan from the front, comparing nodes by value. That is slow (a
tensor with n users costs n comparisons a link, each of all attributes and names), and wrong where two nodes are equal
by value, as two new nodes without names and outputs are: the other one's link is cut.

Passes walk a graph in order, so links of one tensor are cut in order too. The search therefore starts where the last
link was cut and goes outwards in both directions.
"""

from __future__ import annotations

from typing import Any

from onnx_graphsurgeon.util.misc import SynchronizedList


def position(links: list[Any], wanted: object, near: int) -> int:
    """Index of the object `wanted` itself, searched outwards from `near`. Raises ValueError when it is not there."""
    after = min(max(near, 0), len(links))
    before = after - 1
    while before >= 0 or after < len(links):
        if after < len(links):
            if links[after] is wanted:
                return after
            after += 1
        if before >= 0:
            if links[before] is wanted:
                return before
            before -= 1
    raise ValueError("the link is not there: a tensor and a node disagree about each other")


def _remove_from_elem(self: Any, elem: Any) -> None:
    """Replaces the method of SynchronizedList: cut the link from `elem` back to this list's owner."""
    links = getattr(elem, self.field_name)
    at = position(links, self.parent_obj, getattr(links, "segc_last_cut", 0))
    list.pop(links, at)
    links.segc_last_cut = at


def install() -> None:
    """Use it for all graphs of this process; results differ from graphsurgeon's only where that cuts a wrong link."""
    SynchronizedList._remove_from_elem = _remove_from_elem
