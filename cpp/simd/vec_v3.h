// The facade on x86-64-v3: AVX2, FMA and F16C; 32-byte vectors. Included by vec.h alone.
#pragma once
#include <immintrin.h>

#include "simd/vec_lane_mask.h"

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

constexpr bool kFusedMultiplyAdd = true;
constexpr int kVectorRegisters = 16;
constexpr bool kRaisesMagnitudeAtOnce = false;

// ---- memory -------------------------------------------------------------------------------------------------------------------------------

template <> inline F32 F32::all(float x) { return {_mm256_set1_ps(x)}; }
template <> inline F64 F64::all(double x) { return {_mm256_set1_pd(x)}; }

template <typename T> Vec<T> Vec<T>::load_first(const T* p, int64_t n, T fill) { return load_first_by_copy(p, n, fill); }
template <typename T> void Vec<T>::store_first(T* p, int64_t n) const { store_first_by_copy(*this, p, n); }
template <> inline F32 F32::load_first(const float* p, int64_t n, float fill) {
  const __m256i first = (__m256i)first_lanes<float>(n).lanes.v;
  return {_mm256_blendv_ps(all(fill).v, _mm256_maskload_ps(p, first), (__m256)first)};
}
template <> inline void F32::store_first(float* p, int64_t n) const { _mm256_maskstore_ps(p, (__m256i)first_lanes<float>(n).lanes.v, v); }
template <> inline F64 F64::load_first(const double* p, int64_t n, double fill) {
  const __m256i first = (__m256i)first_lanes<double>(n).lanes.v;
  return {_mm256_blendv_pd(all(fill).v, _mm256_maskload_pd(p, first), (__m256d)first)};
}
template <> inline void F64::store_first(double* p, int64_t n) const { _mm256_maskstore_pd(p, (__m256i)first_lanes<double>(n).lanes.v, v); }

template <typename T> void Vec<T>::stream(T* p) const { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v); }
inline void stream_fence() { _mm_sfence(); }  // orders streamed stores before whatever tells another thread about them

inline F32 gather(const float* base, I32 index) { return {_mm256_i32gather_ps(base, (__m256i)index.v, 4)}; }
inline U32 gather(const uint32_t* base, I32 index) {
  return {(U32::Lanes)_mm256_i32gather_epi32(reinterpret_cast<const int*>(base), (__m256i)index.v, 4)};
}

// ---- masks --------------------------------------------------------------------------------------------------------------------------------

// One bit a lane, lane 0 lowest.
inline uint64_t bits(Mask8 m) { return static_cast<uint32_t>(_mm256_movemask_epi8((__m256i)m.lanes.v)); }
inline uint64_t bits(Mask32 m) { return static_cast<uint32_t>(_mm256_movemask_ps((__m256)m.lanes.v)); }
inline uint64_t bits(Mask64 m) { return static_cast<uint32_t>(_mm256_movemask_pd((__m256d)m.lanes.v)); }

