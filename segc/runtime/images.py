"""Images in and out: files become arrays as the model's loader decodes them, by default uint8 BGR."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segc.bundle.preprocessing import Loader
from segc.errors import Code, FileError, MissingPackageError, ShapeError, UsageError
from segc.files.names import IMAGE_EXTENSIONS, is_folder, resolved
from segc.files.regular import read_regular
from segc.runtime import image_header

Image = npt.NDArray[np.uint8]
MAX_PIXELS = 1 << 29  # 23170 x 23170
_FILE_BYTES, _BYTES_A_PIXEL = 1 << 24, 16  # no file of that many pixels is larger


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS, loader: Loader | None = None) -> npt.NDArray[Any]:
    """The image as mmcv's imfrombytes gives it with the settings of `loader`, whose float32 is applied too.

    Without one: uint8 (H, W, 3) BGR, EXIF orientation applied, alpha dropped, 16 bits cut to 8. Of an animation or a
    file of several pages it is the first one. Raises FileError when the file is missing, no regular file, empty, cut
    off, not an image that is decoded so, or of more than `max_pixels` pixels. Memory: the file and the pixels.
    """
    try:
        content = read_regular(Path(path), most_bytes(max_pixels))
    except OSError as error:
        raise FileError(
            f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE, because=error.strerror or str(error)
        ) from error
    return decode_image(content, path, max_pixels, loader)


def most_bytes(max_pixels: int) -> int:
    """No file of an image of so many pixels is larger."""
    return _FILE_BYTES + _BYTES_A_PIXEL * max_pixels


def decode_image(
    content: bytes, path: Path | str, max_pixels: int = MAX_PIXELS, loader: Loader | None = None
) -> npt.NDArray[Any]:
    """What `read_image` gives for a file that holds `content`. path: what messages call it."""
    how = loader or Loader()
    if not content:
        raise FileError(f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE, because="the file is empty")
    _require_pixels(path, image_header.size(content), max_pixels)
    if (why := image_header.missing_end(content)) is not None:
        raise FileError(
            f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE, because=f"it is cut off: {why}",
            so="copy it again",
        )  # fmt: skip
    image, reason = _DECODERS[how.decoder](content, how.color)
    if image is None:
        raise FileError(
            f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE, because=reason, so="convert it to PNG or JPEG"
        )
    if image.ndim not in (2, 3):
        raise FileError(
            f"cannot read the image {path}", code=Code.IMAGE_UNREADABLE,
            because=f"it decodes to an array of shape {image.shape}, (H, W) or (H, W, channels) is needed",
        )  # fmt: skip
    _require_pixels(path, image.shape[:2], max_pixels)  # of formats whose header only the decoder knows
    return image.astype(np.float32) if how.float32 else image


Decoded = tuple[npt.NDArray[Any] | None, str]  # the image, or None and the reason
_FLAGS = {
    "color": cv2.IMREAD_COLOR, "grayscale": cv2.IMREAD_GRAYSCALE, "unchanged": cv2.IMREAD_UNCHANGED,
    "color_ignore_orientation": cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR,
    "grayscale_ignore_orientation": cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_GRAYSCALE,
}  # fmt: skip


def _by_opencv(content: bytes, colour: str) -> Decoded:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), _FLAGS[colour])
    except cv2.error as error:
        return None, str(error.err)
    return (None if image is None else np.asarray(image)), (
        "OpenCV finds no image in it: it is damaged or of another format"
    )


def _by_pillow(content: bytes, colour: str) -> Decoded:
    """As mmcv's Pillow backend does: to RGB, LA on its canvas, then BGR or grey."""
    try:
        from PIL import Image as Pillow
        from PIL import ImageOps
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "this model's images are decoded by Pillow", code=Code.OPTIONAL_PACKAGE, so="pip install pillow"
        ) from error
    try:
        image = Pillow.open(io.BytesIO(content))
        if colour == "unchanged":
            array = np.array(image)
            if array.ndim == 3 and array.shape[2] >= 3:
                array[:, :, :3] = array[:, :, (2, 1, 0)]
            return array, ""
        if colour in ("color", "grayscale"):
            image = ImageOps.exif_transpose(image)  # type: ignore[assignment]
        if image.mode == "LA":
            above, image = image.convert("RGBA"), Pillow.new("RGB", image.size, (124, 117, 104))  # type: ignore[assignment]
            image.paste(above, mask=above.split()[3])
        elif image.mode != "RGB":
            image = image.convert("RGB")  # type: ignore[assignment]
        if colour.startswith("grayscale"):
            return np.array(image.convert("L")), ""
        return np.ascontiguousarray(np.array(image)[:, :, ::-1]), ""
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        return None, f"Pillow finds no image in it: {error}"


