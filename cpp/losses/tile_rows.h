// Rows of a tile of logits on CUDA: their statistics, and their gradients. What one lane of a warp does, as plain functions, so that the host runs
// them too and a test sees the same arithmetic.
//
// A warp takes kSegment columns of one row, 32 of them a lane, in registers: so the tile is read once. Lanes join in a butterfly, segments of a row
// one after the other in the order of their columns: the order of every sum is fixed, and no memory is added to by two. Sums of a segment are
// taken in the type of the tile, sums of a row in double.
#pragma once
#include <cmath>
#include <limits>
#include <string>

#include "base/host_device.h"
#include "slipstick/error.h"
#include "slipstick/losses_cuda.h"

namespace slipstick::losses::tile {

constexpr int kLanes = 32;
constexpr int kSegment = static_cast<int>(cuda::kSegmentColumns);
constexpr int kPerLane = kSegment / kLanes;
template <class Real> constexpr int kPack = 16 / static_cast<int>(sizeof(Real));  // what a lane reads at once

SLIPSTICK_HOST_DEVICE inline float exponential(float x) { return ::expf(x); }
SLIPSTICK_HOST_DEVICE inline double exponential(double x) { return ::exp(x); }
SLIPSTICK_HOST_DEVICE inline float tangent(float x) { return ::tanhf(x); }
SLIPSTICK_HOST_DEVICE inline double tangent(double x) { return ::tanh(x); }
SLIPSTICK_HOST_DEVICE inline float log_of_one_plus(float x) { return ::log1pf(x); }
SLIPSTICK_HOST_DEVICE inline double log_of_one_plus(double x) { return ::log1p(x); }
SLIPSTICK_HOST_DEVICE inline float magnitude(float x) { return ::fabsf(x); }
SLIPSTICK_HOST_DEVICE inline double magnitude(double x) { return ::fabs(x); }
template <class Real> SLIPSTICK_HOST_DEVICE inline Real infinite() { return static_cast<Real>(INFINITY); }
template <class Real> SLIPSTICK_HOST_DEVICE inline Real largest() {
  return sizeof(Real) == 4 ? static_cast<Real>(0x1.fffffep127) : static_cast<Real>(0x1.fffffffffffffp1023);
}
// An infinite maximum as a number, so that its difference to itself is 0.
template <class Real> SLIPSTICK_HOST_DEVICE inline Real held(Real maximum) {
  if (maximum > largest<Real>()) return largest<Real>();
  return maximum < -largest<Real>() ? -largest<Real>() : maximum;
}

// cuda::Tile with its types.
template <class Real> struct Tile {
  const Real* products;
  int64_t rows, columns, stride, first_column, vocabulary;
  const Real* bias;  // of the tile's first column, or null
  double scale;
  const double* factor;
  LogitMap map;
  Real cap;
  const int64_t* targets;
  int64_t ignore;
  bool aligned;  // whole packs lie at multiples of their size
};

template <class Real> SLIPSTICK_HOST_DEVICE inline Real scale_of(const Tile<Real>& tile) {
  return static_cast<Real>(tile.factor ? times(tile.scale, *tile.factor) : tile.scale);
}

template <class Real> SLIPSTICK_HOST_DEVICE inline Real map_logit(LogitMap map, Real cap, Real z) {
  if (map == LogitMap::none) return z;
  if (map == LogitMap::softcap) return times(cap, tangent(over(z, cap)));
  const Real mapped = log_of_one_plus(magnitude(z));
  return z < 0 ? -mapped : mapped;
}
// Derivative of the map, from the mapped logit.
template <class Real> SLIPSTICK_HOST_DEVICE inline Real map_slope(LogitMap map, Real cap, Real z) {
  if (map == LogitMap::none) return 1;
  if (map == LogitMap::stablemax) return exponential(-magnitude(z));
  const Real share = over(z, cap);
  return times(minus(Real{1}, share), plus(Real{1}, share));
}

template <class Real> SLIPSTICK_HOST_DEVICE inline Real logit(const Tile<Real>& tile, Real scale, Real product, int64_t column) {
  const Real z = tile.bias ? plus(product, tile.bias[column]) : product;
  return map_logit(tile.map, tile.cap, times(scale, z));
}

// Column of a lane's number i within the segment: packs of all lanes lie side by side.
template <class Real> SLIPSTICK_HOST_DEVICE inline int column_of(int lane, int i) {
  return (i / kPack<Real> * kLanes + lane) * kPack<Real> + i % kPack<Real>;
}

template <class T, int n> struct alignas(sizeof(T) * n) Pack {
  T at[n];
};

// Logits from a column of the tile on; -inf behind its last column.
template <class Real>
SLIPSTICK_HOST_DEVICE inline void load_logits(const Tile<Real>& tile, Real scale, int64_t row, int64_t column, Real (&z)[kPack<Real>]) {
  constexpr int n = kPack<Real>;
  const Real* const from = tile.products + row * tile.stride + column;
  Pack<Real, n> pack;
  if (tile.aligned && column + n <= tile.columns) {
    pack = *reinterpret_cast<const Pack<Real, n>*>(from);
  } else {
    SLIPSTICK_UNROLL
    for (int k = 0; k < n; ++k) pack.at[k] = column + k < tile.columns ? from[k] : Real{0};
  }
  SLIPSTICK_UNROLL
  for (int k = 0; k < n; ++k) z[k] = column + k < tile.columns ? logit(tile, scale, pack.at[k], column + k) : -infinite<Real>();
}

// The lane's logits of a segment that begins at column `begin` of the tile.
template <class Real>
SLIPSTICK_HOST_DEVICE inline void load_lane(const Tile<Real>& tile, int64_t row, int64_t begin, int lane, Real (&z)[kPerLane]) {
  const Real scale = scale_of(tile);
  SLIPSTICK_UNROLL
  for (int i = 0; i < kPerLane; i += kPack<Real>) {
    Real pack[kPack<Real>];
    load_logits(tile, scale, row, begin + column_of<Real>(lane, i), pack);
    SLIPSTICK_UNROLL
    for (int k = 0; k < kPack<Real>; ++k) z[i + k] = pack[k];
  }
}

// ---- statistics -----------------------------------------------------------------------------------------------------------------------------

// Of the numbers of a lane, then of lanes together. NaN never is a maximum; the sums keep it.
template <class Real> struct Maximum {
  Real value;
  int column;
};
template <class Real> SLIPSTICK_HOST_DEVICE inline Maximum<Real> join(const Maximum<Real>& a, const Maximum<Real>& b) {
  const bool second = b.value > a.value || (b.value == a.value && b.column < a.column);
  return second ? b : a;
}
template <class Real> SLIPSTICK_HOST_DEVICE inline Maximum<Real> lane_maximum(const Real (&z)[kPerLane], int lane) {
  Maximum<Real> most{-infinite<Real>(), column_of<Real>(lane, 0)};
  SLIPSTICK_UNROLL
  for (int i = 0; i < kPerLane; ++i) {
    if (z[i] > most.value) most = {z[i], column_of<Real>(lane, i)};
  }
  return most;
}

template <class Real> struct Sums {
  Real exponentials, weighted;  // of e^(z - maximum), and of that times z - maximum
  Real first, second;  // of z and z^2
};
template <class Real> SLIPSTICK_HOST_DEVICE inline Sums<Real> join(const Sums<Real>& a, const Sums<Real>& b) {
  return {plus(a.exponentials, b.exponentials), plus(a.weighted, b.weighted), plus(a.first, b.first), plus(a.second, b.second)};
}
// left: columns of the tile from the segment's first on. The sum of exponentials is the same bits with and without the others.
template <class Real, bool all>
SLIPSTICK_HOST_DEVICE inline Sums<Real> lane_sums(const Real (&z)[kPerLane], int lane, int64_t left, Real maximum) {
  const Real top = held(maximum);
  Sums<Real> sums{0, 0, 0, 0};
  SLIPSTICK_UNROLL
  for (int i = 0; i < kPerLane; ++i) {
    Real below = minus(z[i], top);
    if (below > 0) below = 0;  // +inf above the largest number
    const Real e = exponential(below);
    sums.exponentials = plus(sums.exponentials, e);
    if (!all) continue;
    if (e != 0) sums.weighted = plus(sums.weighted, times(e, below));  // 0 times -inf is meant as 0
    const Real counted = column_of<Real>(lane, i) < left ? z[i] : Real{0};
    sums.first = plus(sums.first, counted);
    sums.second = plus(sums.second, times(counted, counted));
  }
  return sums;
}

template <class Real> struct Partial {
  Maximum<Real> maximum;
  Sums<Real> sums;
};

// The row's sums join those of the tile's segments; by one thread a row.
template <class Real>
SLIPSTICK_HOST_DEVICE inline void add_row(const Tile<Real>& tile, const Partial<Real>* partials, int64_t row, bool first,
                                          const cuda::RowSums& out) {
  double* const of_row = out.sums + row;
  const int64_t stride = out.stride, segments = (tile.columns + kSegment - 1) / kSegment;
  double maximum = -infinite<double>(), sums[4] = {0, 0, 0, 0}, target = 0;
  int64_t argmax = 0;
  if (!first) {
    maximum = of_row[0];
    for (int i = 0; i < 4; ++i) sums[i] = of_row[(1 + i) * stride];
    target = of_row[5 * stride];
    argmax = out.argmax[row];
  }
  for (int64_t segment = 0; segment < segments; ++segment) {
    const Partial<Real> part = partials[segment * tile.rows + row];
    const auto value = static_cast<double>(part.maximum.value);
    const bool rises = value > maximum;
    const double top = rises ? value : maximum;
    const double shift = minus(held(maximum), held(top)), more_shift = minus(held(value), held(top));
    const double factor = exponential(shift), more = exponential(more_shift);
    double weighted = 0;
    if (factor > 0) weighted = times(factor, plus(sums[1], times(shift, sums[0])));
    if (more > 0) {
      const double added = plus(static_cast<double>(part.sums.weighted), times(more_shift, static_cast<double>(part.sums.exponentials)));
      weighted = plus(weighted, times(more, added));
    }
    sums[0] = plus(times(factor, sums[0]), times(more, static_cast<double>(part.sums.exponentials)));
    sums[1] = weighted;
    sums[2] = plus(sums[2], static_cast<double>(part.sums.first));
    sums[3] = plus(sums[3], static_cast<double>(part.sums.second));
    if (rises) argmax = tile.first_column + segment * kSegment + part.maximum.column;
    maximum = top;
  }
  if (tile.targets) {
    const int64_t index = tile.targets[row], column = index - tile.first_column;
    if (index < 0 || index >= tile.vocabulary) {
      target = static_cast<double>(NAN);  // no class: the caller zeroes rows that are ignored
    } else if (column >= 0 && column < tile.columns) {
      target = static_cast<double>(logit(tile, scale_of(tile), tile.products[row * tile.stride + column], column));
    }
  }
  of_row[0] = maximum;
  for (int i = 0; i < 4; ++i) of_row[(1 + i) * stride] = sums[i];
  of_row[5 * stride] = target;
  out.argmax[row] = argmax;
}

// ---- gradients ------------------------------------------------------------------------------------------------------------------------------

constexpr double kVanish = -87;  // e^x below it counts as 0

// Coefficients of a row in the type of the tile; lse in two parts whose sum it is.
template <class Real> struct RowCoefficients {
  Real high, low, a, b, c, d;
};
template <class Real> SLIPSTICK_HOST_DEVICE inline Real number_at(const double* values, int64_t row) {
  return values ? static_cast<Real>(values[row]) : Real{0};
}
// A number as two whose sum it is; infinities and NaN in the first.
template <class Real> SLIPSTICK_HOST_DEVICE inline void split_number(double x, Real& high, Real& low) {
  high = static_cast<Real>(x);
  low = x - x == 0 ? static_cast<Real>(minus(x, static_cast<double>(high))) : Real{0};
}
template <class Real> SLIPSTICK_HOST_DEVICE inline RowCoefficients<Real> row_coefficients(const Coefficients& of, int64_t row) {
  RowCoefficients<Real> out;
  split_number(of.lse ? of.lse[row] : 0, out.high, out.low);
  out.a = number_at<Real>(of.a, row);
  out.b = number_at<Real>(of.b, row);
  out.c = number_at<Real>(of.c, row);
  out.d = number_at<Real>(of.d, row);
  return out;
}

// e^x, at most 1.
template <class Real> SLIPSTICK_HOST_DEVICE inline Real probability(Real x) {
  if (x < static_cast<Real>(kVanish)) return 0;
  return exponential(x > 0 ? Real{0} : x);
}
template <class Real> SLIPSTICK_HOST_DEVICE inline Real probability(const RowCoefficients<Real>& row, Real z) {
  return probability(minus(minus(z, row.high), row.low));
}

// The part of a row's gradient that a filter dropped, without the scale.
template <class Real> struct Dropped {
  Real sum;
};
template <class Real> SLIPSTICK_HOST_DEVICE inline Dropped<Real> join(const Dropped<Real>& a, const Dropped<Real>& b) {
  return {plus(a.sum, b.sum)};
}

// Logits from a column on become gradients by the products of hidden and weight. filtered: p (a + b z) times the map's slope is dropped where it is
// below the bound; single entries never are.
template <bool filtered, class Real>
SLIPSTICK_HOST_DEVICE inline void gradient_of(const Tile<Real>& tile, const Coefficients& of, const RowCoefficients<Real>& row_of,
                                              Real scale, Real bound, int64_t row, int64_t column, Real (&z)[kPack<Real>],
                                              Dropped<Real>& dropped) {
  const bool softmax = of.a || of.b;
  Real slope[kPack<Real>];
  SLIPSTICK_UNROLL
  for (int i = 0; i < kPack<Real>; ++i) {
    const Real of_map = map_slope(tile.map, tile.cap, z[i]);
    slope[i] = times(scale, of_map);
    Real g = 0;
    if (softmax) {
      const Real finite = z[i] < -largest<Real>() ? -largest<Real>() : z[i];  // 0 times -inf is meant as 0
      const Real inner = of.b ? plus(row_of.a, times(row_of.b, finite)) : row_of.a;
      g = times(probability(row_of, z[i]), inner);
    }
    if (filtered) {
      const Real element = times(g, of_map);
      if (magnitude(element) < bound) {  // false for NaN, which is to be seen
        if (column + i < tile.columns) dropped.sum = plus(dropped.sum, element);
        g = 0;
      }
    }
    if (of.c) g = plus(g, times(row_of.c, z[i]));
    z[i] = plus(g, row_of.d);
  }
  for (int64_t k = 0; k < of.entries; ++k) {
    const int64_t at = of.index[row * of.entries + k] - tile.first_column - column;
    SLIPSTICK_UNROLL
    for (int i = 0; i < kPack<Real>; ++i)
      if (at == i) z[i] = plus(z[i], static_cast<Real>(of.value[row * of.entries + k]));
  }
  SLIPSTICK_UNROLL
  for (int i = 0; i < kPack<Real>; ++i) z[i] = times(z[i], slope[i]);
}

SLIPSTICK_HOST_DEVICE inline uint16_t bfloat16_of(float x) {
  const uint32_t word = bits_of(x);
  if ((word & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(word >> 16 | 0x40);
  return static_cast<uint16_t>((word + 0x7fffu + (word >> 16 & 1)) >> 16);
}
template <class Out, class Real> SLIPSTICK_HOST_DEVICE inline Out stored(Real x);
template <> SLIPSTICK_HOST_DEVICE inline float stored<float, float>(float x) { return x; }
template <> SLIPSTICK_HOST_DEVICE inline double stored<double, double>(double x) { return x; }
template <> SLIPSTICK_HOST_DEVICE inline uint16_t stored<uint16_t, float>(float x) { return bfloat16_of(x); }

template <class Out, class Real>
SLIPSTICK_HOST_DEVICE inline void store_gradient(const Real (&z)[kPack<Real>], int64_t valid, bool aligned, Out* to) {
  constexpr int n = kPack<Real>;
  Pack<Out, n> pack;
  SLIPSTICK_UNROLL
  for (int k = 0; k < n; ++k) pack.at[k] = stored<Out>(z[k]);
  if (aligned && valid >= n) {
    *reinterpret_cast<Pack<Out, n>*>(to) = pack;
    return;
  }
  SLIPSTICK_UNROLL
  for (int k = 0; k < n; ++k)
    if (k < valid) to[k] = pack.at[k];
}

// Whether a row is to be skipped, or has a target that is no class.
struct RowKind {
  bool skipped, wrong;
};
template <class Real> SLIPSTICK_HOST_DEVICE inline RowKind kind_of_row(const Tile<Real>& tile, int64_t row) {
  const int64_t target = tile.targets ? tile.targets[row] : 0;
  const bool skipped = tile.targets && target == tile.ignore;
  return {skipped, tile.targets && !skipped && (target < 0 || target >= tile.vocabulary)};
}

// The lane's part of a segment. out: [rows, columns] as the tile's, rows `stride` apart; it may be the tile. Gives what a filter of eps dropped.
template <bool filtered, class Real, class Out>
SLIPSTICK_HOST_DEVICE inline Dropped<Real> lane_gradient(const Tile<Real>& tile, const Coefficients& of, double eps, int64_t row,
                                                         int64_t begin, int lane, Out* out, int64_t stride, bool aligned) {
  const Real scale = scale_of(tile);
  const RowKind kind = kind_of_row(tile, row);
  const RowCoefficients<Real> row_of = row_coefficients<Real>(of, row);
  const Real bound =
      filtered ? static_cast<Real>(times(eps, static_cast<double>(plus(magnitude(row_of.a), magnitude(row_of.b))))) : Real{0};
  Dropped<Real> dropped{0};
  for (int i = 0; i < kPerLane; i += kPack<Real>) {
    const int64_t column = begin + column_of<Real>(lane, i);
    if (column >= tile.columns) return dropped;
    Real z[kPack<Real>];
    if (kind.skipped || kind.wrong) {
      for (int k = 0; k < kPack<Real>; ++k) z[k] = kind.skipped ? Real{0} : static_cast<Real>(NAN);
    } else {
      load_logits(tile, scale, row, column, z);
      gradient_of<filtered>(tile, of, row_of, scale, bound, row, column, z, dropped);
    }
    store_gradient(z, tile.columns - column, aligned, out + row * stride + column);
  }
  return dropped;
}

// What the segments of a tile dropped joins the row's sum, in their order; by one thread a row.
template <class Real>
SLIPSTICK_HOST_DEVICE inline void add_dropped(const Tile<Real>& tile, const Dropped<Real>* partials, int64_t row, double* dropped) {
  const int64_t segments = (tile.columns + kSegment - 1) / kSegment;
  double sum = dropped[row];
  for (int64_t segment = 0; segment < segments; ++segment) sum = plus(sum, static_cast<double>(partials[segment * tile.rows + row].sum));
  dropped[row] = sum;
}

// ---- the host's part ------------------------------------------------------------------------------------------------------------------------

inline bool lies_at_packs(const void* address, int64_t stride, int64_t bytes_of_element, int64_t bytes_of_pack) {
  return reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(bytes_of_pack) == 0 &&
         stride * bytes_of_element % bytes_of_pack == 0;
}

inline void check_tile(const char* where, const cuda::Tile& tile) {
  if (tile.format != Format::f32 && tile.format != Format::f64)
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": a tile has 16 bits; expected float32 or float64");
  if (tile.rows < 0 || tile.columns < 0)
    throw Error(ErrorKind::invalid_argument, std::string(where) + ": a size of a tile is negative; expected 0 or more");
}

template <class Real> Tile<Real> typed(const cuda::Tile& tile) {
  Tile<Real> out;
  out.products = static_cast<const Real*>(tile.products);
  out.rows = tile.rows;
  out.columns = tile.columns;
  out.stride = tile.stride;
  out.first_column = tile.first_column;
  out.vocabulary = tile.vocabulary;
  out.bias = tile.bias ? static_cast<const Real*>(tile.bias) + tile.first_column : nullptr;
  out.scale = tile.scale;
  out.factor = tile.factor;
  out.map = tile.map;
  out.cap = static_cast<Real>(tile.cap);
  out.targets = tile.targets;
  out.ignore = tile.ignore;
  out.aligned = lies_at_packs(tile.products, tile.stride, sizeof(Real), 16);
  return out;
}

}  // namespace slipstick::losses::tile
