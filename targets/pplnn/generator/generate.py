"""Generate the capability table from a facts file:

    python -m segc.targets.pplnn.generator.generate FACTS.json [TABLE.json]

The ops, the types of their kernels and the kinds of Resize come from the structured parts of the facts; ops whose
probes all failed are left out. Conditions that the facts state in prose are in rules.py, which quotes them. The
generator refuses to run when a quotation is no longer in the facts. Every rule of the table cites its fact.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segc.targets.pplnn.generator.rules import BOTH, RULES, Rule

OPSET = 11
TABLE = Path(__file__).parents[1] / "capabilities.json"
TYPES = {"FLOAT32": "float32", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
SIZES = {"float": ["float32", "int32"], "int64_t": ["int64", "float64"], "uint8_t": ["bool"]}
# The inputs that hold data, where it is not only the first; "*": all of them.
_ALL = "Concat Conv ConvTranspose Gemm MatMul BatchNormalization Max Min Sum Range Clip"
DATA_INPUTS: dict[str, tuple[int, ...] | str] = {
    **dict.fromkeys(_ALL.split(), "*"),
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "And", "Equal", "Greater", "Less", "RoiAlign"), (0, 1)
    ),
    "Where": (1, 2),
    "OneHot": (2,),
    "Pad": (0, 2),
    "ScatterND": (0, 2),
    "ScatterElements": (0, 2),
    "LSTM": (0, 1, 2, 3, 5, 6),
    "GRU": (0, 1, 2, 3, 5),
}
TableRules = list[dict[str, Any]]


class StaleRuleError(ValueError):
    """A rule quotes words that are no longer in the facts."""


def table(facts: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """The content of capabilities.json. digest: sha256 of the facts file. Raises StaleRuleError."""
    _require_quotations(facts)
    devices, left_out = {}, {}
    for device in BOTH:
        ops = _usable(facts, device)
        left_out[device] = dict(_failed(facts, ops)) if device == "x86" else {}
        devices[device] = {
            op: {"opsets": facts["usable"][device].get(op), "rules": _rules_of_op(facts, device, op)}
            for op in sorted(ops - left_out[device].keys())
        }
    return {
        "opset": OPSET,
        "source": {**facts["source"], "facts_sha256": digest},
        "left_out": left_out,
        "ops": devices,
    }


def _usable(facts: Mapping[str, Any], device: str) -> set[str]:
    """Ops that PPLNN's parser and engine accept in OPSET, and ops of other domains that a probe ran."""
    ran = {probe["op"] for probe in facts["x86_probe"] if probe["result"] == "ok"}
    standard = set(facts["by_opset"][str(OPSET)][device]["usable"])
    named = {op: op.split("::")[1] for op in facts["usable"][device] if "::" in op}
    return standard | {op for op, name in named.items() if name in ran - standard}


def _failed(facts: Mapping[str, Any], ops: set[str]) -> Iterator[tuple[str, str]]:
    """Ops whose probes in OPSET all failed, each with the result of the first probe."""
    for op in sorted(ops):
        probes = [p for p in facts["x86_probe"] if p["op"] == op and p["opset"] == OPSET]
        if probes and all(p["result"] != "ok" for p in probes):
            yield op, f"x86_probe '{probes[0]['name']}': {probes[0]['result']}"


def _rules_of_op(facts: Mapping[str, Any], device: str, op: str) -> TableRules:
    """The rules of one op, types first."""
    from_prose = [rule for rule in RULES if device in rule.devices and (rule.ops == "*" or op in rule.ops.split())]
    typed = any(rule.check == "inputs" and set(rule.args.get("at", [0])) & {0} for rule in from_prose)
    rules = [] if typed else list(_kernel_types(facts, op))
    if op == "Cast":
        rules.append(_casts(facts))
    if op == "Resize" and device == "x86":
        rules.append(_resize_kinds(facts))
    return rules + [_entry(rule) for rule in from_prose]


def _entry(rule: Rule) -> dict[str, Any]:
    return {"check": rule.check, "args": dict(rule.args), "fact": f"notes {rule.note}: {rule.says}"}


def _kernel_types(facts: Mapping[str, Any], op: str) -> Iterator[dict[str, Any]]:
    """The types that the op's kernel accepts according to its source."""
    for kernel, found in facts["x86_kernel_dtypes"].items():
        if kernel.replace("_", "") == op.lower():
            types = [TYPES[t] for t in found["datatypes"]]
            types += [t for size in found["by_element_size"] for t in SIZES[size]]
            args = {"types": types, "at": DATA_INPUTS.get(op, (0,))}
            yield {"check": "inputs", "args": args, "fact": f"x86_kernel_dtypes {kernel}: {found['at']}"}


def _casts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The types that a probe has cast to."""
    names = {"FLOAT": "float32", "DOUBLE": "float64", "INT64": "int64", "INT32": "int32", "BOOL": "bool"}
    targets = [p["name"].split("->")[1] for p in facts["x86_probe"] if p["op"] == "Cast" and p["result"] == "ok"]
    types = sorted({names[target] for target in targets})
    return {"check": "casts_to", "args": {"types": types}, "fact": "x86_probe Cast11: targets of those that ran"}


def _resize_kinds(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The pairs of mode and coordinates that ran both by scales and by sizes."""
    results: dict[tuple[str, str], list[str]] = {}
    for probe in facts["x86_probe"]:
        words = probe["name"].split()
        if words[0] == "Resize11" and words[3:] in (["scales2", "4D"], ["sizes", "4D"]):
            results.setdefault((words[1], words[2]), []).append(probe["result"])
    passed = sorted(list(kind) for kind, outcomes in results.items() if set(outcomes) == {"ok"})
    fact = "x86_probe Resize11 MODE COORDINATES: those that ran by scales and by sizes"
    return {"check": "resize_kind", "args": {"kinds": passed}, "fact": fact}


def _require_quotations(facts: Mapping[str, Any]) -> None:
    stale = [f"{rule.note}: '{rule.says}'" for rule in RULES if rule.says not in _note(facts, rule.note)]
    if stale:
        raise StaleRuleError("the facts no longer contain these quotations: " + "; ".join(dict.fromkeys(stale)))


def _note(facts: Mapping[str, Any], where: str) -> str:
    device, _, key = where.partition(" ")
    notes = facts["notes"][device]
    return "\n".join(notes) if isinstance(notes, list) else str(notes.get(key, ""))


def write(source: Path, destination: Path) -> None:
    """Generate `destination` from the facts file `source`."""
    content = source.read_bytes()
    generated = table(json.loads(content), hashlib.sha256(content).hexdigest())
    destination.write_text(to_json(generated))


def to_json(value: Any, depth: int = 0) -> str:
    """JSON with one line per rule, so that changed facts make readable diffs."""
    if isinstance(value, list) and depth == 4:
        rules = [f"     {json.dumps(rule)}" for rule in value]
        return "[\n" + ",\n".join(rules) + "]" if isinstance(value[0], dict) else json.dumps(value)
    if not isinstance(value, dict):
        return json.dumps(value)
    space = " " * (depth + 1)
    parts = [f"{space}{json.dumps(key)}: {to_json(part, depth + 1)}" for key, part in value.items()]
    return "{\n" + ",\n".join(parts) + "}" + ("\n" if depth == 0 else "")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TABLE)
