"""The net, its layer checks and its files: what ncnn accepts and computes wrongly is refused here."""

from __future__ import annotations

import ast
import re
import struct
import traceback
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("ncnn")

from segc.errors import CompileError
from segc.graph import ir
from segc.targets.ncnn.files.fp16_weights import smallest_agreeing
from segc.targets.ncnn.files.read_back import read_back, read_param
from segc.targets.ncnn.files.write import write_bin, write_param
from segc.targets.ncnn.lower.lower_graph import lower_graph, verify
from segc.targets.ncnn.net import layer_checks, layer_checks_maps
from segc.targets.ncnn.net.layer_checks import LAYER_CHECKS, check
from segc.targets.ncnn.net.net import Blob, Layer, Net, Refused, Weight
from segc.targets.ncnn.net.params import PARAMS
from segc.targets.ncnn.net.splits import insert_splits
from segc.targets.ncnn.target import NCNN
from segc.targets.protocol import Settings

BRANCHES = """<ir_version: 9, opset_import: ["" : 20]> g (float[1,2,4,4] x) => (float[1,2,4,4] y)
    <float[2,2,1,1] w = {1, -2, 3, 0.5}, float[2] b = {0.25, -1}>
    { a = Conv(x, w, b)  c = Relu(a)  d = Sigmoid(c)  e = Mul(c, d)  y = Add(e, x) }"""
X = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)


def net_of(text: str = BRANCHES) -> Net:
    return built(onnx.parser.parse_model(text))


def built(model: onnx.ModelProto) -> Net:
    graph = ir.from_model(model)
    if graph.outputs[0].shape == []:  # the text leaves it open
        graph.outputs[0].shape = None
    ir.infer_shapes(graph)
    return lower_graph(graph)


def files(folder: Path, text: str = BRANCHES, precision: str = "fp32") -> dict[str, object]:
    return dict(NCNN.emit(onnx.parser.parse_model(text), folder, Settings(precision)).options)


def test_every_layer_type_has_parameters_a_check_and_a_class_in_ncnn() -> None:
    import ncnn

    assert PARAMS.keys() == LAYER_CHECKS.keys()
    assert [type_ for type_ in PARAMS if ncnn.create_layer(type_) is None] == []


def test_a_blob_that_two_layers_read_is_split_and_outsiders_find_their_names() -> None:
    net = net_of()
    kinds = [layer.type for layer in net.layers]
    assert kinds == ["Input", "Split", "Convolution", "Split", "Sigmoid", "BinaryOp", "BinaryOp"]
    assert net.layers[0].outputs[0].name == "x" and net.outputs[0].name == "y"
    assert max(len(users) for users in net.readers().values()) == 1


def test_a_net_without_its_splits_is_refused() -> None:
    net = net_of()
    split = next(layer for layer in net.layers if layer.type == "Split")
    for each in net.layers:
        each.inputs = [split.inputs[0] if blob in split.outputs else blob for blob in each.inputs]
    net.layers.remove(split)
    with pytest.raises(CompileError, match="fails its check") as error:
        verify(net)
    assert "which another layer reads without a Split" in str(error.value)


def layer(type_: str, *shapes: tuple[int, ...], weights: tuple[int, ...] = (), **params: object) -> Layer:
    inputs = [Blob(f"x{i}", shape) for i, shape in enumerate(shapes)]
    made = [Weight(np.zeros(count, np.float32)) for count in weights]
    return Layer(type_, "layer", inputs, [Blob("y", (1,))], params, made)  # type: ignore[arg-type]


