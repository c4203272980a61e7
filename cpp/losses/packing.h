// Operands of any format to the layouts of the products, and results back. Exact, except the multiplication by `factor` and the last rounding.
// Included by head.simd.cpp alone.
#pragma once
#include "losses/product.h"

namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE {
namespace {

// count values of row `row` from column `first` on, widened and multiplied.
template <class Real> void widen_values(const Source& source, int64_t row, int64_t first, int64_t count, Real factor, Real* out) {
  const int64_t at = (source.index ? source.index[row] : row) * source.stride + first;
  using V = Vec<Real>;
  const V scale = V::all(factor);
  if constexpr (sizeof(Real) == 8) {
    const double* from = static_cast<const double*>(source.data) + at;
    for (int64_t i = 0; i < count; i += V::lanes) (V::load_first(from + i, count - i, 0) * scale).store_first(out + i, count - i);
  } else {
    const float* from = static_cast<const float*>(source.data) + at;
    const uint16_t* halves = static_cast<const uint16_t*>(source.data) + at;
    int64_t i = 0;
    switch (source.format) {
      case Format::bf16:
        for (; i + V::lanes <= count; i += V::lanes) (simd::load_bf16(halves + i) * scale).store(out + i);
        if (i < count) (simd::load_first_bf16(halves + i, count - i, 0) * scale).store_first(out + i, count - i);
        break;
      case Format::f16:
        for (; i + V::lanes <= count; i += V::lanes) (simd::load_f16(halves + i) * scale).store(out + i);
        if (i < count) (simd::load_first_f16(halves + i, count - i, 0) * scale).store_first(out + i, count - i);
        break;
      default:
        for (; i + V::lanes <= count; i += V::lanes) (V::load(from + i) * scale).store(out + i);
        if (i < count) (V::load_first(from + i, count - i, 0) * scale).store_first(out + i, count - i);
    }
  }
}

template <class Real> void pack_rows(const Source& source, int64_t rows, int64_t width, Real factor, Real* panels) {
  constexpr int64_t kChunk = 64;
  Real values[kChunk];
  for (int64_t first = 0; first < rows; first += kLanes<Real>) {
    Real* panel = panels + first * width;
    for (int64_t k = 0; k < width; k += kChunk) {
      const int64_t count = width - k < kChunk ? width - k : kChunk;
      for (int64_t lane = 0; lane < kLanes<Real>; ++lane) {
        Real* to = panel + k * kLanes<Real> + lane;
        if (first + lane < rows) {
          widen_values(source, first + lane, k, count, factor, values);
          for (int64_t i = 0; i < count; ++i) to[i * kLanes<Real>] = values[i];
        } else {
          for (int64_t i = 0; i < count; ++i) to[i * kLanes<Real>] = 0;
        }
      }
    }
  }
}

template <class Real> void pack_columns(const Source& source, int64_t rows, int64_t first, int64_t count, Real factor, Real* panel) {
  for (int64_t row = 0; row < rows; ++row) {
    Real* to = panel + row * kLanes<Real>;
    widen_values(source, row, first, count, factor, to);
    for (int64_t lane = count; lane < kLanes<Real>; ++lane) to[lane] = 0;
  }
}

template <class Real> void widen(const Source& source, int64_t rows, int64_t width, Real factor, Real* out) {
  for (int64_t row = 0; row < rows; ++row) widen_values(source, row, 0, width, factor, out + row * width);
}

template <class Real> void narrow(const Real* values, int64_t count, Format format, void* out) {
  using V = Vec<Real>;
  if constexpr (sizeof(Real) == 4) {
    if (format == Format::bf16 || format == Format::f16) {
      uint16_t* to = static_cast<uint16_t*>(out);
      for (int64_t i = 0; i < count; i += V::lanes) {
        const V x = V::load_first(values + i, count - i, 0);
        if (format == Format::bf16) {
          simd::store_first_bf16(x, to + i, count - i);
        } else {
          simd::store_first_f16(x, to + i, count - i);
        }
      }
      return;
    }
  }
  simd::copy_bytes(out, values, count * static_cast<int64_t>(sizeof(Real)));
}

// ---- pairs of bf16 --------------------------------------------------------------------------------------------------------------------------

inline const uint16_t* bf16_row(const Source& source, int64_t row) {
  return static_cast<const uint16_t*>(source.data) + (source.index ? source.index[row] : row) * source.stride;
}

void pack_pair_rows(const Source& source, int64_t rows, int64_t width, uint32_t* panels) {
  constexpr int64_t kRows = kLanes<float>;
  const int64_t pairs = (width + 1) / 2;
  for (int64_t first = 0; first < rows; first += kRows) {
    uint32_t* panel = panels + first * pairs;
    for (int64_t lane = 0; lane < kRows; ++lane) {
      const uint16_t* row = first + lane < rows ? bf16_row(source, first + lane) : nullptr;
      for (int64_t k = 0; k < pairs; ++k) {
        uint32_t pair = 0;
        if (row) pair = row[2 * k] | (2 * k + 1 < width ? static_cast<uint32_t>(row[2 * k + 1]) << 16 : 0);
        panel[k * kRows + lane] = pair;
      }
    }
  }
}

void pack_pair_columns(const Source& source, int64_t rows, int64_t first, int64_t count, uint32_t* panel) {
  for (int64_t row = 0; row < rows; row += 2) {
    const uint16_t* low = bf16_row(source, row) + first;
    const uint16_t* high = row + 1 < rows ? bf16_row(source, row + 1) + first : nullptr;
    for (int64_t i = 0; i < kLanes<float>; i += U32::lanes) {
      const int64_t left = count - i;
      const U32 x = left >= U32::lanes ? simd::load_as_u32(low + i) : simd::load_first_as_u32(low + i, left, 0);
      const U32 y = !high ? U32::all(0) : left >= U32::lanes ? simd::load_as_u32(high + i) : simd::load_first_as_u32(high + i, left, 0);
      (x | (y << 16)).store(panel + row / 2 * kLanes<float> + i);
    }
  }
}

}  // namespace
}  // namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE
