"""Bundles of format 1 stay readable: later versions may add fields, but none that an earlier bundle lacks."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args

from segc.bundle.manifest import FORMAT, Manifest
from segc.bundle.report import Report
from segc.bundle.typed import members
from tests.helpers.tiny_bundles import content, manifest

FIRST = json.loads((Path(__file__).parents[1] / "data" / "format-1-required-fields.json").read_text())


def required(kind: Any, found: dict[str, set[str]]) -> dict[str, set[str]]:
    """The required keys of a dataclass and of all that its fields hold, by class."""
    if isinstance(kind, type) and is_dataclass(kind) and kind.__name__ not in found:
        found[kind.__name__] = {member.key for member in members(kind) if member.required}
        for member in members(kind):
            required(member.kind, found)
    for part in get_args(kind):
        required(part, found)
    return found


def test_no_field_was_added_that_earlier_bundles_lack() -> None:
    assert FORMAT == 1  # a new format may require what it likes: then this test and its file go
    now = required(Report, required(Manifest, {}))
    assert {name: now[name] - set(keys) for name, keys in FIRST.items() if now[name] - set(keys)} == {}


def test_a_manifest_without_later_fields_is_read_and_written_as_it_is() -> None:
    given = content()
    assert "loader" not in given["preprocessing"] and "dequantized" not in given["source"]
    written = manifest().to_json()
    assert {key: written[key] for key in given} == given
