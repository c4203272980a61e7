// Thin vectors: the only place of slipstick where intrinsics live. A kernel (NAME.simd.cpp) is written once against this facade and compiled
// once per instruction set; a difference between instruction sets belongs here, never in a kernel.
//
//   vec_types.h       Vec<T>: loads, stores, arithmetic, logic, shifts, casts; alike on every level
//   vec_lane_mask.h   masks kept as vectors of all-one and all-zero lanes (v2, v3, neon); vec_v4.h keeps them in mask registers
//   vec_LEVEL.h       what the level does its own way; every level header defines the same functions
//   vec.h             what is derived from those; include this one
//   bytes.h, math.h   bitmaps of 64-byte groups; exp, log and their kin
//
// Exactness. Each function is exact or correctly rounded and gives the same bits on every level, with four exceptions: the payload of a NaN
// that arithmetic makes, multiply_add, float-to-integer conversion out of range, and whatever depends on the number of lanes.
// `fma` rounds once everywhere; v2 has no such instruction and pays about 35 others for it. `multiply_add` is the quick one: fused where
// kFusedMultiplyAdd, rounded twice elsewhere. Never use it for a result that is promised equal on all levels, nor multiply_add_pairs, which
// rounds as the processor does where it is an instruction (kBf16Pairs).
//
// Counts of elements are int64_t; load_first and store_first clamp theirs to 0..lanes and touch no byte beyond, so the rest of an array needs
// no scalar loop. Pointers need only the alignment of their element, except for stream().
#pragma once
#include <cstdint>

// Everything is in the namespace of the level, so the linker cannot replace a v2 copy of an inline function by one with AVX-512 in it.
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define SLIPSTICK_SIMD_LEVEL_HEADER "simd/vec_v4.h"
#define SLIPSTICK_SIMD_VECTOR_BYTES 64
#if defined(__AVX512BF16__)
#define SLIPSTICK_SIMD_LEVEL "v4_bf16"
#else
#define SLIPSTICK_SIMD_LEVEL "v4"
#endif
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define SLIPSTICK_SIMD_LEVEL_HEADER "simd/vec_v3.h"
#define SLIPSTICK_SIMD_VECTOR_BYTES 32
#define SLIPSTICK_SIMD_LEVEL "v3"
#elif defined(__SSE4_2__)
#define SLIPSTICK_SIMD_LEVEL_HEADER "simd/vec_v2.h"
#define SLIPSTICK_SIMD_VECTOR_BYTES 16
#define SLIPSTICK_SIMD_LEVEL "v2"
#elif defined(__aarch64__)
#define SLIPSTICK_SIMD_LEVEL_HEADER "simd/vec_neon.h"
#define SLIPSTICK_SIMD_VECTOR_BYTES 16
#define SLIPSTICK_SIMD_LEVEL "neon"
#else
#error "vec.h: compile this file as a .simd.cpp, with the flags of an instruction-set level"
#endif

namespace slipstick::simd {
namespace SLIPSTICK_ISA_NAMESPACE {
constexpr int64_t kVectorBytes = SLIPSTICK_SIMD_VECTOR_BYTES;
constexpr float kInfinity = __builtin_inff();
constexpr float kNaN = __builtin_nanf("");
}  // namespace SLIPSTICK_ISA_NAMESPACE
using namespace SLIPSTICK_ISA_NAMESPACE;  // kernels write simd::F32 and mean the one of their level
}  // namespace slipstick::simd

#include "simd/vec_types.h"
#include SLIPSTICK_SIMD_LEVEL_HEADER

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

// The namespace and the flags of a file come from the build; they must name the same level.
constexpr bool same_text(const char* a, const char* b) { return *a == *b && (*a == 0 || same_text(a + 1, b + 1)); }
#define SLIPSTICK_SIMD_TEXT_(x) #x
#define SLIPSTICK_SIMD_TEXT(x) SLIPSTICK_SIMD_TEXT_(x)
static_assert(same_text(SLIPSTICK_SIMD_TEXT(SLIPSTICK_ISA_NAMESPACE), SLIPSTICK_SIMD_LEVEL),
              "SLIPSTICK_ISA_NAMESPACE does not match the -march flags");

// ---- comparisons and choices --------------------------------------------------------------------------------------------------------------

// Not-a-number lanes. Ordered comparisons (<, <=, >, >=, ==) are false where either operand is NaN; != is true there.
inline Mask32 is_nan(F32 x) { return x != x; }
inline Mask64 is_nan(F64 x) { return x != x; }

template <int bytes> bool any_of(Mask<bytes> m) { return bits(m) != 0; }
template <int bytes> bool none_of(Mask<bytes> m) { return bits(m) == 0; }
template <int bytes> bool all_of(Mask<bytes> m) { return bits(~m) == 0; }
template <int bytes> int count(Mask<bytes> m) { return __builtin_popcountll(bits(m)); }

