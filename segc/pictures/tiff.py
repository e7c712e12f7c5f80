"""TIFF files of any size, read and written by windows: GeoTIFF, BigTIFF, tiled, striped, cloud optimized."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segc import packages
from segc.bundle.preprocessing import Loader
from segc.errors import Code, FileError, MissingPackageError, ShapeError, UsageError
from segc.files import claims, published
from segc.files.errors import file_errors
from segc.files.interrupts import held

Array = npt.NDArray[Any]

_CACHE_MB = 128  # of decoded blocks that windows share
_BLOCK_BYTES = 512 << 20  # decoded at once, at most
_SIDE = 512  # of the blocks that are written, in pixels


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """The file, opened by rasterio with its driver for TIFF alone: others follow references to other files.

    Raises MissingPackageError, and FileError for a file that is not read by windows.
    """
    rasterio = _rasterio()
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path, driver="GTiff")
        except rasterio.errors.RasterioError as error:
            raise _unreadable(path, str(error)) from error
        with dataset:
            block = max(h * w for h, w in dataset.block_shapes) * np.dtype(dataset.dtypes[0]).itemsize
            if block > _BLOCK_BYTES:
                raise FileError(
                    f"the picture {path} cannot be read by windows", code=Code.IMAGE_UNREADABLE,
                    because=f"its blocks have {block:,} bytes, more than {_BLOCK_BYTES:,}",
                    so="write it with smaller tiles: gdal_translate -co TILED=YES",
                )  # fmt: skip
            yield dataset


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.errors
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "TIFF files are read by windows with rasterio", code=Code.OPTIONAL_PACKAGE, so=packages.install("geo")
        ) from error
    return rasterio


def _unreadable(path: Path, why: str) -> FileError:
    return FileError(
        f"cannot read the picture {path}",
        code=Code.IMAGE_UNREADABLE,
        because=why or "it is damaged",
        so="copy it again",
    )


class TiffPicture:
    """An open TIFF file as `segc.runtime.windows.Picture`: pixels as the model's loader gives them.

    channels: of the model. Raises UsageError or ShapeError for pixels that the loader would not give so.
    """

    def __init__(self, dataset: Any, path: Path, loader: Loader | None, channels: int) -> None:
        self._dataset, self._path = dataset, path
        self.size: tuple[int, int] = (dataset.height, dataset.width)
        self.raw = loader is not None and loader.is_raw
        self._reversed = not self.raw or (loader is not None and loader.decoder != "tifffile")
        self._colours = _colours(dataset)
        white = dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        self._inverted = white and self._colours is None  # or its palette says so
        by_opencv = loader is None or loader.decoder == "cv2"
        self._multiplied = by_opencv and not self.raw and _has_plain_alpha(dataset)
        self._require(1 if loader is None else loader.channels(0), channels)

    def _require(self, given: int, channels: int) -> None:
        found, kind = self._dataset.count, self._dataset.dtypes[0]
        if "NBITS" in self._dataset.tags(1, ns="IMAGE_STRUCTURE"):
            raise UsageError(
                f"the picture {self._path} has pixels of less than 8 bits", code=Code.INPUT_TYPE,
                so="convert it: gdal_translate -ot Byte -co NBITS=8",
            )  # fmt: skip
        if self.raw:
            return
        if kind not in ("uint8", "uint16"):
            raise UsageError(
                f"the picture {self._path} is {kind}, uint8 or uint16 is needed", code=Code.INPUT_TYPE,
                so="convert it to 8 bits: gdal_translate -ot Byte -scale",
            )  # fmt: skip
        grey = channels == 1 or given == 1
        most = 1 if channels == 1 else 4
        if found > most or (grey and channels == 1 and (self._colours is not None or kind != "uint8")):
            raise ShapeError(
                f"the picture {self._path} has {found} band{'s' * (found != 1)} of {kind}"
                + (" with colours" if self._colours is not None else ""),
                code=Code.INPUT_SHAPE,
                because=f"the model takes {'grey pictures of 8 bits' if channels == 1 else 'colour: 1 to 4 bands'}",
                so="choose bands: gdal_translate -b 1 -b 2 -b 3",
            )

    def read(self, rows: slice, columns: slice) -> Array:
        """(h, w) or (h, w, channels). Raises FileError."""
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        rasterio = _rasterio()
        try:
            bands = self._dataset.read(window=window)
        except (rasterio.errors.RasterioError, MemoryError) as error:
            raise _unreadable(self._path, str(error.__cause__ or error)) from error
        if self._inverted:
            bands = np.iinfo(bands.dtype).max - bands
        if self._colours is not None:
            return np.asarray(self._colours[bands[0]])
        if len(bands) < 3 and not self.raw:  # the second is alpha
            return np.asarray(bands[0])
        pixels = np.moveaxis(bands, 0, 2)
        if not self.raw:
            pixels = _eight_bits(pixels, self._multiplied)
        if self._reversed and len(bands) in (3, 4):
            pixels = pixels[..., [2, 1, 0, *range(3, len(bands))]]
        return np.ascontiguousarray(pixels[..., 0] if len(bands) == 1 else pixels)

    def missing(self, rows: slice, columns: slice) -> Array | None:
        """Whether a pixel has no data, by the file's own nodata value, mask or alpha; None where the file has none."""
        from rasterio.enums import MaskFlags

        if all(flags == [MaskFlags.all_valid] for flags in self._dataset.mask_flag_enums):
            return None
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        return np.asarray(self._dataset.dataset_mask(window=window) == 0)


