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


class _TwoTiles(ctypes.Structure):
    _fields_ = [("first", _Tile), ("second", _Tile)]


class _DivergenceCoefficients(ctypes.Structure):
    _fields_ = [
        (name, pointer)
        for name in (
            "first_lse", "second_lse", "by_forward", "by_reverse", "by_first_lse", "by_second_lse", "forward_mean", "reverse_mean"
        )
    ]  # fmt: skip


class _CombinedCoefficients(ctypes.Structure):
    _fields_ = [("coefficient", f64), *((name, pointer) for name in ("least", "lse", "by_lse", "by_target"))]


def _two_tiles(one, other):
    return ctypes.byref(_TwoTiles(_Tile(*one), _Tile() if other is None else _Tile(*other)))


class Host:
    """The functions of slipstick._cuda.losses."""

    SEGMENT_COLUMNS = 1024

    def __init__(self, library):
        self.library = library
        for which, struct in enumerate((_Tile, _RowSums, _Coefficients, _TwoTiles, _DivergenceCoefficients, _CombinedCoefficients)):
            assert library.slipstick_test_sizes(which) == ctypes.sizeof(struct)

    def statistics_bytes(self, format, rows, columns):
        return 0

    def add_statistics(self, place, tile, first, all, workspace, sums, stride, argmax):
        of_rows = _RowSums(sums, stride, argmax)
        self.library.slipstick_test_add_statistics(ctypes.byref(_Tile(*tile)), int(first), int(all), ctypes.byref(of_rows))

    def add_tops(self, place, tile, first, count, values, indices):
        self.library.slipstick_test_add_tops(ctypes.byref(_Tile(*tile)), int(first), i64(count), pointer(values), pointer(indices))

    filter_bytes = divergence_bytes = statistics_bytes

    def form_gradient(self, place, tile, lse, a, b, c, d, entries, index, value, eps, dropped, workspace, out_format, out, out_stride):
        of = _Coefficients(lse, a, b, c, d, entries, index, value)
        self.library.slipstick_test_form_gradient(
            ctypes.byref(_Tile(*tile)), ctypes.byref(of), f64(eps), pointer(dropped), out_format, pointer(out), i64(out_stride)
        )

    def add_divergence(self, place, one, other, kind, mixture, first_lse, second_lse, first, workspace, sums, stride):
        rows = pointer(first_lse), pointer(second_lse)
        self.library.slipstick_test_add_divergence(
            _two_tiles(one, other), kind, f64(mixture), *rows, int(first), pointer(sums), i64(stride)
        )

    def form_divergence_gradient(self, place, one, other, kind, mixture, rows, to_first, to_second):
        of, to = ctypes.byref(_DivergenceCoefficients(*rows)), (pointer(to_first), pointer(to_second))
        self.library.slipstick_test_form_divergence_gradient(_two_tiles(one, other), kind, f64(mixture), of, *to)

    def combine(self, place, one, other, coefficient, least, out):
        self.library.slipstick_test_combine(_two_tiles(one, other), f64(coefficient), pointer(least), pointer(out))

    def form_combined_gradient(self, place, one, other, coefficient, least, lse, by_lse, by_target, to_first, to_second):
        of = ctypes.byref(_CombinedCoefficients(coefficient, least, lse, by_lse, by_target))
        self.library.slipstick_test_form_combined_gradient(_two_tiles(one, other), of, pointer(to_first), pointer(to_second))


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


def in_public_functions(monkeypatch, library):
    """slipstick.losses takes the operators for CUDA with tensors of the processor, until the monkeypatch ends."""
    from slipstick.losses import _operators

    importlib.import_module("slipstick.losses._two_heads")  # registers its operators
    of_one = cuda_operators(monkeypatch, library)
    of_two = importlib.import_module("slipstick.losses._cuda_two_heads")
    kernels = {
        "row_statistics": of_one._row_statistics,
        "row_statistics_backward": of_one._row_statistics_backward,
        "cross_entropy_and_gradients": of_one._cross_entropy,
        "two_head_divergence": of_two._divergence,
        "two_head_divergence_backward": of_two._divergence_backward,
        "combined_statistics": of_two._combined,
        "combined_statistics_backward": of_two._combined_backward,
        "kth_largest_logit": of_two._kth_largest,
    }
    for name, kernel in kernels.items():
        monkeypatch.setitem(_operators._KERNELS, name, kernel)
