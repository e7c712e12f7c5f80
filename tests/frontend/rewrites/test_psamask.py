"""PSAMask against a slow loop written from the paper's definition, and against recorded calls of mmcv's kernel."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segc.frontend.rewrites.psamask import COLLECT, DISTRIBUTE, psa_mask  # noqa: E402
from tests.helpers.psamask import recorded  # noqa: E402


def attention_from_offsets(x: np.ndarray, psa_type: int, mask: tuple[int, int]) -> np.ndarray:
    """For every pair of positions: the weight that the one holds for the other, 0 where its mask does not reach."""
    n, _, height, width = x.shape
    out = np.zeros((n, height * width, height, width), x.dtype)
    for holder_y, holder_x in np.ndindex(height, width):
        for other_y, other_x in np.ndindex(height, width):
            down, right = other_y - holder_y + (mask[0] - 1) // 2, other_x - holder_x + (mask[1] - 1) // 2
            if not (0 <= down < mask[0] and 0 <= right < mask[1]):
                continue
            weight = x[:, down * mask[1] + right, holder_y, holder_x]
            if psa_type == COLLECT:  # the holder collects from the others
                out[:, other_y * width + other_x, holder_y, holder_x] = weight
            else:  # the holder distributes to the others
                out[:, holder_y * width + holder_x, other_y, other_x] = weight
    return out


@pytest.mark.parametrize("psa_type", [COLLECT, DISTRIBUTE])
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 5), (6, 3), (4, 7)])
@pytest.mark.parametrize("mask", [(1, 1), (3, 3), (4, 2), (5, 9), (13, 11)])
def test_equals_the_definition(psa_type: int, size: tuple[int, int], mask: tuple[int, int]) -> None:
    """Odd and even sizes, masks smaller and larger than the map."""
    x = np.random.default_rng(0).standard_normal((2, mask[0] * mask[1], *size)).astype(np.float32)
    result = psa_mask(torch.from_numpy(x), psa_type, mask).numpy()
    np.testing.assert_array_equal(result, attention_from_offsets(x, psa_type, mask))


def test_equals_mmcv_s_kernel_on_recorded_calls() -> None:
    cases = list(recorded())
    assert len(cases) == 10
    for case in cases:
        result = psa_mask(torch.from_numpy(case.x), case.psa_type, case.mask_size).numpy()
        np.testing.assert_array_equal(result, case.y, err_msg=case.name)
