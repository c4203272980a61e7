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

    def waves(self, kind, rows, n, d):
        """How many waves, and how many steps of a job one has."""
        out = (i64 * 2)()
        self.library.slipstick_test_waves(kind, rows, n, d, out)
        return tuple(out)

    def residual_most_rights(self, columns):
        return self.library.slipstick_test_residual_most_rights(columns)

    def residual_bytes(self, *sizes):
        return self.library.slipstick_test_residual_bytes(*sizes)

    def residual(self, place, *arguments):
        self.library.slipstick_test_residual(*arguments)


@functools.cache
def compiled():
    """The library; skips where there is no compiler."""
    library = host_library.compiled("sketch_scatter_host.cpp")
    library.slipstick_test_sketch_bytes.restype = i64
    library.slipstick_test_sketch_bytes.argtypes = [i32, *[i64] * 4, u64]
    library.slipstick_test_sketch.argtypes = [i32, u64, i64, i64, pointer, i32, *[i64] * 4, pointer, u64, pointer, pointer]
    library.slipstick_test_sketch.restype = None
    library.slipstick_test_waves.argtypes = [i32, *[i64] * 3, ctypes.POINTER(i64)]
    library.slipstick_test_waves.restype = None
    library.slipstick_test_residual_most_rights.restype = i64
    library.slipstick_test_residual_most_rights.argtypes = [i64]
    library.slipstick_test_residual_bytes.restype = i64
    library.slipstick_test_residual_bytes.argtypes = [i64] * 3
    library.slipstick_test_residual.argtypes = [pointer, i32, *[i64] * 4, pointer, i32, *[i64] * 3, *[pointer] * 4]
    library.slipstick_test_residual.restype = None
    return library
