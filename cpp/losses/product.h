// The register-blocked product under all three matrix products of the room. Included by head.simd.cpp alone.
//
// Lanes are the kLanes columns of a packed panel; the other operand is read in place, one broadcast for each of its rows and each step. With 16
// registers the tile is 4 x 3 vectors: 12 sums, 3 loads and a broadcast; with 32 it is 8 x 3. Without fused multiply-add a product needs a
// register of its own, so there it is 4 x 2.
#pragma once
#include "losses/kernels.h"
#include "simd/math.h"
#include "simd/vec.h"

namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::F32;
using simd::F64;
using simd::U32;
using simd::Vec;

constexpr int kVectors = simd::kFusedMultiplyAdd ? 3 : 2;
constexpr int kTileRows = simd::kVectorRegisters == 32 ? 8 : 4;
template <class Real> constexpr int64_t kLanes = kVectors * Vec<Real>::lanes;

// f(0), f(1), ... f(count - 1) with constant arguments: sums that are indexed by constants stay in registers.
template <int i> struct Constant {
  constexpr operator int() const { return i; }
};
template <int count, class Function> __attribute__((always_inline)) inline void repeat(const Function& f) {
  if constexpr (count > 0) {
    repeat<count - 1>(f);
    f(Constant<count - 1>{});
  }
}

// One step of the sum in all lanes.
template <class Of> constexpr int64_t kElements = sizeof(typename Of::Step) / sizeof(typename Of::Element);
template <class Of> Vec<typename Of::Step> broadcast(const typename Of::Element* at) {
  typename Of::Step step;
  __builtin_memcpy(&step, at, sizeof step);
  return Vec<typename Of::Step>::all(step);
}
template <class Real> Vec<Real> add_product(Operands<Real>, Vec<Real> x, Vec<Real> y, Vec<Real> sum) { return multiply_add(x, y, sum); }
inline F32 add_product(Pairs, U32 x, U32 y, F32 sum) { return multiply_add_pairs(x, y, sum); }

// `rows` rows and `vectors` vectors of a panel.
template <class Of, int rows, int vectors, bool unit_step>
inline void product_tile(const typename Of::Element* left, int64_t row_stride, int64_t depth_stride, const typename Of::Step* panel,
                         int64_t depth, typename Of::Real* out, int64_t out_stride, bool add) {
  using V = Vec<typename Of::Real>;
  using Steps = Vec<typename Of::Step>;
  if (add) repeat<rows * vectors>([&](auto i) { __builtin_prefetch(out + i / vectors * out_stride + i % vectors * V::lanes, 1); });
  V sums[rows * vectors];
  repeat<rows * vectors>([&](auto i) { sums[i] = V::all(0); });
  for (int64_t k = 0; k < depth; ++k) {
    Steps right[vectors];
    repeat<vectors>([&](auto j) { right[j] = Steps::load(panel + k * kLanes<typename Of::Real> + j * V::lanes); });
    const auto* column = left + (unit_step ? k * kElements<Of> : k * depth_stride);
    repeat<rows>([&](auto i) {
      const Steps x = broadcast<Of>(column + i * row_stride);
      repeat<vectors>([&](auto j) { sums[i * vectors + j] = add_product(Of{}, x, right[j], sums[i * vectors + j]); });
    });
  }
  if (add) {
    repeat<rows * vectors>([&](auto i) { sums[i] = sums[i] + V::load(out + i / vectors * out_stride + i % vectors * V::lanes); });
  }
  repeat<rows * vectors>([&](auto i) { sums[i].store(out + i / vectors * out_stride + i % vectors * V::lanes); });
}

// All rows, in tiles of kTileRows and the rest one by one. The sum of an element is the same wherever it stands.
template <class Of, int vectors, bool unit_step>
void product_rows(const typename Of::Element* left, int64_t row_stride, int64_t depth_stride, const typename Of::Step* panel, int64_t rows,
                  int64_t depth, typename Of::Real* out, int64_t out_stride, bool add) {
  int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows)
    product_tile<Of, kTileRows, vectors, unit_step>(left + i * row_stride, row_stride, depth_stride, panel, depth, out + i * out_stride,
                                                    out_stride, add);
  for (; i < rows; ++i)
    product_tile<Of, 1, vectors, unit_step>(left + i * row_stride, row_stride, depth_stride, panel, depth, out + i * out_stride, out_stride,
                                            add);
}

template <class Of, int vectors> void product_vectors(const Product<Of>& p) {
  int64_t k = 0;
  do {  // once for depth 0, too: the sums are 0 then
    const int64_t depth = p.depth - k < kDepth ? p.depth - k : kDepth;
    const auto* left = p.left + k * p.depth_stride;
    const auto* panel = p.panel + k * kLanes<typename Of::Real>;
    if (p.depth_stride == kElements<Of>) {
      product_rows<Of, vectors, true>(left, p.row_stride, p.depth_stride, panel, p.rows, depth, p.out, p.out_stride, p.add || k > 0);
    } else {
      product_rows<Of, vectors, false>(left, p.row_stride, p.depth_stride, panel, p.rows, depth, p.out, p.out_stride, p.add || k > 0);
    }
    k += depth;
  } while (k < p.depth);
}