CONV = {"num_output": 2, "weight_data_size": 18, "kernel_h": 3, "kernel_w": 1}
BROKEN = [
    (layer("Nope", (2,)), "no ncnn layer Nope"),
    (layer("ReLU", (2,), slop=0.1), "no parameter slop"),
    (layer("ReLU", (1, 1, 1, 1, 1)), "has 5 axes"),
    (layer("ReLU", (0, 3)), "is empty"),
    (layer("ReLU", (2**16, 2**16)), "ncnn's limit is"),
    (layer("ReLU", (2,), (2,)), "takes 1 inputs, not 2"),
    (layer("BinaryOp", (2, 3), (3,), op_type=0), "the ranks differ"),
    (layer("BinaryOp", (2, 3), (2, 2), op_type=0), "do not broadcast"),
    (layer("Convolution", (3, 4, 4), weights=(18,), **CONV), "18 weights, not 18"),
    (layer("Convolution", (4, 4), weights=(18,), **CONV), "takes 3 axes"),
    (layer("Convolution", (3, 2, 4, 4), weights=(18,), **CONV), "takes 3 axes, not 3x2x4x4"),
    (layer("Convolution", (3, 4, 4), weights=(17,), **CONV), "reads weights of [18] elements, not [17]"),
    (layer("ConvolutionDepthWise", (3, 4, 4), weights=(18,), group=2, **CONV), "in 2 groups"),
    (layer("Pooling", (3, 4, 4), kernel_w=2, kernel_h=2, pad_mode=2), "pad modes 0 and 1 only"),
    (layer("Pooling", (3, 4, 4), kernel_w=2, kernel_h=2, pooling_type=1), "divides averages by other window sizes"),
    (layer("Pooling", (3, 4, 4), kernel_w=2, kernel_h=2, stride_w=2, pad_right=1), "begin in its padding"),
    (layer("Pooling", (3, 4, 4), kernel_w=2, kernel_h=2, pad_mode=1, pad_top=2), "pads 2 for a kernel of 2"),
    (layer("Scale", (3, 4), weights=(4,), scale_data_size=4), "Scale of 4 on 3x4"),
    (layer("BatchNorm", (3, 4), weights=(4, 4, 4, 4), channels=4), "BatchNorm of 4 channels"),
    (layer("LayerNorm", (2, 3, 4), weights=(4, 4), affine_size=4), "is not rows of that size"),
    (layer("Softmax", (3, 4), axis=-1, fixbug0=1), "axis -1"),
    (layer("Softmax", (3, 4), axis=1), "as old versions of ncnn did"),
    (layer("Reduction", (3, 4), axes=[2], fixbug0=1), "over axes [2]"),
    (layer("Reduction", (3, 4), axes=[0]), "refuses a Reduction without fixbug0"),
    (layer("Concat", (3, 4), (3, 5), axis=0), "Concat of 3x5 to 3x4"),
    (layer("Slice", (4, 4), slices=[1, 2], axis=0), "Slice of 4 into [1, 2]"),
    (layer("Slice", (4, 4), slices=[0, 4], axis=0), "a part is empty"),
    (layer("Crop", (4, 4), starts=[1], ends=[5], axes=[0]), "Crop 1:5"),
    (layer("Padding", (4, 4), top=-1), "cannot crop"),
    (layer("Padding", (4, 4), left=4, type=2), "reflecting"),
    (layer("Permute", (4, 4), order_type=2), "Permute 2"),
    (layer("Reshape", (4, 4), w=5, h=3), "Reshape of 4x4 to 3x5"),
    (layer("Tile", (4, 4), repeats=[2]), "Tile of 4x4"),
    (layer("MatMul", (2, 3), (2, 3)), "3 columns meet 2 rows"),
    (layer("Gemm", (2, 3, 4), weights=(8,), trans_b=1, constant_b=1, constant_n=2, constant_k=4), "is not rows of 4"),
    (layer("SDPA", (2, 3, 4), (2, 5, 4), (2, 6, 4)), "SDPA of"),
    (layer("Interp", (3, 4, 4), output_height=0, output_width=4), "Interp to"),
    (layer("GridSample", (3, 4, 4), (4, 4, 3)), "GridSample at"),
    (layer("PixelShuffle", (3, 4, 4), upscale_factor=2), "PixelShuffle by 2"),
    (layer("Reorg", (3, 5, 4), stride=2), "Reorg by 2"),
    (layer("PReLU", (3, 4, 4), weights=(2,), num_slope=2), "PReLU of 2 slopes"),
    (layer("MemoryData"), "without a size"),
    (layer("InnerProduct", (2, 4), weights=(8,), num_output=2, weight_data_size=8), "is not one row"),
    (layer("InnerProduct", (4,), weights=(6,), num_output=2, weight_data_size=6), "has 6 weights, not 2 x 4"),
    (layer("PReLU", (2, 3, 4, 4), weights=(2,), num_slope=2), "up to 3 axes"),
    (layer("GroupNorm", (4, 8), weights=(4, 4), channels=4, group=2), "takes 3 axes, not 4x8"),
    (layer("InstanceNorm", (4, 8, 8), weights=(3, 3), channels=3), "InstanceNorm of 3 channels on 4x8x8"),
    (layer("GroupNorm", (4, 8, 8), weights=(4, 4), channels=4, group=3), "do not form 3 groups"),
    (layer("Concat", axis=0), "Concat of nothing"),
    (layer("Crop", (4, 4), starts=[1], ends=[2], axes=[2]), "Crop along axis 2 of 4x4"),
    (layer("Padding", (4, 4), front=1), "of 4x4"),
    (layer("Reshape", (4, 4), w=0, h=3), "Reshape to (3, 0)"),
    (layer("Flip", (4, 4), axes=[2]), "Flip [2] of 4x4"),
    (layer("MatMul", (2, 3), (2, 3, 4)), "the ranks differ"),
    (layer("Gemm", (2, 4), weights=(8,), constant_b=0, constant_n=2, constant_k=4), "a constant, transposed B"),
    (layer("SDPA", (2, 3, 4), (3, 4), (2, 3, 4)), "it takes 3 axes each"),
    (layer("SDPA", (3, 3, 4), (2, 5, 4), (2, 5, 4)), "SDPA of 3x3x4"),
    (layer("DetectionOutput", (8,), (2, 3), (2, 4), keep_top_k=1, nms_top_k=1), "DetectionOutput of 8, 2x3, 2x4"),
    (layer("DetectionOutput", (8,), (1, 2), (2, 4), keep_top_k=1, nms_top_k=1), "DetectionOutput of 8, 1x2, 2x4"),
    (layer("DetectionOutput", (8,), (2, 2), (2, 4), keep_top_k=3, nms_top_k=3), "keeps 3 of 2"),
    (layer("Convolution", (None, 4, 4), weights=(18,), **CONV), "unknown number of channels"),  # type: ignore[arg-type]
    (layer("Convolution", (2, 4, 4), (2, 2, 3, 3), dynamic_weight=1, **CONV), "weights 2x2x3x3, not 2x2x3x1"),
    (layer("Convolution", (2, 4, 4), weights=(12,), **CONV), "18 weights, not 12"),
    (layer("Convolution", (3, 4, 4), weights=(18,), **CONV, stride_h=0), "kernel 3 and stride 0"),
    (layer("Convolution", (3, 4, 4), weights=(18,), **CONV, pad_right=-1), "with negative pads"),
    (layer("Deconvolution", (None, 4, 4), weights=(18,), **CONV), "unknown number of channels"),  # type: ignore[arg-type]
    (layer("DeconvolutionDepthWise", (3, 4, 4), weights=(18,), group=2, **CONV), "in 2 groups"),
    (layer("Deconvolution", (2, 4, 4), weights=(12,), **CONV), "18 weights, not 12"),
    (layer("Convolution", (3, 4, 4), weights=(18, 2, 1), **CONV, int8_scale_term=1), "int8_scale_term 1"),
    (layer("Convolution", (3, 4, 4), weights=(18, 2, 1), **CONV, int8_scale_term=2), "weights of another type"),
    (layer("Pooling", (3, 4, 4), adaptive_pooling=1, out_h=2), "adaptive Pooling to [2, 0]"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "reason"), BROKEN, ids=[f"{b.type}-{i}" for i, (b, _) in enumerate(BROKEN)])
