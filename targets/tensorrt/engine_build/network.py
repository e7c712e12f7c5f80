"""What a model's inputs and outputs must become in the network, and the shapes of its optimization profile."""

from __future__ import annotations

from typing import Any

import onnx

from segc.errors import Code, CompileError
from segc.targets.protocol import ShapeRange

TYPES = {
    onnx.TensorProto.FLOAT: "float",
    onnx.TensorProto.FLOAT16: "half",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.BOOL: "bool",
}
Profile = dict[str, list[int]]


def interface(infos: Any) -> list[dict[str, Any]]:
    """Name, TensorRT's type and shape (-1: open) of each input or output of an ONNX graph."""
    found = []
    for info in infos:
        kind = info.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        found.append({"name": info.name, "dtype": TYPES.get(kind.elem_type, "none"), "shape": shape})
    return found


def profile(image: dict[str, Any], sizes: ShapeRange | None) -> Profile | None:
    """Least, best and greatest shape of the input `image` (N, C, H, W); None for a static one.

    An open batch is one image. Raises CompileError when sides are open and no range is known.
    """
    if -1 not in image["shape"]:
        return None
    if sizes is None:
        raise CompileError(
            "a dynamic TensorRT engine needs a range of sizes",
            code=Code.ENGINE_BUILD,
            because=f"the input's shape is {image['shape']}",
            so="--dynamic --shape-range 256x256:512x1024:1024x2048, or a fixed --shape",
        )
    batch, channels, *sides = image["shape"]
    corners = {"min": sizes.least, "opt": sizes.best, "max": sizes.most}
    return {
        corner: [max(batch, 1), channels, *(kept if kept > 0 else side for kept, side in zip(sides, size, strict=True))]
        for corner, size in corners.items()
    }


def trtexec_shapes(name: str, shapes: Profile | None) -> list[str]:
    """The options of trtexec for a profile."""
    if shapes is None:
        return []
    return [f"--{corner}Shapes={name}:{'x'.join(map(str, shape))}" for corner, shape in shapes.items()]
