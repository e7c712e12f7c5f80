"""Masks as COCO's run-length codes, GeoJSON and NumPy files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.runtime import exports
from segc.runtime.segmentation import Segmentation


def made(mask: np.ndarray) -> Segmentation:
    return Segmentation(mask, ("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 5), st.integers(0, 9))
def test_codes_are_those_of_pycocotools(height: int, width: int, classes: int, seed: int) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.integers(0, classes, (height, -(-width // 7))), 7, axis=1)[:, :width].astype(np.uint8)
    found = exports.run_lengths(made(mask))
    assert (found["height"], found["width"]) == mask.shape
    assert [one["id"] for one in found["classes"]] == np.unique(mask).tolist()
    for one in found["classes"]:
        want = coco.encode(np.asfortranarray(mask == one["id"], np.uint8))
        assert one["rle"] == {"size": list(want["size"]), "counts": want["counts"].decode()}
        assert one["pixels"] == int((mask == one["id"]).sum())


def test_long_runs_are_those_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((3000, 3000), np.uint8)
    mask[5, 7], mask[2999, 2999], mask[100:140, 900:2000] = 1, 2, 1
    for one in exports.run_lengths(made(mask))["classes"]:
        assert one["rle"]["counts"] == coco.encode(np.asfortranarray(mask == one["id"], np.uint8))["counts"].decode()


def test_polygons_give_the_mask_back() -> None:
    features = pytest.importorskip("rasterio.features")
    mask = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 4, (9, 13)), 3, axis=0), 2, axis=1).astype(np.uint8)
    found = exports.polygons(made(mask))
    assert {one["properties"]["name"] for one in found["features"]} == {"a", "b", "c", "class 3"}
    shapes = [(one["geometry"], one["properties"]["id"]) for one in found["features"]]
    np.testing.assert_array_equal(features.rasterize(shapes, mask.shape, fill=99, dtype="uint8"), mask)


def test_numpy_files_hold_the_mask() -> None:
    mask = np.arange(6, dtype=np.uint16).reshape(2, 3)
    with np.load(io.BytesIO(exports.npz(made(mask)))) as arrays:
        np.testing.assert_array_equal(arrays["mask"], mask)
        assert arrays["mask"].dtype == np.uint16 and arrays["classes"].tolist() == ["a", "b", "c"]
        assert arrays["palette"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
