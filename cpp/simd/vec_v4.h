// The facade on x86-64-v4, with AVX512-BF16 or without: AVX-512 F, BW, CD, DQ and VL; 64-byte vectors and mask registers. Included by vec.h alone.
#pragma once
// GCC 12 warns of the undefined vectors inside its own intrinsics (its bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

constexpr bool kFusedMultiplyAdd = true;
constexpr int kVectorRegisters = 32;
constexpr bool kRaisesMagnitudeAtOnce = true;

// ---- masks: one bit a lane, lane 0 lowest ---------------------------------------------------------------------------------------------------

template <int bytes> struct Mask;
template <> struct Mask<1> {
  __mmask64 register_bits;
};
template <> struct Mask<4> {
  __mmask16 register_bits;
};
template <> struct Mask<8> {
  __mmask8 register_bits;
};
using Mask8 = Mask<1>;
using Mask32 = Mask<4>;
using Mask64 = Mask<8>;
template <typename T> using MaskOf = Mask<static_cast<int>(sizeof(T))>;

template <int bytes> using MaskRegister = decltype(Mask<bytes>::register_bits);
template <int bytes> Mask<bytes> operator&(Mask<bytes> a, Mask<bytes> b) {
  return {static_cast<MaskRegister<bytes>>(a.register_bits & b.register_bits)};
}
template <int bytes> Mask<bytes> operator|(Mask<bytes> a, Mask<bytes> b) {
  return {static_cast<MaskRegister<bytes>>(a.register_bits | b.register_bits)};
}
template <int bytes> Mask<bytes> operator^(Mask<bytes> a, Mask<bytes> b) {
  return {static_cast<MaskRegister<bytes>>(a.register_bits ^ b.register_bits)};
}
template <int bytes> Mask<bytes> operator~(Mask<bytes> a) { return {static_cast<MaskRegister<bytes>>(~a.register_bits)}; }
template <int bytes> uint64_t bits(Mask<bytes> m) { return m.register_bits; }

// One comparison of each type of element, by predicate; the float ones are quiet.
template <int float_predicate, int> Mask32 compare(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, float_predicate)}; }
template <int float_predicate, int> Mask64 compare(F64 a, F64 b) { return {_mm512_cmp_pd_mask(a.v, b.v, float_predicate)}; }
template <int, int predicate> Mask32 compare(I32 a, I32 b) { return {_mm512_cmp_epi32_mask((__m512i)a.v, (__m512i)b.v, predicate)}; }
template <int, int predicate> Mask32 compare(U32 a, U32 b) { return {_mm512_cmp_epu32_mask((__m512i)a.v, (__m512i)b.v, predicate)}; }
template <int, int predicate> Mask64 compare(I64 a, I64 b) { return {_mm512_cmp_epi64_mask((__m512i)a.v, (__m512i)b.v, predicate)}; }
template <int, int predicate> Mask64 compare(U64 a, U64 b) { return {_mm512_cmp_epu64_mask((__m512i)a.v, (__m512i)b.v, predicate)}; }
template <int, int predicate> Mask8 compare(U8 a, U8 b) { return {_mm512_cmp_epu8_mask((__m512i)a.v, (__m512i)b.v, predicate)}; }
template <typename T> MaskOf<T> operator==(Vec<T> a, Vec<T> b) { return compare<_CMP_EQ_OQ, _MM_CMPINT_EQ>(a, b); }
template <typename T> MaskOf<T> operator!=(Vec<T> a, Vec<T> b) { return compare<_CMP_NEQ_UQ, _MM_CMPINT_NE>(a, b); }
template <typename T> MaskOf<T> operator<(Vec<T> a, Vec<T> b) { return compare<_CMP_LT_OQ, _MM_CMPINT_LT>(a, b); }
template <typename T> MaskOf<T> operator<=(Vec<T> a, Vec<T> b) { return compare<_CMP_LE_OQ, _MM_CMPINT_LE>(a, b); }
template <typename T> MaskOf<T> operator>(Vec<T> a, Vec<T> b) { return compare<_CMP_LT_OQ, _MM_CMPINT_LT>(b, a); }
template <typename T> MaskOf<T> operator>=(Vec<T> a, Vec<T> b) { return compare<_CMP_LE_OQ, _MM_CMPINT_LE>(b, a); }

