from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segc.passes.cleanup.fold_constants import FoldConstants
from segc.passes.performance.winograd_conv import WinogradConv
from segc.pipeline.pipeline import Pipeline, PipelineError
from tests.helpers.checks import HEAD, graph_of

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-pass.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run_page() -> dict[str, Any]:
    """Execute the page's Python from top to bottom; returns its names."""
    names: dict[str, Any] = {"__name__": "writing_a_pass"}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    return names


NAMES = run_page()
TESTS = {name: value for name, value in NAMES.items() if name.startswith("test_")}


@pytest.mark.parametrize("name", sorted(TESTS))
def test_the_tests_on_the_page_pass(name: str) -> None:
    test: Callable[[], None] = TESTS[name]
    test()


def test_the_page_has_code_and_its_pass_works_on_longer_chains() -> None:
    assert len(BLOCKS) == 5 and len(TESTS) == 4
    graph = graph_of(
        HEAD
        + """ g (float[N,3] x) => (float[N,3] y) <float a = {2}, float b = {3}, float c = {4}>
        { t = Mul (x, a)  u = Mul (t, b)  y = Mul (u, c) }"""
    )
    assert NAMES["FuseScalings"]().run(graph).changes == 2
    graph.cleanup()
    assert [float(n.inputs[1].values) for n in graph.nodes] == [24.0]


def test_the_pass_of_the_page_is_refused_where_the_page_says() -> None:
    late, fold, tiles = NAMES["FuseScalingsLate"](), FoldConstants(), WinogradConv()
    assert Pipeline("p", (fold, late))
    with pytest.raises(PipelineError, match="requires 'constants folded', which pass 1 'fold-constants' ensures"):
        Pipeline("p", (late, fold))
    with pytest.raises(PipelineError, match=r"'constants folded'.* pass 1 'winograd' invalidates it"):
        Pipeline("p", (fold, tiles, late), assumed=tiles.requires)


def test_every_file_that_the_page_names_exists() -> None:
    for path in re.findall(r"`((?:passes|segc|tests)/[\w/]+\.py)`", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parents[1] / path).exists() or path == "tests/passes/test_fuse_scalings.py", path
