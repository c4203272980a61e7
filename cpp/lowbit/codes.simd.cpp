// Codes of values that are in a format already, values of codes, and the conversions of other types to float32 and back. Exact; equal on every
// level.
#include "lowbit/kernels.h"
#include "simd/vec.h"

namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::F32;
using simd::F64;
using simd::I32;
using simd::Mask32;
using simd::U32;
using simd::U64;

constexpr uint32_t kSignBit = 0x80000000u, kInfinityBits = 0x7f800000u;

inline U32 load_codes(const uint8_t* p) { return simd::load_as_u32(p); }
inline U32 load_codes(const uint16_t* p) { return simd::load_as_u32(p); }
inline U32 load_codes(const uint32_t* p) { return U32::load(p); }
inline U32 load_first_codes(const uint8_t* p, int64_t n) { return simd::load_first_as_u32(p, n, 0); }
inline U32 load_first_codes(const uint16_t* p, int64_t n) { return simd::load_first_as_u32(p, n, 0); }
inline U32 load_first_codes(const uint32_t* p, int64_t n) { return U32::load_first(p, n, 0); }
inline void store_codes(U32 x, uint8_t* p) { store_low8(x, p); }
inline void store_codes(U32 x, uint16_t* p) { store_low16(x, p); }
inline void store_codes(U32 x, uint32_t* p) { x.store(p); }
inline void store_first_codes(U32 x, uint8_t* p, int64_t n) { store_first_low8(x, p, n); }
inline void store_first_codes(U32 x, uint16_t* p, int64_t n) { store_first_low16(x, p, n); }
inline void store_first_codes(U32 x, uint32_t* p, int64_t n) { x.store_first(p, n); }

struct Coder {
  int dropped_bits, sign_shift;
  bool twos_complement, is_signed;
  U32 offset, shift_word, infinity_code, nan_code, sign_mask, sign_bit, code_mask, magnitude_mask, max_code;
  I32 subnormal_limit, flush_limit;
  F32 shift, quantum;

  explicit Coder(const Grid& grid)
      : dropped_bits(grid.dropped_bits),
        sign_shift(32 - grid.bits),
        twos_complement(grid.twos_complement),
        is_signed(grid.is_signed),
        offset(U32::all(grid.exponent_offset)),
        shift_word(as_u32(F32::all(grid.shift))),
        infinity_code(U32::all(grid.infinity_code)),
        nan_code(U32::all(grid.nan_code)),
        sign_mask(U32::all(grid.is_signed ? 1u << (grid.bits - 1) : 0)),
        sign_bit(U32::all(grid.is_signed ? kSignBit : 0)),
        code_mask(U32::all(grid.bits == 32 ? 0xffffffffu : (1u << grid.bits) - 1)),
        magnitude_mask(and_not(code_mask, sign_mask)),
        max_code(U32::all(grid.max_code)),
        subnormal_limit(as_i32(U32::all(grid.subnormal_limit))),
        flush_limit(as_i32(U32::all(grid.flush_limit))),
        shift(F32::all(grid.shift)),
        quantum(F32::all(grid.quantum)) {}

  U32 magnitude_code(U32 a) const {
    const U32 normal = (a >> dropped_bits) - offset;
    return select(as_i32(a) < subnormal_limit, as_u32(as_f32(a) + shift) - shift_word, normal);
  }
  U32 encode(U32 word) const {
    const U32 a = word & U32::all(~kSignBit);
    U32 code = magnitude_code(a);
    if (twos_complement) {
      const U32 negative = as_u32(as_i32(word) >> 31);
      return ((code ^ negative) - negative) & code_mask;
    }
    code = select(as_i32(a) < as_i32(U32::all(kInfinityBits)), code, select(a == U32::all(kInfinityBits), infinity_code, nan_code));
    return (code & code_mask) | ((word >> sign_shift) & sign_mask);  // a format without NaN has no code for it
  }
  F32 decode_count(U32 code) const {
    if (is_signed) return to_f32(as_i32(code << sign_shift) >> sign_shift) * quantum;
    return to_f32(as_i32(code & code_mask)) * quantum;
  }
  // has_infinity: a code of infinity. rare: subnormals that are flushed, or NaN as the code of -0.
  template <bool has_infinity, bool rare> F32 decode(U32 code) const {
    const U32 magnitude = code & magnitude_mask, nan = U32::all(0x7fc00000u);
    const U32 normal = (magnitude + offset) << dropped_bits;
    const U32 few = as_u32(to_f32(as_i32(magnitude)) * quantum);
    U32 value = select(as_i32(normal) < subnormal_limit, few, normal);
    if constexpr (rare) value = select(as_i32(value) < flush_limit, U32::all(0), value);
    value = select(as_i32(magnitude) > as_i32(max_code), nan, value);
    if constexpr (has_infinity) value = select(magnitude == infinity_code, U32::all(kInfinityBits), value);
    if constexpr (rare) value = select((code & code_mask) == nan_code, nan, value);
    return as_f32(value | ((code << sign_shift) & sign_bit));
  }
};

template <typename Code> int64_t encode(const Grid& grid, const float* values, Code* codes, int64_t count) {
  const Coder coder(grid);
  U32 nan = U32::all(0);
  int64_t i = 0;
  const auto step = [&](F32 v) {
    nan += select(is_nan(v), U32::all(1), U32::all(0));
    return coder.encode(as_u32(v));
  };
  for (; i + U32::lanes <= count; i += U32::lanes) store_codes(step(F32::load(values + i)), codes + i);
  if (i < count) store_first_codes(step(F32::load_first(values + i, count - i, 0.0f)), codes + i, count - i);
  return reduce_add(nan);
}

