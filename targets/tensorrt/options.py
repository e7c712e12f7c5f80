"""TensorRT's options with flags of their own."""

from __future__ import annotations

from segc.targets.option import Option

AUTO, RTX, ENTERPRISE = "auto", "rtx", "enterprise"
FLAVOR = Option(
    "flavor", (AUTO, RTX, ENTERPRISE), AUTO, "which TensorRT builds the engine; auto: the installed one", flag=True
)  # fmt: skip
DEFER = Option(
    "defer", ("no", "yes"), "no", "leave the engine to `segc build` on the machine with the GPU", flag=True, build=False
)  # fmt: skip
