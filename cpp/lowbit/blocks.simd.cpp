// Kernels of blocks with a scale: greatest magnitudes, scaling, and MX at once. Exact; equal on every level.
#include "lowbit/round_vector.h"

namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE {
namespace {

inline U32 magnitude(F32 x) { return as_u32(x) & U32::all(~kSignBit); }

uint32_t max_magnitude(const float* x, int64_t count) {
  U32 most = U32::all(0);
  for (int64_t i = 0; i < count; i += F32::lanes) most = max(most, magnitude(F32::load_first(x + i, count - i, 0.0f)));
  return reduce_max(most);
}

void max_of_blocks(const float* x, int64_t width, uint32_t* magnitudes, int64_t blocks) {
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

void divide(const float* x, const float* factors, float* y, int64_t count) {
  const F32 zero = F32::all(0.0f), least = F32::all(0x1p-149f);
  for (int64_t i = 0; i < count; i += F32::lanes) {
    const F32 v = F32::load_first(x + i, count - i, 0.0f), factor = F32::load_first(factors + i, count - i, 1.0f);
    F32 r = v / factor;
    r = select((r == zero) & (v != zero), copy_sign(least, v), r);
    r = select(factor == zero, copy_sign(zero, v), r);
    r.store_first(y + i, count - i);
  }
}

void multiply(const float* x, const float* factors, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i += F32::lanes)
    (F32::load_first(x + i, count - i, 0.0f) * F32::load_first(factors + i, count - i, 1.0f)).store_first(y + i, count - i);
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

const BlockKernels block_kernels{SLIPSTICK_ISA_NAME, max_magnitude, max_of_blocks, max_magnitudes, divide, multiply, scale_and_round};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
