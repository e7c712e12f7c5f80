"""What one image can do to memory and to OpenCV, as an error of that image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segc.errors import Code, FileError


@contextmanager
def errors_of_images(path: Path) -> Iterator[None]:
    """Raise FileError, which names the image, in place of MemoryError and of OpenCV's own exception."""
    import cv2

    try:
        yield
    except (MemoryError, cv2.error) as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise FileError(
                f"the image {path} cannot be segmented", code=Code.IMAGE_TOO_LARGE, because="memory ran out",
                so="cut it into tiles",
            ) from error  # fmt: skip
        raise FileError(
            f"the image {path} cannot be segmented", code=Code.IMAGE_UNREADABLE, because=str(error),
            so="convert it to PNG",
        ) from error  # fmt: skip
