"""An mmseg config to an eager model and everything the bundle must know about it.

The only changes to the config: SyncBN becomes BN (the same arithmetic in eval mode), and pretrained weights and
initialisers are dropped, because they would download files.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.bundle.preprocessing import Loader, ResizeStep
from segc.errors import Code, MissingPackageError, ShapeError, SourceError, UsageError
from segc.frontend import calibrate, dataset_meta
from segc.frontend.checkpoint import Checkpoint, load_into, read_checkpoint
from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.mmseg_files import MmsegOnFiles
from segc.frontend.mmseg_pipeline import FilePipeline, read_pipeline
from segc.frontend.mmseg_preprocessor import NotPointwise, probe
from segc.frontend.model import DEFAULT_SHAPE, ModelInfo, Notes, Source, generic_classes, pair
from segc.frontend.quiet import quiet
from segc.suggestions import closest

if TYPE_CHECKING:
    from torch import nn


_CALIBRATION_SIZE = (256, 256)  # divides by every stride of the zoo
_OTHERS = {"mmdet", "mmdet3d", "mmpretrain", "mmcls", "mmpose", "mmagic", "mmrotate"}
# mmdet asks for versions of mmcv that need a compiler; what it runs here needs none
_INSTALL = {"mmdet": "pip install --no-deps mmdet==3.3.0 && pip install terminaltables pycocotools"}
_PARENTS = 4  # folders above a config in which its own modules are looked for


def open_config(
    path: Path,
    *,
    checkpoint: str | Path | None,
    allow_mismatch: bool,
    mode: str | None,
    channels: int | None = None,
    skipped: Collection[str] = (),
) -> Source:
    """Build the model of a config, in eval mode, with the checkpoint's weights or random ones from a fixed seed.

    channels: of images, where the model does not say. skipped: names of steps of the test pipeline to leave out.
    """
    config = read_config(path)
    from segc.frontend.logits_model import MmsegLogits

    read = read_checkpoint(checkpoint) if checkpoint is not None else None
    notes = Notes()
    pipeline = read_pipeline(config, skipped, notes)
    calibrate.seed_everything()
    segmentor = _build(config, path)
    logits = MmsegLogits(segmentor).eval()
    info = _info(config, path, mode)
    info = replace(info, in_channels=channels or _channels(config, segmentor, info, pipeline))
    info = _with_pipeline(_with_own_preprocessor(info, segmentor, pipeline, skipped, notes), pipeline)
    info = _with_head(info, segmentor)
    if read is not None:
        notes.add(*load_into(segmentor, read, allow_mismatch=allow_mismatch).notes())
        info = replace(info, weights="checkpoint", checkpoint=read.record())
    else:
        notes.add("no checkpoint was given: weights are RANDOM (fixed seed), the masks mean nothing")
        info = replace(info, weights="random")
        _calibrate(logits, info)
    classes, palette = _dataset(config, read, info.channels, notes)
    info = replace(info, classes=classes, palette=palette)
    return Source(info, logits, notes=tuple(notes), on_files=MmsegOnFiles(segmentor, pipeline))


def read_config(path: Path) -> Any:
    """The config as segc builds it: SyncBN is BN, and nothing is downloaded. Raises SourceError."""
    import_mmseg()
    config = _read(path)
    if config.get("data_preprocessor") is not None:  # mmengine's Runner does the same
        config.model.setdefault("data_preprocessor", config.data_preprocessor)
    _adapt_to_one_machine(config.model)
    return config


def _read(path: Path) -> Any:
    from mmengine import Config

    _look_in(Path.cwd(), path.resolve().parent)
    try:
        config = Config.fromfile(str(path), import_custom_modules=False)
    except Exception as error:  # a config is a program, it may raise anything
        raise SourceError(
            f"config '{path.name}' cannot be read",
            code=Code.CONFIG,
            because=f"{type(error).__name__}: {' '.join(str(error).split())}",
            where=str(path),
            so="correct the config, or the files it names in _base_",
        ) from error
    model = config.get("model")
    _require_packages(model, path)  # before the imports, which would fail without saying how to install them
    _import_own(config.get("custom_imports"), path)
    if not isinstance(model, Mapping) or "type" not in model:
        raise SourceError(
            f"config '{path.name}' defines no model", code=Code.CONFIG, so="give a complete config, not one of _base_"
        )
    return config


def _look_in(*folders: Path) -> None:
    """Let modules be imported from these folders too, after all others."""
    sys.path.extend(str(folder) for folder in dict.fromkeys(folders) if str(folder) not in sys.path)


def _import_own(asked: Any, path: Path) -> None:
    """Import the modules of custom_imports: from the working folder, the config's, and those above it."""
    if not asked:
        return
    names = asked.get("imports") or []
    for name in [names] if isinstance(names, str) else names:
        top = str(name).partition(".")[0]
        above = [path.resolve().parent, *path.resolve().parents[1 : _PARENTS + 1]]
        _look_in(*[folder for folder in above if (folder / top).is_dir() or (folder / f"{top}.py").is_file()][:1])
        try:
            with quiet():
                importlib.import_module(str(name))
        except Exception as error:  # modules of one's own may raise anything
            if isinstance(error, ImportError) and asked.get("allow_failed_imports"):
                continue
            missing = isinstance(error, ModuleNotFoundError) and error.name is not None
            raise SourceError(
                f"config '{path.name}' imports the module '{name}', which cannot be imported",
                code=Code.CONFIG,
                because=f"{type(error).__name__}: {' '.join(str(error).split())}",
                where=f"looked in {Path.cwd()}, {path.resolve().parent}, the folders above it, and Python's own",
                so=f"install '{error.name}', or set PYTHONPATH to the folder that holds it"  # type: ignore[attr-defined]
                if missing
                else "correct the module",
            ) from error


