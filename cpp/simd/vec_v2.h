// The facade on x86-64-v2: SSE4.2, no FMA; 16-byte vectors. Included by vec.h alone. The floor, kept right rather than fast.
#pragma once
#include <immintrin.h>

#include "simd/vec_lane_mask.h"

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

constexpr bool kFusedMultiplyAdd = false;
constexpr int kVectorRegisters = 16;
constexpr bool kRaisesMagnitudeAtOnce = false;

// ---- memory -------------------------------------------------------------------------------------------------------------------------------

template <> inline F32 F32::all(float x) { return {_mm_set1_ps(x)}; }
template <> inline F64 F64::all(double x) { return {_mm_set1_pd(x)}; }

template <typename T> Vec<T> Vec<T>::load_first(const T* p, int64_t n, T fill) { return load_first_by_copy(p, n, fill); }
template <typename T> void Vec<T>::store_first(T* p, int64_t n) const { store_first_by_copy(*this, p, n); }

template <typename T> void Vec<T>::stream(T* p) const { _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v); }
inline void stream_fence() { _mm_sfence(); }  // orders streamed stores before whatever tells another thread about them

inline F32 gather(const float* base, I32 index) {
  return {_mm_setr_ps(base[index.v[0]], base[index.v[1]], base[index.v[2]], base[index.v[3]])};
}
inline U32 gather(const uint32_t* base, I32 index) {
  return {U32::Lanes{base[index.v[0]], base[index.v[1]], base[index.v[2]], base[index.v[3]]}};
}

// ---- masks --------------------------------------------------------------------------------------------------------------------------------

// One bit a lane, lane 0 lowest.
inline uint64_t bits(Mask8 m) { return static_cast<uint32_t>(_mm_movemask_epi8((__m128i)m.lanes.v)); }
inline uint64_t bits(Mask32 m) { return static_cast<uint32_t>(_mm_movemask_ps((__m128)m.lanes.v)); }
inline uint64_t bits(Mask64 m) { return static_cast<uint32_t>(_mm_movemask_pd((__m128d)m.lanes.v)); }

