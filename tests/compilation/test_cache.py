"""What compiles of one source share, and what they free."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import onnx.parser

from segc.compilation.cache import CompileCache
from segc.frontend.traced import Traced

MODEL = '<ir_version: 9, opset_import: ["" : 20]> g (float[1] x) => (float[1] y) { y = Relu(x) }'


def test_a_trace_is_made_once_copied_for_each_and_made_again_when_forgotten() -> None:
    cache, made = CompileCache(), []

    def make() -> Traced:
        made.append(1)
        return Traced(onnx.parser.parse_model(MODEL), ("rewrite",))

    first, second = cache.traced("key", make), cache.traced("key", make)
    assert len(made) == 1
    first.model.graph.ClearField("node")
    assert len(second.model.graph.node) == 1
    cache.limits(lambda: (32, (32, 32)))
    cache.forget_traces()
    assert cache.traced("key", make).rewrites == ("rewrite",)
    assert len(made) == 2
    assert cache.limits(lambda: (1, (1, 1))) == (32, (32, 32))  # small things stay
