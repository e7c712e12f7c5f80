"""The test files that take longest, longest first: twenty seconds of processor time and more."""

from __future__ import annotations

LONGEST_FIRST = (
    "commands/test_compile.py",
    "test_docs.py",
    "test_graphs_from_elsewhere.py",
    "test_fuzz.py",
    "targets/tensorrt/test_tensorrt.py",
    "hybrid/test_bundles.py",
    "cli/test_cli.py",
    "runtime/masks/test_dispatch.py",
    "frontend/test_calibrate.py",
    "runtime/test_imports.py",
    "frontend/rewrites/test_adaptive_max_pool.py",
    "frontend/rewrites/test_psa_head.py",
    "runtime/masks/test_dense_kernel.py",
    "compilation/test_mask_placement.py",
    "passes/dialect/test_lower_adaptive_avg_pool.py",
    "test_family_masks.py",
)
