"""Generate the capability table from a facts file:

    python -m segc.targets.pplnn.generator.generate FACTS.json [TABLE.json]

Which ops there are, the types of their kernels and the kinds of Resize come from the structured parts of the facts; ops
whose every probe failed are left out. What only prose says comes from rules.py, which quotes it; a quotation that the
facts no longer hold stops the generator. Every rule of the table cites its fact.
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
# Inputs that hold data, where it is not the first alone; "*" is all of them.
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
Row = list[dict[str, Any]]


class StaleRuleError(ValueError):
    """A rule quotes what the facts no longer say."""


def table(facts: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """The whole table. digest: sha256 of the facts file. Raises StaleRuleError."""
    _require_quotations(facts)
    devices, left_out = {}, {}
    for device in BOTH:
        names = _usable(facts, device)
        left_out[device] = dict(_failed(facts, names)) if device == "x86" else {}
        devices[device] = {
            op: {"opsets": facts["usable"][device].get(op), "rules": _row(facts, device, op)}
            for op in sorted(names - left_out[device].keys())
        }
    return {
        "opset": OPSET,
        "source": {**facts["source"], "facts_sha256": digest},
        "left_out": left_out,
        "ops": devices,
    }


def _usable(facts: Mapping[str, Any], device: str) -> set[str]:
    """Ops that parser and engine take at our opset, and ops of other domains that a probe ran."""
    ran = {probe["op"] for probe in facts["x86_probe"] if probe["result"] == "ok"}
    standard = set(facts["by_opset"][str(OPSET)][device]["usable"])
    named = {op: op.split("::")[1] for op in facts["usable"][device] if "::" in op}
    return standard | {op for op, name in named.items() if name in ran - standard}


def _failed(facts: Mapping[str, Any], names: set[str]) -> Iterator[tuple[str, str]]:
    """Ops whose every probe at our opset failed, with the first of them."""
    for op in sorted(names):
        probes = [p for p in facts["x86_probe"] if p["op"] == op and p["opset"] == OPSET]
        if probes and all(p["result"] != "ok" for p in probes):
            yield op, f"x86_probe '{probes[0]['name']}': {probes[0]['result']}"


def _row(facts: Mapping[str, Any], device: str, op: str) -> Row:
    """The rules of one op, types first."""
    written = [rule for rule in RULES if device in rule.devices and (rule.ops == "*" or op in rule.ops.split())]
    typed = any(rule.check == "inputs" and set(rule.args.get("at", [0])) & {0} for rule in written)
    row = [] if typed else list(_kernel_types(facts, op))
    if op == "Cast":
        row.append(_casts(facts))
    if op == "Resize" and device == "x86":
        row.append(_kinds(facts))
    return row + [_entry(rule) for rule in written]


def _entry(rule: Rule) -> dict[str, Any]:
    return {"check": rule.check, "args": dict(rule.args), "fact": f"notes {rule.note}: {rule.says}"}


def _kernel_types(facts: Mapping[str, Any], op: str) -> Iterator[dict[str, Any]]:
    """The types that the kernel of this op takes, by its source."""
    for kernel, found in facts["x86_kernel_dtypes"].items():
        if kernel.replace("_", "") == op.lower():
            types = [TYPES[t] for t in found["datatypes"]]
            types += [t for size in found["by_element_size"] for t in SIZES[size]]
            args = {"types": types, "at": DATA_INPUTS.get(op, (0,))}
            yield {"check": "inputs", "args": args, "fact": f"x86_kernel_dtypes {kernel}: {found['at']}"}


def _casts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Types that some probe has cast to."""
    names = {"FLOAT": "float32", "DOUBLE": "float64", "INT64": "int64", "INT32": "int32", "BOOL": "bool"}
    done = [p["name"].split("->")[1] for p in facts["x86_probe"] if p["op"] == "Cast" and p["result"] == "ok"]
    types = sorted({names[kind] for kind in done})
    return {"check": "casts_to", "args": {"types": types}, "fact": "x86_probe Cast11: targets of those that ran"}


def _kinds(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Pairs of mode and coordinates that ran, by scales and by sizes."""
    results: dict[tuple[str, str], list[str]] = {}
    for probe in facts["x86_probe"]:
        words = probe["name"].split()
        if words[0] == "Resize11" and words[3:] in (["scales2", "4D"], ["sizes", "4D"]):
            results.setdefault((words[1], words[2]), []).append(probe["result"])
    good = sorted(list(kind) for kind, found in results.items() if set(found) == {"ok"})
    fact = "x86_probe Resize11 MODE COORDINATES: those that ran by scales and by sizes"
    return {"check": "resize_kind", "args": {"kinds": good}, "fact": fact}


def _require_quotations(facts: Mapping[str, Any]) -> None:
    stale = [f"{rule.note}: '{rule.says}'" for rule in RULES if rule.says not in _note(facts, rule.note)]
    if stale:
        raise StaleRuleError("the facts no longer say, so look at these rules: " + "; ".join(dict.fromkeys(stale)))


def _note(facts: Mapping[str, Any], where: str) -> str:
    device, _, key = where.partition(" ")
    notes = facts["notes"][device]
    return "\n".join(notes) if isinstance(notes, list) else str(notes.get(key, ""))


def write(source: Path, destination: Path) -> None:
    """Generate `destination` from the facts file `source`."""
    content = source.read_bytes()
    made = table(json.loads(content), hashlib.sha256(content).hexdigest())
    destination.write_text(printed(made))


def printed(value: Any, depth: int = 0) -> str:
    """JSON with a line for each rule: changes of the facts make diffs that can be read."""
    if isinstance(value, list) and depth == 4:
        rules = [f"     {json.dumps(rule)}" for rule in value]
        return "[\n" + ",\n".join(rules) + "]" if isinstance(value[0], dict) else json.dumps(value)
    if not isinstance(value, dict):
        return json.dumps(value)
    space = " " * (depth + 1)
    parts = [f"{space}{json.dumps(key)}: {printed(part, depth + 1)}" for key, part in value.items()]
    return "{\n" + ",\n".join(parts) + "}" + ("\n" if depth == 0 else "")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TABLE)