def test_a_layer_that_fails_its_check_is_refused(broken: Layer, reason: str) -> None:
    if reason == "18 weights, not 18":  # 2 x 3 x 3 x 1 is right
        assert check(broken) == [(2, 2, 4)]
        return
    with pytest.raises(Refused, match=re.escape(reason)):
        check(broken)


Demand = tuple[str, int, int]  # module, first and last line


def demands() -> dict[Demand, str]:
    """Where the layer checks refuse, and in which words."""
    found: dict[Demand, str] = {}
    for module in (layer_checks, layer_checks_maps):
        assert module.__file__ is not None
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("require", "Refused"):
                assert node.end_lineno is not None
                found[module.__name__, node.lineno, node.end_lineno] = ast.unparse(node)
    return found


def test_every_refusal_of_every_layer_check_is_reached() -> None:
    unbroken = demands()
    assert len(unbroken) > 60
    for broken, _ in BROKEN:
        try:
            check(broken)
        except Refused as refused:
            for frame, line in traceback.walk_tb(refused.__traceback__):
                module = frame.f_globals["__name__"]
                for name, first, last in [key for key in unbroken if key[0] == module and key[1] <= line <= key[2]]:
                    del unbroken[name, first, last]
    assert unbroken == {}


def test_weights_are_consumed_to_the_last_byte(tmp_path: Path) -> None:
    net = net_of()
    param, binary = tmp_path / "model.param", tmp_path / "model.bin"
    write_param(net, param)
    write_bin(net, binary)
    assert binary.read_bytes()[:4] == struct.pack("<I", 0) and binary.stat().st_size == 4 + 4 * 4 + 4 * 2
    read_back(net, param, binary)
    content = binary.read_bytes()
    for damage, why in (
        (content + b"\0\0\0\0", "read 28 of 32 bytes"),
        (content[:-4], "read 28 of 24 bytes"),
        (b"\x07" + content[1:], "finds no tag at byte 0"),
        (b"", "finds no tag"),
    ):
        binary.write_bytes(damage)
        with pytest.raises(CompileError) as error:
            read_back(net, param, binary)
        assert why in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("7767517", "7767518", "its header says 7767518"),
        ("Sigmoid", "TanH   ", "differs from the net"),
        ("\n7 9\n", "\n7 8\n", "its header says"),
    ],
)
def test_a_param_file_that_is_not_what_was_meant_is_refused(tmp_path: Path, old: str, new: str, why: str) -> None:
    net = net_of()
    param, binary = tmp_path / "model.param", tmp_path / "model.bin"
    write_param(net, param)
    write_bin(net, binary)
    assert old in param.read_text()
    param.write_text(param.read_text().replace(old, new, 1))
    with pytest.raises(CompileError) as error:
        read_back(net, param, binary)
    assert why in str(error.value)


