from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from segc.passes.precision.quantize_measured import QuantizeMeasured
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, apply, check_pass, check_untouched, graph_of
from tests.helpers.quantized_nets import NET, ops

# The first two channels are almost equal after a convolution with large weights elsewhere: 8 bits cannot tell them.
FINE = (
    HEAD20
    + """g (float[1,3,16,16] x) => (float[1,2,16,16] y)
    <float[3,3,1,1] w = {1, 0, 0, 0, 1, 0, 0, 0, 500}, float[3,3,1,1] v = {1, 0, 0, 0, 1, 0, 0, 0, 1},
     float[2,3,1,1] u = {1, 0, 0, 0, 1, 0}> {
    e = Conv (x, v)  a = Conv (e, w)  b = Conv (a, v)  y = Conv (b, u) }"""
)


def pictures(count: int, size: int = 8, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.uniform(-2, 2, (1, 3, size, size)).astype(np.float32) for _ in range(count))


def test_a_graph_that_bears_it_is_quantized_by_the_first_method() -> None:
    step = QuantizeMeasured(pictures(5), pictures(3, seed=1), agreement=0.9)
    graph = check_pass(step, NET, None, changes=3, same_outputs=False)
    assert ops(graph)["QuantizeLinear"] > 2
    result = apply(step, graph_of(NET))
    (note,) = result.notes
    assert note.startswith("3 nodes in int8, 0 kept in float32: ranges by minmax of 5 images; in each of 3 others")


def test_the_nodes_that_cost_most_stay_in_float32() -> None:
    graph = graph_of(FINE)
    names = {node.outputs[0].name: node.name for node in graph.nodes}
    result = apply(QuantizeMeasured(pictures(4, 16), pictures(3, 16, 1), agreement=0.95), graph)
    kept = {skip.node: skip.reason for skip in result.skips}
    assert set(kept) == {names["a"], names["b"]} and result.changes == 1
    assert all("kept in float32: in int8 it alone changes" in reason for reason in kept.values())
    assert "1 nodes in int8, 2 kept in float32" in result.notes[0]


def test_images_with_an_outlier_are_calibrated_by_another_method() -> None:
    images = pictures(5, 16)
    images[2][0, 0, 0, 0] = 4000
    text = FINE.replace("500", "1")
    result = apply(QuantizeMeasured(images, pictures(3, 16, 1), agreement=0.97), graph_of(text))
    assert "minmax" not in result.notes[0] and result.changes == 3


def test_nothing_is_touched_without_images_or_integers() -> None:
    check_untouched(QuantizeMeasured(), NET, None)
    check_untouched(QuantizeMeasured(pictures(2)), NET, None)
    sine = HEAD20 + "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Sin (x) }"
    check_untouched(QuantizeMeasured(pictures(2), pictures(1)), sine, None)


def test_images_that_do_not_fit_are_said() -> None:
    check_untouched(QuantizeMeasured(pictures(2, 9), pictures(1)), NET, "not measured")


class Notes:
    """A Memory that lists what it was asked."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Any] = {}
        self.kept: list[str] = []

    def recall(self, search: str, what: str) -> Any:
        return self.known.get((search, what))

    def keep(self, search: str, what: str, found: Any) -> None:
        self.known[search, what] = found
        self.kept.append(what)


def test_a_search_goes_on_with_what_it_remembers() -> None:
    memory, said = Notes(), list[str]()
    step = QuantizeMeasured(pictures(4, 16), pictures(3, 16, 1), agreement=0.95, memory=memory, say=said.append)
    first = apply(step, graph_of(FINE))
    measured = list(memory.kept)
    assert any("; only " in what for what in measured) and any("in float32" in line for line in said)
    again = apply(step, graph_of(FINE))
    assert memory.kept == measured and again.details == first.details
    assert [row["trial"] for row in first.details["trials"]][:2] == ["minmax", "percentile"]
    by_precision = Counter(row["precision"] for row in first.details["layers"])
    assert by_precision == {"int8": 1, "fp32": 2}
    assert all(row["changed_pixels"] is not None for row in first.details["layers"])
    others = QuantizeMeasured(pictures(4, 16, 5), pictures(3, 16, 1), agreement=0.95, memory=memory)
    apply(others, graph_of(FINE))
    assert len(memory.kept) > len(measured)  # other images, another search


def test_labels_decide_where_a_drop_is_limited() -> None:
    """The labels are what the float graph gives: int8 loses, and the limit decides what is good enough."""
    held_out = pictures(3, 16, 1)
    labels = tuple(evaluate.outputs(graph_of(FINE), {"x": x})["y"].argmax(1) for x in held_out)
    lax, strict = (
        apply(QuantizeMeasured(pictures(4, 16), held_out, 0.0, labels=labels, max_drop=drop), graph_of(FINE))
        for drop in (100.0, 4.0)
    )
    assert len(lax.details["trials"]) == 1 and lax.details["trials"][0]["drop"] > 4
    assert len(strict.details["trials"]) > 5 and "and mIoU drops by" in strict.notes[0]
    assert min(row["drop"] for row in strict.details["trials"]) < lax.details["trials"][0]["drop"]