def _eight_bits(pixels: Array, multiplied: bool) -> Array:
    """Three or four bands as libtiff, and so OpenCV, converts them: 16 bits rounded to 8, colours times alpha."""
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if multiplied and (pixels[..., 3] != 255).any():
        colours = (pixels[..., :3].astype(np.uint32) * pixels[..., 3:] + 127) // 255
        pixels = np.concatenate([colours.astype(np.uint8), pixels[..., 3:]], axis=2)
    return pixels


def _has_plain_alpha(dataset: Any) -> bool:
    """Whether the fourth of four bands is an alpha that the colours are not multiplied by yet."""
    from rasterio.enums import ColorInterp

    if dataset.count != 4 or dataset.colorinterp[3] != ColorInterp.alpha:
        return False
    return bool(dataset.tags(4, ns="IMAGE_STRUCTURE").get("ALPHA") != "PREMULTIPLIED")


def _colours(dataset: Any) -> Array | None:
    """The palette as uint8 (256, 3) in BGR; None without one."""
    if dataset.count != 1:
        return None
    try:
        found = dataset.colormap(1)
    except ValueError:
        return None
    colours = np.zeros((256, 3), np.uint8)
    for number, (red, green, blue, *_) in found.items():
        colours[number] = blue, green, red
    return colours


@contextmanager
def written(path: Path, like: Any, bands: int, dtype: str, nodata: int | None) -> Iterator[tuple[Any, Path]]:
    """A new tiled TIFF of the size and the place on Earth of `like`, and the temporary name it is written under.

    It takes the name `path` when the block ends, whole or not at all. Raises FileError.
    """
    rasterio = _rasterio()
    settings = {
        "driver": "GTiff", "height": like.height, "width": like.width, "count": bands, "dtype": dtype, "tiled": True,
        "blockxsize": _SIDE, "blockysize": _SIDE, "compress": "deflate", "zlevel": 6, "bigtiff": "if_safer",
        "photometric": "rgb" if bands == 3 else "minisblack", "interleave": "pixel", "nodata": nodata, "crs": like.crs,
    }  # fmt: skip
    if not like.transform.is_identity:
        settings["transform"] = like.transform
    with file_errors(f"'{path}'", path):
        for left in claims.left_over(path):
            claims.remove(left)
    with claims.in_the_making(path, Path.touch) as staged:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                with rasterio.open(staged, "w", **settings) as dataset:
                    if like.gcps[0]:
                        dataset.gcps = like.gcps
                    if like.rpcs is not None:
                        dataset.rpcs = like.rpcs
                    if (area := like.tags().get("AREA_OR_POINT")) is not None:
                        dataset.update_tags(AREA_OR_POINT=area)
                    yield dataset, staged
        except rasterio.errors.RasterioError as error:
            raise FileError(f"'{path}' cannot be written", code=Code.UNWRITABLE, because=str(error)) from error
        with held(), file_errors(f"'{path}'", path):
            claims.sync(staged)
            staged.replace(path)
            published.add(path)
