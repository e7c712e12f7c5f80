"""targets/tensorrt/facts.json: a fact for each rule of the table, none for what is no rule, and how each is known."""

from __future__ import annotations

import json
from pathlib import Path

from segc.targets import tensorrt
from segc.targets.checks import condition
from segc.targets.tensorrt import ops
from tools.tensorrt_facts import told

FACTS = json.loads(Path(tensorrt.__file__).with_name("facts.json").read_text())
KNOWN = {"built", "documented", "run"}


def test_each_rule_has_its_fact_and_each_fact_its_rule() -> None:
    rules = {condition(check) for table in (ops.RTX, ops.ENTERPRISE) for checks in table.values() for check in checks}
    assert {fact["condition"] for fact in FACTS["rules"]} == rules
    assert len(FACTS["rules"]) == len(rules) and all(fact["says"] for fact in FACTS["rules"])


def test_each_row_says_how_it_is_known() -> None:
    assert set(FACTS["rows"]) == {*ops.RTX, *ops.ENTERPRISE}
    for facts in (FACTS["rules"], FACTS["other"], FACTS["rows"].values()):
        assert {fact["known"] for fact in facts} <= KNOWN
    assert all(FACTS["rows"][op].get("flavor") == "enterprise" for op in set(ops.ENTERPRISE) - set(ops.RTX))


def test_only_what_ran_on_a_gpu_is_called_run() -> None:
    for fact in FACTS["rows"].values():
        assert (fact["known"] == "run") == ("on" in fact)


def test_results_of_a_gpu_enter_the_facts() -> None:
    row = {
        "job": ["probes", "probes", "0"],
        "networks": {"row Relu": "right", "row Tan": "wrong by 1e-1", "random 7": "right"},
    }
    broken = {"job": ["probes", "probes", "1"], "failed": "its process ended with SIGSEGV"}
    results = {"ran_with": {"tensorrt": "GPU A, on a day"}, "rows": [row, broken, {"job": ["first", "x", "0"]}]}
    found, lines = told(FACTS, results)
    assert lines == ["row Tan: wrong by 1e-1", "probes, group 1: its process ended with SIGSEGV"]
    assert found["rows"]["Relu"] == {"known": "run", "on": "GPU A, on a day", "outcome": "right"}
    assert found["networks"]["random 7"] == {"on": "GPU A, on a day", "outcome": "right"}
    assert found["rows"]["Abs"] == FACTS["rows"]["Abs"]
