"""Work grows with the graph, not with its square: counted in calls, so that no clock decides.

`benchmarks/scale.py` measures seconds, for up to 50,000 nodes, and memory for models over 2 GB.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_graphsurgeon as gs
import pytest

from segc import targets
from segc.errors import FileError, SourceError
from segc.graph import external_weights, graphsurgeon_patch, ir
from segc.passes.cleanup.simplify import Simplify
from segc.pipeline import stages
from segc.pipeline.pipeline import Pipeline

SPEC = importlib.util.spec_from_file_location("scale", Path(__file__).parents[2] / "benchmarks" / "scale.py")
assert SPEC is not None
assert SPEC.loader is not None
scale = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(scale)


def work(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> int:
    """Python calls, and links looked at in search of one, from import through the standard pipeline to export."""
    done = 0

    def count(_frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal done
        done += event in ("call", "c_call")

    def position(found: list[Any], wanted: object, near: int) -> int:
        nonlocal done
        at = real(found, wanted, near)
        done += abs(at - near)
        return at

    real = graphsurgeon_patch.position
    monkeypatch.setattr(graphsurgeon_patch, "position", position)
    standard = stages.standard(targets.get("onnxruntime"), shape=(1, 8, 8))
    # onnxsim is C++ and has a limit of its own
    pipeline = Pipeline("counted", tuple(p for p in standard.passes if not isinstance(p, Simplify)))
    sys.setprofile(count)
    try:
        graph = ir.from_model(model)
        ir.infer_shapes(graph)
        pipeline.run(graph)
        ir.to_model(graph)
    finally:
        sys.setprofile(None)
    monkeypatch.undo()
    return done


@pytest.mark.parametrize("kind", sorted(scale.KINDS))
def test_work_grows_no_more_than_a_third_faster_than_the_nodes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work(scale.KINDS[kind](50), monkeypatch)  # fills caches
    small, large = (work(scale.KINDS[kind](count), monkeypatch) for count in (200, 2000))
    assert large <= 13 * small, f"{large / small:.1f} times the work for 10 times the nodes"


def test_simplify_has_a_limit_and_says_so() -> None:
    graph = ir.from_model(scale.chain(60))
    (skip,) = Simplify(max_nodes=50).run(graph).skips
    assert "at most 50" in skip.reason


# --- weights beside the file ------------------------------------------------------------------------------------------


def external(folder: Path, *, megabytes: float = 4) -> Path:
    path: Path = scale.write_large(folder, megabytes * 1e6, layers=4)
    rng = np.random.default_rng(0)
    data = folder / "large.data"
    values = rng.standard_normal(data.stat().st_size // 4).astype(np.float32) / 16
    data.write_bytes(values.tobytes())
    return path


def test_mapped_weights_arrive_unchanged_in_one_file_beside_the_model(tmp_path: Path) -> None:
    source, out = external(tmp_path), tmp_path / "out.onnx"
    graph = external_weights.read_graph(source)
    constants = [n.inputs[1] for n in graph.nodes if n.op == "MatMul"]
    assert all(not t._values.flags.owndata and not t._values.flags.writeable for t in constants), "loaded, not mapped"
    files = external_weights.write_graph(graph, out, embed=1_000_000)
    assert files[0] == out
    digest = hashlib.sha256(files[1].read_bytes()).hexdigest()
    assert files[1] == tmp_path / f"out.onnx.{digest[:16]}.data"
    assert out.stat().st_size < 10_000
    before, after = onnx.load(str(source)), onnx.load(str(out))
    values = [{t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer} for m in (before, after)]
    assert values[0].keys() == values[1].keys()
    assert all(np.array_equal(values[0][name], values[1][name]) for name in values[0])
    offsets = [int(e.value) for t in onnx.load(str(out), load_external_data=False).graph.initializer
               for e in t.external_data if e.key == "offset"]  # fmt: skip
    assert offsets
    assert all(offset % external_weights.ALIGN == 0 for offset in offsets)
    onnx.checker.check_model(str(out), full_check=True)


def test_weights_below_the_limit_go_into_the_file(tmp_path: Path) -> None:
    graph = external_weights.read_graph(external(tmp_path))
    assert external_weights.write_graph(graph, tmp_path / "out.onnx") == [tmp_path / "out.onnx"]
    assert not list(tmp_path.glob("out.onnx.*"))


def test_a_file_can_be_written_over_itself(tmp_path: Path) -> None:
    source = external(tmp_path)
    before = onnx.load(str(source))
    graph = external_weights.read_graph(source)
    external_weights.write_graph(graph, source, embed=0, force=True)
    after = onnx.load(str(source))
    for a, b in zip(before.graph.initializer, after.graph.initializer, strict=True):
        assert np.array_equal(onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b))


def test_data_of_a_replaced_model_goes_unless_another_model_reads_it(tmp_path: Path) -> None:
    source, out = external(tmp_path), tmp_path / "out.onnx"
    graph = external_weights.read_graph(source)
    _, first = external_weights.write_graph(graph, out, embed=0)
    assert external_weights.write_graph(graph, out, embed=0, force=True) == [out, first], "the same content"
    for constant in graph.tensors().values():
        if isinstance(constant, gs.Constant):
            constant.values = constant.values * 2
    _, second = external_weights.write_graph(graph, out, embed=0, force=True)
    assert not first.exists() and second.is_file()
    (tmp_path / "copy.onnx").write_bytes(out.read_bytes())
    external_weights.write_graph(external_weights.read_graph(source), out, embed=0, force=True)
    assert first.is_file() and second.is_file(), "the copy reads it"
    onnx.load(str(tmp_path / "copy.onnx"))


def test_a_data_file_that_was_damaged_is_written_again(tmp_path: Path) -> None:
    source, out = external(tmp_path), tmp_path / "out.onnx"
    graph = external_weights.read_graph(source)
    _, data = external_weights.write_graph(graph, out, embed=0)
    want = data.read_bytes()
    data.write_bytes(bytes(len(want)))
    external_weights.write_graph(graph, out, embed=0, force=True)
    assert data.read_bytes() == want


def test_data_files_of_other_names_stay_and_are_mentioned(tmp_path: Path) -> None:
    source = external(tmp_path)
    with external_weights.staged_graph(external_weights.read_graph(source), source, embed=0, force=True) as staged:
        staged.publish()
    assert (tmp_path / "large.data").is_file()
    assert staged.notes == [f"'{tmp_path / 'large.data'}' is no longer read by '{source}'"]


def test_what_exists_is_not_replaced_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = external_weights.read_graph(external(tmp_path))
    (tmp_path / "out.onnx").write_text("mine")
    with pytest.raises(FileError, match="exists already"):
        external_weights.write_graph(graph, tmp_path / "out.onnx", embed=0)
    assert (tmp_path / "out.onnx").read_text() == "mine"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(external_weights, "_copy", full)
    with pytest.raises(FileError, match="cannot be written"):
        external_weights.write_graph(graph, tmp_path / "other.onnx", embed=0)
    assert sorted(tmp_path.iterdir()) == before


def test_a_data_file_that_is_too_short_is_a_bad_source(tmp_path: Path) -> None:
    source = external(tmp_path)
    with (tmp_path / "large.data").open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(SourceError, match="is cut off"):
        external_weights.read_graph(source)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts resident pages as Linux does")
def test_memory_does_not_hold_the_weights_twice(tmp_path: Path) -> None:
    """64 MB of weights go through opt in a child; private memory, without pages of files, grows by less than half."""
    source = external(tmp_path, megabytes=64)
    program = textwrap.dedent("""
        import sys, threading, psutil
        from segc.commands import optimize as opt
        private = lambda: (lambda m: m.rss - m.shared)(psutil.Process().memory_info())
        opt.optimize(sys.argv[1], check=False)  # imports and warms up
        before, peak, stop = private(), 0, threading.Event()
        def watch():
            global peak
            while not stop.wait(0.002):
                peak = max(peak, private())
        watcher = threading.Thread(target=watch, daemon=True); watcher.start()
        opt.optimize(sys.argv[1], out=sys.argv[1] + ".out", embed=1000)
        stop.set(); watcher.join()
        print(peak - before)
    """)
    pytest.importorskip("psutil")
    done = subprocess.run([sys.executable, "-c", program, str(source)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 32e6