// values[i] = function(codes[i]). Past the caches: values are brought to the alignment of vectors first.
template <typename Code, typename Function> void map_codes(const Code* codes, float* values, int64_t count, bool past_caches,
                                                           Function function) {
  constexpr int64_t kUnroll = 2;
  int64_t i = 0;
  if (past_caches && reinterpret_cast<uint64_t>(values) % 4 == 0) {
    const int64_t ahead = static_cast<int64_t>(-(reinterpret_cast<uint64_t>(values) / 4) % static_cast<uint64_t>(F32::lanes));
    i = ahead < count ? ahead : count;
    function(load_first_codes(codes, i)).store_first(values, i);
    for (; i + kUnroll * U32::lanes <= count; i += kUnroll * U32::lanes) {
      for (int64_t k = 0; k < kUnroll; ++k) function(load_codes(codes + i + k * U32::lanes)).stream(values + i + k * U32::lanes);
    }
    simd::stream_fence();
  }
  for (; i + U32::lanes <= count; i += U32::lanes) function(load_codes(codes + i)).store(values + i);
  if (i < count) function(load_first_codes(codes + i, count - i)).store_first(values + i, count - i);
}

template <typename Code> void decode(const Grid& grid, const Code* codes, float* values, int64_t count, bool past_caches) {
  const Coder coder(grid);
  const auto run = [&](auto function) { map_codes(codes, values, count, past_caches, function); };
  if (grid.twos_complement) return run([&](U32 code) { return coder.decode_count(code); });
  const bool has_infinity = grid.infinity_code != ~0u;
  if (grid.flush_limit || !grid.negative_zero) {
    if (has_infinity) return run([&](U32 code) { return coder.decode<true, true>(code); });
    return run([&](U32 code) { return coder.decode<false, true>(code); });
  }
  if (has_infinity) return run([&](U32 code) { return coder.decode<true, false>(code); });
  run([&](U32 code) { return coder.decode<false, false>(code); });
}

// ---- conversions ----------------------------------------------------------------------------------------------------------------------------

// Round to odd: towards zero, and the last bit set if anything was lost. Beyond float32 that is its greatest number; below its subnormals, the
// smallest. Infinities and NaN stay.
inline float odd_of_double(double x) {
  const float nearest = static_cast<float>(x);
  uint32_t word;
  __builtin_memcpy(&word, &nearest, 4);
  if (static_cast<double>(nearest) == x || x != x) return nearest;
  const double distance = __builtin_fabs(static_cast<double>(nearest)) - __builtin_fabs(x);
  if (distance > 0) --word;  // rounded away from zero: the magnitude below
  word |= 1;
  float odd;
  __builtin_memcpy(&odd, &word, 4);
  return odd;
}

// The same for vectors.
inline U32 odd_of(F64 low, F64 high) {
  const F32 nearest = narrow(low, high);
  const F64 low_back = widen_low(nearest), high_back = widen_high(nearest);
  const auto error_of = [](F64 back, F64 x) {  // 1 where larger in magnitude than x, -1 where smaller, else 0; NaN counts as 0
    return select(abs(back) > abs(x), F64::all(1.0), select(abs(back) < abs(x), F64::all(-1.0), F64::all(0.0)));
  };
  const F32 error = narrow(error_of(low_back, low), error_of(high_back, high));
  U32 word = as_u32(nearest) - select(error > F32::all(0.0f), U32::all(1), U32::all(0));
  return select(error == F32::all(0.0f), word, word | U32::all(1));
}

void from_float64(const double* x, float* y, int64_t count) {
  int64_t i = 0;
  for (; i + F32::lanes <= count; i += F32::lanes) as_f32(odd_of(F64::load(x + i), F64::load(x + i + F64::lanes))).store(y + i);
  for (; i < count; ++i) y[i] = odd_of_double(x[i]);
}
void to_float64(const float* x, double* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i];
}
void from_bfloat16(const uint16_t* x, float* y, int64_t count) {
  int64_t i = 0;
  for (; i + F32::lanes <= count; i += F32::lanes) simd::load_bf16(x + i).store(y + i);
  if (i < count) simd::load_first_bf16(x + i, count - i, 0).store_first(y + i, count - i);
}
void to_bfloat16(const float* x, uint16_t* y, int64_t count) {
  int64_t i = 0;
  for (; i + F32::lanes <= count; i += F32::lanes) store_bf16(F32::load(x + i), y + i);
  if (i < count) store_first_bf16(F32::load_first(x + i, count - i, 0.0f), y + i, count - i);
}
void from_float16(const uint16_t* x, float* y, int64_t count) {
  int64_t i = 0;
  for (; i + F32::lanes <= count; i += F32::lanes) simd::load_f16(x + i).store(y + i);
  if (i < count) simd::load_first_f16(x + i, count - i, 0).store_first(y + i, count - i);
}
void to_float16(const float* x, uint16_t* y, int64_t count) {
  int64_t i = 0;
  for (; i + F32::lanes <= count; i += F32::lanes) store_f16(F32::load(x + i), y + i);
  if (i < count) store_first_f16(F32::load_first(x + i, count - i, 0.0f), y + i, count - i);
}

}  // namespace

const CodeKernels code_kernels{
    SLIPSTICK_ISA_NAME, encode<uint8_t>, encode<uint16_t>, encode<uint32_t>, decode<uint8_t>, decode<uint16_t>, decode<uint32_t>,
    from_float64,       from_bfloat16,   from_float16,     to_float64,       to_bfloat16,     to_float16,
};

}  // namespace slipstick::lowbit::SLIPSTICK_ISA_NAMESPACE
