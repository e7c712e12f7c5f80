"""Write docs/schemas: the JSON Schemas of the JSON files of a bundle, from the dataclasses that read the files.

    PYTHONPATH=. python tools/schemas.py

A schema says what each field is. What fields say of each other, such as one colour for each class, only segc checks.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from segc.bundle.canonical_json import canonical
from segc.bundle.evidence import Evidence
from segc.bundle.manifest import FORMAT, Manifest
from segc.bundle.report import Report
from segc.bundle.typed import LARGEST, Matching, Within, members

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"}, bool: {"type": "boolean"}, float: {"type": "number"}, types.NoneType: {"type": "null"},
    int: {"type": "integer", "minimum": -LARGEST, "maximum": LARGEST},
}  # fmt: skip


def schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of what `segc.bundle.typed.decode(kind, ...)` accepts, type by type."""
    if kind is Any:
        return {}
    if is_dataclass(kind):
        return _object(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {**schema(parts[0]), **_limits(parts[1])}
    if origin in (types.UnionType, Union):
        return {"anyOf": [schema(part) for part in parts]}
    if origin is Literal:
        return {"enum": list(parts)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": schema(parts[1])}
    if origin is tuple and parts[-1] is Ellipsis:
        return {"type": "array", "items": schema(parts[0])}
    if origin is tuple:
        count = len(parts)
        return {"type": "array", "prefixItems": list(map(schema, parts)), "minItems": count, "maxItems": count}
    return dict(PLAIN[kind])


def _object(kind: Any) -> dict[str, Any]:
    fields = members(kind)
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "properties": {member.key: schema(member.kind) for member in fields},
        "required": [member.key for member in fields if member.required],
        "additionalProperties": False,
    }


def _limits(limit: Within | Matching) -> dict[str, Any]:
    if isinstance(limit, Within):
        return {"minimum": limit.low, "maximum": limit.high}
    return {"pattern": f"^(?:{limit.pattern})$"}


def manifest_schema() -> dict[str, Any]:
    """Of segc.json, which also holds its own digest."""
    made = schema(Manifest)
    made["properties"] |= {"format": {"const": FORMAT}, "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}
    made["required"] = [*made["required"], "sha256"]
    return {"$schema": DIALECT, "title": "segc.json", **made}


def report_schema() -> dict[str, Any]:
    """Of report.json."""
    return {"$schema": DIALECT, "title": "report.json", **schema(Report)}


def evidence_schema() -> dict[str, Any]:
    """Of evidence.json."""
    return {"$schema": DIALECT, "title": "evidence.json", **schema(Evidence)}


SCHEMAS = {
    "segc.schema.json": manifest_schema,
    "report.schema.json": report_schema,
    "evidence.schema.json": evidence_schema,
}


def main() -> None:
    """Write all."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in SCHEMAS.items():
        (FOLDER / name).write_bytes(canonical(make()))


if __name__ == "__main__":
    main()
