"""Paths typed by a user, including names that no file can have and circular links."""

from __future__ import annotations

from pathlib import Path

# The extensions that `segc run FOLDER` takes for images.
IMAGE_EXTENSIONS = frozenset(
    {".bmp", ".jpeg", ".jpg", ".jp2", ".png", ".pnm", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder. False for a name that no file can have: reading it gives the error."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def resolved(path: Path) -> Path:
    """The path with links followed; the absolute path if links form a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path.absolute()