// a where the mask is set, b elsewhere.
template <typename T> Vec<T> select(MaskOf<T> m, Vec<T> a, Vec<T> b) {
  return {(typename Vec<T>::Lanes)_mm_blendv_epi8((__m128i)b.v, (__m128i)a.v, (__m128i)m.lanes.v)};
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------------------------------

// a * b + c rounded to odd in double: a * b is exact there, and if the sum is not, the neighbour with an odd last bit is taken. As double has
// 2 bits more than twice those of float, rounding that to float is rounding the exact value once (Boldo and Melquiond 2008, theorem 3).
inline __m128d fma_rounded_to_odd(__m128d a, __m128d b, __m128d c) {
  const __m128d product = _mm_mul_pd(a, b), sum = _mm_add_pd(product, c);
  const __m128d c_part = _mm_sub_pd(sum, product);  // two-sum (Knuth): the error of the addition, exactly
  const __m128d error = _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, c_part)), _mm_sub_pd(c, c_part));
  const __m128i one = _mm_set1_epi64x(1), word = _mm_castpd_si128(sum);
  // Inexact and not NaN (as error is where sum is infinite), and even.
  const __m128d inexact = _mm_and_pd(_mm_cmpneq_pd(error, _mm_setzero_pd()), _mm_cmpord_pd(error, error));
  const __m128i even = _mm_cmpeq_epi64(_mm_and_si128(word, one), _mm_setzero_si128());
  // Away from zero if the error has the sum's sign, else towards zero: +1 or -1 on the word.
  const __m128i signs = _mm_srai_epi32(_mm_xor_si128(_mm_castpd_si128(error), word), 31);
  const __m128i step = _mm_or_si128(_mm_shuffle_epi32(signs, 0xf5), one);
  return _mm_castsi128_pd(_mm_add_epi64(word, _mm_and_si128(step, _mm_and_si128(even, _mm_castpd_si128(inexact)))));
}
inline F32 fma(F32 a, F32 b, F32 c) {
  const __m128d low = fma_rounded_to_odd(_mm_cvtps_pd(a.v), _mm_cvtps_pd(b.v), _mm_cvtps_pd(c.v));
  const __m128 a_high = _mm_movehl_ps(a.v, a.v), b_high = _mm_movehl_ps(b.v, b.v), c_high = _mm_movehl_ps(c.v, c.v);
  const __m128d high = fma_rounded_to_odd(_mm_cvtps_pd(a_high), _mm_cvtps_pd(b_high), _mm_cvtps_pd(c_high));
  return {_mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high))};
}
inline F64 fma(F64 a, F64 b, F64 c) {  // the C library's, which rounds once on every machine
  return {_mm_setr_pd(__builtin_fma(a.v[0], b.v[0], c.v[0]), __builtin_fma(a.v[1], b.v[1], c.v[1]))};
}
inline F32 sqrt(F32 x) { return {_mm_sqrt_ps(x.v)}; }
inline F64 sqrt(F64 x) { return {_mm_sqrt_pd(x.v)}; }
inline F32 round_to_integral(F32 x) { return {_mm_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }  // ties to even
inline F64 round_to_integral(F64 x) { return {_mm_round_pd(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32 floor(F32 x) { return {_mm_floor_ps(x.v)}; }
inline F64 floor(F64 x) { return {_mm_floor_pd(x.v)}; }

// a > b ? a : b and a < b ? a : b, hence b where either is NaN or both are zeros.
inline F32 max_or_second(F32 a, F32 b) { return {_mm_max_ps(a.v, b.v)}; }
inline F32 min_or_second(F32 a, F32 b) { return {_mm_min_ps(a.v, b.v)}; }
inline F64 max_or_second(F64 a, F64 b) { return {_mm_max_pd(a.v, b.v)}; }
inline F64 min_or_second(F64 a, F64 b) { return {_mm_min_pd(a.v, b.v)}; }
inline I32 max(I32 a, I32 b) { return {(I32::Lanes)_mm_max_epi32((__m128i)a.v, (__m128i)b.v)}; }
inline I32 min(I32 a, I32 b) { return {(I32::Lanes)_mm_min_epi32((__m128i)a.v, (__m128i)b.v)}; }
inline U32 max(U32 a, U32 b) { return {(U32::Lanes)_mm_max_epu32((__m128i)a.v, (__m128i)b.v)}; }
inline U32 min(U32 a, U32 b) { return {(U32::Lanes)_mm_min_epu32((__m128i)a.v, (__m128i)b.v)}; }
inline U8 max(U8 a, U8 b) { return {(U8::Lanes)_mm_max_epu8((__m128i)a.v, (__m128i)b.v)}; }
inline U8 min(U8 a, U8 b) { return {(U8::Lanes)_mm_min_epu8((__m128i)a.v, (__m128i)b.v)}; }

// The 64-bit products of lanes 0, 2, 4, ...
inline U64 multiply_even(U32 a, U32 b) { return {(U64::Lanes)_mm_mul_epu32((__m128i)a.v, (__m128i)b.v)}; }

// ---- conversions --------------------------------------------------------------------------------------------------------------------------

// To the nearest integer (ties to even) and towards zero; unspecified where the integer does not fit.
inline I32 to_i32(F32 x) { return {(I32::Lanes)_mm_cvtps_epi32(x.v)}; }
inline I32 truncate_to_i32(F32 x) { return {(I32::Lanes)_mm_cvttps_epi32(x.v)}; }

// Lower and upper halves of the lanes, exactly; and back, rounded to nearest.
inline F64 widen_low(F32 x) { return {_mm_cvtps_pd(x.v)}; }
inline F64 widen_high(F32 x) { return {_mm_cvtps_pd(_mm_movehl_ps(x.v, x.v))}; }
inline F32 narrow(F64 low, F64 high) { return {_mm_movelh_ps(_mm_cvtpd_ps(low.v), _mm_cvtpd_ps(high.v))}; }

inline U32 load_as_u32(const uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, 4);
  return {(U32::Lanes)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(word))};
}
inline U32 load_as_u32(const uint16_t* p) { return {(U32::Lanes)_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))}; }

inline __m128i low16_of_lanes(U32 x) {
  const __m128i words = _mm_and_si128((__m128i)x.v, _mm_set1_epi32(0xffff));
  return _mm_packus_epi32(words, words);
}
inline void store_low16(U32 x, uint16_t* p) { _mm_storel_epi64(reinterpret_cast<__m128i*>(p), low16_of_lanes(x)); }
inline void store_low8(U32 x, uint8_t* p) {
  const __m128i words = _mm_and_si128(low16_of_lanes(x), _mm_set1_epi16(0xff));
  const int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  __builtin_memcpy(p, &bytes, 4);
}

// ---- moves between lanes ------------------------------------------------------------------------------------------------------------------

// 32-bit lane i receives lane i ^ distance, distance a power of two; 64-bit lanes move as two.
template <int distance, typename T> Vec<T> swap_lanes(Vec<T> x) {
  using Lanes = typename Vec<T>::Lanes;
  if constexpr (distance == 2) return {(Lanes)_mm_shuffle_epi32((__m128i)x.v, 0x4e)};
  if constexpr (distance == 1) return {(Lanes)_mm_shuffle_epi32((__m128i)x.v, 0xb1)};
}

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE

#include "simd/vec_f16.h"
