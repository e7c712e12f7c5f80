"""A Python file that defines `model` (an nn.Module) or `build_model()`, and optionally `meta`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from segc.bundle.canonical_json import sha256_of_file
from segc.errors import Code, MissingPackageError, SourceError
from segc.frontend import calibrate
from segc.frontend.given import Given
from segc.frontend.input_channels import input_channels
from segc.frontend.model import DEFAULT_SHAPE, ModelInfo, Notes, Source, pair
from segc.frontend.model_inputs import bound
from segc.frontend.pt2_file import settled
from segc.frontend.python_on_files import PythonOnFiles

if TYPE_CHECKING:
    from torch import nn


_META = {
    "classes", "palette", "mean", "std", "channel_order", "shape", "resize_scale", "keep_ratio", "align_corners",
    "threshold", "in_channels", "predict", "inputs",
}  # fmt: skip
_META_HELP = f"meta is a dict; known keys: {', '.join(sorted(_META))}"


def open_python(
    path: Path,
    *,
    checkpoint: str | Path | None,
    allow_mismatch: bool,
    given: Given | None = None,
    channels: int | None = None,
) -> Source:
    """Run the file and take its model. `meta`, a dict, may hold the fields of ModelInfo named in `_META`.

    Its `inputs` are constants of the model's other inputs, by name.
    Its `predict` takes the path of an image and gives class numbers (H, W); `segment` is compared with it. channels: of
    images, in place of what `meta` and the model say.
    """
    from segc.frontend.checkpoint import load_into, read_checkpoint

    if importlib.util.find_spec("torch") is None:
        raise MissingPackageError(
            "PyTorch is needed to trace a model", code=Code.FRONTEND_MISSING, so="pip install 'segc[mmseg]'"
        )
    from segc.frontend.logits_model import PlainLogits
    from segc.frontend.torch_tail import NARROW, Asked

    calibrate.seed_everything()
    module_file = _run(path)
    model = _model(module_file, path)
    given = given or Given()
    meta = getattr(module_file, "meta", {})
    said = meta if isinstance(meta, dict) else {}
    alone = bound(model, _inputs(said, path), path.stem)
    if channels is None and "in_channels" not in said:
        channels = input_channels(alone, given.mean or said.get("mean"))
    info = _info(module_file, path, channels)
    notes = Notes()
    if checkpoint is not None:
        read = read_checkpoint(checkpoint)
        notes.add(*load_into(model, read, allow_mismatch=allow_mismatch).notes(), *read.dataset.notes)
        info = replace(
            info, weights="checkpoint", checkpoint=read.record(),
            classes=info.classes or read.dataset.classes or (), palette=info.palette or read.dataset.palette or (),
        )  # fmt: skip
    info = given.applied(info)
    if narrow := sorted({str(t.dtype)[6:] for t in model.state_dict().values() if t.dtype in NARROW}):
        notes.add(
            f"the model is in {' and '.join(narrow)}: the engine, and what it is compared with, compute the same in"
            " float32"
        )
        alone.float()
    asked = Asked(given.output_name, given.output_values, len(info.classes))
    predict = said.get("predict")
    on_files = None if predict is None else PythonOnFiles(predict, model)
    return Source(info, PlainLogits(alone, asked).eval(), notes=tuple(notes), on_files=on_files)


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"segc_source_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SourceError(f"'{path}' cannot be imported as Python", code=Code.PYTHON_FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's file may raise anything, SystemExit too
        raise SourceError(
            f"'{path}' raised while it was imported",
            code=Code.PYTHON_FILE,
            because=_said(error),
            where=_line(error, path),
            so=f"make it run by itself: python {path.name}",
        ) from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _model(module: ModuleType, path: Path) -> nn.Module:
    from torch import export, nn

    model: Any = getattr(module, "model", None)
    if model is None and callable(getattr(module, "build_model", None)):
        try:
            model = module.build_model()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too
            raise SourceError(
                f"build_model() of '{path}' raised",
                code=Code.PYTHON_FILE,
                because=_said(error),
                where=_line(error, path),
                so="correct it; it is called without arguments",
            ) from error
    if isinstance(model, export.ExportedProgram):
        model = model.module()
    if isinstance(model, nn.Module):
        return settled(model)
    names = [name for name in vars(module) if not name.startswith("_")]
    found = (
        f"'model' is a {type(model).__name__}" if model is not None else f"it defines {', '.join(names) or 'nothing'}"
    )
    raise SourceError(
        f"'{path}' defines no model",
        code=Code.PYTHON_CONTRACT,
        because=found,
        so="define `model`, an nn.Module, or `build_model()` that returns one; of mmseg configs give a complete one",
    )


def _inputs(meta: dict[str, Any], path: Path) -> dict[str, Any]:
    """The constants of the model's other inputs. They are read first: the number of channels is found by a run."""
    inputs = meta.get("inputs", {})
    if not isinstance(inputs, dict):
        raise SourceError(
            f"`meta` of '{path}' is not understood", code=Code.PYTHON_CONTRACT,
            because=f"inputs is a {type(inputs).__name__}, no dictionary of constants", so=_META_HELP,
        )  # fmt: skip
    return inputs


