"""Images in and out: any file OpenCV reads becomes uint8 BGR; files are written whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segc.errors import Code, FileError, ShapeError, UsageError
from segc.files.names import IMAGE_EXTENSIONS, is_folder, resolved
from segc.files.regular import read_regular
from segc.runtime import image_header

Image = npt.NDArray[np.uint8]
MAX_PIXELS = 1 << 29  # 23170 x 23170
_FILE_BYTES, _BYTES_A_PIXEL = 1 << 24, 16  # no file of that many pixels is larger


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image:
    """uint8 (H, W, 3) BGR as cv2.imread gives it: EXIF orientation applied, alpha dropped, 16 bits cut to 8.

    Of an animation or a file of several pages it is the first one. Raises FileError when the file is missing, no
    regular file, empty, cut off, not an image that OpenCV decodes, or of more than `max_pixels` pixels. Memory: the
    file and 3 bytes a pixel.
    """
    try:
        content = read_regular(Path(path), _FILE_BYTES + _BYTES_A_PIXEL * max_pixels)
    except OSError as error:
        raise FileError(
            f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE, because=error.strerror or str(error)
        ) from error
    if not content:
        raise FileError(f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE, because="the file is empty")
    _require_pixels(path, image_header.size(content), max_pixels)
    if (why := image_header.missing_end(content)) is not None:
        raise FileError(
            f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE, because=f"it is cut off: {why}",
            so="copy it again",
        )  # fmt: skip
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        reason = "OpenCV finds no image in it: it is damaged or of another format"
    except cv2.error as error:
        image, reason = None, str(error.err)
    if image is None:
        raise FileError(
            f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE, because=reason, so="convert it to PNG or JPEG"
        )
    _require_pixels(path, image.shape[:2], max_pixels)  # of formats whose header only OpenCV knows
    return np.asarray(image, np.uint8)


def _require_pixels(path: Path | str, size: tuple[int, ...] | None, most: int) -> None:
    if size is not None and size[0] * size[1] > most:
        raise FileError(
            f"the image {path} is too large",
            code=Code.IMAGE_TOO_LARGE,
            because=f"it has {size[1]}x{size[0]} pixels, more than the {most} of --max-pixels",
            so="cut it into tiles, or raise --max-pixels where there is memory for it",
        )


def as_bgr(image: npt.NDArray[np.generic]) -> Image:
    """An image array as contiguous uint8 (H, W, 3) BGR, converted as cv2.imread converts files.

    Accepts uint8 and uint16 (its upper eight bits are kept) of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), whose
    alpha is dropped. Raises UsageError for other types, ShapeError for other shapes.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise UsageError(
            f"the image is {image.dtype}, uint8 is needed",
            code=Code.INPUT_TYPE,
            so="numbers from 0 to 1 become (image * 255).round().astype('uint8')" if image.dtype.kind == "f" else (),
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or not image.size:
        swapped = image.ndim == 3 and image.shape[0] in (1, 3, 4)
        raise ShapeError(
            f"the image has shape {image.shape}, (H, W, 3) is needed",
            code=Code.INPUT_SHAPE,
            so="move the channels last: image.transpose(1, 2, 0)" if swapped and image.size else (),
        )
    if image.dtype == np.uint16:
        image = image >> np.uint16(8)  # type: ignore[operator]
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3], np.uint8)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image to read, and the name, without extension, of what is made from it."""

    path: Path
    stem: str


def find_images(paths: Iterable[Path | str]) -> list[ImageFile]:
    """Files as given, folders replaced by the images directly in them, sorted; each file once.

    Files are not opened. Images with one stem get their extension appended, then a number: `a_jpg`, `a_png`, `a_png-2`.
    Raises FileError for a folder that cannot be listed or has no image.
    """
    found: dict[Path, Path] = {}
    for path in map(_named, paths):
        for file in _images_in(path) if is_folder(path) else [path]:
            found.setdefault(resolved(file), file)
    shared = Counter(path.stem.casefold() for path in found.values())
    taken: set[str] = {stem for stem, times in shared.items() if times == 1}
    images = []
    for path in found.values():
        stem = path.stem
        if shared[stem.casefold()] > 1:
            stem = _free(f"{stem}_{path.suffix[1:]}" if path.suffix else stem, taken)
        taken.add(stem.casefold())
        images.append(ImageFile(path, stem))
    return images


def _named(path: Path | str) -> Path:
    if not str(path):  # Path("") is the current folder
        raise UsageError("an image has an empty name", code=Code.UNKNOWN_NAME, so="give a file or a folder")
    return Path(path)


def _images_in(folder: Path) -> list[Path]:
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_EXTENSIONS and not p.name.startswith(".")]
        files = sorted(path for path in found if not is_folder(path))
    except OSError as error:
        raise FileError(
            f"cannot read the folder {folder}", code=Code.UNREADABLE, because=error.strerror or str(error)
        ) from error
    if not files:
        raise FileError(
            f"no image lies in the folder {folder}",
            code=Code.IMAGE_UNREADABLE,
            because=f"looked for {', '.join(sorted(IMAGE_EXTENSIONS))}",
        )
    return files


def _free(stem: str, taken: set[str]) -> str:
    number, candidate = 1, stem
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{stem}-{number}"
    return candidate
