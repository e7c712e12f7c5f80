"""The options that `segc compile` shares with commands that compile in order to find a fault."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from segc import ranges
from segc.cli import arguments

if TYPE_CHECKING:
    from segc.compilation.request import Request


def add(p: argparse.ArgumentParser, *, several_targets: bool = False) -> None:
    """Add SOURCE and everything that decides what the engine computes, and how it is judged."""
    arguments.add_source(p)
    several = "; several as A,B,C are traced once" if several_targets else ""
    p.add_argument("--target", default="onnxruntime", metavar="T", help=f"default onnxruntime{several}")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--shape", metavar="HxW", help="fixed input size in pixels (default: the config's crop size)")
    size.add_argument("--dynamic", action="store_true", help="any batch, height and width")
    p.add_argument("--trace-shape", metavar="HxW", help="size to trace a dynamic model at (default: the crop size)")
    p.add_argument(
        "--precision",
        default="fp32",
        metavar="P",
        help="fp32 (default), or fp16, bf16 or int8 if the target offers it; auto: the fastest that keeps the limits",
    )
    p.add_argument(
        "--calibration", metavar="DIR", help="with --precision int8: some dozens of images to calibrate with"
    )
    p.add_argument(
        "--calibration-labels", metavar="DIR",
        help="labels of those images, by name: judge the engine by mIoU on half of them, and report it by class",
    )  # fmt: skip
    p.add_argument(
        "--max-drop", type=arguments.number("--max-drop", ranges.POINTS), metavar="POINTS",
        help="with --calibration-labels: the points of mIoU that may be lost; the bundle is not published otherwise",
    )  # fmt: skip
    p.add_argument(
        "--state", metavar="FILE", help="with --precision int8: remember what was measured, and go on where it stopped"
    )
    arguments.add_options(p)
    p.add_argument(
        "--output", choices=("logits", "mask"),
        help="the engine's output: logits (masks of `segment` then equal mmseg's; default except for mmseg models on"
        " ncnn) or the mask",
    )  # fmt: skip
    p.add_argument(
        "--decode", choices=("graph", "host", "auto"),
        help="where masks are made: in the engine's graph (default), on the host by segc's runtime (default for hf:,"
        " smp: and torchvision: sources), or the faster one",
    )  # fmt: skip
    p.add_argument(
        "--input", choices=("float32", "uint8"), default="float32",
        help="the engine's input: normalized float32 NCHW (default), or uint8 NHWC BGR, normalized in the graph",
    )  # fmt: skip
    p.add_argument("--mode", choices=("whole", "slide"), help="inference mode (default: the config's)")
    arguments.add_limits(p)
    p.add_argument(
        "--simplify", action=argparse.BooleanOptionalAction, default=False,
        help="run onnxsim too, and keep its result if a check of the numbers passes (pip install 'segc[simplify]')",
    )  # fmt: skip
    p.add_argument(
        "--no-hybrid", action="store_true",
        help="refuse a model that the target runs only in part, instead of running the rest in ONNX Runtime",
    )  # fmt: skip
    p.add_argument(
        "--min-segment", type=arguments.number("--min-segment", ranges.COUNT), metavar="N", default=1,
        help="for a hybrid: the smallest number of nodes in a segment of the target (default 1)",
    )  # fmt: skip
    p.add_argument(
        "--freeze-random", type=arguments.number("--freeze-random", ranges.SEED), metavar="SEED",
        help="draw the random numbers that the model asks for at inference once, from SEED, the same for every image",
    )  # fmt: skip
    arguments.add_files(p)
    arguments.add_given(p)
    arguments.add_native_limits(p)
    arguments.add_common(p)


def request(args: argparse.Namespace) -> Request:
    """The request that was typed. What a command does not offer keeps its default."""
    from segc.compilation.request import Request
    from segc.frontend.given import Given
    from segc.hybrid.options import Partitioning

    shape, traced = (arguments.shape(s) if s is not None else None for s in (args.shape, args.trace_shape))
    return Request(
        args.source, target=args.target, shape=shape, dynamic=args.dynamic, trace_shape=traced,
        checkpoint=args.checkpoint, precision=args.precision, output=args.output, decode=args.decode,
        input=args.input, mode=args.mode, max_error=args.max_error, min_agreement=args.min_agreement,
        simplify=args.simplify, allow_mismatch=args.allow_mismatch, threads=args.threads,
        options=arguments.options(args), shape_range=arguments.shape_range(args.shape_range),
        hybrid=not args.no_hybrid, partitioning=Partitioning(min_nodes=args.min_segment),
        memory_limit=args.memory_limit, time_limit=args.time_limit, channels=args.channels,
        skip_transforms=tuple(args.skip_transform), freeze_random=args.freeze_random,
        calibration=args.calibration,
        calibration_labels=args.calibration_labels, max_drop=args.max_drop, state=args.state,
        given=Given.of(**arguments.given(args)),
    )  # fmt: skip