// Least and greatest of 64-bit integers; those of F32, F64, I32, U32 and U8 are in the level headers.
inline I64 min(I64 a, I64 b) { return select(a < b, a, b); }
inline I64 max(I64 a, I64 b) { return select(a > b, a, b); }
inline U64 min(U64 a, U64 b) { return select(a < b, a, b); }
inline U64 max(U64 a, U64 b) { return select(a > b, a, b); }

// The greater; NaN where either is NaN (a's, if both are), b where they are equal, so of +0 and -0 the second.
inline F32 max_keep_nan(F32 a, F32 b) { return select(is_nan(a), a, max_or_second(a, b)); }
inline F64 max_keep_nan(F64 a, F64 b) { return select(is_nan(a), a, max_or_second(a, b)); }

// x held within [low, high]; a NaN stays NaN. low and high must not be NaN.
inline F32 clamp_keep_nan(F32 x, F32 low, F32 high) { return max_or_second(low, min_or_second(high, x)); }
inline F64 clamp_keep_nan(F64 x, F64 low, F64 high) { return max_or_second(low, min_or_second(high, x)); }

// ---- arithmetic ---------------------------------------------------------------------------------------------------------------------------

inline F32 abs(F32 x) { return as_f32(as_u32(x) & U32::all(0x7fffffffu)); }
inline F64 abs(F64 x) { return as_f64(as_u64(x) & U64::all(0x7fffffffffffffffu)); }

// magnitude with the sign bit of sign, NaN included.
inline F32 copy_sign(F32 magnitude, F32 sign) {
  const U32 sign_bit = U32::all(0x80000000u);
  return as_f32(and_not(as_u32(magnitude), sign_bit) | (as_u32(sign) & sign_bit));
}
inline F64 copy_sign(F64 magnitude, F64 sign) {
  const U64 sign_bit = U64::all(0x8000000000000000u);
  return as_f64(and_not(as_u64(magnitude), sign_bit) | (as_u64(sign) & sign_bit));
}

// a * b + c, as fast as the level can; see "Exactness" above.
template <typename T> Vec<T> multiply_add(Vec<T> a, Vec<T> b, Vec<T> c) {
  if constexpr (kFusedMultiplyAdd) {
    return fma(a, b, c);
  } else {
    return a * b + c;
  }
}

// v4 has the next two as instructions.
#if !defined(__AVX512F__)
// a + b rounded towards zero, for finite 0 <= b <= a whose sum is finite: rounded to nearest, and one step back where that went up.
inline F32 add_toward_zero(F32 a, F32 b) {
  const F32 sum = a + b, lost = b - (sum - a);
  return as_f32(as_i32(sum) + (as_i32(lost) >> 31));
}
// x, or least with the sign of x where |x| is less; no NaN, least positive.
inline F32 raise_magnitude(F32 x, F32 least) { return copy_sign(max_or_second(abs(x), least), x); }
#endif

// Lanes are pairs of bf16, the first in the low half: sum + a.first * b.first + a.second * b.second. An instruction on v4_bf16, where subnormal
// operands and results count as 0 whatever the control register says.
#if !defined(__AVX512BF16__)
constexpr bool kBf16Pairs = false;
inline F32 multiply_add_pairs(U32 a, U32 b, F32 sum) {
  const U32 second = U32::all(0xffff0000u);
  return multiply_add(as_f32(a & second), as_f32(b & second), multiply_add(as_f32(a << 16), as_f32(b << 16), sum));
}
#endif

// y * 2^n, rounded once, for 1/2 <= |y| <= 2 (or NaN) and integral n such that n / 2 is an exponent of the type: |n| <= 252 and |n| <= 2044.
// v4 has it as an instruction. Adding the shift to an integer leaves it in the last bits of the sum, ready to be moved to the exponent's place.
#if !defined(__AVX512F__)
inline F32 scale_by_power_of_two(F32 y, F32 n) {
  const F32 half = round_to_integral(n * F32::all(0.5f)), shift = F32::all(0x1.8p23f + 127.0f);
  const U32 first = as_u32(half + shift) << 23, second = as_u32((n - half) + shift) << 23;
  return (y * as_f32(first)) * as_f32(second);
}
inline F64 scale_by_power_of_two(F64 y, F64 n) {
  const F64 half = round_to_integral(n * F64::all(0.5)), shift = F64::all(0x1.8p52 + 1023.0);
  const U64 first = as_u64(half + shift) << 52, second = as_u64((n - half) + shift) << 52;
  return (y * as_f64(first)) * as_f64(second);
}
#endif

