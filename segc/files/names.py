"""Names that a user may type: also those that no file can have, and links that lead in a circle."""

from __future__ import annotations

from pathlib import Path

# Files with these names are images, in a folder that is given to segc run.
IMAGE_EXTENSIONS = frozenset(
    {".bmp", ".jpeg", ".jpg", ".jp2", ".png", ".pnm", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)


def is_folder(path: Path) -> bool:
    """Whether it is one; a name that no file can have is none, which reading it says."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def resolved(path: Path) -> Path:
    """Where it leads, or itself where links lead in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path.absolute()
