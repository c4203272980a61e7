"""slipstick._cuda.losses without a device: the kernels' own source, compiled for the host, a loop in place of each launch."""

from __future__ import annotations

import ctypes
import functools
import importlib
import types

import host_library

i32, i64, f64, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class _Tile(ctypes.Structure):
    _fields_ = [
        ("format", i32), ("products", pointer), ("rows", i64), ("columns", i64), ("stride", i64), ("first_column", i64), ("vocabulary", i64),
        ("bias", pointer), ("scale", f64), ("factor", pointer), ("map", i32), ("cap", f64), ("targets", pointer), ("ignore", i64),
    ]  # fmt: skip


class _RowSums(ctypes.Structure):
    _fields_ = [("sums", pointer), ("stride", i64), ("argmax", pointer)]


class _Coefficients(ctypes.Structure):
    _fields_ = [*((name, pointer) for name in ("lse", "a", "b", "c", "d")), ("entries", i64), ("index", pointer), ("value", pointer)]


class Host:
    """The functions of slipstick._cuda.losses."""

    SEGMENT_COLUMNS = 1024

    def __init__(self, library):
        self.library = library
        for which, struct in enumerate((_Tile, _RowSums, _Coefficients)):
            assert library.slipstick_test_sizes(which) == ctypes.sizeof(struct)

    def statistics_bytes(self, format, rows, columns):
        return 0

    def add_statistics(self, place, tile, first, all, workspace, sums, stride, argmax):
        of_rows = _RowSums(sums, stride, argmax)
        self.library.slipstick_test_add_statistics(ctypes.byref(_Tile(*tile)), int(first), int(all), ctypes.byref(of_rows))

    def add_tops(self, place, tile, first, count, values, indices):
        self.library.slipstick_test_add_tops(ctypes.byref(_Tile(*tile)), int(first), i64(count), pointer(values), pointer(indices))

    def form_gradient(self, place, tile, lse, a, b, c, d, entries, index, value, out_format, out, out_stride):
        of = _Coefficients(lse, a, b, c, d, entries, index, value)
        self.library.slipstick_test_form_gradient(
            ctypes.byref(_Tile(*tile)), ctypes.byref(of), out_format, ctypes.c_void_p(out), i64(out_stride)
        )


@functools.cache
def compiled():
    """The library; skips where there is no compiler."""
    library = host_library.compiled("losses_tiles_host.cpp")
    library.slipstick_test_sizes.restype = i64
    return library


def cuda_operators(monkeypatch, library):
    """slipstick.losses._cuda, whose operators take tensors of the processor until the monkeypatch ends."""
    from slipstick import _extension

    host = Host(library)
    monkeypatch.setattr(_extension, "cuda_extension", lambda: types.SimpleNamespace(losses=host))
    module = importlib.import_module("slipstick.losses._cuda")
    monkeypatch.setattr(module, "_kernels", host)
    monkeypatch.setattr(module, "_place", lambda x: (0, 0))
    return module
