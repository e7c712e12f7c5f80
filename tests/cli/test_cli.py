"""The command line as a whole: help, JSON, exit codes, plain output, and what it does not import."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from segc import errors, targets
from segc.cli import COMMANDS
from segc.commands import doctor
from segc.errors import BundleError, FileError, SourceError, UsageError
from segc.pipeline import stages
from tests.helpers.calls import Outcome, heed_interrupts, python, refused, segc, segc_process
from tests.helpers.tiny_bundles import bundle, photograph
from tests.helpers.tiny_models import CONV, onnx_file, source

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "compile": ["SOURCE", "--target", "--checkpoint", "--shape", "--dynamic", "--precision", "--output", "--mode",
                "--no-verify", "--force", "--keep-onnx", "--dump-ir", "--check", "--allow-mismatch", "--json", "-o"],
    "run": ["BUNDLE", "IMAGE", "--no-overlay", "--opacity", "--threads", "--json", "-o"],
    "verify": ["BUNDLE", "SOURCE", "--images", "--checkpoint", "--max-error", "--min-agreement", "--json"],
    "bench": ["BUNDLE", "--runs", "--shape", "--threads", "--json"],
    "inspect": ["BUNDLE|ONNX", "--origins", "--json"],
    "targets": ["--json"],
    "passes": ["--json"],
    "doctor": ["--json"],
    "sbom": ["BUNDLE", "--out"],  # what it prints is JSON
}  # fmt: skip
HEAVY = ("torch", "onnxruntime", "openvino", "onnx", "mmseg", "mmengine", "networkx", "cv2", "numpy")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of CONV, and the file it was compiled from beside it."""
    folder = tmp_path_factory.mktemp("compiled")
    assert segc("compile", onnx_file(folder), "-o", folder / "b").code == 0
    return folder / "b"


def parsed(outcome: Outcome) -> object:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_mentions_every_option(command: str) -> None:
    result = segc(command, "--help")
    assert result.code == 0 and result.err == ""
    for option in OPTIONS.get(command, ["--json"]):
        assert option in result.out


def test_the_help_of_segc_lists_commands_and_exit_codes() -> None:
    result = segc("--help")
    assert result.code == 0
    assert all(re.search(rf"^ +{command} ", result.out, re.MULTILINE) for command in COMMANDS)
    assert "exit codes: 0 done" in result.out and "130 interrupted" in result.out
    assert re.fullmatch(r"segc \d+\.\d+\.\d+\n", segc("--version").out)


