"""Element types, as NumPy and ONNX number them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.helper

F16, F32 = np.dtype(np.float16), np.dtype(np.float32)


def dtype_of(dtype: Any) -> np.dtype[Any] | None:
    """The NumPy type of a NumPy type or of an ONNX type number."""
    if dtype is None:
        return None
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(dtype) if isinstance(dtype, int) else dtype)


def holds(wide: np.dtype[Any] | None, narrow: np.dtype[Any] | None) -> bool:
    """Whether every value of `narrow` survives a cast to `wide` and back. False for the floats of ml_dtypes."""
    if wide is None or narrow is None or wide.kind not in "iufb" or narrow.kind not in "iufb":
        return False
    return bool(np.can_cast(narrow, wide, "safe"))
