"""What the output of an ONNX file is: the bundle's masks are those that the file's own output means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import segc
from segc.errors import SourceError
from segc.parity.metrics import mask_of
from tests.helpers.calls import refused
from tests.helpers.calls import segc as command
from tests.helpers.foreign_models import run
from tests.helpers.tiny_models import onnx_file

X = "float[1,3,8,12] x"
W = "<float[4,3,1,1] w = {1, -2, 3, -4, 5, -6, 2, 2, -5, 0.5, -1, 1}, float[1,3,1,1] v = {0.7, -0.9, 0.4}>"
Mask = Callable[[np.ndarray], np.ndarray]


def most(y: np.ndarray) -> np.ndarray:
    return y.argmax(1)


def over(level: float) -> Mask:
    return lambda y: (y.reshape(1, 8, 12) > level).astype(np.int64)


def as_given(y: np.ndarray) -> np.ndarray:
    return y.reshape(1, 8, 12).astype(np.int64)


ONE = "z = Conv(x, v)"
FOUR = "z = Conv(x, w)"
HALF = "h = Constant<value_float = 0.5>()"
# output type, nodes, what the file's own output means, what the note says
FORMS: dict[str, tuple[str, str, Mask, str]] = {
    "logits": ("float[1,4,8,12]", f"{FOUR} y = Identity(z)", most, ""),
    "sigmoid": ("float[1,1,8,12]", f"{ONE} y = Sigmoid(z)", over(0.5), "by a Sigmoid"),
    "sigmoid, no channel axis": (
        "float[1,8,12]", f"{ONE} s = Sigmoid(z) a = Constant<value_ints = [1]>() y = Squeeze(s, a)", over(0.5),
        "by a Sigmoid",
    ),
    "sigmoid, height and width alone": (
        "float[8,12]", f"{ONE} s = Sigmoid(z) a = Constant<value_ints = [0, 1]>() y = Squeeze(s, a)", over(0.5),
        "by a Sigmoid",
    ),
    "sigmoid as a picture": (
        "uint8[1,1,8,12]", f"{ONE} s = Sigmoid(z) b = Constant<value_float = 255.0>() p = Mul(s, b) r = Round(p)"
        " y = Cast<to = 2>(r)", over(127), "by a Sigmoid",
    ),
    "four sigmoids": ("float[1,4,8,12]", f"{FOUR} y = Sigmoid(z)", most, "by a Sigmoid"),
    "softmax": ("float[1,4,8,12]", f"{FOUR} y = Softmax<axis = 1>(z)", most, "by a Softmax"),
    "softmax, channels last": (
        "float[1,8,12,4]", f"{FOUR} t = Transpose<perm = [0, 2, 3, 1]>(z) y = Softmax<axis = 3>(t)",
        lambda y: y.argmax(3), "by a Softmax",
    ),
    "channels last": (
        "float[1,8,12,4]", f"{FOUR} y = Transpose<perm = [0, 2, 3, 1]>(z)", lambda y: y.argmax(3), "channels last",
    ),
    "channels first, no batch": (
        "float[4,8,12]", f"{FOUR} a = Constant<value_ints = [0]>() y = Squeeze(z, a)", lambda y: y[None].argmax(1), "",
    ),
    "channels last, no batch": (
        "float[8,12,4]", f"{FOUR} t = Transpose<perm = [0, 2, 3, 1]>(z) a = Constant<value_ints = [0]>()"
        " y = Squeeze(t, a)", lambda y: y[None].argmax(3), "",
    ),
    "class map": ("int64[1,1,8,12]", f"{FOUR} y = ArgMax<axis = 1>(z)", as_given, "by an ArgMax"),
    "class map, rank 3": ("int64[1,8,12]", f"{FOUR} y = ArgMax<axis = 1, keepdims = 0>(z)", as_given, "by an ArgMax"),
    "class map, bytes": (
        "uint8[1,8,12]", f"{FOUR} s = Softmax<axis = 1>(z) a = ArgMax<axis = 1, keepdims = 0>(s)  y = Cast<to = 2>(a)",
        as_given, "by an ArgMax",
    ),
    "class map in floats": (
        "float[1,1,8,12]", f"{FOUR} a = ArgMax<axis = -3>(z) y = Cast<to = 1>(a)", as_given, "by an ArgMax",
    ),
    "class map of channels last": (
        "int64[1,8,12]", f"{FOUR} t = Transpose<perm = [0, 2, 3, 1]>(z) y = ArgMax<axis = 3, keepdims = 0>(t)",
        as_given, "by an ArgMax",
    ),
    "class map of the last maximum": (
        "int64[1,1,8,12]", f"{FOUR} y = ArgMax<axis = 1, select_last_index = 1>(z)", as_given, "taken back",
    ),
    "class map, resized": (
        "float[1,1,8,12]", f"{FOUR} a = ArgMax<axis = 1>(z) f = Cast<to = 1>(a)"
        " s = Constant<value_floats = [1.0, 1.0, 1.0, 1.0]>() y = Resize<mode = \"nearest\">(f, , s)", as_given,
        "taken back",
    ),
    "foreground": (
        "bool[1,1,8,12]", f"{ONE} {HALF} s = Sigmoid(z) y = Greater(s, h)", as_given, "by a comparison",
    ),
    "foreground from 0.3 on, as bytes": (
        "uint8[1,8,12]", f"{ONE} l = Constant<value_float = 0.3>() s = Sigmoid(z) g = GreaterOrEqual(s, l)"
        " a = Constant<value_ints = [1]>() q = Squeeze(g, a) y = Cast<to = 2>(q)", as_given, "by a comparison",
    ),
    "foreground of logits": (
        "float[1,1,8,12]", f"{ONE} l = Constant<value_float = 1.5>() g = Less(l, z) o = Constant<value_float = 1.0>()"
        " n = Constant<value_float = 0.0>() y = Where(g, o, n)", as_given, "by a comparison",
    ),
    "background": ("bool[1,1,8,12]", f"{ONE} {HALF} s = Sigmoid(z) y = Less(s, h)", as_given, "taken back"),
    "probability, resized": (
        "float[1,1,8,12]", f"{ONE} s = Sigmoid(z) f = Constant<value_floats = [1.0, 1.0, 1.0, 1.0]>()"
        " y = Resize<mode = \"linear\">(s, , f)", over(0.5), "less 0.5",
    ),
    "probability of two": (
        "float[1,1,8,12]", f"{FOUR} s = Softmax<axis = 1>(z) i = Constant<value_ints = [2]>()"
        " y = Gather<axis = 1>(s, i)", over(0.5), "less 0.5",
    ),
    "clipped": (
        "float[1,1,8,12]", f"{ONE} l = Constant<value_float = 0.0>() o = Constant<value_float = 1.0>()"
        " y = Clip(z, l, o)", over(0.5), "less 0.5",
    ),
}  # fmt: skip


def compiled(folder: Path, path: Path, **options: object) -> tuple[segc.Bundle, segc.Engine]:
    bundle = segc.compile(path, out=folder / "b", **options)  # type: ignore[arg-type]
    return bundle, segc.load(bundle.path)


def of_engine(engine: segc.Engine, x: np.ndarray) -> np.ndarray:
    """The mask of the engine's logits, as `segment` decides."""
    return mask_of(engine.run(x)["logits"], engine.manifest.output.threshold)


