// Rounding of float32 arrays to a grid, one kernel a mode, and the search in a code book. Exact, hence the same bits on every level.
#include "lowbit/philox.h"
#include "lowbit/round_vector.h"

namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE {
namespace {

template <bool v> struct Constant {
  static constexpr bool value = v;
};

// y[i] = function(x[i]). Past the caches: y is brought to the alignment of vectors first.
template <typename Function> void map(const float* x, float* y, int64_t count, bool past_caches, Function function) {
  constexpr int64_t kUnroll = 4;  // hides the latency of the chain of some ten operations
  int64_t i = 0;
  if (past_caches && reinterpret_cast<uint64_t>(y) % 4 == 0) {
    const int64_t ahead = static_cast<int64_t>(-(reinterpret_cast<uint64_t>(y) / 4) % static_cast<uint64_t>(F32::lanes));
    const int64_t first = ahead < count ? ahead : count;
    function(F32::load_first(x, first, 0.0f)).store_first(y, first);
    for (i = first; i + kUnroll * F32::lanes <= count; i += kUnroll * F32::lanes) {
      F32 r[kUnroll];
      for (int64_t k = 0; k < kUnroll; ++k) r[k] = function(F32::load(x + i + k * F32::lanes));
      for (int64_t k = 0; k < kUnroll; ++k) r[k].stream(y + i + k * F32::lanes);
    }
    simd::stream_fence();
  }
  for (; i + kUnroll * F32::lanes <= count; i += kUnroll * F32::lanes) {
    F32 r[kUnroll];
    for (int64_t k = 0; k < kUnroll; ++k) r[k] = function(F32::load(x + i + k * F32::lanes));
    for (int64_t k = 0; k < kUnroll; ++k) r[k].store(y + i + k * F32::lanes);
  }
  for (; i < count; i += F32::lanes) function(F32::load_first(x + i, count - i, 0.0f)).store_first(y + i, count - i);
}

template <Rounding mode> void round(const Grid& grid, const RandomAt&, const float* x, float* y, int64_t count, bool past_caches) {
  if (grid.counting) return map(x, y, count, past_caches, Counting<mode>(grid));
  if constexpr (mode == Rounding::nearest_even) {
    if (grid.quick) return map(x, y, count, past_caches, Quick(grid));
    if (QuickWide::fits(grid)) return map(x, y, count, past_caches, QuickWide(grid));
  } else {
    if (QuickOther<mode>::fits(grid)) return map(x, y, count, past_caches, QuickOther<mode>(grid));
  }
  const GridVectors g(grid, 32);
  const U32 none = U32::all(0);
  if (grid.symmetric) return map(x, y, count, past_caches, [&](F32 v) { return round_vector<mode, true>(v, none, g); });
  map(x, y, count, past_caches, [&](F32 v) { return round_vector<mode, false>(v, none, g); });
}

// Codes of floats in nearest even, in one step: a sum of Quick holds the number of units in its last bits, and a binade further on is 2^mantissa_bits
// codes further on.
struct QuickCoder {
  U32 exponent, least, lift, least_unit, max_code, beyond_code, nan_code;
  F32 clamp;
  int dropped_bits, sign_shift;
  U32 sign_mask;

  explicit QuickCoder(const Grid& grid)
      : exponent(U32::all(kInfinityBits)),
        least(U32::all(static_cast<uint32_t>(grid.least_exponent + 127) << 23)),
        lift(U32::all(static_cast<uint32_t>(grid.dropped_bits) << 23)),
        least_unit(least + lift),
        max_code(U32::all(grid.max_code)),
        beyond_code(U32::all(grid.overflow[0] == grid.max[0]     ? grid.max_code
                             : grid.overflow[0] == kInfinityBits ? grid.infinity_code
                                                                 : grid.nan_code)),
        nan_code(U32::all(grid.nan_code & ((1u << grid.bits) - 1))),  // also where there is none
        clamp(as_f32(U32::all(grid.clamp))),
        dropped_bits(grid.dropped_bits),
        sign_shift(32 - grid.bits),
        sign_mask(U32::all(1u << (grid.bits - 1))) {}

  U32 operator()(F32 x) const {
    const U32 word = as_u32(x);
    const F32 a = min_or_second(clamp, abs(x));
    const U32 unit = simd::max(as_u32(a) & exponent, least) + lift;
    const U32 units = as_u32(a + as_f32(unit)) - unit;
    U32 code = units + ((unit - least_unit) >> dropped_bits);
    code = select(as_i32(code) > as_i32(max_code), beyond_code, code);
    code = select(is_nan(x), nan_code, code);
    return code | ((word >> sign_shift) & sign_mask);
  }
  static bool fits(const Grid& grid) {
    return grid.quick && !grid.twos_complement && grid.negative_zero && grid.mantissa_bits <= 20 && grid.bits <= 16;
  }
};

inline void store_codes(U32 codes, uint8_t* to) { store_low8(codes, to); }
inline void store_codes(U32 codes, uint16_t* to) { store_low16(codes, to); }
inline void store_first_codes(U32 codes, uint8_t* to, int64_t count) { store_first_low8(codes, to, count); }
inline void store_first_codes(U32 codes, uint16_t* to, int64_t count) { store_first_low16(codes, to, count); }

template <typename Code> int64_t code_nearest(const Grid& grid, const float* x, Code* codes, int64_t count) {
  const QuickCoder coder(grid);
  U32 nan = U32::all(0);
  int64_t i = 0;
  const auto step = [&](F32 v) {
    nan += as_lanes(is_nan(v), U32::all(1));
    return coder(v);
  };
  for (; i + F32::lanes <= count; i += F32::lanes) store_codes(step(F32::load(x + i)), codes + i);
  if (i < count) store_first_codes(step(F32::load_first(x + i, count - i, 0.0f)), codes + i, count - i);
  return reduce_add(nan);
}

bool can_code_nearest(const Grid& grid) { return QuickCoder::fits(grid); }

// y[i] = function(x[i], word, part), with the random numbers as for_each_random_word has them. Never past the caches: the arithmetic hides what
// stores cost (lowbit.py: stochastic).
template <typename Function> void map_random(const RandomAt& random, const float* x, float* y, int64_t count, Function function) {
  constexpr int64_t kStep = kTilesAtOnce * kTile;
  const int64_t whole = count / kStep * kStep, left = count - whole;
  for_each_random_word<true>(random, whole, [&](int64_t i, U32 word, int part) { function(F32::load(x + i), word, part).store(y + i); });
  const RandomAt rest{random.seed, random.stream, random.bits, random.position + static_cast<uint64_t>(whole)};
  for_each_random_word<false>(rest, left, [&](int64_t i, U32 word, int part) {
    function(F32::load_first(x + whole + i, left - i, 0.0f), word, part).store_first(y + whole + i, left - i);
  });
}

void round_stochastic(const Grid& grid, const RandomAt& random, const float* x, float* y, int64_t count, bool) {
  if (QuickStochastic::fits(grid, random.bits)) {
    const QuickStochastic quick(grid, random.bits);
    return map_random(random, x, y, count, [&](F32 v, U32 word, int part) { return quick(v, word, part); });
  }
  const GridVectors g(grid, random.bits);
  const RandomNumbers numbers(random.bits);
  const auto round = [&](auto symmetric) {
    map_random(random, x, y, count, [&](F32 v, U32 word, int part) {
      return round_vector<Rounding::stochastic, symmetric.value>(v, numbers.of(word, part), g);
    });
  };
  grid.symmetric ? round(Constant<true>()) : round(Constant<false>());
}

void round_given(const Grid& grid, int bits, const uint32_t* numbers, const float* x, float* y, int64_t count) {
  const GridVectors g(grid, bits);
  for (int64_t i = 0; i < count; i += F32::lanes) {
    const F32 v = F32::load_first(x + i, count - i, 0.0f);
    const U32 number = U32::load_first(numbers + i, count - i, 0);
    round_vector<Rounding::stochastic, false>(v, number, g).store_first(y + i, count - i);
  }
}

void random_bits(const RandomAt& random, uint32_t* out, int64_t count) {
  const RandomNumbers numbers(random.bits);
  for_each_random_word<false>(random, count,
                              [&](int64_t i, U32 word, int part) { numbers.of(word, part).store_first(out + i, count - i); });
}

// Binary search without branches; cuts has steps - 1 entries, steps a power of two.
void search(const float* cuts, int steps, const float* x, uint32_t* index, int64_t count) {
  for (int64_t i = 0; i < count; i += F32::lanes) {
    const F32 v = F32::load_first(x + i, count - i, 0.0f);
    I32 found = as_i32(U32::all(0));
    for (int step = steps / 2; step > 0; step /= 2) {
      const U32 width = U32::all(static_cast<uint32_t>(step));
      const F32 cut = gather(cuts, found + as_i32(width - U32::all(1)));
      found = found + as_i32(as_lanes(v >= cut, width));
    }
    as_u32(found).store_first(index + i, count - i);
  }
}

}  // namespace

const Kernels kernels{
    SLIPSTICK_ISA_NAME,
    {round<Rounding::nearest_even>, round<Rounding::nearest_away>, round<Rounding::toward_zero>, round<Rounding::up>, round<Rounding::down>,
     round<Rounding::to_odd>, round_stochastic},
    can_code_nearest,
    code_nearest<uint8_t>,
    code_nearest<uint16_t>,
    round_given,
    search,
    random_bits,
};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