def _info(module: ModuleType, path: Path, channels: int | None) -> ModelInfo:
    """channels: in place of meta's."""
    meta = getattr(module, "meta", {})
    if not isinstance(meta, dict) or (unknown := sorted(set(map(str, meta)) - _META)):
        what = f"unknown keys {', '.join(unknown)}" if isinstance(meta, dict) else f"it is a {type(meta).__name__}"
        raise SourceError(
            f"`meta` of '{path}' is not understood", code=Code.PYTHON_CONTRACT, because=what, so=_META_HELP
        )
    try:
        info = ModelInfo(
            kind="python",
            name=path.stem,
            sha256=sha256_of_file(path),
            classes=tuple(str(c) for c in meta.get("classes", ())),
            named_by="`meta`" if meta.get("classes") else "",
            palette=tuple((int(r), int(g), int(b)) for r, g, b in meta.get("palette", ())),
            mean=tuple(float(v) for v in meta.get("mean", (0.0, 0.0, 0.0))),
            std=tuple(float(v) for v in meta.get("std", (1.0, 1.0, 1.0))),
            channel_order=str(meta.get("channel_order", "RGB")).upper(),
            shape=pair(meta.get("shape", DEFAULT_SHAPE)),
            resize_scale=pair(meta["resize_scale"]) if "resize_scale" in meta else None,
            keep_ratio=bool(meta.get("keep_ratio", True)),
            align_corners=bool(meta.get("align_corners", False)),
            threshold=float(meta["threshold"]) if "threshold" in meta else None,
            in_channels=int(meta.get("in_channels", 3)) if channels is None else channels,
        )
    except (TypeError, ValueError) as error:
        raise SourceError(
            f"`meta` of '{path}' is not understood", code=Code.PYTHON_CONTRACT, because=str(error), so=_META_HELP
        ) from error
    if why := _why_not(info, meta):
        raise SourceError(
            f"`meta` of '{path}' is not understood", code=Code.PYTHON_CONTRACT, because=why, so=_META_HELP
        )
    return info


def _why_not(info: ModelInfo, meta: dict[str, Any]) -> str | None:
    """What is wrong with the values of `meta`, or None."""
    for key, values in (("mean", info.mean), ("std", info.std)):
        if key in meta and len(values) != info.in_channels:
            return f"{key} has {len(values)} numbers, the input {info.in_channels} channels"
    if not all(info.std):
        return "std has a zero"
    if not callable(meta.get("predict", len)):
        return f"predict is a {type(meta['predict']).__name__}, no function of an image's path"
    if info.channel_order not in ("RGB", "BGR"):
        return f"channel_order is '{info.channel_order}', not 'RGB' or 'BGR'"
    if min(info.shape) < 1 or (info.resize_scale is not None and min(info.resize_scale) < 1):
        return "shape and resize_scale are at least 1 pixel"
    if info.threshold is not None and not 0 < info.threshold < 1:
        return f"threshold is {info.threshold}, a probability between 0 and 1 is needed"
    return None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _line(error: BaseException, path: Path) -> str:
    """The innermost line of the user's file in the traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path.resolve()]
    return f"{path.name}:{frames[-1].lineno} {frames[-1].name}" if frames else ""