def test_help_and_import_bring_nothing_heavy() -> None:
    shown = f"; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python("import segc" + shown).out.strip() == "[]"
    call = (
        "import contextlib, io, segc.cli\nwith contextlib.redirect_stdout(io.StringIO()):\n    try: segc.cli.main({})\n"
    )
    for words in (["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)):
        done = python(call.format(words) + "    except SystemExit: pass\n" + shown.removeprefix("; "))
        assert done.out.strip() == "[]", (words, done.out, done.err)


def test_running_a_bundle_needs_neither_torch_nor_mmseg(compiled: Path) -> None:
    code = "import sys, numpy, segc; segc.load(sys.argv[1]).run(numpy.zeros((1, 3, 8, 12), numpy.float32))"
    done = python(code + "; print([m for m in ('torch', 'mmseg', 'mmengine') if m in sys.modules])", compiled)
    assert done.out.strip() == "[]", done.err


@pytest.mark.parametrize("words", [[], ["nope"], ["compile"], ["compile", "a.onnx", "--nope"], ["run", "b"]])
def test_a_wrong_command_line_exits_with_two_and_shows_the_usage(words: list[str]) -> None:
    result = segc(*words)
    assert result.code == 2 and "usage: segc" in result.err and "Traceback" not in result.err


def test_shape_and_dynamic_exclude_each_other(tmp_path: Path) -> None:
    result = segc("compile", onnx_file(tmp_path), "--shape", "8x8", "--dynamic")
    assert result.code == 2 and "--dynamic: not allowed with argument --shape" in result.err


def test_the_documented_exit_codes_are_those_of_the_classes() -> None:
    """docs/errors.md, the docstring of segc.errors and the classes say the same."""
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.SegcError)]
    by_code: dict[int, set[str]] = {}
    for cls in classes:
        by_code.setdefault(cls.exit_code, set()).add(cls.general.removeprefix("SEGC-")[0])
    text = (ROOT / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", text, re.MULTILINE)
    table = {int(code): set(re.findall(r"SEGC-([A-Z])", names)) for code, names in rows}
    assert {code: names for code, names in table.items() if names} == by_code
    assert {0, 1, 130} <= table.keys()
    documented = {int(code) for code in re.findall(r"(?:^ +|  )(\d+)  ", str(errors.__doc__), re.MULTILINE)}
    assert documented == table.keys()
    assert all(re.search(rf"\b{code} \w", segc("--help").out) for code in table)


def test_errors_have_a_code_each_and_survive_a_process_boundary() -> None:
    import pickle

    error = errors.ShapeError("what", because=["a", "b\nc"], where="here", tried="this", so="that")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.to_json() == error.to_json() and type(again) is errors.ShapeError
    lines = str(error).splitlines()
    assert lines[0] == "what   [SEGC-S300]"
    assert lines[1:] == [
        "  because  a",
        "           b",
        "           c",
        "  from     here",
        "  tried    this",
        "  so       that",
    ]


def test_an_error_as_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    result = segc("compile", tmp_path / "no.onnx", "--json", "-o", tmp_path / "b")
    content = json.loads(result.out)
    assert result.code == content["exit_code"] == FileError.exit_code and result.err == ""
    assert "no.onnx" in content["error"] and content["code"] == "SEGC-F101" and content["so"]


def test_a_bug_is_called_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import segc.cli.passes as command

    def fail(_: object) -> int:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(command, "main", fail)
    result = segc("passes")
    assert result.code == 1 and "bug in segc: ZeroDivisionError: oh" in result.err and "SEGC_DEBUG=1" in result.err
    monkeypatch.setenv("SEGC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        segc("passes")


def test_targets_are_listed_and_shown() -> None:
    rows = parsed(segc("targets", "--json"))
    assert isinstance(rows, list)
    assert [row["name"] for row in rows][:2] == ["onnxruntime", "openvino"] and all(row["ops"] > 50 for row in rows)
    plain = segc("targets")
    assert plain.code == 0 and "onnxruntime" in plain.out and "\x1b" not in plain.out
    one = parsed(segc("targets", "openvino", "--json"))
    assert isinstance(one, dict) and one["name"] == "openvino" and "Conv" in one["conditions"]
    assert "Conv" in segc("targets", "openvino").out
    refused(segc("targets", "opnvino"), UsageError.exit_code, "opnvino", "did you mean openvino")


def test_passes_are_listed_with_algebra_invariants_options_and_targets() -> None:
    from segc.passes import REGISTRY

    rows = parsed(segc("passes", "--json"))
    assert isinstance(rows, list)
    assert [row["name"] for row in rows] == list(REGISTRY)
    assert all(row["algebra"] for row in rows)
    by_name = {row["name"]: row for row in rows}
    assert by_name["winograd"]["targets"] == ["onnxruntime", "openvino"]
    assert by_name["winograd"]["folder"] == "performance"
    assert by_name["lower-opset"]["targets"] == ["pplnn"]
    assert by_name["fold-constants"]["targets"] == list(targets.names())
    assert by_name["convert-to-fp16"]["targets"] == ["onnxruntime", "tensorrt"], "one of their options"
    assert by_name["simplify"]["requires"] and by_name["materialize-fp16-rounding"]["targets"] == []
    assert sum(row["targets"] == ["pplnn"] for row in rows) > 15
    plain = segc("passes")
    assert plain.code == 0 and all(name in plain.out for name in REGISTRY) and "\x1b" not in plain.out
    assert "legalize/\n" in plain.out and "targets:     all" in plain.out and "targets:     pplnn" in plain.out


@pytest.mark.parametrize("target", targets.names())
def test_the_pipeline_of_a_target_is_listed_in_order_with_its_stages(target: str) -> None:
    rows = parsed(segc("passes", "--target", target, "--json"))
    assert isinstance(rows, list)
    pipeline = stages.standard(targets.get(target), shape=(1, 512, 512), mask=True, threshold=0.5)
    assert [row["name"] for row in rows] == [step.name for step in pipeline.passes]
    named = ["specialize", "clean", "recognize", "mask", "output", "lower", "tidy", "legalize"]
    assert [*dict.fromkeys(row["stage"] for row in rows)] == named
    plain = segc("passes", "--target", target)
    assert plain.code == 0 and "tidy:\n" in plain.out and "requires: constants folded" in plain.out


def test_the_pipeline_of_an_unknown_target_is_refused() -> None:
    refused(segc("passes", "--target", "opnvino"), UsageError.exit_code, "opnvino", "did you mean openvino")


def test_the_doctor_tries_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parsed(segc("doctor", "--json"))
    assert isinstance(content, dict)
    found = {f["what"]: f for f in content["findings"]}
    assert found["target onnxruntime"]["works"] and found["target openvino"]["works"]
    assert found["source .onnx"]["works"]
    tensorrt = found["target tensorrt"]
    assert not tensorrt["works"] or targets.get("tensorrt").explain() in tensorrt["detail"]
    monkeypatch.setattr(doctor, "_targets", lambda: [doctor.Finding(**f) for f in content["findings"]])
    assert "target openvino\tyes" in segc("doctor").out  # the same as text, without trying all of them again


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None
sys.meta_path.insert(0, Block())
import importlib.metadata, importlib.util
version, find_spec = importlib.metadata.version, importlib.util.find_spec
def hidden_version(name):
    if name.split("-")[0] in HIDDEN:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = hidden_version
importlib.util.find_spec = lambda name, package=None: None if name in HIDDEN else find_spec(name, package)
from segc.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without(modules: list[str], *words: object) -> Outcome:
    """The command line in a process in which these packages are not installed."""
    return python(f"HIDDEN = {modules!r}\n{BLOCK}", *words)


def test_what_is_missing_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    result = without(["openvino"], "doctor", "--json")
    found = {f["what"]: f for f in json.loads(result.out)["findings"]}
    assert not found["target openvino"]["works"]
    assert found["target openvino"]["so"] == "pip install 'segc[openvino]'"
    assert found["target onnxruntime"]["works"]
    result = without(["openvino"], "compile", onnx_file(tmp_path), "--target", "openvino", "-o", tmp_path / "b")
    refused(result, 7, "openvino", "not installed", "pip install 'segc[openvino]'")
    hidden = ["tensorrt_rtx_bindings", "tensorrt_rtx_libs", "tensorrt"]
    result = without(hidden, "compile", onnx_file(tmp_path), "--target", "tensorrt", "-o", tmp_path / "b")
    refused(result, 7, "tensorrt", "not installed", "pip install 'segc[tensorrt]'")
    result = without(["torch"], "compile", source(tmp_path), "-o", tmp_path / "b")
    refused(result, 7, "PyTorch", "pip install 'segc[mmseg]'")


def test_a_config_without_mmseg_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "cfg.py").write_text("model = dict(type='EncoderDecoder')\n")
    result = without(["mmseg"], "compile", tmp_path / "cfg.py", "-o", tmp_path / "b")
    refused(result, 7, "mmseg", "pip install 'segc[mmseg]'")
    result = without(["mmseg"], "compile", "fcn_r50-d8", "-o", tmp_path / "b")
    refused(result, SourceError.exit_code, "'fcn_r50-d8'", "mmseg is not installed", "pip install 'segc[mmseg]'")


def test_compile_says_what_came_out(tmp_path: Path) -> None:
    result = segc("compile", onnx_file(tmp_path), "-o", tmp_path / "b")
    assert result.code == 0 and "\x1b" not in result.out + result.err
    for text in (
        "bundle:",
        "engine:  onnxruntime",
        "parity:  against ONNX Runtime",
        "noise 8x12\t",
        "next:    segc run",
    ):
        assert text in result.out
    assert "segc: comparing with the source file" in result.err
    content = parsed(segc("compile", onnx_file(tmp_path), "--json", "--force", "-o", tmp_path / "b"))
    assert isinstance(content, dict) and content["bundle"] == str(tmp_path / "b") and content["report"]["parity"]


def test_inspect_shows_bundles_and_onnx_files(compiled: Path, tmp_path: Path) -> None:
    content = parsed(segc("inspect", compiled, "--json"))
    assert isinstance(content, dict)
    assert content["target"]["name"] == "onnxruntime" and content["report"]["parity"]["cases"]
    assert "onnxruntime" in segc("inspect", compiled).out
    content = parsed(segc("inspect", onnx_file(tmp_path), "--json", "--origins"))
    assert isinstance(content, dict)
    assert content["ops"] == {"Conv": 1} and content["inputs"] == {"x": "float32 (1, 3, 8, 12)"}
    assert content["refused_by"] == {name: [] for name in targets.names()} and content["origins"]
    assert "Conv: 1" in segc("inspect", onnx_file(tmp_path)).out


def test_inspect_refuses_what_is_neither(tmp_path: Path) -> None:
    refused(segc("inspect", tmp_path / "no"), FileError.exit_code, "no")
    for name in ("a.json", "a.onnxtxt", "a.textproto", "a.png"):
        (tmp_path / name).write_text('{"a": 1}')
        refused(segc("inspect", tmp_path / name), SourceError.exit_code, name, "not an ONNX file")


def test_verify_compares_again(compiled: Path, tmp_path: Path) -> None:
    onnx = compiled.parent / "conv.onnx"
    content = parsed(segc("verify", compiled, onnx, "--json"))
    assert isinstance(content, dict) and all(case["agreement"] == 1 for case in content["cases"])
    assert "files intact, 2 comparisons within the limits" in segc("verify", compiled, onnx).out
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(20, 30))
    result = segc("verify", compiled, onnx, "--images", tmp_path)
    assert result.code == 0 and "photo.png" in result.out
    refused(segc("verify", compiled, onnx, "--max-error", "-1"), 5, "relative logit error", "--max-error")


