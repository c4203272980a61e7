// One tile of a matrix product whose accumulator is rounded as it goes. The order of operations is that of matmul in lowbit.h, so all levels agree.
//
// Nearest even of an accumulator in registers, per vector:
//   unbounded  Veltkamp's splitting, 3 operations, where no accumulator can leave the format's exponents (matmul.cpp proves it beforehand)
//   split      the same of magnitudes raised to the least normal number, 4 operations where the level can raise them in one
//   bounded    the unit of round_vector.h on signed numbers, 5 operations; like split where no accumulator can reach the greatest number
//   quick, quick_wide   as in round_vector.h
//   any        every other mode and format
#include "lowbit/round_vector.h"

namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE {
namespace {

constexpr int64_t kVectors = 2;  // in a row of the tile: with 6 rows, 12 chains hide the latency of an FMA and its rounding
constexpr int64_t kFewRows = 4;  // a tile of no more rows computes as many

struct NoRounding {
  static constexpr bool kAtOnce = false;
  explicit NoRounding(const Grid*) {}
  F32 operator()(F32 x) const { return x; }
};

// x (2^d + 1) - (x (2^d + 1) - x), d the dropped bits: x to the bits that stay, ties to even (Veltkamp 1968; Dekker 1971).
struct Unbounded {
  static constexpr bool kAtOnce = false;
  F32 factor;
  explicit Unbounded(const Grid* grid) : factor(F32::all(static_cast<float>((1u << grid->dropped_bits) + 1))) {}
  F32 operator()(F32 x) const {
    const F32 grown = x * factor;
    return grown - (grown - x);
  }
};

// The same, but grown stands for 2^least_exponent where |x| is less. It is then an even number of quanta, and about it a quantum is the unit of the
// last place, so grown - x is rounded to whole quanta, ties to even.
struct Split {
  [[maybe_unused]] static constexpr bool kAtOnce = true;
  F32 factor, least;
  explicit Split(const Grid* grid)
      : factor(Unbounded(grid).factor), least(as_f32(U32::all(static_cast<uint32_t>(grid->least_exponent + 127) << 23))) {}
  F32 operator()(F32 x) const {
    const F32 grown = raise_magnitude(x, least) * factor;
    return grown - (grown - x);
  }
};

// One and a half units, so that the sum stays in their binade for either sign. Loses the sign of zeros, which no later sum but a zero shows.
struct Bounded {
  static constexpr bool kAtOnce = false;
  U32 exponent, least, lift;
  explicit Bounded(const Grid* grid)
      : exponent(U32::all(kInfinityBits)),
        least(U32::all(static_cast<uint32_t>(grid->least_exponent + 127) << 23)),
        lift(U32::all((static_cast<uint32_t>(grid->dropped_bits) << 23) | 0x400000u)) {}
  F32 operator()(F32 x) const {
    const F32 unit = as_f32(simd::max(as_u32(x) & exponent, least) + lift);
    return (x + unit) - unit;
  }
};

// Of those two, which round alike, the faster.
template <bool raises_at_once> struct SplitOrBounded {
  using Type = Split;
};
template <> struct SplitOrBounded<false> {
  using Type = Bounded;
};

template <typename Rounder> struct OfGrid {
  static constexpr bool kAtOnce = false;
  Rounder rounder;
  explicit OfGrid(const Grid* grid) : rounder(*grid) {}
  F32 operator()(F32 x) const { return rounder(x); }
};

template <Rounding mode> struct Any {
  static constexpr bool kAtOnce = false;
  GridVectors g;
  explicit Any(const Grid* grid) : g(*grid, 32) {}
  F32 operator()(F32 x) const { return round_vector<mode, false>(x, U32::all(0), g); }
};

// at_once: for round_every 1, each sum is rounded before the next is made. Round::kAtOnce says where that is the faster order.
template <typename Round, int64_t kRows, bool at_once> void tile_of(const Grid* grid, int64_t round_every, const float* a, int64_t a_stride,
                                                                    const float* b, int64_t b_stride, float* c, int64_t c_stride,
                                                                    int64_t rows, int64_t columns, int64_t inner) {
  const Round round(grid);
  F32 sum[kRows][kVectors];
  for (auto& row : sum)
    for (F32& v : row) v = F32::all(0.0f);
  const int64_t last_row = rows - 1;
  for (int64_t k = 0; k < inner;) {
    const int64_t end = round_every > 0 && inner - k > round_every ? k + round_every : inner;
    for (; k < end; ++k) {
      const float* from = b + k * b_stride;
      F32 v[kVectors];
      for (int64_t j = 0; j < kVectors; ++j) v[j] = F32::load(from + j * F32::lanes);
      for (int64_t i = 0; i < kRows; ++i) {
        const F32 left = F32::all(a[(i < last_row ? i : last_row) * a_stride + k]);  // rows past the end repeat the last
        for (int64_t j = 0; j < kVectors; ++j) {
          sum[i][j] = fma(left, v[j], sum[i][j]);
          if constexpr (at_once) sum[i][j] = round(sum[i][j]);
        }
      }
    }
    if constexpr (!at_once) {
      for (auto& row : sum)
        for (F32& v : row) v = round(v);
    }
  }
  for (int64_t i = 0; i < kRows; ++i)  // all bounds are constants, which keeps the sums in registers
    for (int64_t j = 0; i < rows && j < kVectors; ++j)
      (sum[i][j] + F32::all(0.0f)).store_first(c + i * c_stride + j * F32::lanes, columns - j * F32::lanes);
}

template <typename Round> void tile_with(const Grid* grid, int64_t round_every, const float* a, int64_t a_stride, const float* b,
                                         int64_t b_stride, float* c, int64_t c_stride, int64_t rows, int64_t columns, int64_t inner) {
  const auto run = [&](auto kernel) { kernel(grid, round_every, a, a_stride, b, b_stride, c, c_stride, rows, columns, inner); };
  if constexpr (Round::kAtOnce) {
    if (round_every == 1) return run(rows <= kFewRows ? tile_of<Round, kFewRows, true> : tile_of<Round, kMatmulRows, true>);
  }
  run(rows <= kFewRows ? tile_of<Round, kFewRows, false> : tile_of<Round, kMatmulRows, false>);
}

void tile(const Grid* grid, Rounding rounding, Accumulator kind, int64_t round_every, const float* a, int64_t a_stride, const float* b,
          int64_t b_stride, float* c, int64_t c_stride, int64_t rows, int64_t columns, int64_t inner) {
#define SLIPSTICK_TILE(Round) tile_with<Round>(grid, round_every, a, a_stride, b, b_stride, c, c_stride, rows, columns, inner)
  switch (kind) {
    case Accumulator::float32: return SLIPSTICK_TILE(NoRounding);
    case Accumulator::unbounded: return SLIPSTICK_TILE(Unbounded);
    case Accumulator::split: return SLIPSTICK_TILE(SplitOrBounded<simd::kRaisesMagnitudeAtOnce>::Type);
    case Accumulator::bounded: return SLIPSTICK_TILE(Bounded);
    case Accumulator::quick: return SLIPSTICK_TILE(OfGrid<Quick>);
    case Accumulator::quick_wide: return SLIPSTICK_TILE(OfGrid<QuickWide>);
    case Accumulator::any: break;
  }
  switch (rounding) {
    case Rounding::nearest_even: return SLIPSTICK_TILE(Any<Rounding::nearest_even>);
    case Rounding::nearest_away: return SLIPSTICK_TILE(Any<Rounding::nearest_away>);
    case Rounding::toward_zero: return SLIPSTICK_TILE(Any<Rounding::toward_zero>);
    case Rounding::up: return SLIPSTICK_TILE(Any<Rounding::up>);
    case Rounding::down: return SLIPSTICK_TILE(Any<Rounding::down>);
    case Rounding::to_odd:
    case Rounding::stochastic: return SLIPSTICK_TILE(Any<Rounding::to_odd>);
  }
#undef SLIPSTICK_TILE
}

Reach reach(const float* x, int64_t count) {
  const U32 zero = U32::all(0), of_zero = U32::all(1000);
  U32 greatest = zero, lowest = of_zero;
  for (int64_t i = 0; i < count; i += F32::lanes) {
    const U32 magnitude = as_u32(abs(F32::load_first(x + i, count - i, 0.0f))), field = magnitude >> 23;
    const U32 significand = (magnitude & U32::all(0x7fffffu)) | as_lanes(field != zero, U32::all(0x800000u));
    // The lowest bit alone is a power of two, whose exponent float32 shows.
    const U32 low = significand & (zero - significand);
    const U32 place = (as_u32(to_f32(as_i32(low))) >> 23) + max(field, U32::all(1));
    greatest = max(greatest, magnitude);
    lowest = min(lowest, select(low == zero, of_zero, place));
  }
  const uint32_t most = reduce_max(greatest);
  Reach found{static_cast<int>(reduce_min(lowest)) - 150 - 127, 0, most < kInfinityBits};
  __builtin_memcpy(&found.greatest, &most, 4);
  return found;
}

}  // namespace

const MatmulKernels matmul_kernels{SLIPSTICK_ISA_NAME, kVectors * F32::lanes, tile, reach};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