// The first n lanes of a vector of T, n clamped to 0..lanes.
template <typename T> MaskOf<T> first_lanes(int64_t n) {
  const int64_t most = Vec<T>::lanes, first = clamp_count(n, most);
  const uint64_t ones = first == 64 ? ~uint64_t{0} : (uint64_t{1} << first) - 1;
  return {static_cast<MaskRegister<static_cast<int>(sizeof(T))>>(ones)};
}

// a where the mask is set, b elsewhere.
template <typename T> Vec<T> select(MaskOf<T> m, Vec<T> a, Vec<T> b) {
  using Lanes = typename Vec<T>::Lanes;
  if constexpr (sizeof(T) == 1) return {(Lanes)_mm512_mask_blend_epi8(m.register_bits, (__m512i)b.v, (__m512i)a.v)};
  if constexpr (sizeof(T) == 4) return {(Lanes)_mm512_mask_blend_epi32(m.register_bits, (__m512i)b.v, (__m512i)a.v)};
  if constexpr (sizeof(T) == 8) return {(Lanes)_mm512_mask_blend_epi64(m.register_bits, (__m512i)b.v, (__m512i)a.v)};
}

// ---- memory -------------------------------------------------------------------------------------------------------------------------------

template <> inline F32 F32::all(float x) { return {_mm512_set1_ps(x)}; }
template <> inline F64 F64::all(double x) { return {_mm512_set1_pd(x)}; }

template <typename T> Vec<T> Vec<T>::load_first(const T* p, int64_t n, T fill) {
  const auto first = first_lanes<T>(n).register_bits;
  const __m512i rest = (__m512i)all(fill).v;
  if constexpr (sizeof(T) == 1) return {(Lanes)_mm512_mask_loadu_epi8(rest, first, p)};
  if constexpr (sizeof(T) == 4) return {(Lanes)_mm512_mask_loadu_epi32(rest, first, p)};
  if constexpr (sizeof(T) == 8) return {(Lanes)_mm512_mask_loadu_epi64(rest, first, p)};
}
template <typename T> void Vec<T>::store_first(T* p, int64_t n) const {
  const auto first = first_lanes<T>(n).register_bits;
  if constexpr (sizeof(T) == 1) _mm512_mask_storeu_epi8(p, first, (__m512i)v);
  if constexpr (sizeof(T) == 4) _mm512_mask_storeu_epi32(p, first, (__m512i)v);
  if constexpr (sizeof(T) == 8) _mm512_mask_storeu_epi64(p, first, (__m512i)v);
}

template <typename T> void Vec<T>::stream(T* p) const { _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v); }
inline void stream_fence() { _mm_sfence(); }  // orders streamed stores before whatever tells another thread about them

inline F32 gather(const float* base, I32 index) { return {_mm512_i32gather_ps((__m512i)index.v, base, 4)}; }
inline U32 gather(const uint32_t* base, I32 index) { return {(U32::Lanes)_mm512_i32gather_epi32((__m512i)index.v, base, 4)}; }

// ---- arithmetic ---------------------------------------------------------------------------------------------------------------------------

inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F64 fma(F64 a, F64 b, F64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
inline F32 add_toward_zero(F32 a, F32 b) { return {_mm512_add_round_ps(a.v, b.v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)}; }
inline F32 raise_magnitude(F32 x, F32 least) { return {_mm512_range_ps(x.v, least.v, 3)}; }
inline F32 sqrt(F32 x) { return {_mm512_sqrt_ps(x.v)}; }
inline F64 sqrt(F64 x) { return {_mm512_sqrt_pd(x.v)}; }
inline F32 round_to_integral(F32 x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }  // ties to even
inline F64 round_to_integral(F64 x) { return {_mm512_roundscale_pd(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32 floor(F32 x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
inline F64 floor(F64 x) { return {_mm512_roundscale_pd(x.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }

#if defined(__AVX512BF16__)
constexpr bool kBf16Pairs = true;
inline F32 multiply_add_pairs(U32 a, U32 b, F32 sum) { return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b.v)}; }
#endif

inline F32 scale_by_power_of_two(F32 y, F32 n) { return {_mm512_scalef_ps(y.v, n.v)}; }  // the others: vec.h
inline F64 scale_by_power_of_two(F64 y, F64 n) { return {_mm512_scalef_pd(y.v, n.v)}; }

// a > b ? a : b and a < b ? a : b, hence b where either is NaN or both are zeros.
inline F32 max_or_second(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 min_or_second(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F64 max_or_second(F64 a, F64 b) { return {_mm512_max_pd(a.v, b.v)}; }
inline F64 min_or_second(F64 a, F64 b) { return {_mm512_min_pd(a.v, b.v)}; }
inline I32 max(I32 a, I32 b) { return {(I32::Lanes)_mm512_max_epi32((__m512i)a.v, (__m512i)b.v)}; }
inline I32 min(I32 a, I32 b) { return {(I32::Lanes)_mm512_min_epi32((__m512i)a.v, (__m512i)b.v)}; }
inline U32 max(U32 a, U32 b) { return {(U32::Lanes)_mm512_max_epu32((__m512i)a.v, (__m512i)b.v)}; }
inline U32 min(U32 a, U32 b) { return {(U32::Lanes)_mm512_min_epu32((__m512i)a.v, (__m512i)b.v)}; }
inline U8 max(U8 a, U8 b) { return {(U8::Lanes)_mm512_max_epu8((__m512i)a.v, (__m512i)b.v)}; }
inline U8 min(U8 a, U8 b) { return {(U8::Lanes)_mm512_min_epu8((__m512i)a.v, (__m512i)b.v)}; }

// The 64-bit products of lanes 0, 2, 4, ...
inline U64 multiply_even(U32 a, U32 b) { return {(U64::Lanes)_mm512_mul_epu32((__m512i)a.v, (__m512i)b.v)}; }

// ---- conversions --------------------------------------------------------------------------------------------------------------------------

// To the nearest integer (ties to even) and towards zero; unspecified where the integer does not fit.
inline I32 to_i32(F32 x) { return {(I32::Lanes)_mm512_cvtps_epi32(x.v)}; }
inline I32 truncate_to_i32(F32 x) { return {(I32::Lanes)_mm512_cvttps_epi32(x.v)}; }

// Lower and upper halves of the lanes, exactly; and back, rounded to nearest.
inline F64 widen_low(F32 x) { return {_mm512_cvtps_pd(_mm512_castps512_ps256(x.v))}; }
inline F64 widen_high(F32 x) { return {_mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1))}; }
inline F32 narrow(F64 low, F64 high) {
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low.v)), _mm512_cvtpd_ps(high.v), 1)};
}

inline U32 load_as_u32(const uint8_t* p) {
  return {(U32::Lanes)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline U32 load_as_u32(const uint16_t* p) {
  return {(U32::Lanes)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline void store_low16(U32 x, uint16_t* p) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16((__m512i)x.v)); }
inline void store_low8(U32 x, uint8_t* p) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)x.v)); }

// Half-precision codes in the low 16 bits of each lane.
inline F32 f32_of_f16(U32 code) { return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)code.v))}; }
inline U32 f16_of_f32(F32 x) { return {(U32::Lanes)_mm512_cvtepu16_epi32(_mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT))}; }

// ---- moves between lanes ------------------------------------------------------------------------------------------------------------------

// 32-bit lane i receives lane i ^ distance, distance a power of two; 64-bit lanes move as two.
template <int distance, typename T> Vec<T> swap_lanes(Vec<T> x) {
  using Lanes = typename Vec<T>::Lanes;
  const __m512i v = (__m512i)x.v;
  if constexpr (distance == 8) return {(Lanes)_mm512_shuffle_i64x2(v, v, 0x4e)};
  if constexpr (distance == 4) return {(Lanes)_mm512_shuffle_i64x2(v, v, 0xb1)};
  if constexpr (distance == 2) return {(Lanes)_mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0x4e))};
  if constexpr (distance == 1) return {(Lanes)_mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0xb1))};
}

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
