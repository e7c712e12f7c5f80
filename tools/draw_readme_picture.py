"""Make docs/pictures/photo-and-mask.jpg: a photograph, and beside it the mask that the shipped street model gives.

    python tools/draw_readme_picture.py

The photograph is china.jpg of scikit-learn; docs/pictures/NOTICE.md names its author and licence.
"""

from __future__ import annotations

import importlib.resources
import tempfile
from pathlib import Path

import cv2
import numpy as np

import segc

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "photo-and-mask.jpg"
STREET = ROOT / "examples" / "street_scenes"
SEAM = 6  # white columns between the two


def main() -> None:
    """Compile, segment, write the picture."""
    source = importlib.resources.files("sklearn.datasets.images").joinpath("china.jpg")
    photo = cv2.imdecode(np.frombuffer(source.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    with tempfile.TemporaryDirectory() as folder:
        bundle = segc.compile(
            STREET / "fast_scnn_street.py",
            checkpoint=STREET / "fast_scnn_street.pth",
            dynamic=True,
            out=Path(folder) / "street",
        )
        result = segc.load(bundle.path).segment(photo)
    seam = np.full((len(photo), SEAM, 3), 255, np.uint8)
    both = np.hstack([photo, seam, result.overlay(photo, opacity=1)])
    cv2.imwrite(str(PICTURE), both, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