def _adapt_to_one_machine(config: Any) -> None:
    """Replace SyncBN by BN and remove downloads, everywhere in `config`, in place."""
    if isinstance(config, Mapping):
        kind = config.get("type")  # text, dotted in dumps, or a class in Python-style configs
        if str(getattr(kind, "__name__", kind)).rpartition(".")[2] in ("SyncBN", "SyncBatchNorm"):
            config["type"] = "BN"  # type: ignore[index]
        for key in ("init_cfg", "pretrained"):
            if config.get(key) is not None:
                config[key] = None  # type: ignore[index]
        children: Iterable[Any] = config.values()
    elif isinstance(config, (list, tuple)):
        children = config
    else:
        return
    for child in children:
        _adapt_to_one_machine(child)


def _build(config: Any, path: Path) -> nn.Module:
    from mmseg.registry import MODELS

    _require_segmentor(config.model["type"], path)
    try:
        with quiet():
            model: nn.Module = MODELS.build(config.model)
    except Exception as error:  # model constructors may raise anything
        cause = str(error).splitlines()[0] if str(error) else ""
        raise SourceError(
            f"the model of config '{path.name}' cannot be built",
            code=Code.CONFIG_MODEL,
            because=f"{type(error).__name__}: {cause}",
            so="correct the config, or install what its model needs",
        ) from error
    if not hasattr(model, "decode_head") or not hasattr(model, "align_corners"):
        raise _not_a_segmentor(path, type(model).__name__)
    return model.eval()


def _require_packages(config: Any, path: Path) -> None:
    """Refuse a model with parts of another OpenMMLab package that is not installed. Raises MissingPackageError."""
    for package in sorted(_scopes(config)):
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(
                f"the model of config '{path.name}' has parts of {package}, which is not installed",
                code=Code.FRONTEND_MISSING,
                so=_INSTALL.get(package, f"pip install {package}"),
            )


def _scopes(config: Any) -> set[str]:
    """The OpenMMLab packages that types in `config` name, beside mmseg, mmcv and mmengine."""
    if isinstance(config, Mapping):
        kind = config.get("type")
        scope = kind.partition(".")[0] if isinstance(kind, str) else ""
        found = {scope} & _OTHERS
        return found.union(*(_scopes(part) for part in config.values()))
    return set().union(*map(_scopes, config)) if isinstance(config, list | tuple) else set()


def _require_segmentor(kind: object, path: Path) -> None:
    """Refuse an unknown type, and models that give no class logits, before anything is built."""
    from mmseg.models.segmentors import DepthEstimator  # an EncoderDecoder whose map is a depth
    from mmseg.registry import MODELS

    with quiet():
        cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        close = closest(str(kind), MODELS.module_dict)
        raise SourceError(
            f"config '{path.name}' asks for a model of type '{kind}', which mmseg does not know",
            code=Code.CONFIG,
            so=f"did you mean {' or '.join(close)}?" if close else "register it in a module the config imports",
        )
    if not isinstance(cls, type) or issubclass(cls, DepthEstimator) or not hasattr(cls, "encode_decode"):
        raise _not_a_segmentor(path, getattr(cls, "__name__", str(cls)))


