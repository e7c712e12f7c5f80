"""The test files that take longest, longest first."""

from __future__ import annotations

LONGEST_FIRST = (
    "test_docs.py",
    "cli/test_cli.py",
    "test_packaging.py",
    "commands/test_compile.py",
    "test_fuzz.py",
    "targets/tensorrt/test_tensorrt.py",
    "targets/pplnn/test_patterns.py",
    "test_graphs_from_elsewhere.py",
    "passes/dialect/test_lower_adaptive_avg_pool.py",
    "passes/inputs/test_specialize_shapes.py",
)