// Whole vectors of columns.
template <class Of> void product_whole(const Product<Of>& p) {
  const int64_t vectors = p.columns / Vec<typename Of::Real>::lanes;
  if (vectors == kVectors) {
    product_vectors<Of, kVectors>(p);
  } else if (vectors == 2) {
    product_vectors<Of, 2>(p);
  } else {
    product_vectors<Of, 1>(p);
  }
}

template <class Of> void product(const Product<Of>& p) {
  using Real = typename Of::Real;
  if (p.columns % Vec<Real>::lanes == 0) return product_whole(p);
  // Rows go through a buffer, as nothing may be written past their columns.
  constexpr int64_t kRows = 4 * kTileRows;
  Real tile[kRows * kLanes<Real>];
  for (int64_t i = 0; i < p.rows; i += kRows) {
    const int64_t rows = p.rows - i < kRows ? p.rows - i : kRows;
    Product<Of> part = p;
    part.left = p.left + i * p.row_stride;
    part.rows = rows;
    part.columns = (p.columns / Vec<Real>::lanes + 1) * Vec<Real>::lanes;
    part.out = tile;
    part.out_stride = kLanes<Real>;
    part.add = false;
    product_whole(part);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t j = 0; j < p.columns; ++j) {
        Real& at = p.out[(i + row) * p.out_stride + j];
        at = p.add ? at + tile[row * kLanes<Real> + j] : tile[row * kLanes<Real> + j];
      }
    }
  }
}

// ---- elements -----------------------------------------------------------------------------------------------------------------------------

// e^x for x <= 0, relative error below 2^-22 + |x| 2^-24. Below -87 it is some number below 2e-38, so that a sum with 1 in it is right; NaN is kept.
inline F32 exp_of_negative(F32 x) {
  const F32 held = max_or_second(F32::all(-125.9f), min_or_second(F32::all(0.0f), x * F32::all(simd::kLog2OfE)));
  // The nearest integer plus the exponent's bias lies in the last bits of the sum.
  const F32 shift = F32::all(simd::kRoundingShift + 127.0f), shifted = held + shift, r = held - (shifted - shift);
  constexpr int kTerms = sizeof(simd::kExp2Tail) / sizeof(simd::kExp2Tail[0]);
  F32 y = F32::all(simd::kExp2Tail[kTerms - 1]);
  for (int i = kTerms - 2; i >= 0; --i) y = multiply_add(y, r, F32::all(simd::kExp2Tail[i]));
  y = multiply_add(multiply_add(y, r, F32::all(simd::kLn2)), r, F32::all(1.0f));
  return y * as_f32(as_u32(shifted) << 23);
}
inline F64 exp_of_negative(F64 x) { return simd::exp(min_or_second(F64::all(0.0), x)); }

// e^x as above, and exactly 0 where x < kVanish: probabilities, which may be multiplied by large logits.
constexpr float kVanish = -87.0f;
template <class Real> Vec<Real> probability(Vec<Real> x) {
  return select(x < Vec<Real>::all(kVanish), Vec<Real>::all(0), exp_of_negative(x));
}

constexpr float kLargestFloat = 0x1.fffffep127f;
constexpr double kLargestDouble = 0x1.fffffffffffffp1023;
template <class Real> constexpr Real kLargest = sizeof(Real) == 4 ? static_cast<Real>(kLargestFloat) : static_cast<Real>(kLargestDouble);

inline F32 tanh_of(F32 x) { return simd::tanh(x); }
inline F64 tanh_of(F64 x) {  // absolute error some 2^-52
  const F64 grown = simd::exp(F64::all(-2.0) * simd::abs(x)), one = F64::all(1.0);
  return copy_sign((one - grown) / (one + grown), x);
}
inline F32 log1p_of(F32 x) { return simd::log1p(x); }
inline F64 log1p_of(F64 x) { return simd::log(F64::all(1.0) + x); }

template <class Real> Vec<Real> map_logit(LogitMap map, Vec<Real> z, Real cap) {
  const Vec<Real> limit = Vec<Real>::all(cap);
  return map == LogitMap::softcap ? limit * tanh_of(z / limit) : copy_sign(log1p_of(simd::abs(z)), z);
}
// Derivative of the map, from the mapped logit.
template <class Real> Vec<Real> map_slope(LogitMap map, Vec<Real> z, Real cap) {
  const Vec<Real> one = Vec<Real>::all(1), share = z / Vec<Real>::all(cap);
  return map == LogitMap::softcap ? (one - share) * (one + share) : exp_of_negative(-simd::abs(z));
}

}  // namespace
}  // namespace slipstick::losses::SLIPSTICK_ISA_NAMESPACE
