"""The steps of a compile, run one by one as their module shows it, give what `segc.compile` gives."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

import segc
from segc import steps
from segc.bundle.status import RAN, Status, StatusKind
from segc.errors import LegalityError, ParityError, UsageError
from segc.frontend.model import ModelInfo, Notes
from tests.helpers.tiny_models import CONV, onnx_file


def example() -> str:
    """The code in the module's docstring."""
    _, _, code = (inspect.getdoc(steps) or "").partition("::\n")
    return textwrap.dedent(code)


def files(folder: Path) -> dict[str, bytes]:
    left_out = ("report.json", "report.html")  # with times
    found = [p for p in folder.rglob("*") if p.is_file() and p.name not in left_out]
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def test_the_example_of_the_docstring_writes_the_bundle_that_compile_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx_file(tmp_path, CONV, name="model.onnx")
    exec(example(), {})
    assert capsys.readouterr().out.startswith("ok ")
    made = segc.compile("model.onnx", out="other")
    assert files(Path("bundle")) == files(Path("other"))
    assert made.report["status"] == "ok"
    segc.load("bundle")


def setup(tmp_path: Path, **changes: object) -> steps.Setup:
    request = steps.Request(onnx_file(tmp_path, CONV), out=tmp_path / "bundle")
    return steps.set_up(replace(request, **changes))  # type: ignore[arg-type]


def test_one_export_is_lowered_for_logits_and_for_masks(tmp_path: Path) -> None:
    exported = steps.export(steps.open_source(setup(tmp_path, output="mask")))
    again = exported.copy()
    in_graph, on_host = steps.lower(exported), steps.lower(again, masks="host")
    assert (in_graph.masks, on_host.masks) == ("graph", "host")
    assert {len(made.graph.outputs[0].shape) for made in (in_graph, on_host)} == {3, 4}
    assert in_graph.source.info == on_host.source.info
    assert len(in_graph.source.info.classes) == in_graph.source.info.channels


def test_a_plan_refuses_what_the_target_refuses(tmp_path: Path) -> None:
    lowered = steps.lower(steps.export(steps.open_source(setup(tmp_path, hybrid=False))))
    target = replace(lowered.setup.target, ops={})
    with pytest.raises(LegalityError, match="no Conv in onnxruntime"):
        steps.plan(replace(lowered, setup=replace(lowered.setup, target=target)))


def test_a_missed_limit_is_told_by_verify_and_refused_by_publish(tmp_path: Path) -> None:
    made = setup(tmp_path, max_error=-1.0)
    with pytest.raises(ParityError, match="not published"), steps.staged(made) as staging:
        loaded = steps.build_engine(steps.export(steps.open_source(made)), staging.directory)
        verified = steps.verify(loaded)
        assert verified.failures
        steps.publish(staging, loaded, verified)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_a_setup_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no precision"):
        steps.set_up(steps.Request(tmp_path / "missing.onnx", precision="fp7"))


def test_a_journal_times_what_was_said_and_adds_up_what_is_done_twice() -> None:
    said: list[str] = []
    journal = steps.Journal(said.append)
    for _ in range(2):
        with journal.step("emit", "writing"):
            pass
    first = journal.seconds["emit"]
    with journal.step("emit"):
        pass
    assert said == ["writing", "writing"]
    assert journal.seconds["emit"] > first > 0


def test_notes_keep_their_order_and_come_once() -> None:
    notes = Notes("a", "b")
    notes.add("c", "a")
    notes.add("b")
    assert list(notes) == ["a", "b", "c"]


def test_what_is_known_of_a_model_cannot_be_written_to() -> None:
    info = ModelInfo("mmseg", "m", "0")
    with pytest.raises(FrozenInstanceError):
        info.channels = 3  # type: ignore[misc]


def test_a_status_reads_as_one_line_and_as_two_fields() -> None:
    assert RAN.to_json() == {"status": "ok", "status_kind": "ok", "status_reason": None}
    other = Status.of("no GPU here", StatusKind.BUILT)
    assert other.to_json() == {
        "status": "built, not run: no GPU here", "status_kind": "built, not run", "status_reason": "no GPU here",
    }  # fmt: skip
    assert Status.of(None, StatusKind.BUILT) == RAN
    assert (RAN.ran, other.ran) == (True, False)
