"""Write what measure.py takes to a machine with a GPU; run it where segc and mmsegmentation are.

    python benchmarks/gpu/prepare.py FOLDER [SOURCE …] [--size HxW] [--precisions fp32 fp16]

SOURCE: families of segc.support_matrix.families, mmseg configs or Python files; default: fcn, pspnet, segformer. For
each a folder:

    model.pt2             the unmodified PyTorch model, as torch.export saves it: torch alone runs it
    plain.onnx            the exporter's own result, no pass
    segc-PRECISION.onnx   legalized for TensorRT, logits
    planes-PRECISION.onnx, argmax-PRECISION.onnx   the same with a mask at the end, compared by planes or by ArgMax
    input.npy             the photograph as the model wants it, float32 (1, 3, H, W)

The seeded weights are those segc compiles. Nothing here needs a GPU or TensorRT.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import segc
from segc.cli import arguments
from segc.frontend.source import open_source
from segc.parity import sample_inputs
from segc.support_matrix.families import FAMILIES

DEFAULT = ("fcn", "pspnet", "segformer")
VARIANTS = {"segc": ("logits", "auto"), "planes": ("mask", "planes"), "argmax": ("mask", "plain")}


def prepare(source: str, folder: Path, size: tuple[int, int] | None, precisions: list[str]) -> None:
    """Write one model's files."""
    name = FAMILIES.get(source, source)
    opened = open_source(name, mode="whole")
    info, module = opened.info, opened.module
    assert module is not None, f"{source} is no PyTorch model"
    shape = (1, info.in_channels, *(size or info.shape))
    folder.mkdir(parents=True, exist_ok=True)
    x = list(sample_inputs.inputs(shape, info.mean, info.std, info.channel_order))[-1][1]
    np.save(folder / "input.npy", x)
    example = (torch.from_numpy(x),)
    with torch.no_grad():
        torch.export.save(torch.export.export(module.eval(), example), folder / "model.pt2")
        program = torch.onnx.export(module, example, dynamo=True, opset_version=20, verbose=False, external_data=False)
    assert program is not None
    (folder / "plain.onnx").write_bytes(program.model_proto.SerializeToString())
    for precision in precisions:
        for variant, (output, argmax) in VARIANTS.items():
            with tempfile.TemporaryDirectory() as made:
                segc.compile(
                    name, target="tensorrt", shape=shape[2:], mode="whole", precision=precision, output=output,
                    options={"defer": "yes", "argmax": argmax}, verify=False, out=Path(made) / "bundle",
                )  # fmt: skip
                (folder / f"{variant}-{precision}.onnx").write_bytes((Path(made) / "bundle/model.onnx").read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("sources", nargs="*", metavar="SOURCE")
    parser.add_argument("--size", metavar="HxW")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16"], choices=["fp32", "fp16"])
    args = parser.parse_args()
    size = arguments.shape(args.size) if args.size else None
    for source in args.sources or DEFAULT:
        prepare(source, args.folder / Path(source).stem, size, args.precisions)
        print(f"{source}: {args.folder / Path(source).stem}", flush=True)


if __name__ == "__main__":
    main()