def _not_a_segmentor(path: Path, kind: str) -> SourceError:
    return SourceError(
        f"config '{path.name}' has no segmentor",
        code=Code.CONFIG,
        because=f"its model is a {kind}, which gives no class logits",
        so="segc compiles EncoderDecoder and CascadeEncoderDecoder models",
    )


def _info(config: Any, path: Path, mode: str | None) -> ModelInfo:
    """What the config says of the model; what its head is like is seen once it is built."""
    import hashlib

    # the text with all bases merged: equal configs have equal digests wherever they lie
    digest = hashlib.sha256(config.pretty_text.encode()).hexdigest()
    preprocessor = dict(config.model.get("data_preprocessor") or {})
    info = _with_preprocessing(ModelInfo("mmseg", path.stem, digest), preprocessor)
    return _with_inference(info, config, preprocessor, mode)


def _with_preprocessing(info: ModelInfo, preprocessor: Mapping[str, Any]) -> ModelInfo:
    if preprocessor.get("mean") is not None:
        mean, std = (tuple(float(v) for v in preprocessor[key]) for key in ("mean", "std"))
        info = replace(info, mean=mean, std=std)
    else:
        info = replace(info, mean=(0.0,), std=(1.0,))
    swapped = preprocessor.get("bgr_to_rgb", False) or preprocessor.get("rgb_to_bgr", False)
    info = replace(info, channel_order="RGB" if swapped else "BGR")
    if not (test := preprocessor.get("test_cfg") or {}):  # without one mmseg does not pad at test time
        return info
    return replace(
        info,
        pad_size=pair(test["size"]) if test.get("size") is not None else None,
        pad_divisor=int(test["size_divisor"]) if test.get("size_divisor") is not None else None,
        pad_value=float(preprocessor.get("pad_val", 0)),
    )


