"""The capability table of PPLNN: capabilities.json, which generator/ makes from measured facts, as checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import onnx_graphsurgeon as gs

from segc.targets.checks import Check, condition, worded
from segc.targets.pplnn.ops_checks import CHECKS, of_opset

FILE = Path(__file__).with_name("capabilities.json")


@cache
def generated_table() -> dict[str, Any]:
    """The content of capabilities.json."""
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


@cache
def capability_table(device: str) -> Mapping[str, tuple[Check, ...]]:
    """The checks of each op on this device; a refusal quotes the measured fact behind the rule."""
    opset = of_opset(generated_table()["opset"])
    return {op: (opset, *map(_check_of, entry["rules"])) for op, entry in generated_table()["ops"][device].items()}


@cache
def restrictions(device: str) -> int:
    """The number of distinct facts behind the device's rules, without the lists of opsets and kernel types."""
    entries = generated_table()["ops"][device].values()
    facts = {rule["fact"] for entry in entries for rule in entry["rules"]}
    return sum(fact.startswith("notes ") for fact in facts)


def _check_of(rule: Mapping[str, Any]) -> Check:
    """The check of a rule, which quotes the measured fact."""
    made, fact = CHECKS[rule["check"]], rule["fact"]
    check = made(**rule["args"])

    def check_and_quote(node: gs.Node) -> str | None:
        reason = check(node)
        return reason if reason is None else f"{reason} ({fact})"

    values = ", ".join(f"{name} = {_text(value)}" for name, value in rule["args"].items())
    accepted = condition(made).rstrip(".") + (f" [{values}]" if values else "")
    return worded(check_and_quote, f"{accepted} ({fact})")


def _text(value: object) -> str:
    """A value of capabilities.json, without quotes and brackets."""
    return " ".join(map(_text, value)) if isinstance(value, list) else str(value)
