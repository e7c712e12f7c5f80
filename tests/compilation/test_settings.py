"""What users ask of a target: filled in, checked against what the target offers, and used by the driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import segc as package
from segc import targets
from segc.cli import arguments
from segc.compilation.settings import settings_of
from segc.errors import UsageError
from segc.parity.limits import Limits, limits_of
from segc.targets import Emitted, Images, Option, Settings, ShapeRange, registry
from segc.targets.flags import FLAGS
from tests.helpers.calls import refused, segc

DEVICE = Option("device", ("x86", "cuda"), "x86", "where it runs", flag=True)
TARGET = replace(
    targets.get("onnxruntime"),
    name="private",
    options=(DEVICE,),
    precisions=("fp32", "fp16"),
    limits={"fp32": (0.5, 0.25)},
)
MODEL = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,8,8] x) => (float[1,2,8,8] y) '


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[targets.Target], None]:
    def register(target: targets.Target) -> None:
        found = registry.get
        monkeypatch.setattr(targets, "get", lambda name: target if name == target.name else found(name))

    return register


def model(folder: Path) -> Path:
    parsed = onnx.parser.parse_model(MODEL + "<float[2,3,1,1] w = {1,2,3,4,5,6}> { y = Conv(x, w) }")
    onnx.save(parsed, folder / "conv.onnx")
    return folder / "conv.onnx"


def test_defaults_are_filled_in_and_unknown_ones_refused() -> None:
    assert settings_of(TARGET, "fp16", {}).options == {"device": "x86"}
    assert settings_of(TARGET, "fp32", {"device": "cuda"}).options == {"device": "cuda"}
    for precision, options, said in (
        ("fp7", {}, "no precision 'fp7'"),
        ("int8", {}, "does not offer int8"),
        ("fp32", {"flavor": "rtx"}, "no option 'flavor'"),
        ("fp32", {"device": "toaster"}, "not 'toaster'"),
    ):
        with pytest.raises(UsageError, match=said):
            settings_of(TARGET, precision, options)


def test_close_names_are_suggested() -> None:
    for precision, options, meant in (
        ("fp-16", {}, "did you mean fp16"),
        ("fp32", {"devise": "cuda"}, "did you mean device?"),
        ("fp32", {"flavor": "rtx"}, "omit --flavor"),  # nothing is close
    ):
        with pytest.raises(UsageError) as caught:
            settings_of(TARGET, precision, options)
        assert meant in str(caught.value)


def test_the_flags_of_the_command_line_are_those_that_targets_declare() -> None:
    declared = {(name, o) for name in targets.names() for o in targets.get(name).options if o.flag}
    assert declared == set(FLAGS)
    assert len({option.name for _, option in FLAGS}) == len(FLAGS)


def test_refusals_name_options_as_users_type_them() -> None:
    for name, value, said in (
        ("device", "toaster", ["takes x86 or cuda, not 'toaster'", "--device x86 or --device cuda"]),
        ("winograd", "on", ["omit --set winograd"]),
        ("flavor", "rtx", ["omit --flavor"]),
    ):
        with pytest.raises(UsageError) as caught:
            settings_of(TARGET, "fp32", {name: value})
        assert all(words in str(caught.value) for words in said)
    with pytest.raises(
        UsageError, match="option 'winograd' of openvino takes measured or on or off, not 'maybe'"
    ) as caught:
        settings_of(targets.get("openvino"), "fp32", {"winograd": "maybe"})
    assert "--set winograd=measured or --set winograd=on or --set winograd=off" in str(caught.value)
    with pytest.raises(UsageError, match="'defer' of tensorrt takes no or yes, not 'on'") as caught:
        settings_of(targets.get("tensorrt"), "fp32", {"defer": "on"})
    assert "--defer, or omit it" in str(caught.value)


def test_limits_are_the_users_then_the_targets_then_segcs() -> None:
    assert limits_of(TARGET.limits, "fp32", None, None) == Limits(0.5, 0.25)
    assert limits_of(TARGET.limits, "fp32", 0.1, None) == Limits(0.1, 0.25)
    assert limits_of(TARGET.limits, "fp16", None, 0.75) == Limits(None, 0.75)
    assert limits_of(targets.get("openvino").limits, "fp32", None, None) == Limits()


def test_a_shape_range_is_read_and_checked() -> None:
    assert arguments.shape_range("8x16:9x17:10x18") == ShapeRange((8, 16), (9, 17), (10, 18))
    for text, said in (("8x8:9x9", "not a range"), ("8x8:7x9:10x10", "out of order"), ("8x8:a:9x9", "not a shape")):
        with pytest.raises(UsageError, match=said):
            arguments.shape_range(text)


def test_a_range_of_a_static_engine_is_refused(tmp_path: Path) -> None:
    done = segc("compile", model(tmp_path), "--shape-range", "8x8:8x8:8x8", "-o", tmp_path / "b")
    refused(done, UsageError.exit_code, "--shape-range needs --dynamic")


def test_settings_reach_emitter_and_manifest(tmp_path: Path, offer: Callable[[targets.Target], None]) -> None:
    seen: list[Settings] = []

    def emit(found: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
        seen.append(settings)
        return targets.get("onnxruntime").emit(found, directory, settings)

    offer(replace(TARGET, emit=emit))
    done = segc("compile", model(tmp_path), "--target", "private", "--device", "cuda", "-o", tmp_path / "b")
    assert done.code == 0, done.err
    images = Images((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "RGB")
    (settings,) = seen
    assert replace(settings, metadata={}) == Settings(options={"device": "cuda"}, images=images)
    assert settings.metadata["model_info mean_values"] == "0 0 0"
    written = json.loads((tmp_path / "b" / "segc.json").read_text())
    assert written["target"]["settings"] == {"device": "cuda"}
    refused(
        segc("compile", model(tmp_path), "--target", "private", "--set", "device", "-o", tmp_path / "c"),
        UsageError.exit_code, "not NAME=VALUE",
    )  # fmt: skip


def test_what_cannot_run_here_is_judged_in_onnx_runtime_and_never_called_ok(
    tmp_path: Path, offer: Callable[[targets.Target], None]
) -> None:
    def load(*_: object) -> targets.Session:
        raise AssertionError("an engine that cannot run is not loaded")

    offer(replace(TARGET, runtime=targets.Runtime(load, TARGET.package), cannot_run=lambda _: "no such chip"))
    bundle = package.compile(model(tmp_path), target="private", out=tmp_path / "b")
    assert bundle.report["status"] == "built, not run: no such chip"
    assert bundle.report["parity"]["ran"] == "the legalized graph in ONNX Runtime"
    assert bundle.report["parity"]["cases"][0]["agreement"] == 1.0
