"""`segc opt` from its command line, and passes from text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnx
import onnx.parser
import onnx_graphsurgeon as gs
import pytest

from segc import targets
from segc.cli import main
from segc.commands import optimize
from segc.errors import Code, CompileError, UsageError
from segc.graph import raise_opset
from segc.passes import REGISTRY
from segc.passes.base import Pass, PassResult
from segc.passes.cleanup.fold_constants import FoldConstants
from segc.passes.support.integers import Form
from segc.pipeline import pass_spec
from segc.runtime.ort import open_session
from tests.helpers.calls import refused, segc
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, onnx_file

TEXT = """<ir_version: 9, opset_import: ["" : 17, "segc" : 1]>
g (float[N,3,H,W] x, int64[2] k) => (float[N,3,6,6] y, int64[2] z)
{ a = Identity (x)  b = Relu (a)  c = Identity (b)  y = segc.AdaptiveAvgPool2d <output_size = [6, 6]> (c)
  one = Constant <value_ints = [1, 2]> ()  two = Add (one, one)  z = Mul (k, two) }"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "in.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return str(path)


def ops(path: Path) -> list[str]:
    return [n.op_type for n in onnx.load(path).graph.node]


def test_passes_run_in_the_order_given_and_only_they(source: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.onnx"
    assert main(["opt", source, "--pass", "remove-identities", "--pass", "fold-constants", "-o", str(out)]) == 0
    assert sorted(ops(out)) == ["AdaptiveAvgPool2d", "Mul", "Relu"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split("\t") == ["pass", "changes", "skips", "ms", "nodes"]
    assert [line.split("\t")[0] for line in printed[1:3]] == ["remove-identities", "fold-constants"]
    assert printed[1].split("\t")[4] == "6 -> 4"
    assert "nodes: 6 -> 3" in printed


def test_several_inputs_are_checked_and_a_target_brings_its_pipeline(source: str, tmp_path: Path, capsys: Any) -> None:
    out, dump = tmp_path / "out.onnx", tmp_path / "dump"
    line = ["opt", source, "--target", "openvino", "--shape", "7x9", "--check", "--dump-ir", str(dump), "--json"]
    assert main([*line, "-o", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["nodes"]["before"] == 6
    assert said["files"] == [str(out)]
    errors = [step["relative_error"] for step in said["passes"] if step["changes"]]
    assert errors
    assert all(error is not None and error < 1e-6 for error in errors)
    assert "AdaptiveAvgPool2d" not in ops(out)
    changed = [f"{at + 1:03d}-{s['stage']}-{s['name']}.onnxtxt" for at, s in enumerate(said["passes"]) if s["changes"]]
    assert sorted(f.name for f in dump.iterdir()) == ["000-input.onnxtxt", *changed, "index.txt"]
    assert [line.split()[:3] for line in (dump / "index.txt").read_text().splitlines()[1:]] == [
        [f"{at + 1:03d}", s["stage"], s["name"]] for at, s in enumerate(said["passes"])
    ]
    assert onnx.load(out).graph.input[0].type.tensor_type.shape.dim[2].dim_value == 7


def test_without_passes_the_clean_up_runs_and_stops_where_told(source: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["opt", source, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == {"before": 6, "after": 3}
    assert main(["opt", source, "--stop-after", "1", "--json"]) == 0
    assert [s["name"] for s in json.loads(capsys.readouterr().out)["passes"]] == ["specialize-shapes"]
    assert [f.name for f in tmp_path.iterdir()] == ["in.onnx"], "without -o nothing is written"


def test_a_file_is_not_replaced_without_force_nor_touched_by_a_failure(
    source: str, tmp_path: Path, capsys: Any
) -> None:
    before = Path(source).read_bytes()
    assert main(["opt", source, "-o", source]) == 8
    assert "exists already" in capsys.readouterr().err
    assert main(["opt", source, "-o", source, "--force", "--pass", "no-such-pass"]) == 2
    assert Path(source).read_bytes() == before
    assert main(["opt", source, "-o", source, "--force"]) == 0
    assert len(ops(Path(source))) == 3
    assert main(["opt", source, "-o", str(tmp_path / "no" / "out.onnx")]) == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pass", "fold-constant"], "did you mean fold-constants"),
        (["--pass", "fold-constants:size=1"], "it has size_limit: int = 1048576"),
        (["--pass", "fold-constants:size_limit=big"], "it takes int"),
        (["--pass", "remove-identities:x=1"], "it has none"),
        (["--pass", "lower-adaptive-avg-pool:lowering=other"], "it takes native | matmul"),
        (["--pass", "specialize-shapes:height=0"], "must be at least 1"),
        (["--pass", "fold-constants", "--target", "openvino"], "exclude each other"),
        (["--target", "nothing"], "nothing"),
        (["--stop-after", "0"], "--stop-after 0"),
        (["--batch", "0"], "batch 0"),
        (["--target", "openvino", "--shape", "7"], "not a shape"),
    ],
)
def test_a_wrong_command_line_is_explained(source: str, arguments: list[str], said: str, capsys: Any) -> None:
    assert main(["opt", source, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_what_no_pass_ensures_is_asked_of_the_file(source: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    class Needy(Pass):
        name = "needy"
        algebra = ""
        requires = frozenset({"static shapes"})

    monkeypatch.setitem(REGISTRY, "needy", Needy)
    assert main(["opt", source, "--pass", "needy"]) == 2
    said = capsys.readouterr().err
    assert "needy requires 'static shapes'" in said and "has shape" in said


def test_an_order_that_undoes_what_a_pass_relies_on_is_a_usage_error(source: str, capsys: Any) -> None:
    assert main(["opt", source, "--pass", "winograd", "--pass", "fuse-conv-batchnorm"]) == 2
    said = capsys.readouterr().err
    assert "'fuse-conv-batchnorm' requires 'portable'" in said and "put 'winograd' behind" in said


class Wrong(Pass):
    """Relu becomes Abs."""

    name = "wrong"
    algebra = ""

    def run(self, graph: gs.Graph) -> PassResult:
        found = [n for n in graph.nodes if n.op == "Relu"]
        for node in found:
            node.op = "Abs"
        return PassResult(len(found))


def test_check_names_the_pass_and_the_place_where_numbers_first_differ(source: str) -> None:
    with pytest.raises(CompileError, match="after pass 1 'wrong'") as raised:
        optimize.optimize(source, ["remove-identities", Wrong()], check=True, shape=(8, 8))
    assert raised.value.details["from"][0].startswith("first at 'y'")


def test_check_says_when_the_file_itself_cannot_run(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(onnx.parser.parse_model(TEXT.replace("[N,3,H,W] x", "[N,3,H,W] x, float[2,3] q").replace(
        "one = Con", "p = MatMul (q, q)  one = Con").replace("=> (", "=> (float[2,3] p, ")), path)  # fmt: skip
    assert main(["opt", str(path), "--check"]) in (3, 9)


@dataclass(frozen=True)
class Rich(Pass):
    name: ClassVar[str] = "rich"
    algebra: ClassVar[str] = ""

    number: int = 1
    ratio: float | None = None
    pair: tuple[int, int] = (1, 2)
    names: tuple[str, ...] = ()
    kind: Literal["a", "b"] = "a"
    on: bool = False
    word: str | None = "x"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rich", Rich()),
        ("rich:number=-3,ratio=1e-3", Rich(number=-3, ratio=1e-3)),
        ("rich:ratio=none,word=none", Rich(ratio=None, word=None)),
        ("rich:pair=(3,4),names=(a, b)", Rich(pair=(3, 4), names=("a", "b"))),
        ("rich:names=()", Rich(names=())),
        ("rich:kind=b,on", Rich(kind="b", on=True)),
        ("rich:on=false", Rich(on=False)),
    ],
)
def test_options_are_read_as_their_types_say(text: str, wanted: Rich, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "rich", Rich)
    assert pass_spec.parse(text) == wanted


@pytest.mark.parametrize("text", ["rich:pair=(1,2,3)", "rich:on=perhaps", "rich:number=1.5", "rich:kind=c"])
def test_values_of_another_type_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "rich", Rich)
    with pytest.raises(UsageError, match="is not a valid value for option"):
        pass_spec.parse(text)


def test_an_option_with_fields_is_typed_field_by_field() -> None:
    made = pass_spec.parse("quantize:form=(signed=true,ops=(Conv,Gemm))")
    assert vars(made)["form"] == Form(signed=True, ops=frozenset({"Conv", "Gemm"}))


@pytest.mark.parametrize("text", ["x", "(nope=1)", "(signed)", "(signed=maybe)"])
def test_fields_that_an_option_does_not_have_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="it takes") as error:
        pass_spec.parse(f"quantize:form={text}")
    assert error.value.code == Code.PASS_OPTIONS


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_pass_describes_options_that_can_be_typed(name: str) -> None:
    """What `segc passes` prints as defaults is accepted, and means the default."""
    found = pass_spec.options(REGISTRY[name])
    typed = ",".join(f"{o.name}={pass_spec.spelled(o.default)}" for o in found.values() if not o.required)
    assert all(pass_spec.described(o) for o in found.values())
    if any(o.required for o in found.values()):
        return
    made, plain = pass_spec.parse(f"{name}:{typed}"), REGISTRY[name]()
    assert type(made) is type(plain)
    assert vars(made) == vars(plain)


def test_the_library_takes_passes_as_objects(source: str) -> None:
    outcome = optimize.optimize(source, [FoldConstants(size_limit=0), "remove-identities"])
    assert [s.name for s in outcome.steps] == ["fold-constants", "remove-identities"]
    assert all(isinstance(n.op, str) for n in outcome.graph.nodes)
    assert np.isfinite(outcome.steps[0].seconds)


def test_buckets_make_one_file_for_each_size(tmp_path: Path) -> None:
    source = onnx_file(tmp_path, DYNAMIC_CONV)
    done = segc("opt", source, "--buckets", "8x12", "10x6", "--batch", "1", "-o", tmp_path / "made.onnx")
    assert done.code == 0, done.err
    for size, sides in (("8x12", (8, 12)), ("10x6", (10, 6))):
        model = onnx.load(tmp_path / f"made-{size}.onnx")
        assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, *sides]
    assert not (tmp_path / "made.onnx").exists()


def test_buckets_that_cannot_be_are_refused(tmp_path: Path) -> None:
    source = onnx_file(tmp_path)  # its sides are fixed
    done = segc("opt", source, "--buckets", "16x16", "-o", tmp_path / "made.onnx")
    refused(done, 2, "cannot be specialized", "16")
    refused(segc("opt", source, "--buckets", "16x16"), 2, "buckets need a file", "-o OUT.onnx")


# --- old opsets, and what is said of a written file -------------------------------------------------------------------

OLD = {
    7: 'a = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]> (x)  b = Clip <min = 0.0, max = 6.0> (a)',
    8: "a = Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1]> (x)  b = Slice <starts = [1], ends = [9], axes = [3]> (a)",
    9: 'a = Upsample <mode = "linear"> (x, scales)  b = Clip <max = 1.0> (a)',
    10: 'a = Resize <mode = "linear"> (x, scales)  c = Relu (a)  b = Resize <mode = "nearest"> (c, scales)',
    11: "p, q, r = Split <axis = 1, split = [1, 1, 1]> (x)  b = Concat <axis = 1> (r, q, p)",
    12: "a = ReduceSum <axes = [1]> (x)  u = Squeeze <axes = [1]> (a)  v = Unsqueeze <axes = [1]> (u)  b = Add (x, v)",
}


def old_model(opset: int, folder: Path) -> Path:
    text = f"""<ir_version: 4, opset_import: ["" : {opset}]> g (float[1,3,8,8] x) => (float[1,2,H,W] y)
        <float[2,3,1,1] w = {{1, -2, 3, -4, 5, -6}}, float[4] scales = {{1, 1, 2, 2}}>
        {{ {OLD[opset]} y = Conv (b, w) }}"""
    path = folder / f"opset{opset}.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def outputs(path: Path) -> np.ndarray:
    x = np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)
    return np.asarray(open_session(path).run(None, {"x": x})[0])


@pytest.mark.parametrize("target", targets.names())
@pytest.mark.parametrize("opset", OLD)
def test_old_opsets_become_files_that_declare_what_they_need(opset: int, target: str, tmp_path: Path) -> None:
    source, out = old_model(opset, tmp_path), tmp_path / "out.onnx"
    done = segc("opt", source, "--target", target, "-o", out, *(["--check"] if opset == 10 else []))
    assert done.code == 0, done.err
    made = onnx.load(out)
    onnx.checker.check_model(made, full_check=True)
    declared = made.opset_import[0].version
    assert f"note: converted from opset {opset} to 17" in done.out
    assert f"opset: {declared}, relative error" in done.out
    np.testing.assert_allclose(outputs(out), outputs(source), rtol=1e-5, atol=1e-5)


def test_passes_of_choice_meet_the_opset_that_they_are_written_for(tmp_path: Path) -> None:
    source, out = old_model(12, tmp_path), tmp_path / "out.onnx"
    assert segc("opt", source, "--pass", "remove-identities", "-o", out).code == 0
    assert onnx.load(out).opset_import[0].version == 17
    assert segc("opt", source, "--pass", "lower-opset:opset=11", "-o", out, "--force").code == 0
    assert onnx.load(out).opset_import[0].version == 11
    np.testing.assert_allclose(outputs(out), outputs(source), rtol=1e-5, atol=1e-5)


def test_a_file_that_computes_something_else_is_not_written(source: str, tmp_path: Path) -> None:
    for check in (False, True):
        with pytest.raises(CompileError, match=r"differ|does not compute"):
            optimize.optimize(source, [Wrong()], out=tmp_path / "out.onnx", check=check, shape=(8, 8))
    assert [f.name for f in tmp_path.iterdir()] == ["in.onnx"]


def test_check_compares_with_the_file_as_given_not_with_what_was_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that raises an opset wrongly is found, with and without --check, and nothing is written."""
    source = old_model(9, tmp_path)

    def wrong(site: Any) -> None:
        right[1](site)
        site.node.attrs["coordinate_transformation_mode"] = "half_pixel"

    right = raise_opset.RULES["Upsample"]
    monkeypatch.setitem(raise_opset.RULES, "Upsample", (10, wrong))
    for more in ([], ["--check"]):
        refused(segc("opt", source, "-o", tmp_path / "out.onnx", *more), 9, "does not compute", "relative error")
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_that_onnx_refuses_is_not_written(source: str, tmp_path: Path) -> None:
    class Invalid(Pass):
        name = "invalid"
        algebra = ""

        def run(self, graph: gs.Graph) -> PassResult:
            graph.nodes[0].attrs["no_such_attribute"] = 1
            return PassResult(1)

    with pytest.raises(CompileError, match="is not written: ONNX refuses it"):
        optimize.optimize(source, [Invalid()], out=tmp_path / "out.onnx")
    assert [f.name for f in tmp_path.iterdir()] == ["in.onnx"]


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]>
        g (string[2] s, float[2] x) => (string[2] t, float[2] y) { t = Identity (s)  y = Relu (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "in.onnx")
    done = segc("opt", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    assert done.code == 0 and "was not compared" in done.out and "input 's'" in done.out
    refused(segc("opt", tmp_path / "in.onnx", "--check"), 9, "cannot run the file", "input 's'")


def test_other_outputs_are_not_compared_and_half_precision_is_only_measured(tmp_path: Path) -> None:
    source = onnx_file(tmp_path, CONV.replace("{1, -2, 3,", "{0.1, -0.2, 0.3,"))
    done = segc("opt", source, "--pass", "append-argmax", "-o", tmp_path / "mask.onnx")
    assert done.code == 0 and "takes or gives other tensors" in done.out
    done = segc("opt", source, "--pass", "convert-to-fp16", "-o", tmp_path / "half.onnx", "--json")
    assert done.code == 0, done.err
    (written,) = json.loads(done.out)["written"]
    assert written["opset"] == 20 and 1e-5 < written["relative_error"] < 1e-2
    refused(
        segc("opt", source, "--pass", "convert-to-fp16", "-o", tmp_path / "more.onnx", "--tolerance", "1e-6"),
        9, "does not compute", "tolerance 1.0e-06",
    )  # fmt: skip
    assert not (tmp_path / "more.onnx").exists()


def test_the_limits_hold_for_the_runs_that_compare_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segc.commands import optimize_check
    from segc.isolation import native, supervisor

    seen: list[tuple[float, int]] = []
    real = supervisor.call
    monkeypatch.setattr(
        optimize_check, "call", lambda *args, **kw: seen.append((kw["seconds"], kw["memory"])) or real(*args, **kw)
    )
    optimize.optimize(onnx_file(tmp_path), out=tmp_path / "o.onnx", check=True, time_limit=77, memory_limit=2)
    assert set(seen) == {(77.0, 2 * native.GIB)}