@pytest.mark.parametrize("kind, nodes, meaning, said", FORMS.values(), ids=FORMS.keys())
def test_the_bundle_means_what_the_file_means(
    tmp_path: Path, kind: str, nodes: str, meaning: Mask, said: str
) -> None:  # fmt: skip
    path = onnx_file(tmp_path, f"g ({X}) => ({kind} y) {W} {{ {nodes} }}")
    bundle, engine = compiled(tmp_path, path)
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 12)).astype(np.float32)
    np.testing.assert_array_equal(of_engine(engine, x), meaning(run(path, x=x)["y"]))
    notes = [note for note in bundle.report["notes"] if "output 'y'" in note]
    assert (said in notes[0]) if said else not notes


def test_a_softmax_of_an_old_opset_is_left_out_too(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, f"g ({X}) => (float[1,4,8,12] y) {W} {{ {FOUR} y = Softmax(z) }}", opset=11)
    bundle, engine = compiled(tmp_path, path)
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 12)).astype(np.float32)
    np.testing.assert_array_equal(of_engine(engine, x), run(path, x=x)["y"].argmax(1))
    assert any("by a Softmax" in note for note in bundle.report["notes"])


def test_of_several_outputs_the_named_one_of_the_images_size_is_taken(tmp_path: Path) -> None:
    text = f"""g ({X}) => (float[1,3,8,12] feat, float[1,4,8,12] aux_pred, float[1,4,8,12] u, float[1,1,8,12] pred)
        {W} {{ feat = Relu(x) aux_pred = Conv(x, w) u = Neg(aux_pred) pred = Conv(x, v) }}"""
    bundle, engine = compiled(tmp_path, onnx_file(tmp_path, text))
    assert engine.manifest.output.channels == 1 and bundle.report["ops"]["before"] == {"Conv": 1}
    assert any("'pred' is taken, without feat, aux_pred, u" in note for note in bundle.report["notes"])


def test_an_input_that_only_a_side_output_needs_goes_with_it(tmp_path: Path) -> None:
    text = f"""g ({X}, float[1] k) => (float[1,4,8,12] out, float[1,4,8,12] side)
        {W} {{ out = Conv(x, w) side = Mul(out, k) }}"""
    _, engine = compiled(tmp_path, onnx_file(tmp_path, text))
    assert engine.manifest.output.channels == 4