def test_verify_wants_the_same_source(compiled: Path, tmp_path: Path) -> None:
    other = onnx_file(tmp_path, CONV.replace("-6", "6"))
    refused(segc("verify", compiled, other), SourceError.exit_code, "'conv' is not what the bundle", "compile time")
    refused(segc("verify", compiled), SourceError.exit_code, "'conv'", "segc verify BUNDLE SOURCE")


def test_bench_measures_bundles_in_turns(compiled: Path) -> None:
    rows = parsed(segc("bench", compiled, compiled, "--runs", "2", "--json"))
    assert isinstance(rows, list) and [row["runs"] for row in rows] == [2, 2]
    assert all(row["median_ms"] > 0 and row["peak_mb"] > 0 and row["shape"] == [1, 3, 8, 12] for row in rows)
    plain = segc("bench", compiled, "--runs", "1")
    assert "median ms" in plain.out and "1.00x" in plain.out
    refused(segc("bench", compiled, "--runs", "0"), UsageError.exit_code, "--runs 0", "at least 1")
    refused(segc("bench", compiled.parent / "no"), BundleError.exit_code, "no bundle at")


def test_bench_is_interrupted_without_a_traceback_of_its_children(compiled: Path) -> None:
    """Ctrl-C reaches every process of the terminal's foreground group."""
    words = [sys.executable, "-m", "segc", "bench", str(compiled), "--runs", "100000"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0, preexec_fn=heed_interrupts
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "run 3 of" in line:
            break
    import os

    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err and "interrupted" in err


def damage(folder: Path, how: str) -> None:
    if how == "a flipped byte":
        content = bytearray((folder / "model.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "model.onnx").write_bytes(content)
    elif how == "a missing file":
        (folder / "model.onnx").unlink()
    elif how == "a newer format":
        text = (folder / "segc.json").read_text()
        (folder / "segc.json").write_text(text.replace('"format": 1', '"format": 2'))
    elif how == "a cut manifest":
        (folder / "segc.json").write_text((folder / "segc.json").read_text()[:100])
    else:
        (folder / "segc.json").unlink()


DAMAGE = {
    "a flipped byte": ["model.onnx is damaged", "copy the bundle again"],
    "a missing file": ["lacks its file model.onnx", "copy the bundle again"],
    "a newer format": ["format 2", "upgrade segc"],
    "a cut manifest": ["segc.json is damaged", "copy the bundle again"],
    "no manifest": ["is not a bundle", "segc compile"],
}


@pytest.mark.parametrize("how, said", DAMAGE.items(), ids=DAMAGE)
def test_a_damaged_bundle_is_refused_by_every_command(tmp_path: Path, how: str, said: list[str]) -> None:
    folder = bundle(tmp_path / "b")
    damage(folder, how)
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(8, 8))
    calls = [["run", folder, tmp_path / "photo.png", "-o", tmp_path / "out"], ["verify", folder], ["inspect", folder],
             ["bench", folder]]  # fmt: skip
    for words in calls:
        refused(segc(*words), BundleError.exit_code, *said)
    assert not (tmp_path / "out").exists()


IMAGES: dict[str, np.ndarray] = {
    "grey": np.arange(120, dtype=np.uint8).reshape(10, 12),
    "alpha": np.full((10, 12, 4), 200, np.uint8),
    "sixteen bits": np.full((10, 12, 3), 40000, np.uint16),
    "one pixel": np.full((1, 1, 3), 9, np.uint8),
    "large": np.zeros((3000, 4000, 3), np.uint8),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_every_kind_are_segmented(tmp_path: Path, name: str) -> None:
    image = IMAGES[name]
    cv2.imwrite(str(tmp_path / "image.png"), image)
    result = segc("run", bundle(tmp_path / "b"), tmp_path / "image.png", "-o", tmp_path / "out")
    assert result.code == 0, result.err
    mask = cv2.imread(str(tmp_path / "out" / "image_mask.png"))
    assert mask is not None and mask.shape[:2] == image.shape[:2]


@pytest.mark.parametrize("content, said", [
    (None, "No such file"), (b"", "the file is empty"), (b"no image", "damaged or of another format"),
    (b"\x89PNG\r\n\x1a\n" + bytes(40), "it is cut off"),
])  # fmt: skip
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "image.png"
    if content is not None:
        path.write_bytes(content)
    result = segc("run", bundle(tmp_path / "b"), path, "-o", tmp_path / "out")
    assert result.code == FileError.exit_code and "Traceback" not in result.err
    assert "image.png" in result.err and said in result.err


def test_an_output_that_is_piped_into_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m segc passes --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_python_dash_m_is_the_same_command() -> None:
    started = segc_process("targets", "--json")
    assert started.code == 0 and json.loads(started.out) == json.loads(segc("targets", "--json").out)