def _by_tifffile(content: bytes, _colour: str) -> Decoded:
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "this model's images are decoded by tifffile", code=Code.OPTIONAL_PACKAGE, so="pip install tifffile"
        ) from error
    try:
        return np.asarray(tifffile.imread(io.BytesIO(content))), ""
    except Exception as error:  # damaged files raise whatever the decoders of its compressions do
        return None, f"tifffile finds no image in it: {error}"


_DECODERS = {"cv2": _by_opencv, "pillow": _by_pillow, "tifffile": _by_tifffile}


def _require_pixels(path: Path | str, size: tuple[int, ...] | None, most: int) -> None:
    if size is not None and size[0] * size[1] > most:
        raise FileError(
            f"the image {path} is too large",
            code=Code.IMAGE_TOO_LARGE,
            because=f"it has {size[1]}x{size[0]} pixels, more than the {most} of --max-pixels",
            so="segment a TIFF file in windows with --tile, or raise --max-pixels where there is memory for it",
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


def as_loaded(image: npt.NDArray[Any], loader: Loader | None, channels: int) -> npt.NDArray[Any]:
    """An image array as the loader would have given it, for a model with `channels` channels.

    For 8 bits of colour: `as_bgr`. Else (H, W) or (H, W, c) of any numeric type is taken as it is, as by mmseg's
    LoadImageFromNDArray. Raises UsageError for other types, ShapeError for other shapes.
    """
    if channels == 3 and (loader is None or loader.channels(0) == 3):
        image = as_bgr(image)
        return image.astype(np.float32) if loader is not None and loader.float32 else image
    if image.dtype.kind not in "uif":
        raise UsageError(f"the image is {image.dtype}, numbers are needed", code=Code.INPUT_TYPE)
    if image.ndim not in (2, 3) or not image.size:
        raise ShapeError(
            f"the image has shape {image.shape}, (H, W) or (H, W, channels) is needed", code=Code.INPUT_SHAPE
        )
    found = 1 if image.ndim == 2 else image.shape[2]
    if found not in (1, channels) and loader is not None and loader.channels(0) == 1:
        raise ShapeError(
            f"the image has shape {image.shape}, the model takes grey images (H, W)",
            code=Code.INPUT_SHAPE,
            so="give the file, or convert it: cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)",
        )
    image = np.ascontiguousarray(image)
    return image.astype(np.float32) if loader is not None and loader.float32 else image


def eight_bits(image: npt.NDArray[Any]) -> Image:
    """Any image as uint8 (H, W, 3) BGR for people to look at: the first three bands, deep ones stretched to 8 bits."""
    planes = image[..., None] if image.ndim == 2 else image
    planes = planes[..., :3] if planes.shape[2] >= 3 else planes[..., :1]
    if planes.dtype == np.uint16:
        planes = planes >> np.uint16(8)
    elif planes.dtype != np.uint8:
        low, high = (float(v) for v in (np.nanmin(planes), np.nanmax(planes)))
        whole = low >= 0 and high <= 255 and high > 1
        planes = planes if whole else (planes - low) * (255 / ((high - low) or 1))
        planes = np.clip(np.nan_to_num(planes), 0, 255)
    return np.ascontiguousarray(np.broadcast_to(planes, (*planes.shape[:2], 3)), np.uint8)


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
