"""Images and their labels: files of the same stem in two folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segc.errors import Code, FileError, SegcError
from segc.files.names import IMAGE_EXTENSIONS
from segc.runtime.images import find_images
from segc.validation.labels import LABEL_EXTENSIONS, LOSSY


@dataclass(frozen=True)
class Pair:
    """An image and its label."""

    image: Path
    label: Path

    @property
    def key(self) -> str:
        """Of the files as they are now: what an evaluation knows of them is worth nothing when one has changed."""
        stamps = []
        for path in (self.image, self.label):
            try:
                status = path.stat()
                stamps.append(f"{path}:{status.st_size}:{status.st_mtime_ns}")
            except (OSError, ValueError):
                stamps.append(f"{path}:missing")
        return "|".join(stamps)


@dataclass(frozen=True)
class Matched:
    """unlabelled: images without a label, with the error that says so. unused: labels without an image."""

    pairs: tuple[Pair, ...]
    unlabelled: tuple[tuple[Path, SegcError], ...]
    unused: tuple[Path, ...]


def match(images: str | Path, labels: str | Path) -> Matched:
    """The images of a folder, or one image, with the labels of the same stem in a folder.

    Raises FileError when a folder cannot be read, when two labels have one stem, or when no image has a label.
    """
    found, folder = find_images([images]), Path(labels)
    by_stem = _by_stem(folder)
    pairs, missing = [], []
    for image in found:
        stem = image.path.stem
        if stem in by_stem:
            pairs.append(Pair(image.path, by_stem[stem]))
        else:
            missing.append((image.path, no_label(image.path, f"{folder}/{stem}.png")))
    if not pairs:
        raise FileError(
            f"no image in {images} has a label in {folder}", code=Code.NO_LABEL,
            because=f"the label of {found[0].path.name} would be {found[0].path.stem}.png",
            so="give labels the names of their images, or write an mmseg dataset config for --dataset",
        )  # fmt: skip
    stems = {image.path.stem for image in found}
    return Matched(tuple(pairs), tuple(missing), tuple(path for stem, path in by_stem.items() if stem not in stems))


def no_label(image: Path, wanted: str) -> FileError:
    """The error of an image without a label."""
    return FileError(
        f"the image {image} has no label", code=Code.NO_LABEL, because=f"there is no file {wanted}",
        so="add the label, or take the image out of the folder",
    )  # fmt: skip


def _by_stem(folder: Path) -> dict[str, Path]:
    try:
        files: Sequence[Path] = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (OSError, ValueError) as error:
        raise FileError(
            f"cannot read the folder {folder}",
            code=Code.UNREADABLE,
            because=getattr(error, "strerror", "") or str(error),
        ) from error
    known: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in LABEL_EXTENSIONS | LOSSY | IMAGE_EXTENSIONS:
            known[path.stem].append(path)
    if twice := next((paths for paths in known.values() if len(paths) > 1), None):
        raise FileError(
            f"the folder {folder} has two labels of one name", code=Code.NO_LABEL,
            because=", ".join(path.name for path in twice), so="keep one of them",
        )  # fmt: skip
    return {stem: paths[0] for stem, paths in known.items()}
