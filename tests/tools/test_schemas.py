"""The published schemas say what the readers read: nothing more in any single field, nothing less at all."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from segc.bundle.manifest import Manifest
from segc.bundle.report import Report
from segc.bundle.typed import WrongValue, decode
from tests.helpers.tiny_bundles import REPORT, content
from tools.schemas import FOLDER, SCHEMAS, manifest_schema, report_schema

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**54, 1 << 21, 300, 0.5, 1e39, "", "fp32", "int4", "0" * 64, [], [1, 2], [[0, 0, 0]], {},
    {"a": 1},
)  # fmt: skip
SEGMENT = {
    "target": "onnxruntime", "runtime": "1", "directory": "segments/0", "files": ["segments/0/a"], "options": {},
    "nodes": 1, "inputs": [{"name": "x", "dtype": "float32", "shape": [1, None], "bytes": None}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": None, "bytes": 4}],
}  # fmt: skip
CASE = {
    "name": "noise", "shape": [1, 3, 8, 8], "max_abs_error": 0.0, "relative_error": "inf", "agreement": 1.0,
    "miou": "nan", "boundary_agreement": 1, "differing_pixels": 0, "margin_ratio": None,
    "near_ties": None, "rounding": None,
}  # fmt: skip
PARITY = {
    "reference": "PyTorch", "ran": "ncnn", "limits": {"relative_error": None, "agreement": 0.9}, "cases": [CASE],
    "failures": [], "advice": ["look"],
}  # fmt: skip
HYBRID = {
    "summary": "hybrid", "segments": 2, "host_nodes": 1, "target_share": 0.5, "refused": ["Erf"], "moved": [],
}  # fmt: skip
FULL_REPORT = {
    **REPORT, "parity": PARITY, "hybrid": HYBRID, "passes": [{"stage": "clean", "name": "simplify", "changes": 1}],
    "skips": [{"pass": "simplify", "node": "a", "reason": "b"}],
}  # fmt: skip


def full_manifest() -> dict[str, Any]:
    files = {"segments/0/a": {"sha256": "0" * 64, "bytes": 3}}
    given = content(segments=[SEGMENT], files=files, preprocessing__resize={"scale": [8, 8], "keep_ratio": True})
    return {**Manifest.from_content(given).to_json()}


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    """Every field replaced by every odd value, removed, and joined by an unknown one."""

    def places(part: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield path
        keys = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, inner in keys:
            yield from places(inner, (*path, key))

    for path in places(value, ()):
        for odd in (*ODD, "removed", "extra"):
            changed = {"": copy.deepcopy(value)}
            holder: Any = changed
            for key in ("", *path)[:-1]:
                holder = holder[key]
            last = ("", *path)[-1]
            if odd == "removed":
                del holder[last]
            elif odd == "extra":
                if not isinstance(holder[last], dict):
                    continue
                holder[last]["novelty"] = 1
            else:
                holder[last] = odd
            if "" in changed:
                yield f"{'.'.join(map(str, path))} = {odd!r}", changed[""]


def read_manifest(value: Any) -> None:
    if not isinstance(value, dict):
        raise WrongValue("", value, "an object")
    if not isinstance(digest := value.get("sha256"), str) or len(digest) != 64 or value.get("format") != 1:
        raise WrongValue("sha256", digest, "a digest")  # the reader compares the digest before the rest
    decode(Manifest, {key: part for key, part in value.items() if key != "sha256"})


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schemas_are_those_of_the_code(name: str) -> None:
    assert json.loads((FOLDER / name).read_bytes()) == json.loads(json.dumps(SCHEMAS[name]())), "make generated"
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name]())


def test_reader_and_schema_of_the_report_accept_the_same() -> None:
    validator = jsonschema.Draft202012Validator(report_schema())
    validator.validate(FULL_REPORT)
    refused = 0
    for what, value in changes(FULL_REPORT):
        valid = validator.is_valid(value)
        try:
            decode(Report, value)
        except WrongValue:
            refused += 1
            assert not valid, what
        else:
            assert valid, what
    assert refused > 800


def test_the_reader_of_the_manifest_accepts_nothing_that_the_schema_refuses() -> None:
    validator = jsonschema.Draft202012Validator(manifest_schema())
    validator.validate(full_manifest())
    counts = {"both": 0, "reader alone": 0}
    for what, value in changes(full_manifest()):
        valid = validator.is_valid(value)
        try:
            read_manifest(value)
        except Exception:
            counts["reader alone" if valid else "both"] += 1  # fields that contradict each other
        else:
            assert valid, what
    assert counts["both"] > 10 * counts["reader alone"] > 0, counts
