"""What benchmarks/latency.py does with routes that fail, differ or take long, and what its page says."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import latency
import latency_page
import latency_routes

from segc.support_matrix.families import FAMILIES


class Route:
    """Answers as a route's process does; each run takes `seconds`, or is an error from run `fails` on."""

    def __init__(self, seconds: float, fails: int | None = None) -> None:
        self.seconds, self.fails, self.runs = seconds, fails, 0

    def ask(self, what: str) -> float | str:
        assert what == "run"
        self.runs += 1
        time.sleep(self.seconds)
        return "it died" if self.fails is not None and self.runs > self.fails else self.seconds


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"runs": 5, "seconds": 60.0, "runtimes": ["ncnn", "torch"], "again": False, **given})


def test_routes_run_in_turns_and_the_first_run_does_not_count() -> None:
    failed: dict[str, str] = {}
    routes = {"a": Route(0), "b": Route(0, fails=2)}
    times = latency.take_turns(routes, failed, options())  # type: ignore[arg-type]
    assert len(times["a"]) == 5 and routes["a"].runs == 6
    assert failed == {"b": "it died"} and routes["b"].runs == 3


def test_slow_routes_run_three_times() -> None:
    times = latency.take_turns({"a": Route(0.01)}, {}, options(runs=50, seconds=0.001))  # type: ignore[dict-item]
    assert len(times["a"]) == latency.LEAST_RUNS == 3


def test_a_mask_of_another_shape_or_none_equals_nothing() -> None:
    want = np.zeros((4, 5), np.uint8)
    assert latency.share(want, want) == 1
    assert latency.share(want[:, :1], want) == latency.share("the process died", want) == 0


def test_what_was_measured_is_not_measured_again_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert latency.read(path) == {"families": {}}
    latency.write(path, {"families": {"fcn": {"runtimes": {"ncnn": {}}}}})
    state = latency.read(path)
    assert latency.missing(state, "fcn", options()) == ["torch"]
    assert latency.missing(state, "fcn", options(again=True)) == ["ncnn", "torch"]
    assert latency.missing(state, "ccnet", options()) == ["ncnn", "torch"]


def test_a_step_that_fails_says_why_and_is_not_taken_again(tmp_path: Path) -> None:
    job = latency_routes.Job("fcn", "no such config", None, tmp_path, 1, (), 4.0)
    why = latency_routes.made(job, "info", 120)
    assert why is not None and "no such config" in why
    (tmp_path / "info.done").write_text("kept")
    assert latency_routes.made(job, "info", 120) == "kept"


def row(ms: dict[str, float], **equal: float) -> dict[str, Any]:
    return {"ms": ms, "equal": {**dict.fromkeys(ms, 1.0), **equal}, "failed": {}}


STATE = {
    "machine": {"cores": "2"}, "command": "python benchmarks/latency.py",
    "families": {
        "fcn": {"shape": [8, 8], "runtimes": {
            "ncnn": row({"segc": 10.0}, pnnx=0.5),
            "onnxruntime": row({"segc": 10.0, "+ onnxsim": 20.0, "torch exporter": 30.0}),
            "torch": row({"eager": 50.0, "compile": 40.0}),
        }},
        "ccnet": {"shape": [8, 8], "stopped": "not done after 9 s", "runtimes": {
            "onnxruntime": row({"segc": 20.0, "+ onnxsim": 10.0}),
        }},
    },
}  # fmt: skip


def test_the_page_compares_with_the_best_plain_route_and_names_who_is_slower(tmp_path: Path) -> None:
    assert latency_page.ratios(STATE, "onnxruntime") == {"fcn": 2.0, "ccnet": 0.5}
    assert latency_page.ratios(STATE, "ncnn") == {}, "a route with another mask is no rival"
    said = "\n".join(latency_page.summary(STATE))
    assert "1.00x as fast" in said and "below 0.97x: ccnet 0.50x" in said
    assert "fcn 5.00x" in said and "ccnet (not done after 9 s)" in said
    latency_page.write(STATE, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "50.0% equal" in page and "| fcn | 8x8 | 10.0 |" in page


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "ncnn"])
def test_all_plain_routes_are_measured(runtime: str) -> None:
    plain = [name for name in latency_routes.ROUTES[runtime] if name not in latency_page.OWN]
    expected = {
        "onnxruntime": ["torch exporter", "+ onnxsim", "+ onnxslim"],
        "openvino": ["torch exporter", "+ onnxsim", "+ onnxslim", "own converter"], "ncnn": ["pnnx"],
    }  # fmt: skip
    assert plain == expected[runtime]


def test_the_page_names_the_families_that_are_missing() -> None:
    measured: dict[str, Any] = {family: {"runtimes": {}} for family in FAMILIES if family != "setr"}
    assert latency_page.summary({"families": measured}) == ["- Not measured to the end: setr."]
