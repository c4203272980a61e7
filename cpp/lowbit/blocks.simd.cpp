// Kernels of blocks with a scale: greatest magnitudes, scaling, and MX at once. Exact; equal on every level.
#include "lowbit/round_vector.h"

namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE {
namespace {

inline U32 magnitude(F32 x) { return as_u32(x) & U32::all(~kSignBit); }

uint32_t max_magnitude(const float* x, int64_t count) {
  constexpr int64_t kChains = 4;  // a vector at a time would wait for the one before
  U32 most[kChains] = {U32::all(0), U32::all(0), U32::all(0), U32::all(0)};
  int64_t i = 0;
  for (; i + kChains * F32::lanes <= count; i += kChains * F32::lanes)
    for (int64_t k = 0; k < kChains; ++k) most[k] = max(most[k], magnitude(F32::load(x + i + k * F32::lanes)));
  for (; i < count; i += F32::lanes) most[0] = max(most[0], magnitude(F32::load_first(x + i, count - i, 0.0f)));
  return reduce_max(max(max(most[0], most[1]), max(most[2], most[3])));
}

template <int64_t width> void max_of_whole_blocks(const float* x, uint32_t* magnitudes, int64_t blocks) {
  for (int64_t block = 0; block < blocks; ++block) {
    U32 most = magnitude(F32::load(x + block * width));
    for (int64_t i = F32::lanes; i < width; i += F32::lanes) most = max(most, magnitude(F32::load(x + block * width + i)));
    const uint32_t found = reduce_max(most);
    magnitudes[block] = found > magnitudes[block] ? found : magnitudes[block];
  }
}

void max_of_blocks(const float* x, int64_t width, uint32_t* magnitudes, int64_t blocks) {
  if (width == 16) return max_of_whole_blocks<16>(x, magnitudes, blocks);
  if (width == 32) return max_of_whole_blocks<32>(x, magnitudes, blocks);
  for (int64_t block = 0; block < blocks; ++block) {
    const uint32_t most = max_magnitude(x + block * width, width);
    magnitudes[block] = most > magnitudes[block] ? most : magnitudes[block];
  }
}

void max_magnitudes(const float* x, uint32_t* magnitudes, int64_t count) {
  for (int64_t i = 0; i < count; i += F32::lanes) {
    const U32 most = max(U32::load_first(magnitudes + i, count - i, 0), magnitude(F32::load_first(x + i, count - i, 0.0f)));
    most.store_first(magnitudes + i, count - i);
  }
}

void ratios(const uint32_t* magnitudes, float greatest, float tensor_scale, float most, float* out, int64_t count) {
  for (int64_t i = 0; i < count; i += F32::lanes) {
    const F32 v = as_f32(U32::load_first(magnitudes + i, count - i, 0));
    min_or_second(F32::all(most), v / F32::all(greatest) / F32::all(tensor_scale)).store_first(out + i, count - i);
  }
}

// y[i] = function(x[i], factors[i]).
template <typename Function> void map_pairs(const float* x, const float* factors, float* y, int64_t count, Function function) {
  int64_t i = 0;
  for (; i + F32::lanes <= count; i += F32::lanes) function(F32::load(x + i), F32::load(factors + i)).store(y + i);
  if (i < count)
    function(F32::load_first(x + i, count - i, 0.0f), F32::load_first(factors + i, count - i, 1.0f)).store_first(y + i, count - i);
}

void divide(const float* x, const float* factors, float* y, int64_t count) {
  const F32 zero = F32::all(0.0f), least = F32::all(0x1p-149f);
  map_pairs(x, factors, y, count, [&](F32 v, F32 factor) {
    F32 r = v / factor;
    r = select((r == zero) & (v != zero), copy_sign(least, v), r);
    return select(factor == zero, copy_sign(zero, v), r);
  });
}

void multiply(const float* x, const float* factors, float* y, int64_t count) {
  map_pairs(x, factors, y, count, [](F32 v, F32 factor) { return v * factor; });
}

// x / factor, rounded, times factor; see scaled.cpp for quotients that are lost to 0.
template <typename Round> F32 round_under(F32 x, F32 factor, const Round& round) {
  const F32 ratio = select(factor == F32::all(0.0f), as_f32(as_u32(x) & U32::all(kSignBit)), x / factor);
  return round(ratio) * factor;
}

// body(round), where round is what does nearest even to the grid.
template <typename Body> void with_nearest(const Grid& grid, Body body) {
  grid.counting ? body(Counting<Rounding::nearest_even>(grid)) : body(Quick(grid));
}

// parts vectors a block under one factor.
template <int parts, typename Round>
void round_blocks_of(const Round& round, const float* factors, const float* x, float* y, int64_t blocks, bool past_caches) {
  for (int64_t block = 0; block < blocks; ++block, x += parts * F32::lanes, y += parts * F32::lanes) {
    const F32 factor = F32::all(factors[block]);
    F32 v[parts];
    for (int k = 0; k < parts; ++k) v[k] = round_under(F32::load(x + k * F32::lanes), factor, round);
    if (past_caches) {
      for (int k = 0; k < parts; ++k) v[k].stream(y + k * F32::lanes);
    } else {
      for (int k = 0; k < parts; ++k) v[k].store(y + k * F32::lanes);
    }
  }
}

template <typename Round>
void round_blocks_of_any_width(const Round& round, const float* factors, const float* x, float* y, int64_t width, int64_t blocks) {
  for (int64_t block = 0; block < blocks; ++block, x += width, y += width) {
    const F32 factor = F32::all(factors[block]);
    int64_t i = 0;
    for (; i + F32::lanes <= width; i += F32::lanes) round_under(F32::load(x + i), factor, round).store(y + i);
    if (i < width) round_under(F32::load_first(x + i, width - i, 0.0f), factor, round).store_first(y + i, width - i);
  }
}

void round_blocks(const Grid& grid, const float* factors, const float* x, float* y, int64_t width, int64_t blocks, bool past_caches) {
  const bool streams = past_caches && reinterpret_cast<uint64_t>(y) % simd::kVectorBytes == 0;
  with_nearest(grid, [&](const auto& round) {
    if (width == 16) return round_blocks_of<16 / F32::lanes>(round, factors, x, y, blocks, streams);
    if (width == 32) return round_blocks_of<32 / F32::lanes>(round, factors, x, y, blocks, streams);
    round_blocks_of_any_width(round, factors, x, y, width, blocks);
  });
  if (streams) simd::stream_fence();
}

void round_columns(const Grid& grid, const float* factors, const float* x, float* y, int64_t count) {
  with_nearest(
      grid, [&](const auto& round) { map_pairs(x, factors, y, count, [&](F32 v, F32 factor) { return round_under(v, factor, round); }); });
}

// The quick kernel with its limits moved by the scale: adding to exponent fields is multiplying by a power of two, so x is never scaled.
template <int parts> int64_t scale_and_round_of(const Grid& grid, int max_exponent, uint32_t mantissa_limit, const float* x, float* y,
                                                uint8_t* scales, int64_t blocks, bool past_caches) {
  const int32_t least_field = grid.least_exponent + 127, clamp_field = static_cast<int32_t>(grid.clamp >> 23);
  Quick quick(grid);
  for (int64_t block = 0; block < blocks; ++block, x += parts * F32::lanes, y += parts * F32::lanes) {
    F32 v[parts];
    U32 most = U32::all(0);
    for (int k = 0; k < parts; ++k) {
      v[k] = F32::load(x + k * F32::lanes);
      most = max(most, magnitude(v[k]));
    }
    const uint32_t greatest = reduce_max(most);
    const int32_t shift = static_cast<int32_t>((greatest + mantissa_limit) >> 23) - 127 - max_exponent;
    if (greatest < 0x00800000u || greatest >= kInfinityBits || shift < -127 || shift > 127 || least_field + shift < 1 ||
        clamp_field + shift + grid.dropped_bits > 254)
      return block;
    const uint32_t move = static_cast<uint32_t>(shift) << 23;
    quick.least = U32::all((static_cast<uint32_t>(least_field) << 23) + move);
    quick.clamp = as_f32(U32::all(grid.clamp + move));
    quick.max = as_f32(U32::all(grid.max[0] + move));
    quick.beyond = quick.max;
    for (int k = 0; k < parts; ++k) v[k] = quick(v[k]);
    if (past_caches) {
      for (int k = 0; k < parts; ++k) v[k].stream(y + k * F32::lanes);
    } else {
      for (int k = 0; k < parts; ++k) v[k].store(y + k * F32::lanes);
    }
    scales[block] = static_cast<uint8_t>(shift + 127);
  }
  return blocks;
}

int64_t scale_and_round(const Grid& grid, int max_exponent, uint32_t mantissa_limit, const float* x, float* y, uint8_t* scales,
                        int64_t width, int64_t blocks, bool past_caches) {
  const bool streams = past_caches && reinterpret_cast<uint64_t>(y) % simd::kVectorBytes == 0;
  int64_t done = 0;
  if (width == 16) done = scale_and_round_of<16 / F32::lanes>(grid, max_exponent, mantissa_limit, x, y, scales, blocks, streams);
  if (width == 32) done = scale_and_round_of<32 / F32::lanes>(grid, max_exponent, mantissa_limit, x, y, scales, blocks, streams);
  if (streams) simd::stream_fence();
  return done;
}

}  // namespace

const BlockKernels block_kernels{
    SLIPSTICK_ISA_NAME, max_magnitude, max_of_blocks, max_magnitudes,  ratios, divide,
    multiply,           round_blocks,  round_columns, scale_and_round,
};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
