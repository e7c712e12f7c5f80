"""The part of the CUDA driver API that running an engine needs, called through ctypes: no further package is needed.

Every call raises CudaError with the driver's message. Pointers are ints.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import numpy as np

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class CudaError(RuntimeError):
    """The CUDA driver returned an error, or is not installed."""


@cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise CudaError(f"no NVIDIA driver: {error}") from error


def _call(name: str, *arguments: Any) -> None:
    code = getattr(_driver(), name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(code, ctypes.byref(text))
        raise CudaError(f"{name}: {(text.value or b'unknown error').decode()} (CUDA error {code})")


class Device:
    """The first GPU, with its primary context, which TensorRT uses too, and one stream."""

    def __init__(self) -> None:
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuInit", 0)
        _call("cuDeviceGet", ctypes.byref(device), 0)
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context
        self.make_current()
        _call("cuStreamCreate", ctypes.byref(stream), 1)  # 1: does not wait for the default stream
        self.stream = int(stream.value or 0)

    def make_current(self) -> None:
        """Make this device the calling thread's current one."""
        _call("cuCtxSetCurrent", self._context)

    def synchronize(self) -> None:
        """Wait until the stream has finished."""
        _call("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def upload(self, x: np.ndarray, to: Buffer) -> None:
        """Enqueue a copy of a contiguous array to the device."""
        _call("cuMemcpyHtoDAsync_v2", _pointer(to.address), _host(x), _size(x.nbytes), _pointer(self.stream))

    def download(self, y: np.ndarray, source: Buffer) -> None:
        """Enqueue a copy from the device into a contiguous array; complete after `synchronize`."""
        _call("cuMemcpyDtoHAsync_v2", _host(y), _pointer(source.address), _size(y.nbytes), _pointer(self.stream))


class Buffer:
    """Device memory that grows on demand and is freed with the object. size: bytes."""

    def __init__(self) -> None:
        self.address, self.size = 0, 0

    def reserve(self, size: int) -> int:
        """Make the buffer hold at least `size` bytes and return its address; growing discards its content."""
        if size > self.size:
            self.close()
            address = ctypes.c_uint64()
            _call("cuMemAlloc_v2", ctypes.byref(address), _size(max(size, 1)))
            self.address, self.size = int(address.value), size
        return self.address

    def close(self) -> None:
        """Free the memory."""
        if self.address:
            _driver().cuMemFree_v2(ctypes.c_uint64(self.address))
        self.address, self.size = 0, 0

    def __del__(self) -> None:
        self.close()


def _pointer(address: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(address)


def _size(count: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(count)


def _host(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
