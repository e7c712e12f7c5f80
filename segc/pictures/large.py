"""One TIFF file segmented part by part; finished parts lie beside the mask until it is whole.

A run that was stopped, or killed, finds them and goes on. Workers of a cluster write them too.
"""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.bundle.manifest import Manifest
from segc.errors import Code, FileError, UsageError
from segc.files.errors import file_errors
from segc.files.whole import write_whole
from segc.pictures.tiff import Array, TiffPicture, reading, written
from segc.runtime.images import eight_bits
from segc.runtime.segmentation import Segmentation
from segc.runtime.windows import Part, WindowedMask, Windows, parts

if TYPE_CHECKING:
    from segc.runtime.engine import Engine
    from segc.runtime.resize import Mask

_log = logging.getLogger(__name__)
_ROWS = 512  # written at a time


@dataclass(frozen=True)
class LargePicture:
    """A TIFF file, and where the files of its mask go. overlay: written too, if it is a name. key: of the bundle."""

    path: Path
    mask: Path
    overlay: Path | None
    opacity: float
    windows: Windows
    key: str

    @property
    def folder(self) -> Path:
        """Where finished parts lie."""
        return self.mask.with_name(f"{self.mask.name}.parts")

    def parts(self, manifest: Manifest) -> list[Part]:
        """Of the picture. Raises what opening it raises."""
        with self.opened(manifest) as (dataset, picture):
            if self.overlay is not None:
                _require_shown(dataset)
            return parts(picture.size, self.windows, manifest)

    @contextmanager
    def opened(self, manifest: Manifest) -> Iterator[tuple[Any, TiffPicture]]:
        """The file as rasterio's dataset, and its pixels."""
        from segc.bundle.preprocessing import usual_loader

        channels = manifest.input.shape[1]
        with reading(self.path) as dataset:
            loader = manifest.preprocessing.loader or usual_loader(channels)
            yield dataset, TiffPicture(dataset, self.path, loader, channels)

    def unfinished(self, manifest: Manifest) -> list[Part]:
        """The parts that are not there yet; those of other pictures, bundles or windows go. Raises SegcError."""
        head = json.dumps(self._head(), sort_keys=True).encode()
        named = self.folder / "picture.json"
        with file_errors(f"'{self.folder}'", self.folder):
            if not named.is_file() or named.read_bytes() != head:
                self.remove_parts()
                self._make_folder()
        all_parts = self.parts(manifest)
        if not named.is_file():
            write_whole(named, head, result=False)
        left = [part for part in all_parts if not self._file(part).is_file()]
        if len(left) < len(all_parts):
            _log.info("%s: %d of %d parts are there already", self.path, len(all_parts) - len(left), len(all_parts))
        return left

    def _make_folder(self) -> None:
        if self.folder.exists() and any(not _is_temporary(path) for path in self.folder.iterdir()):
            raise FileError(
                f"{self.folder} exists already", code=Code.DESTINATION_TAKEN,
                because="finished parts of the mask would go there", so="choose another folder with -o",
            )  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)

    def _head(self) -> Mapping[str, Any]:
        status = self.path.stat()
        stamp = [str(self.path.resolve()), status.st_size, status.st_mtime_ns]
        return {"format": 1, "picture": stamp, "bundle": self.key, "windows": asdict(self.windows)}

    def _file(self, part: Part) -> Path:
        return self.folder / f"{part.top}-{part.bottom}_{part.left}-{part.right}.zlib"

    def work(self, engine: Engine, wanted: Sequence[Part]) -> Iterator[Part]:
        """Segment parts and write them; each is given when its file is there. Raises SegcError."""
        with self.opened(engine.manifest) as (_, picture):
            mask = WindowedMask(engine, picture, self.windows)
            for part in wanted:
                content = zlib.compress(mask.part(part).tobytes(), 1)
                write_whole(self._file(part), content, durable=False, result=False)
                yield part

    def remove_parts(self) -> None:
        """Delete the folder of parts, if it is one."""
        if (self.folder / "picture.json").is_file():
            shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, engine: Engine, done: Callable[[int, int], None]) -> tuple[tuple[int, int], dict[str, float]]:
        """Put the parts together to the mask and the overlay, and delete them. Returns size and shares of classes.

        done(rows, of): called as rows are written. Raises SegcError.
        """
        manifest = engine.manifest
        with self.opened(manifest) as (dataset, picture):
            counts = self._write(manifest, dataset, picture, done)
        self.remove_parts()
        present = sorted(((name, n) for name, n in counts.items() if n), key=lambda item: -item[1])
        pixels = sum(counts.values())
        return picture.size, {name: round(n / pixels, 6) for name, n in present}

    def _write(
        self, manifest: Manifest, dataset: Any, picture: TiffPicture, done: Callable[[int, int], None]
    ) -> dict[str, int]:
        height, width = picture.size
        nodata = self._nodata(manifest, picture)
        dtype = "uint16" if nodata == 65535 or manifest.output.channels > 256 else "uint8"
        counts: dict[str, int] = {}
        with ExitStack() as stack:
            if self.overlay is not None:
                shown, _ = stack.enter_context(written(self.overlay, dataset, 3, "uint8", None))
            made, _ = stack.enter_context(written(self.mask, dataset, 1, dtype, nodata))
            if dtype == "uint8":
                made.write_colormap(1, {i: (*colour, 255) for i, colour in enumerate(manifest.palette)})
            for low, rows in self._rows(manifest, picture.size):
                at = slice(low, low + len(rows))
                missing = picture.missing(at, slice(0, width))
                seen = rows if missing is None else rows[~missing][None]
                for name, pixels in Segmentation(seen, manifest.classes, manifest.palette).counts().items():
                    counts[name] = counts.get(name, 0) + pixels
                window = ((at.start, at.stop), (0, width))
                if self.overlay is not None:
                    coloured = self._coloured(manifest, rows, picture.read(at, slice(0, width)), missing)
                    shown.write(np.moveaxis(coloured[..., ::-1], 2, 0), window=window)
                rows = rows.astype(dtype)
                if missing is not None and nodata is not None:
                    rows[missing] = nodata
                made.write(rows, 1, window=window)
                done(at.stop, height)
        return counts

    def _coloured(self, manifest: Manifest, rows: Mask, pixels: Array, missing: Array | None) -> Array:
        """The overlay; pixels without data keep their own colours."""
        shown: Array = Segmentation(rows, manifest.classes, manifest.palette).overlay(pixels, self.opacity)
        if missing is not None:
            shown[missing] = eight_bits(pixels)[missing]
        return shown

    def _nodata(self, manifest: Manifest, picture: TiffPicture) -> int | None:
        """The number of pixels without data in the mask, the largest of its type; None where the picture has all."""
        if picture.missing(slice(0, 1), slice(0, 1)) is None:
            return None
        return 255 if max(manifest.output.channels, 2) <= 255 else 65535

    def _rows(self, manifest: Manifest, size: tuple[int, int]) -> Iterator[tuple[int, Mask]]:
        """The mask from the top, some rows at a time."""
        dtype = np.uint8 if manifest.output.channels <= 256 else np.uint16
        ordered = sorted(parts(size, self.windows, manifest), key=lambda part: (part.top, part.left))
        kept: Array = np.empty((0, size[1]), dtype)
        low = 0
        for (top, bottom), row in groupby(ordered, key=lambda part: (part.top, part.bottom)):
            band = np.empty((bottom - top, size[1]), dtype)
            for part in row:
                content = np.frombuffer(zlib.decompress(self._file(part).read_bytes()), dtype)
                band[:, part.left : part.right] = content.reshape(bottom - top, part.right - part.left)
            kept = np.concatenate([kept, band]) if len(kept) else band
            full = len(kept) if bottom == size[0] else len(kept) // _ROWS * _ROWS  # whole blocks of the file
            for at in range(0, full, _ROWS):
                yield low + at, kept[at : min(at + _ROWS, full)]
            kept, low = kept[full:].copy(), low + full


def _is_temporary(path: Path) -> bool:
    """Whether a killed process left it."""
    return path.name.startswith(".picture.json.segc-")


def _require_shown(dataset: Any) -> None:
    """Refuse overlays of pixels whose range is known only when all are read. Raises UsageError."""
    if dataset.dtypes[0] not in ("uint8", "uint16"):
        raise UsageError(
            f"no overlay of {dataset.dtypes[0]} pixels is made by windows", code=Code.WINDOWS,
            because="they are stretched by the smallest and the largest of the whole picture", so="add --no-overlay",
        )  # fmt: skip
