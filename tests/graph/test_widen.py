"""Widening float16 and bfloat16: every place that names a type, and values that stay what they are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from segc.graph.widen import widen
from segc.runtime.ort import outputs_of


def model(text: str, opset: int = 20) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')


def types(held: onnx.ModelProto) -> set[int]:
    inferred = onnx.shape_inference.infer_shapes(held, strict_mode=True)
    infos = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {info.type.tensor_type.elem_type for info in infos}


def test_weights_keep_their_values() -> None:
    values = np.array([1 / 3, 65504, 6e-8, -0.0, np.inf, 1e-3], np.float32)
    for kind, dtype in ((TensorProto.FLOAT16, np.float16), (TensorProto.BFLOAT16, ml_dtypes.bfloat16)):
        held = model("g (float[6] x) => (float[6] y) { y = Relu(x) }")
        narrow = values.astype(dtype)
        held.graph.initializer.append(helper.make_tensor("w", kind, [6], narrow.tobytes(), raw=True))
        widen(held)
        (wide,) = held.graph.initializer
        assert (wide.name, wide.data_type) == ("w", TensorProto.FLOAT)
        np.testing.assert_array_equal(numpy_helper.to_array(wide), narrow.astype(np.float32))


def test_casts_constants_made_tensors_and_subgraphs_become_wide() -> None:
    held = model("""g (float16[2,2] x, bool c) => (float16[2,2] y) {
        k = Constant<value = float16[2,2] {15360, 16384, 16896, 17408}>()
        e = EyeLike<dtype = 10>(x)
        s = Shape(x)
        f = ConstantOfShape<value = float16[1] {14336}>(s)
        i = Cast<to = 6>(x)
        h = Cast<to = 10>(i)
        b = If (c) <then_branch = t () => (float16[2,2] p) { p = Add(h, k) },
                    else_branch = u () => (float16[2,2] q) { q = Mul(h, f) }>
        y = Add(b, e) }""")
    assert widen(held) == ["float16"]
    onnx.checker.check_model(held, full_check=True)
    assert TensorProto.FLOAT16 not in types(held)
    x = np.array([[2049, -3], [0.5, 7]], np.float32)
    y = outputs_of(held.SerializeToString(), {"x": x, "c": np.array(True)})["y"]
    np.testing.assert_array_equal(y, [[2051, -1], [3, 12]])


def test_functions_of_the_file_become_wide() -> None:
    held = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>
        g (float[2] x) => (float[2] y) { y = mine.Half(x) }
        <domain: "mine", opset_import: ["" : 20]> Half (x) => (y) { h = Cast<to = 10>(x) y = Cast<to = 1>(h) }""")
    assert widen(held) == ["float16"]
    x = np.array([1 / 3, 1e6], np.float32)
    np.testing.assert_array_equal(outputs_of(held.SerializeToString(), {"x": x})["y"], x)


def test_a_float32_model_stays_as_it_is() -> None:
    held = model("g (float[2] x) => (int64[2] y) { y = Cast<to = 7>(x) }")
    before = held.SerializeToString()
    assert widen(held) == [] and held.SerializeToString() == before
