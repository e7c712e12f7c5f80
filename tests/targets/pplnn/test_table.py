"""The capability table comes from the facts, all of it, and says which."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from segc.targets import pplnn
from segc.targets.pplnn import ops as table
from segc.targets.pplnn import ops_checks
from segc.targets.pplnn.generator import rules
from segc.targets.pplnn.generator.generate import StaleRuleError, write
from segc.targets.pplnn.generator.generate import table as generated
from segc.targets.pplnn.target import resize_kinds
from tests.helpers.calls import python

FACTS = Path(pplnn.__file__).with_name("facts.json")


@pytest.fixture
def facts() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FACTS.read_text())
    return loaded


def checks_of(made: Mapping[str, Any], op: str, device: str = "x86") -> dict[str, Any]:
    return {rule["check"]: rule["args"] for rule in made["ops"][device][op]["rules"]}


def test_the_table_is_what_the_facts_give(tmp_path: Path) -> None:
    write(FACTS, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == table.FILE.read_text()


def test_it_is_generated_from_the_command_line(tmp_path: Path) -> None:
    done = python(
        "import runpy; runpy.run_module('segc.targets.pplnn.generator.generate', run_name='__main__')",
        FACTS,
        tmp_path / "table.json",
    )
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "table.json").read_text()) == table.generated_table()


def test_every_rule_cites_a_fact_and_names_a_check(facts: dict[str, Any]) -> None:
    for device, ops in table.generated_table()["ops"].items():
        for op, row in ops.items():
            assert row["opsets"] is None or row["opsets"][0] <= 11 <= row["opsets"][1] or "::" in op
            for rule in row["rules"]:
                assert rule["check"] in ops_checks.CHECKS and rule["fact"], (device, op)
                kind, _, rest = rule["fact"].partition(" ")
                assert kind in ("notes", "x86_kernel_dtypes", "x86_probe") and rest
    for rule in rules.RULES:
        assert set(rule.devices) <= {"x86", "cuda"} and rule.says


def test_a_newer_measurement_changes_the_table(facts: dict[str, Any]) -> None:
    newer = copy.deepcopy(facts)
    for probe in newer["x86_probe"]:
        if probe["name"].startswith("Resize11 linear align_corners") or probe["name"] == "Abs11 fp32":
            probe["result"] = "ok"
    old, new = generated(facts, ""), generated(newer, "")
    assert "Abs" in old["left_out"]["x86"] and "Abs" not in old["ops"]["x86"]
    assert "Abs" not in new["left_out"]["x86"] and checks_of(new, "Abs")["inputs"]["types"] == ["float32"]
    assert ["linear", "align_corners"] not in checks_of(old, "Resize")["resize_kind"]["kinds"]
    assert ["linear", "align_corners"] in checks_of(new, "Resize")["resize_kind"]["kinds"]


def test_a_kind_that_runs_by_scales_alone_is_not_taken(facts: dict[str, Any]) -> None:
    for probe in facts["x86_probe"]:
        if probe["name"] == "Resize11 linear align_corners scales2 4D":
            probe["result"] = "ok"
    assert ["linear", "align_corners"] not in checks_of(generated(facts, ""), "Resize")["resize_kind"]["kinds"]


def test_a_rule_without_its_quotation_stops_the_generator(facts: dict[str, Any]) -> None:
    facts["notes"]["x86"]["Slice"] = "anything goes"
    with pytest.raises(StaleRuleError, match="NEGATIVE AXES ARE SILENTLY WRONG"):
        generated(facts, "")


def test_an_op_that_the_engine_loses_leaves_the_table(facts: dict[str, Any]) -> None:
    facts["by_opset"]["11"]["cuda"]["usable"].remove("Erf")
    made = generated(facts, "")
    assert "Erf" in made["ops"]["x86"] and "Erf" not in made["ops"]["cuda"]


def test_what_the_devices_have() -> None:
    x86, cuda = (table.capability_table(device) for device in ("x86", "cuda"))
    for op in ("Or", "GreaterOrEqual", "LayerNormalization", "GridSample", "Einsum", "Abs", "Dropout", "HardSwish"):
        assert op not in x86
    for op in ("GatherElements", "InstanceNormalization", "Reciprocal", "Mod", "Round"):
        assert op not in x86 and op in cuda
    assert "mmcv::grid_sampler" in x86 and "mmcv::MMCVRoiAlign" not in x86
    assert resize_kinds("x86") == {
        ("linear", "pytorch_half_pixel"),
        ("cubic", "pytorch_half_pixel"),
        ("nearest", "asymmetric"),
    }
    assert ("linear", "align_corners") in resize_kinds("cuda")
