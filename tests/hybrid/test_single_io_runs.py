"""Stretches of one input and one output, against all runs of all lists."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.hybrid.cut_tensors import Dataflow
from segc.hybrid.single_io_runs import find_single_io_runs
from segc.targets.checks import any_tensor
from tests.helpers import random_models


def boundary_names(graph: gs.Graph, part: list[gs.Node]) -> tuple[set[str], set[str]]:
    """What a part reads from outside and what others need of it, by name."""
    variables = {t.name for n in graph.nodes for t in n.outputs} | {t.name for t in graph.inputs}
    made = {t.name for n in part for t in n.outputs}
    read = {t.name for n in part for t in n.inputs if t.name in variables} - made
    others = {t.name for n in graph.nodes if not any(n is p for p in part) for t in n.inputs}
    return read, made & (others | {t.name for t in graph.outputs})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(0, 2**32))
def test_the_first_stretch_does_the_most_work_and_none_is_left_beside_it(seed: int, blocks: int, works: int) -> None:
    graph = ir.cleanup(ir.from_model(random_models.model(seed, blocks)))
    order = [id(node) for node in graph.nodes]
    rng = np.random.default_rng(works)
    work = {key: int(rng.integers(1, 100)) for key in order}
    legal = {
        (a, b): sum(work[key] for key in order[a:b])
        for a in range(len(order))
        for b in range(a + 1, len(order) + 1)
        if all(len(names) == 1 for names in boundary_names(graph, graph.nodes[a:b]))
    }
    found = [
        (order.index(part[0]), order.index(part[-1]) + 1)
        for part in find_single_io_runs(order, Dataflow(graph), work, any_tensor)
    ]
    assert all(run in legal for run in found)
    assert max((legal[run] for run in found), default=0) == max(legal.values(), default=0)
    beside = [run for run in legal if all(run[1] <= a or b <= run[0] for a, b in found)]
    assert not beside
    assert found == sorted(found) and all(a[1] <= b[0] for a, b in pairwise(found))


def test_a_long_chain_takes_no_time() -> None:
    length = 3000
    nodes = [onnx.helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(length)]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in ("t0", f"t{length}")]
    graph = ir.from_model(onnx.helper.make_model(onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:])))
    order = [id(node) for node in graph.nodes]
    start = time.perf_counter()
    assert find_single_io_runs(order, Dataflow(graph), dict.fromkeys(order, 1), any_tensor) == [order]
    assert time.perf_counter() - start < 10  # all pairs of ends would take minutes


def test_a_run_is_given_up_at_its_second_input() -> None:
    """Each node reads the two before it, so no run of three has one input: a scan of all pairs would be quadratic."""
    length = 400
    nodes = [onnx.helper.make_node("Add", [f"t{i}", f"t{i + 1}"], [f"t{i + 2}"]) for i in range(length)]
    shape = [1, 3, 8, 8]
    given, made = ([onnx.helper.make_tensor_value_info(n, 1, shape) for n in names] for names in
                   (("t0", "t1"), (f"t{length + 1}",)))  # fmt: skip
    graph = ir.from_model(onnx.helper.make_model(onnx.helper.make_graph(nodes, "braid", given, made)))

    class Counting(Dataflow):
        reads_asked = 0

        def reads(self, key: int) -> list[gs.Variable]:
            Counting.reads_asked += 1
            return super().reads(key)

    order = [id(node) for node in graph.nodes]
    assert find_single_io_runs(order, Counting(graph), dict.fromkeys(order, 1), any_tensor) == []
    assert Counting.reads_asked == length
