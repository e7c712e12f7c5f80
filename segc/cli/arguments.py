"""Argument types and groups that several commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.errors import Code, UsageError
from segc.ranges import Range
from segc.targets.flags import FLAGS

if TYPE_CHECKING:
    from segc.targets.protocol import ShapeRange


def number(option: str, takes: Range) -> Callable[[str], float]:
    """The type of an option that takes these numbers. It raises UsageError for any other text."""
    return lambda text: takes.read(option, text)


def shape(text: str, option: str = "--shape") -> tuple[int, int]:
    """Parse '512x1024' as (height, width). Raises UsageError."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    if match is None:
        raise UsageError(
            f"'{text}' is not a shape",
            code=Code.INVALID_SHAPE,
            because="a shape is HEIGHTxWIDTH in pixels",
            so=f"for example {option} 512x1024",
        )
    height, width = int(match[1]), int(match[2])
    if min(height, width) < 1:
        raise UsageError(
            f"shape {height}x{width} has no pixels", code=Code.INVALID_SHAPE, so="give a height and width of at least 1"
        )
    if max(height, width) > 1 << 15:
        raise UsageError(
            f"shape {height}x{width} is too large", code=Code.INVALID_SHAPE, so="a side has at most 32768 pixels"
        )
    return height, width


def add_source(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add SOURCE, --checkpoint and --allow-mismatch."""
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?" if optional else None,
        help="mmseg config path or zoo name, Python file with `model` or `build_model()`, .onnx or .pt2 file, or"
        " hf:NAME_OR_FOLDER, smp:ARCH/ENCODER, torchvision:NAME",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", metavar="PTH", help="file with the weights (default: random weights from a fixed seed)"
    )
    parser.add_argument(
        "--allow-mismatch",
        action="store_true",
        help="load a checkpoint with missing or unexpected keys as far as it fits",
    )


def add_signature(parser: argparse.ArgumentParser) -> None:
    """Add --signature."""
    parser.add_argument(
        "--signature", metavar="PUBLIC_KEY",
        help="refuse a bundle that is not signed with this key of minisign (a file, or base64); see segc sign",
    )  # fmt: skip


def add_given(parser: argparse.ArgumentParser) -> None:
    """Add what the user may say about ONNX and Python sources."""
    group = parser.add_argument_group(
        "ONNX and Python sources",
        "these precede what the file, its metadata or a preprocessor_config.json beside it says",
    )
    group.add_argument("--mean", type=numbers("--mean"), metavar="M,M,M", help="subtracted from the channels")
    group.add_argument("--std", type=numbers("--std"), metavar="S,S,S", help="the channels are divided by it then")
    group.add_argument("--channel-order", metavar="RGB|BGR", help="order of the channels, mean and std (default RGB)")
    group.add_argument(
        "--scale", type=lambda text: numbers("--scale")(text)[0], metavar="F",
        help="the image's values are multiplied by it first, for example 1/255 (default 1)",
    )  # fmt: skip
    group.add_argument("--classes", metavar="FILE", help="names of the classes: one a line, or JSON")
    group.add_argument("--palette", metavar="FILE", help="colours of the classes: r,g,b or #rrggbb a line, or JSON")
    group.add_argument(
        "--threshold", type=lambda text: numbers("--threshold")(text)[0], metavar="P",
        help="probability from which on a head with one channel means foreground (default 0.5)",
    )  # fmt: skip
    group.add_argument("--output-name", metavar="NAME", help="the output of an ONNX file, or the key, with the map")
    group.add_argument(
        "--dequantize", action="store_true",
        help="compute a quantized ONNX file in float32: what its integers stand for, without their rounding",
    )  # fmt: skip
    add_trust(group)
    group.add_argument(
        "--output-values", metavar="V",
        help="what the output holds: logits, probabilities or classes (default: found out)",
    )  # fmt: skip


def add_trust(group: argparse._ActionsContainer) -> None:
    """Add --trust-remote-code."""
    group.add_argument(
        "--trust-remote-code", action="store_true",
        help="run the Python code in the folder of an hf: model that transformers has no class for",
    )  # fmt: skip


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_given`, as parameters of `segc.compile`."""
    names = (
        "mean",
        "std",
        "channel_order",
        "scale",
        "classes",
        "palette",
        "threshold",
        "output_name",
        "output_values",
        "dequantize",
        "trust_remote_code",
    )
    return {name: getattr(args, name) for name in names}


def numbers(option: str) -> Callable[[str], tuple[float, ...]]:
    """The type of an option that takes numbers between commas; each may be a fraction. It raises UsageError."""

    def read(text: str) -> tuple[float, ...]:
        try:
            parts = [[float(side) for side in part.split("/", 1)] for part in text.split(",")]
            return tuple(part[0] / part[1] if len(part) > 1 else part[0] for part in parts)
        except (ValueError, ZeroDivisionError):
            raise UsageError(
                f"{option} '{text[:40]}' is not valid", code=Code.INVALID_NUMBER,
                because="it takes numbers with commas between them", so="for example 123.675,116.28,103.53 or 1/255",
            ) from None  # fmt: skip

    return read


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the limits of the parity gate."""
    parser.add_argument(
        "--max-error",
        type=number("--max-error", ranges.LIMIT),
        metavar="E",
        help="largest relative logit error (default 1e-3; ncnn and fp16: see docs)",
    )
    parser.add_argument(
        "--min-agreement",
        type=number("--min-agreement", ranges.LIMIT),
        metavar="A",
        help="smallest share of equal pixels (default 0.999; fp16 0.995)",
    )


def add_native_limits(parser: argparse.ArgumentParser) -> None:
    """What libraries may take that look at a file."""
    parser.add_argument(
        "--memory-limit", type=number("--memory-limit", ranges.GIBIBYTES), metavar="GIB",
        help="memory that libraries looking at an ONNX file, or a single tensor, may take (default: 3/4 of the"
        " machine's)",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=number("--time-limit", ranges.SECONDS), metavar="S",
        help="seconds that a library may look at an ONNX file (default 600)",
    )  # fmt: skip


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add what a source may leave open about its images."""
    parser.add_argument(
        "--channels", type=number("--channels", ranges.CHANNELS), metavar="N",
        help="channels of the images, where the model does not say",
    )  # fmt: skip
    parser.add_argument(
        "--skip-transform", action="append", default=[], metavar="NAME",
        help="leave a step of the config's test pipeline, or its data preprocessor, out of `segment`",
    )  # fmt: skip


def add_python(parser: argparse.ArgumentParser) -> None:
    """Add --python."""
    parser.add_argument(
        "--python", action="store_true",
        help="run the transforms of one's own that the bundle names: it imports their Python modules",
    )  # fmt: skip


def prepare_libraries(source: str) -> None:
    """Begin to start the child in which libraries look at an ONNX file, while this process imports the compiler."""
    if source.endswith(".onnx"):
        from segc.isolation import native

        native.prepare("segc.graph.libraries")


def add_options(parser: argparse.ArgumentParser, *, compiles: bool = True) -> None:
    """Add the options of targets and, for commands that compile, --shape-range."""
    for target, option in FLAGS:
        if not (compiles or option.build):
            continue
        if option.is_switch:
            parser.add_argument(f"--{option.name}", action="store_true", help=f"{target}: {option.summary}")
        else:
            text = f"{target}: {option.summary} ({', '.join(option.choices)}; default {option.default})"
            parser.add_argument(f"--{option.name}", metavar=option.name[0].upper(), help=text)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other option of a target")
    if compiles:
        parser.add_argument(
            "--shape-range", metavar="MIN:BEST:MAX",
            help="with --dynamic: HxW:HxW:HxW in pixels (default: from the config)",
        )  # fmt: skip


def options(args: argparse.Namespace) -> dict[str, str]:
    """The given options of targets, by name. Raises UsageError."""
    given: dict[str, str] = {}
    for _, option in FLAGS:
        if value := getattr(args, option.name, None):
            given[option.name] = "yes" if option.is_switch else value
    for text in args.set:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(
                f"--set {text} is not NAME=VALUE", code=Code.UNKNOWN_OPTION, so="for example --set device=cuda"
            )
        given[name] = value
    return given


def shape_range(text: str | None) -> ShapeRange | None:
    """Parse '256x256:512x1024:1024x2048': the smallest, the best and the largest (height, width)."""
    if text is None:
        return None
    from segc.targets.protocol import ShapeRange

    parts = text.split(":")
    if len(parts) != 3:
        raise UsageError(
            f"'{text}' is not a range of shapes", code=Code.INVALID_SHAPE, so="for example 256x256:512x1024:1024x2048"
        )
    least, best, most = (shape(part) for part in parts)
    if not all(a <= b <= c for a, b, c in zip(least, best, most, strict=True)):
        raise UsageError(
            f"the range {text} is out of order",
            code=Code.INVALID_SHAPE,
            because="each side must be at least as long as in the size before",
            so="give the smallest, the best and the largest size",
        )
    return ShapeRange(least, best, most)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add --threads and --json."""
    parser.add_argument(
        "--threads",
        type=number("--threads", ranges.THREADS),
        default=0,
        metavar="N",
        help=f"threads of the runtime, at most {ranges.MOST_THREADS} (default: all cores)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
