// Statistics of a tile of logits, [columns][lanes] with rows in lanes, merged into the running sums of its rows. The tile is in the first
// cache, so each statistic takes a pass of its own and costs nothing where it is not wanted. Included by head.simd.cpp alone.
//
// Sums of a tile are taken in Real and added in double. Subtracting the maximum is exact at the maximum, so the sum is at least 1 there.
#pragma once
#include "losses/product.h"

namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE {
namespace {

constexpr double kInfinite = __builtin_inf();

inline double exp_one(double x) { return simd::exp(F64::all(x)).v[0]; }

// Moves the running sums of a row from its maximum to a larger one.
template <class Real> void raise_maximum(const Partial<Real>& partial, int64_t row, Real maximum) {
  const double old = partial.maximum[row], shift = old - static_cast<double>(maximum);
  partial.maximum[row] = maximum;
  if (!partial.sum || partial.sum[row] == 0) return;
  const double factor = exp_one(shift);
  if (partial.weighted) partial.weighted[row] = factor * partial.weighted[row] + (factor == 0 ? 0 : factor * partial.sum[row] * shift);
  partial.sum[row] *= factor;
}

template <class Real> void add_to_doubles(Vec<Real> x, double* sums) {
  for (int64_t i = 0; i < Vec<Real>::lanes; ++i) sums[i] += static_cast<double>(x.v[i]);
}

// The row's best values stay sorted; an equal value of a higher column goes below.
template <class Real> void insert_top(const Partial<Real>& partial, int64_t row, Real value, int64_t column) {
  Real* values = partial.top_values + row * partial.topk;
  int64_t* indices = partial.top_indices + row * partial.topk;
  int64_t at = partial.topk - 1;
  if (indices[at] >= 0 && !(value > values[at])) return;
  for (; at > 0 && (indices[at - 1] < 0 || value > values[at - 1]); --at) {
    values[at] = values[at - 1];
    indices[at] = indices[at - 1];
  }
  values[at] = value;
  indices[at] = column;
}

// Adds the sums of e^(z - maximum), and of that times z - maximum. Two chains, with and without the second, so that lse is the same in both.
template <class Real, bool with_weighted>
void sum_exponentials(const Real* tile, int64_t stride, int64_t columns, Vec<Real> maximum, double* sums, double* weighted_sums) {
  using V = Vec<Real>;
  V sum[2] = {V::all(0), V::all(0)}, weighted[2] = {V::all(0), V::all(0)};
  const auto add = [&](int64_t v, int chain) {
    const V below = V::load(tile + v * stride) - maximum, e = exp_of_negative(below);
    sum[chain] = sum[chain] + e;
    if constexpr (with_weighted) weighted[chain] = multiply_add(e, max_or_second(V::all(kVanish), below), weighted[chain]);
  };
  int64_t v = 0;
  for (; v + 2 <= columns; v += 2) {
    add(v, 0);
    add(v + 1, 1);
  }
  if (v < columns) add(v, 0);
  add_to_doubles(sum[0] + sum[1], sums);
  if constexpr (with_weighted) add_to_doubles(weighted[0] + weighted[1], weighted_sums);
}

// `tile` points at the first column's lanes of this vector, `row` is the row of lane 0.
template <class Real> void vector_statistics(const Real* tile, int64_t stride, int64_t columns, int64_t first_column, int64_t row,
                                             const Partial<Real>& partial) {
  using V = Vec<Real>;
  V even = V::all(static_cast<Real>(-kInfinite)), odd = even;
  int64_t v = 0;
  for (; v + 2 <= columns; v += 2) {   // a NaN goes as soon as a number follows; the sums keep it
    even = max_or_second(even, V::load(tile + v * stride));
    odd = max_or_second(odd, V::load(tile + (v + 1) * stride));
  }
  if (v < columns) even = max_or_second(even, V::load(tile + v * stride));
  const V best = max_or_second(odd, even), old = V::load(partial.maximum + row);

  if (partial.topk > 0) {
    for (int64_t lane = 0; lane < V::lanes; ++lane) {
      const int64_t last = (row + lane + 1) * partial.topk - 1;
      if (partial.top_indices[last] >= 0 && best.v[lane] <= partial.top_values[last]) continue;
      for (int64_t column = 0; column < columns; ++column) {
        const Real z = tile[column * stride + lane];
        if (z == z) insert_top(partial, row + lane, z, first_column + column);
      }
    }
  }
  if (!all_of(best <= old)) {
    for (int64_t lane = 0; lane < V::lanes; ++lane) {
      if (!(best.v[lane] > old.v[lane])) continue;
      raise_maximum(partial, row + lane, best.v[lane]);
      if (partial.argmax) {
        int64_t column = 0;
        while (tile[column * stride + lane] != best.v[lane]) ++column;
        partial.argmax[row + lane] = first_column + column;
      }
    }
  }
  if (partial.sum) {
    // Infinite maxima are held finite: then all -inf gives tiny terms, and +inf gives one for each.
    const V maximum = clamp_keep_nan(V::load(partial.maximum + row), V::all(-kLargest<Real>), V::all(kLargest<Real>));
    if (partial.weighted) {
      sum_exponentials<Real, true>(tile, stride, columns, maximum, partial.sum + row, partial.weighted + row);
    } else {
      sum_exponentials<Real, false>(tile, stride, columns, maximum, partial.sum + row, nullptr);
    }
  }
  if (partial.first) {
    V first = V::all(0), second = V::all(0);
    for (v = 0; v < columns; ++v) {
      const V z = V::load(tile + v * stride);
      first = first + z;
      second = multiply_add(z, z, second);
    }
    add_to_doubles(first, partial.first + row);
    add_to_doubles(second, partial.second + row);
  }
}

template <class Real> void tile_statistics(const Real* tile, int64_t stride, int64_t columns, int64_t lanes, int64_t first_column,
                                           int64_t row, const Partial<Real>& partial) {
  for (int64_t lane = 0; lane < lanes; lane += Vec<Real>::lanes)
    vector_statistics(tile + lane, stride, columns, first_column, row + lane, partial);
  if (partial.target) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t column = partial.target_index[row + lane] - first_column;
      if (column >= 0 && column < columns) partial.target[row + lane] = tile[column * stride + lane];
    }
  }
}

}  // namespace
}  // namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE
