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
  if constexpr (mode == Rounding::nearest_even) {
    if (grid.quick) return map(x, y, count, past_caches, Quick(grid));
    if (QuickWide::fits(grid)) return map(x, y, count, past_caches, QuickWide(grid));
  }
  const GridVectors g(grid, 32);
  const U32 none = U32::all(0);
  if (grid.symmetric) return map(x, y, count, past_caches, [&](F32 v) { return round_vector<mode, true>(v, none, g); });
  map(x, y, count, past_caches, [&](F32 v) { return round_vector<mode, false>(v, none, g); });
}

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
    round_given,
    search,
    random_bits,
};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