def test_half_weights_are_tagged_and_half_as_large(tmp_path: Path) -> None:
    net = net_of()
    write_bin(net, tmp_path / "model.bin", fp32_layers=0)
    assert (tmp_path / "model.bin").read_bytes()[:4] == struct.pack("<I", 0x01306B47)
    assert (tmp_path / "model.bin").stat().st_size == 4 + 4 * 2 + 4 * 2
    write_param(net, tmp_path / "model.param")
    read_back(net, tmp_path / "model.param", tmp_path / "model.bin")


@pytest.mark.parametrize(("least", "kept"), [(0, 0), (1, 2), (3, 4), (10, 12), (15, 16), (99, 16)])
def test_as_many_first_layers_keep_float32_as_agreement_asks_for(least: int, kept: int) -> None:
    tried: list[int] = []

    def agrees(count: int) -> bool:
        tried.append(count)
        return count >= least

    assert smallest_agreeing(16, agrees) == kept and tried == [n for n in (0, 2, 4, 8, 12, 16) if n <= kept]


def test_fp16_stores_half_and_computes_nearly_the_same(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "half").mkdir()
    full, half = files(tmp_path / "full"), files(tmp_path / "half", precision="fp16")
    assert half["use_fp16_storage"] and half["use_fp16_arithmetic"] and not half["use_bf16_storage"]
    want = NCNN.load(tmp_path / "full", full, 1).run(X)
    np.testing.assert_allclose(NCNN.load(tmp_path / "half", half, 1).run(X), want, atol=2e-2)


def test_equal_graphs_give_equal_files_that_say_where_layers_come_from(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files(tmp_path / name)
        contents.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1] and contents[0].keys() == {"model.param", "model.bin", "layers.txt"}
    comments = contents[0]["layers.txt"].decode().splitlines()
    assert len(comments) == 1 + len(read_param(tmp_path / "a" / "model.param"))
    assert "Convolution  2x4x4  |  Conv/a" in comments[3]


def test_names_that_ncnn_could_not_read_are_replaced() -> None:
    long = "n" * 400
    model = onnx.parser.parse_model(BRANCHES)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = {"c": "a b\tc", "d": long}.get(name, name)
    net = built(model)
    blobs = [blob.name for each in net.layers for blob in each.outputs]
    assert "a_b_c_whole" in blobs and max(map(len, blobs)) <= 255 and all(" " not in name for name in blobs)
    assert len(set(blobs)) == len(blobs)


