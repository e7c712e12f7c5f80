"""A request as a command line: typed again, it is the same request."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from segc.cli import compile_options, parser
from segc.compilation import command_line
from segc.compilation.command_line import naming_bisect
from segc.compilation.request import Request
from segc.errors import Code, CompileError, ParityError, ShapeError
from segc.frontend.given import Given
from segc.hybrid.options import Partitioning
from segc.targets.protocol import ShapeRange

REQUESTS: list[dict[str, Any]] = [
    {},
    {"target": "tensorrt", "options": {"flavor": "rtx", "defer": "yes", "winograd": "off"}},
    {"shape": (64, 128), "checkpoint": "my weights.pth", "allow_mismatch": True, "precision": "fp16"},
    {"dynamic": True, "trace_shape": (32, 48), "shape_range": ShapeRange((1, 2), (3, 4), (5, 6)), "threads": 2},
    {"output": "mask", "decode": "host", "mode": "whole", "input": "uint8", "simplify": True, "hybrid": False},
    {"max_error": 0.01, "min_agreement": 0.9, "partitioning": Partitioning(3), "channels": 4, "freeze_random": 7},
    {"skip_transforms": ("A", "B"), "memory_limit": 2.0, "time_limit": 60.0, "calibration": "images"},
    {"precision": "int8", "calibration_labels": "labels", "max_drop": 0.5, "state": "file"},
    {"given": Given(mean=(-1.0, 2.5), std=(0.25,), channel_order="BGR", scale=1 / 255, threshold=0.4)},
    {"given": Given(output_name="o", output_values="classes", dequantize=True, trust_remote_code=True)},
]


@pytest.mark.parametrize("fields", REQUESTS)
def test_what_is_typed_is_the_request(fields: dict[str, Any]) -> None:
    request = Request("a source.py", **fields)
    words = shlex.split(command_line.bisect(request))
    assert words[:3] == ["segc", "bisect", "a source.py"]
    assert compile_options.request(parser().parse_args(words[1:])) == request


def test_the_requests_of_these_tests_use_every_field() -> None:
    used = {name for fields in REQUESTS for name in fields} | {"source"}
    assert used == set(vars(Request("a"))) - set(command_line.LEFT_OUT)


@pytest.mark.parametrize(
    "error", [ParityError("far off", code=Code.PARITY_GATE), CompileError("x", code=Code.ENGINE_RUN)]
)
def test_errors_of_numbers_and_engines_name_the_command(error: CompileError | ParityError) -> None:
    with pytest.raises(type(error)) as raised, naming_bisect(Request("m.onnx", target="ncnn", shape=(8, 8))):
        raise error
    assert raised.value.details["so"][0].startswith("segc bisect m.onnx --target ncnn --shape 8x8 finds")


def test_other_errors_do_not() -> None:
    with pytest.raises(ShapeError) as raised, naming_bisect(Request("m.onnx")):
        raise ShapeError("no", code=Code.FIXED_SHAPE, so="another size")
    assert raised.value.details["so"] == ["another size"]
