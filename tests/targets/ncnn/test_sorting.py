"""Sorting many cells: in groups, after leaving out what cannot be among the largest, and always the right ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ncnn")

from segc.graph import ir
from segc.targets.ncnn.lower.lower_graph import lower_graph
from segc.targets.ncnn.lower.net_builder import NetBuilder
from segc.targets.ncnn.lower.sorting import FEW, LOWEST, MAX_SCORES, MAX_SORTED_CELLS, group_count, sort_descending
from segc.targets.ncnn.net.net import Refused
from segc.targets.ncnn.target import NCNN
from segc.targets.protocol import Session, Settings

SIDES = (60, 70)
CELLS = SIDES[0] * SIDES[1]
RNG = np.random.default_rng(0)
TOP = "a = Reshape(x, row)  v, i = TopK(a, k)  b = Cast<to = 1>(i)  y = Concat<axis = 0>(v, b)"
BACK = "a = Reshape(x, row)  v, i = TopK(a, k)  b = Neg(v)  y = ScatterElements<axis = 1>(a, i, b)"
COLUMNS = np.tile(-np.abs(np.arange(SIDES[1]) - 20.5), (SIDES[0], 1))  # the best cells lie below each other
SCORES = {
    "noise": RNG.standard_normal(SIDES),
    "an edge": COLUMNS - 0.1 * RNG.random(SIDES),
    "tiny": RNG.standard_normal(SIDES) * 1e-30,
    "huge": RNG.standard_normal(SIDES) * 4e37,
    "one far below": np.where(np.arange(CELLS).reshape(SIDES) == 7, -2.9e38, RNG.standard_normal(SIDES)),
    "many equal": RNG.integers(0, 40, SIDES).astype(np.float64),
    "all equal": np.full(SIDES, -0.5),
}
EQUALS = ("many equal", "all equal")


def model(body: str, count: int) -> onnx.ModelProto:
    text = f"""<ir_version: 9, opset_import: ["" : 20]> g (float[1,1,{SIDES[0]},{SIDES[1]}] x) => (float y)
        <int64[2] row = {{1, {CELLS}}}, int64[1] k = {{{count}}}> {{ {body} }}"""
    made = onnx.parser.parse_model(text)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    graph = ir.from_model(made)
    ir.infer_shapes(graph)
    return ir.to_model(graph)


def session(body: str, count: int, folder: Path) -> Session:
    folder.mkdir()
    return NCNN.load(folder, NCNN.emit(model(body, count), folder, Settings()).options, 1)


@pytest.mark.parametrize("count", [FEW, FEW + 1, 2000, CELLS])
def test_the_largest_cells_come_in_order_and_go_back_to_their_places(count: int, tmp_path: Path) -> None:
    top, back = session(TOP, count, tmp_path / "top"), session(BACK, count, tmp_path / "back")
    for what, scores in SCORES.items():
        x = scores.astype(np.float32)[None, None]
        values, places = top.run(x).reshape(2, count)
        np.testing.assert_array_equal(values, np.sort(x.reshape(-1))[::-1][:count], err_msg=what)
        at = places.astype(np.int64)
        assert len(set(at.tolist())) == count, what
        np.testing.assert_array_equal(x.reshape(-1)[at], values, err_msg=what)
        want, got = x.reshape(-1).copy(), back.run(x).reshape(-1)
        want[at] = -want[at]
        if what in EQUALS:  # which of equal cells are taken is not said
            want, got = np.sort(want), np.sort(got)
        np.testing.assert_array_equal(got, want, err_msg=what)


def test_many_cells_are_sorted_in_groups_after_a_bound() -> None:
    for count, bound in ((FEW, False), (2000, True), (CELLS, False)):
        graph = ir.from_model(model(TOP, count))
        layers = lower_graph(graph).layers
        sorter = next(layer for layer in layers if layer.type == "DetectionOutput")
        assert sorter.inputs[1].shape[0] == 1 + group_count(CELLS, count)
        assert any(layer.type == "Threshold" for layer in layers) == bound


@given(st.integers(1, MAX_SORTED_CELLS), st.integers(1, MAX_SORTED_CELLS))
def test_groups_stay_within_their_memory(cells: int, count: int) -> None:
    groups = group_count(cells, count)
    assert groups == 1 or (1 + groups) * (cells + groups - 1) <= MAX_SCORES + groups * (1 + groups)


def test_more_cells_than_boxes_can_tell_apart_are_refused() -> None:
    builder = NetBuilder()
    row = builder.add_constant("row", np.full(MAX_SORTED_CELLS + 1, LOWEST, np.float32), (1, MAX_SORTED_CELLS + 1))
    with pytest.raises(Refused, match=f"it sorts {MAX_SORTED_CELLS + 1} cells"):
        sort_descending(builder, "sorted", row, 5)