def test_an_input_that_is_an_output_too_is_copied() -> None:
    x = Blob("x", (1, 2, 2))
    net = Net([Layer("Input", "x", [], [x])], [x])
    net.layers.append(Layer("ReLU", "y", [x], [Blob("y", (1, 2, 2))]))
    net.outputs.append(net.layers[-1].outputs[0])
    insert_splits(net)
    assert [layer.type for layer in net.layers] == ["Input", "Split", "ReLU"]
    assert net.outputs[0].name == "x_same" and net.layers[0].outputs[0].name == "x"


def test_a_batch_that_is_fixed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="ncnn takes one image at a time"):
        files(tmp_path, BRANCHES.replace("1,2,4,4", "2,2,4,4"))
    assert not any(tmp_path.iterdir())


FUSED = [
    ("a = Conv(x, w, b)  y = Relu(a)", ["Convolution"], {"activation_type": 1}),
    ("a = Conv(x, w, b)  y = LeakyRelu<alpha = 0.5>(a)", ["Convolution"], {"activation_params": [0.5]}),
    ("a = Conv(x, w, b)  y = Clip(a, low, high)", ["Convolution"], {"activation_type": 3}),
    ("a = Conv(x, w, b)  y = HardSwish(a)", ["Convolution"], {"activation_type": 6}),
    ("a = Conv(x, w, b)  c = Relu(a)  y = Mul(a, c)", ["Convolution", "Split", "ReLU", "BinaryOp"], {}),
    ("a = Mul(x, k)  y = Add(a, k)", ["Scale"], {"bias_term": 1}),
    ("a = Add(x, k)  y = Mul(a, k)", ["Scale", "Scale"], {"bias_term": 1}),
    ("a = Reshape(x, s)  c = MatMul(a, m)  y = Add(c, b)", ["Reshape", "Gemm"], {}),
    ("a = Reshape(x, s)  c = MatMul(a, m)  y = Add(c, c)", ["Reshape", "Gemm", "BinaryOp"], {}),
    ("a = GlobalAveragePool(x)  c = Reshape(a, row)  d = Gemm(c, m, b)  y = Relu(d)", ["Pooling", "InnerProduct"], {}),
    ("a = GlobalAveragePool(x)  c = Reshape(a, row)  d = Gemm(c, m, b)  e = Sigmoid(d)  f = Gemm<alpha = 0.5>(e, m)"
     "  y = Reshape(f, maps)", ["Pooling", "InnerProduct", "InnerProduct", "Reshape"], {}),
    ("a = ReduceMax(x, one)  c = Expand(a, t)  y = Sub(x, c)", ["Split", "Reduction", "BinaryOp"], {}),
    ("a = ReduceMax(x, one)  c = Expand(a, t)  y = Mul(a, c)", ["Reduction", "Split", "Tile", "BinaryOp"], {}),
    ("a = ReduceMax(x, one)  c = Expand(a, t)  d = Sub(x, c)  y = Add(c, d)",
     ["Split", "Reduction", "Tile", "Split", "BinaryOp", "BinaryOp"], {}),
    ("a = Pow(x, two)  y = ReduceSum(a, one)", ["Reduction"], {"operation": 2}),
    ("a = Pow(x, two)  y = ReduceMean(a, one)", ["UnaryOp", "Reduction"], {}),
    ("a = Pow(x, two)  c = ReduceSum(a, one)  y = Add(a, c)", ["UnaryOp", "Split", "Reduction", "BinaryOp"], {}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kinds", "params"), FUSED)
def test_what_one_layer_can_do_is_one_layer(body: str, kinds: list[str], params: dict[str, object]) -> None:
    net = net_of(
        f"""<ir_version: 9, opset_import: ["" : 20]> g (float[1,2,4,4] x) => (float y)
        <float[2,2,1,1] w = {{1, -2, 3, 0.5}}, float[2] b = {{0.25, -1}}, float low = {{0}}, float high = {{6}},
         int64[2] s = {{16, 2}}, float[2,1,1] k = {{2, -3}}, float[2,2] m = {{1, 2, 3, 4}},
         int64[1] one = {{1}}, int64[4] t = {{1, 2, 4, 4}}, float two = {{2}},
         int64[2] row = {{1, 2}}, int64[4] maps = {{1, 2, 1, 1}}> {{ {body} }}"""
    )
    assert [each.type for each in net.layers[1:]] == kinds
    assert params.items() <= net.layers[1].params.items()