// a where the mask is set, b elsewhere.
template <typename T> Vec<T> select(MaskOf<T> m, Vec<T> a, Vec<T> b) {
  return {(typename Vec<T>::Lanes)_mm256_blendv_epi8((__m256i)b.v, (__m256i)a.v, (__m256i)m.lanes.v)};
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------------------------------

inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F64 fma(F64 a, F64 b, F64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
inline F32 sqrt(F32 x) { return {_mm256_sqrt_ps(x.v)}; }
inline F64 sqrt(F64 x) { return {_mm256_sqrt_pd(x.v)}; }
inline F32 round_to_integral(F32 x) { return {_mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }  // ties to even
inline F64 round_to_integral(F64 x) { return {_mm256_round_pd(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32 floor(F32 x) { return {_mm256_floor_ps(x.v)}; }
inline F64 floor(F64 x) { return {_mm256_floor_pd(x.v)}; }

// a > b ? a : b and a < b ? a : b, hence b where either is NaN or both are zeros.
inline F32 max_or_second(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F32 min_or_second(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F64 max_or_second(F64 a, F64 b) { return {_mm256_max_pd(a.v, b.v)}; }
inline F64 min_or_second(F64 a, F64 b) { return {_mm256_min_pd(a.v, b.v)}; }
inline I32 max(I32 a, I32 b) { return {(I32::Lanes)_mm256_max_epi32((__m256i)a.v, (__m256i)b.v)}; }
inline I32 min(I32 a, I32 b) { return {(I32::Lanes)_mm256_min_epi32((__m256i)a.v, (__m256i)b.v)}; }
inline U32 max(U32 a, U32 b) { return {(U32::Lanes)_mm256_max_epu32((__m256i)a.v, (__m256i)b.v)}; }
inline U32 min(U32 a, U32 b) { return {(U32::Lanes)_mm256_min_epu32((__m256i)a.v, (__m256i)b.v)}; }
inline U8 max(U8 a, U8 b) { return {(U8::Lanes)_mm256_max_epu8((__m256i)a.v, (__m256i)b.v)}; }
inline U8 min(U8 a, U8 b) { return {(U8::Lanes)_mm256_min_epu8((__m256i)a.v, (__m256i)b.v)}; }

// The 64-bit products of lanes 0, 2, 4, ...
inline U64 multiply_even(U32 a, U32 b) { return {(U64::Lanes)_mm256_mul_epu32((__m256i)a.v, (__m256i)b.v)}; }

// ---- conversions --------------------------------------------------------------------------------------------------------------------------

// To the nearest integer (ties to even) and towards zero; unspecified where the integer does not fit.
inline I32 to_i32(F32 x) { return {(I32::Lanes)_mm256_cvtps_epi32(x.v)}; }
inline I32 truncate_to_i32(F32 x) { return {(I32::Lanes)_mm256_cvttps_epi32(x.v)}; }

// Lower and upper halves of the lanes, exactly; and back, rounded to nearest.
inline F64 widen_low(F32 x) { return {_mm256_cvtps_pd(_mm256_castps256_ps128(x.v))}; }
inline F64 widen_high(F32 x) { return {_mm256_cvtps_pd(_mm256_extractf128_ps(x.v, 1))}; }
inline F32 narrow(F64 low, F64 high) { return {_mm256_set_m128(_mm256_cvtpd_ps(high.v), _mm256_cvtpd_ps(low.v))}; }

inline U32 load_as_u32(const uint8_t* p) {
  return {(U32::Lanes)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))};
}
inline U32 load_as_u32(const uint16_t* p) {
  return {(U32::Lanes)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}

inline __m128i low16_of_lanes(U32 x) {
  const __m256i words = _mm256_and_si256((__m256i)x.v, _mm256_set1_epi32(0xffff));
  return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
inline void store_low16(U32 x, uint16_t* p) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), low16_of_lanes(x)); }
inline void store_low8(U32 x, uint8_t* p) {
  const __m128i words = _mm_and_si128(low16_of_lanes(x), _mm_set1_epi16(0xff));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}

// Half-precision codes in the low 16 bits of each lane.
inline F32 f32_of_f16(U32 code) { return {_mm256_cvtph_ps(low16_of_lanes(code))}; }
inline U32 f16_of_f32(F32 x) { return {(U32::Lanes)_mm256_cvtepu16_epi32(_mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT))}; }

// ---- moves between lanes ------------------------------------------------------------------------------------------------------------------

// 32-bit lane i receives lane i ^ distance, distance a power of two; 64-bit lanes move as two.
template <int distance, typename T> Vec<T> swap_lanes(Vec<T> x) {
  using Lanes = typename Vec<T>::Lanes;
  const __m256i v = (__m256i)x.v;
  if constexpr (distance == 4) return {(Lanes)_mm256_permute2x128_si256(v, v, 1)};
  if constexpr (distance == 2) return {(Lanes)_mm256_shuffle_epi32(v, 0x4e)};
  if constexpr (distance == 1) return {(Lanes)_mm256_shuffle_epi32(v, 0xb1)};
}

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