REFUSED = {
    "no map": ("(float[1,4] y, float[4] u)", "a = Conv(x, w) b = GlobalAveragePool(a) y = Flatten(b)"
               " s = Constant<value_ints = [4]>() u = Reshape(y, s)", "none is a map"),
    "classes without a number": ("(int64[1,1,8,12] y)", "a = Conv(x, v) y = Cast<to = 7>(a)", "--classes FILE"),
    "several foregrounds": ("(bool[1,4,8,12] y)", "a = Conv(x, w) h = Constant<value_float = 0.5>() y = Greater(a, h)",
                            "integers of shape (1, 4, 8, 12)"),
    "rank 5": ("(float[1,4,8,12,1] y)", "a = Conv(x, w) i = Constant<value_ints = [4]>() y = Unsqueeze(a, i)",
               "(1, 4, 8, 12, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("outputs, nodes, said", REFUSED.values(), ids=REFUSED.keys())
def test_an_output_that_is_no_map_is_refused(tmp_path: Path, outputs: str, nodes: str, said: str) -> None:
    path = onnx_file(tmp_path, f"g ({X}) => {outputs} {W} {{ {nodes} }}")
    refused(command("compile", path, "-o", tmp_path / "b"), SourceError.exit_code, said)


# --- inputs -----------------------------------------------------------------------------------------------------------

INPUTS = {
    "bytes": ("uint8[1,3,8,12] x", "f = Cast<to = 1>(x) y = Conv(f, w)", "holds uint8"),
    "bytes, channels last": (
        "uint8[1,8,12,3] x", "t = Transpose<perm = [0, 3, 1, 2]>(x) f = Cast<to = 1>(t) y = Conv(f, w)", "holds uint8",
    ),
    "channels last": ("float[1,8,12,3] x", "t = Transpose<perm = [0, 3, 1, 2]>(x) y = Conv(t, w)", "channels last"),
    "channels last, flipped first": (
        "float[1,8,12,3] x", "i = Constant<value_ints = [2, 1, 0]>() r = Gather<axis = 3>(x, i)"
        " t = Transpose<perm = [0, 3, 1, 2]>(r) y = Conv(t, w)", "channels last",
    ),
    "integers that are used as such": (
        "uint8[1,3,8,12] x", "o = Constant<value = uint8 {7}>() m = Max(x, o) f = Cast<to = 1>(m) y = Conv(f, w)",
        "holds uint8",
    ),
    "int32": ("int32[1,3,8,12] x", "f = Cast<to = 1>(x) y = Conv(f, w)", "holds int32"),
    "double": ("double[1,3,8,12] x", "f = Cast<to = 1>(x) y = Conv(f, w)", "holds double"),
}  # fmt: skip


@pytest.mark.parametrize("given, nodes, said", INPUTS.values(), ids=INPUTS.keys())
def test_images_of_other_types_and_orders(tmp_path: Path, given: str, nodes: str, said: str) -> None:
    path = onnx_file(tmp_path, f"g ({given}) => (float[1,4,8,12] y) {W} {{ {nodes} }}")
    bundle, engine = compiled(tmp_path, path)
    x = np.random.default_rng(1).integers(0, 256, (1, 3, 8, 12)).astype(np.float32)
    kind = {"u": np.uint8, "f": np.float32, "i": np.int32, "d": np.float64}[given[0]]
    fed = (x.transpose(0, 2, 3, 1) if "8,12,3" in given else x).astype(kind)
    np.testing.assert_allclose(engine.run(x)["logits"], run(path, x=fed)["y"], rtol=1e-5, atol=1e-3)
    assert any(said in note for note in bundle.report["notes"])


def test_initializers_that_are_inputs_too_are_no_further_inputs(tmp_path: Path) -> None:
    model = onnx.load(onnx_file(tmp_path, f"g ({X}) => (float[1,4,8,12] y) {W} {{ y = Conv(x, w) }}", opset=17))
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.ir_version = 3
    onnx.save(model, tmp_path / "old.onnx")
    _, engine = compiled(tmp_path, tmp_path / "old.onnx")
    assert engine.manifest.input.name == "x"


@pytest.mark.parametrize("last", [False, True])
def test_channels_that_the_file_leaves_open_are_those_of_its_first_convolution(tmp_path: Path, last: bool) -> None:
    turned = "t = Transpose<perm = [0, 3, 1, 2]>(x)" if last else "t = Identity(x)"
    text = f"g (float[a,b,c,d] x) => (float[e,f,g,h] y) {W} {{ {turned} z = Conv(t, w) y = Softmax<axis = 1>(z) }}"
    for options in ({"dynamic": True}, {"shape": (8, 12)}):
        bundle, engine = compiled(tmp_path, onnx_file(tmp_path, text), force=True, **options)
        assert bundle.manifest.input.shape[1] == 3
        assert engine.run(np.ones((1, 3, 8, 12), np.float32))["logits"].shape == (1, 4, 8, 12)


@pytest.mark.parametrize("nodes", ["y = Transpose<perm = [0, 2, 3, 1]>(z)", "y = ArgMax<axis = 1, keepdims = 0>(z)"])
def test_forms_are_found_where_sizes_are_open(tmp_path: Path, nodes: str) -> None:
    kind = "float[N,H,W,4]" if "Transpose" in nodes else "int64[N,H,W]"
    text = f"g (float[N,3,H,W] x) => ({kind} y) {W} {{ z = Conv(x, w) {nodes} }}"
    _, engine = compiled(tmp_path, onnx_file(tmp_path, text), dynamic=True)
    assert engine.run(np.ones((1, 3, 9, 13), np.float32))["logits"].shape == (1, 4, 9, 13)
