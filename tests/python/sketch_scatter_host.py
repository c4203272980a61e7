"""slipstick._cuda.sketch without a device: the kernels' own source, compiled for the host, a loop in place of each launch."""

from __future__ import annotations

import ctypes
import functools

import host_library

i32, i64, u64, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p


class Host:
    """The functions of slipstick._cuda.sketch."""

    def __init__(self, library):
        self.library = library

    def sketch_bytes(self, *sizes):
        return self.library.slipstick_test_sketch_bytes(*sizes)

    def sketch(self, place, *arguments):
        self.library.slipstick_test_sketch(*arguments)

    RESIDUAL_MOST_COLUMNS = 4096

    def residual_bytes(self, *sizes):
        return self.library.slipstick_test_residual_bytes(*sizes)

    def residual(self, place, *arguments):
        self.library.slipstick_test_residual(*arguments)


@functools.cache
def compiled():
    """The library; skips where there is no compiler."""
    library = host_library.compiled("sketch_scatter_host.cpp")
    library.slipstick_test_sketch_bytes.restype = i64
    library.slipstick_test_sketch_bytes.argtypes = [i32, *[i64] * 4]
    library.slipstick_test_sketch.argtypes = [i32, u64, i64, i64, pointer, i32, *[i64] * 4, pointer, u64, pointer, pointer]
    library.slipstick_test_sketch.restype = None
    library.slipstick_test_residual_bytes.restype = i64
    library.slipstick_test_residual_bytes.argtypes = [i64, i64]
    library.slipstick_test_residual.argtypes = [pointer, i32, *[i64] * 4, pointer, i32, i64, *[pointer] * 4]
    library.slipstick_test_residual.restype = None
    return library
