"""No import cycles: neither between files, nor through package `__init__`s and the linked folders."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest

from tests.helpers.source_tree import imports, modules


@pytest.mark.parametrize("inside_functions", [False, True])
def test_no_import_cycles(inside_functions: bool) -> None:
    known = modules()
    assert len(known) > 200
    graph = nx.DiGraph()
    for name, path in known.items():
        graph.add_edges_from((name, other) for other in imports(name, path, known, inside_functions=inside_functions))
    cycles = [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]
    assert cycles == []


def test_a_cycle_would_be_seen(tmp_path: Path) -> None:
    for name, text in {"a": "from segc.b import x", "b": "def f():\n    from segc import a"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    known = {f"segc.{name}": tmp_path / f"{name}.py" for name in "ab"}
    seen = {n: imports(n, p, known, inside_functions=True) for n, p in known.items()}
    assert seen == {"segc.a": {"segc.b"}, "segc.b": {"segc.a"}}
    assert imports("segc.b", known["segc.b"], known, inside_functions=False) == set()