// Upper halves of the 64-bit products.
inline U32 multiply_high(U32 a, U32 b) {
  const U64 even = multiply_even(a, b), odd = multiply_even(as_u32(as_u64(a) >> 32), as_u32(as_u64(b) >> 32));
  return as_u32((even >> 32) | and_not(odd, U64::all(0xffffffffu)));
}

// ---- conversions --------------------------------------------------------------------------------------------------------------------------

inline F32 to_f32(I32 x) { return F32{__builtin_convertvector(x.v, F32::Lanes)}; }
inline F64 to_f64(I64 x) { return F64{__builtin_convertvector(x.v, F64::Lanes)}; }

// bfloat16 is the upper half of a float: widening is exact; narrowing rounds to nearest, ties to even, and keeps NaN (made quiet).
inline F32 f32_of_bf16(U32 code) { return as_f32(code << 16); }
inline U32 bf16_of_f32(F32 x) {
  const U32 word = as_u32(x);
  const U32 rounded = (word + U32::all(0x7fffu) + ((word >> 16) & U32::all(1u))) >> 16;
  return select(is_nan(x), (word >> 16) | U32::all(0x40u), rounded);
}
inline F32 load_bf16(const uint16_t* p) { return f32_of_bf16(load_as_u32(p)); }
inline void store_bf16(F32 x, uint16_t* p) { store_low16(bf16_of_f32(x), p); }

// The first n (clamped to 0..lanes) of narrow elements; the lanes beyond read as fill, and are not written.
template <typename Narrow> U32 load_first_as_u32(const Narrow* p, int64_t n, uint32_t fill) {
  Narrow block[U32::lanes];
  for (int64_t i = 0; i < U32::lanes; ++i) block[i] = i < n ? p[i] : static_cast<Narrow>(fill);
  return load_as_u32(block);
}
inline void store_first_low8(U32 x, uint8_t* p, int64_t n) {
  uint8_t block[U32::lanes];
  store_low8(x, block);
  copy_bytes(p, block, clamp_count(n, U32::lanes));
}
inline void store_first_low16(U32 x, uint16_t* p, int64_t n) {
  uint16_t block[U32::lanes];
  store_low16(x, block);
  copy_bytes(p, block, clamp_count(n, U32::lanes) * 2);
}
inline F32 load_first_bf16(const uint16_t* p, int64_t n, uint16_t fill) { return f32_of_bf16(load_first_as_u32(p, n, fill)); }
inline void store_first_bf16(F32 x, uint16_t* p, int64_t n) { store_first_low16(bf16_of_f32(x), p, n); }

// IEEE half precision: widening is exact; narrowing rounds to nearest, ties to even, overflows to infinity and keeps NaN (made quiet).
inline F32 load_f16(const uint16_t* p) { return f32_of_f16(load_as_u32(p)); }
inline void store_f16(F32 x, uint16_t* p) { store_low16(f16_of_f32(x), p); }
inline F32 load_first_f16(const uint16_t* p, int64_t n, uint16_t fill) { return f32_of_f16(load_first_as_u32(p, n, fill)); }
inline void store_first_f16(F32 x, uint16_t* p, int64_t n) { store_first_low16(f16_of_f32(x), p, n); }

// ---- reductions ---------------------------------------------------------------------------------------------------------------------------

// All reductions fold the vector by halves: lane i with lane i + lanes/2, then i + lanes/4, ... The order is part of the result of reduce_add,
// so the sum of the same numbers differs between levels.
template <typename V, typename Fold> V fold_halves(V x, Fold fold) {
  constexpr int kWords = static_cast<int>(sizeof(typename V::Element) / 4);
  if constexpr (V::lanes >= 16) x = fold(x, swap_lanes<8 * kWords>(x));
  if constexpr (V::lanes >= 8) x = fold(x, swap_lanes<4 * kWords>(x));
  if constexpr (V::lanes >= 4) x = fold(x, swap_lanes<2 * kWords>(x));
  return fold(x, swap_lanes<1 * kWords>(x));
}

template <typename T> T reduce_add(Vec<T> x) {
  return fold_halves(x, [](Vec<T> a, Vec<T> b) { return a + b; }).v[0];
}

constexpr int kPartsOf16 = 16 / static_cast<int>(F32::lanes);  // vectors in a group of 16 floats, or of 8 doubles

// Of floats; NaN if any lane is.
template <typename T> T reduce_max_keep_nan(Vec<T> x) {
  return fold_halves(x, [](Vec<T> a, Vec<T> b) { return max_keep_nan(a, b); }).v[0];
}
// Of integers of 32 and 64 bits.
template <typename T> T reduce_max(Vec<T> x) {
  return fold_halves(x, [](Vec<T> a, Vec<T> b) { return max(a, b); }).v[0];
}
template <typename T> T reduce_min(Vec<T> x) {
  return fold_halves(x, [](Vec<T> a, Vec<T> b) { return min(a, b); }).v[0];
}

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
