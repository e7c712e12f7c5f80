"""The capability table as checks. It is generated: see generate.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import onnx_graphsurgeon as gs

from segc.targets.checks import Check
from segc.targets.pplnn.ops_checks import CHECKS, of_opset

FILE = Path(__file__).with_name("capabilities.json")


@cache
def content() -> dict[str, Any]:
    """The table as it was generated."""
    loaded: dict[str, Any] = json.loads(FILE.read_text())
    return loaded


@cache
def rows(device: str) -> Mapping[str, tuple[Check, ...]]:
    """Per op the checks for this device; what one refuses it says with the fact that the rule stands on."""
    opset = of_opset(content()["opset"])
    return {
        op: (opset, *(_cited(CHECKS[r["check"]](**r["args"]), r["fact"]) for r in row["rules"]))
        for op, row in content()["ops"][device].items()
    }


def _cited(check: Check, fact: str) -> Check:
    def cited(node: gs.Node) -> str | None:
        why = check(node)
        return why if why is None else f"{why} ({fact})"

    return cited
