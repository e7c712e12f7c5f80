"""The images and labels that an mmseg config tests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segc.errors import Code, SourceError
from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.quiet import quiet

_KNOWN_STEPS = {
    "LoadImageFromFile", "LoadAnnotations", "PackSegInputs", "Resize", "TestTimeAug", "RandomFlip",
}  # fmt: skip


@dataclass(frozen=True)
class LabelledImages:
    """pairs: image and label. classes: of the dataset. label_map, reduce_zero_label, ignore_index: as mmseg means them.

    notes: steps of the pipeline that segc does not reproduce.
    """

    pairs: tuple[tuple[Path, Path | None], ...]
    classes: tuple[str, ...]
    label_map: Mapping[int, int]
    reduce_zero_label: bool
    ignore_index: int
    notes: tuple[str, ...]


def open_dataset(config: Path) -> LabelledImages:
    """What `test_dataloader` of a config names, else `val_dataloader`. Paths are as mmseg takes them.

    Raises SourceError when the config or its dataset cannot be read, MissingPackageError without mmseg.
    """
    import_mmseg()
    from mmengine import Config

    with quiet(), _errors(config):
        read = Config.fromfile(str(config))
    loader = read.get("test_dataloader") or read.get("val_dataloader")
    settings = (loader or {}).get("dataset")
    if not isinstance(settings, Mapping):
        raise SourceError(
            f"config '{config.name}' names no dataset to test on", code=Code.DATASET,
            because="it has neither test_dataloader nor val_dataloader with a dataset",
            so="give a config such as those in mmseg's configs/_base_/datasets",
        )  # fmt: skip
    with quiet(), _errors(config):
        return _opened(dict(settings), read)


def _opened(settings: dict[str, Any], config: Any) -> LabelledImages:
    import mmseg.datasets  # registers them  # noqa: F401
    from mmseg.registry import DATASETS

    steps = settings.get("pipeline") or config.get("test_pipeline") or []
    dataset = DATASETS.build({**settings, "pipeline": [], "test_mode": True})
    rows = [dataset.get_data_info(at) for at in range(len(dataset))]
    meanings = {(str(row.get("label_map")), bool(row.get("reduce_zero_label"))) for row in rows}
    if len(meanings) > 1:
        raise ValueError("its parts give different meanings to one label")
    first = rows[0] if rows else {}
    pairs = tuple((Path(row["img_path"]), Path(row["seg_map_path"]) if "seg_map_path" in row else None) for row in rows)
    unknown = dict.fromkeys(str(step["type"]) for step in steps if str(step["type"]) not in _KNOWN_STEPS)
    return LabelledImages(
        pairs, tuple(map(str, dataset.metainfo["classes"])), dict(first.get("label_map") or {}),
        bool(first.get("reduce_zero_label", False)), _ignored(config),
        tuple(f"step '{name}' of the dataset's pipeline is not reproduced" for name in unknown),
    )  # fmt: skip


def _ignored(config: Any) -> int:
    """The ignore_index of the first IoUMetric among the config's evaluators, which is 255 unless it says so."""
    found = config.get("test_evaluator") or config.get("val_evaluator") or {}
    for one in found if isinstance(found, list) else [found]:
        if one.get("type") == "IoUMetric":
            return int(one.get("ignore_index", 255))
    return 255


@contextmanager
def _errors(config: Path) -> Iterator[None]:
    """Raise SourceError in place of what a config, which is a program, and a dataset raise."""
    try:
        yield
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else ""
        raise SourceError(
            f"the dataset of config '{config.name}' cannot be opened", code=Code.DATASET,
            because=f"{type(error).__name__}: {text}", where=str(config),
            so="its paths are relative to the current folder, as in mmseg; correct data_root and data_prefix",
        ) from error  # fmt: skip