def _channels(config: Any, segmentor: Any, info: ModelInfo, pipeline: FilePipeline) -> int:
    """Of the network's input: one a mean, or what the config says of its backbone, or what its first layer takes."""
    if len(info.mean) > 1:
        return len(info.mean)
    backbone = config.model.get("backbone") or {}
    for part in (backbone, backbone.get("backbone_cfg") or {}):  # STDC and BiSeNetV1 nest it
        if isinstance(part.get("in_channels"), int):
            return int(part["in_channels"])
    from torch import nn

    first = next((m for m in segmentor.backbone.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None:
        return first.in_channels
    return 3 if pipeline.loader is None else pipeline.loader.channels(3)


def _with_own_preprocessor(
    info: ModelInfo, segmentor: Any, pipeline: FilePipeline, skipped: Collection[str], notes: Notes
) -> ModelInfo:
    """`info` with what a data preprocessor other than mmseg's does to pixels. Raises SourceError if it is not known."""
    from mmseg.models import SegDataPreProcessor

    own, name = segmentor.data_preprocessor, type(segmentor.data_preprocessor).__name__
    kinds = type(own).__mro__
    changed = kinds[: kinds.index(SegDataPreProcessor)] if isinstance(own, SegDataPreProcessor) else kinds[:1]
    if not any(callable(part) for c in changed for key, part in vars(c).items() if key not in ("__init__", "__repr__")):
        return info
    if name in skipped:
        notes.add(f"--skip-transform: `segment` uses mean and std of the config, not its data preprocessor '{name}'")
        return info
    loader = pipeline.loader or Loader()
    try:
        found = probe(own, loader.channels(info.in_channels), deep=loader.is_raw or loader.float32)
    except NotPointwise as why:
        raise SourceError(
            f"`segment` cannot repeat the data preprocessor '{name}'",
            code=Code.TEST_PIPELINE,
            because=str(why),
            so=f"--skip-transform {name} uses mean and std of the config instead, and masks then differ from mmseg's",
        ) from why
    return replace(
        info, mean=found.mean, std=found.std, table=found.table, channel_order=found.channel_order,
        pad_size=found.pad_size, pad_divisor=found.pad_divisor, pad_value=found.pad_value, pad_kept=found.pad_kept,
        in_channels=len(found.mean) if len(found.mean) > 1 else info.in_channels,
    )  # fmt: skip


def _with_pipeline(info: ModelInfo, pipeline: FilePipeline) -> ModelInfo:
    """`info` with the loader and the steps; a plain Resize is one of `info` itself."""
    steps = pipeline.steps
    info = replace(info, loader=pipeline.loader)
    if not steps:
        return info
    first = steps[0]
    if len(steps) == 1 and isinstance(first, ResizeStep) and first.is_plain:
        return replace(info, resize_scale=first.scale, keep_ratio=first.keep_ratio)
    return replace(info, steps=steps)


def _with_inference(info: ModelInfo, config: Any, preprocessor: Mapping[str, Any], mode: str | None) -> ModelInfo:
    test = dict(config.model.get("test_cfg") or {})
    info = replace(info, test_cfg={k: list(v) if isinstance(v, tuple) else v for k, v in test.items()})
    mode = mode or str(test.get("mode", "whole"))
    if mode != "slide":
        size = config.get("crop_size") or preprocessor.get("size") or test.get("crop_size")
        return replace(info, mode=mode, shape=pair(size) if size is not None else DEFAULT_SHAPE)
    if test.get("crop_size") is None or test.get("stride") is None:
        raise UsageError(
            "--mode slide needs a crop size and a stride",
            code=Code.UNSUPPORTED_BY_MODEL,
            because="the config's test_cfg has none",
            so="add test_cfg=dict(mode='slide', crop_size=(H, W), stride=(h, w)) to the model",
        )
    crop, stride = pair(test["crop_size"]), pair(test["stride"])
    return replace(info, mode=mode, slide_crop=crop, slide_stride=stride, shape=crop)


def _with_head(info: ModelInfo, segmentor: Any) -> ModelInfo:
    head = segmentor.decode_head
    head = head[-1] if not hasattr(head, "out_channels") else head  # a cascade's last head decides
    channels = int(segmentor.out_channels)
    given = getattr(head, "threshold", None)
    threshold = float(given if given is not None else 0.3) if channels == 1 else None
    return replace(info, channels=channels, align_corners=bool(segmentor.align_corners), threshold=threshold)


def _calibrate(logits: nn.Module, info: ModelInfo) -> None:
    calibrate.randomize_zeros(logits)
    calibrate.scale_residual_branches(logits)
    for size in (_CALIBRATION_SIZE, info.shape):
        try:
            calibrate.calibrate_batch_norm(logits, size, info.in_channels)
            return
        except Exception as error:  # the model may reject the first size
            failure = error
    raise ShapeError(
        f"the model runs neither at {_CALIBRATION_SIZE} nor at its own crop size {info.shape}",
        code=Code.MODEL_SHAPE,
        because=str(failure),
    ) from failure


def _dataset(
    config: Any, checkpoint: Checkpoint | None, channels: int, notes: Notes
) -> tuple[tuple[str, ...], tuple[dataset_meta.Colour, ...]]:
    """Classes and palette from the checkpoint, the config's metainfo, or its dataset's class; else generic ones."""
    count = max(channels, 2)
    candidates = [checkpoint.dataset] if checkpoint is not None else []
    for loader in ("test_dataloader", "val_dataloader"):
        dataset = (config.get(loader) or {}).get("dataset") or {}
        dataset = dataset.get("dataset", dataset)  # wrappers nest it
        meta = dataset.get("metainfo") or {}
        candidates.append(dataset_meta.read(meta.get("classes"), meta.get("palette"), f"the config's {loader}"))
        of_type = _metainfo_of(dataset.get("type") or config.get("dataset_type"))
        candidates.append(dataset_meta.read(*of_type, "the dataset's class"))
    for found in candidates:
        notes.add(*found.notes)
        if found.classes is not None and len(found.classes) == count:
            return found.classes, found.palette or generic_classes(count)[1]
    return generic_classes(channels)


def _metainfo_of(dataset_type: object) -> tuple[Any, Any]:
    import mmseg.datasets  # registers them  # noqa: F401
    from mmseg.registry import DATASETS

    cls = DATASETS.get(dataset_type) if isinstance(dataset_type, str) else dataset_type
    meta = getattr(cls, "METAINFO", {}) or {}
    return meta.get("classes"), meta.get("palette")
