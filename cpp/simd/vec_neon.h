// The facade on arm64: NEON, 16-byte vectors. Included by vec.h alone.
#pragma once
#include <arm_neon.h>

#include "simd/vec_lane_mask.h"

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

constexpr bool kFusedMultiplyAdd = true;
constexpr int kVectorRegisters = 32;
constexpr bool kRaisesMagnitudeAtOnce = false;

// ---- memory -------------------------------------------------------------------------------------------------------------------------------

template <> inline F32 F32::all(float x) { return {(F32::Lanes)vdupq_n_f32(x)}; }
template <> inline F64 F64::all(double x) { return {(F64::Lanes)vdupq_n_f64(x)}; }

template <typename T> Vec<T> Vec<T>::load_first(const T* p, int64_t n, T fill) { return load_first_by_copy(p, n, fill); }
template <typename T> void Vec<T>::store_first(T* p, int64_t n) const { store_first_by_copy(*this, p, n); }

template <typename T> void Vec<T>::stream(T* p) const { store(p); }  // arm64 has no vector store past the caches that C can ask for
inline void stream_fence() {}

inline F32 gather(const float* base, I32 index) {
  return {F32::Lanes{base[index.v[0]], base[index.v[1]], base[index.v[2]], base[index.v[3]]}};
}
inline U32 gather(const uint32_t* base, I32 index) {
  return {U32::Lanes{base[index.v[0]], base[index.v[1]], base[index.v[2]], base[index.v[3]]}};
}

// ---- masks --------------------------------------------------------------------------------------------------------------------------------

// One bit a lane, lane 0 lowest: each lane keeps the bit of its place, and the places are added.
inline uint64_t bits(Mask8 m) {
  const uint8x16_t place = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t kept = vandq_u8((uint8x16_t)m.lanes.v, place);
  return vaddv_u8(vget_low_u8(kept)) | static_cast<uint64_t>(vaddv_u8(vget_high_u8(kept))) << 8;
}
inline uint64_t bits(Mask32 m) {
  const uint32x4_t place = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32((uint32x4_t)m.lanes.v, place));
}
inline uint64_t bits(Mask64 m) {
  const uint64x2_t place = {1, 2};
  return vaddvq_u64(vandq_u64((uint64x2_t)m.lanes.v, place));
}

// a where the mask is set, b elsewhere.
template <typename T> Vec<T> select(MaskOf<T> m, Vec<T> a, Vec<T> b) {
  return {(typename Vec<T>::Lanes)vbslq_u8((uint8x16_t)m.lanes.v, (uint8x16_t)a.v, (uint8x16_t)b.v)};
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------------------------------

inline F32 fma(F32 a, F32 b, F32 c) { return {(F32::Lanes)vfmaq_f32((float32x4_t)c.v, (float32x4_t)a.v, (float32x4_t)b.v)}; }
inline F64 fma(F64 a, F64 b, F64 c) { return {(F64::Lanes)vfmaq_f64((float64x2_t)c.v, (float64x2_t)a.v, (float64x2_t)b.v)}; }
inline F32 sqrt(F32 x) { return {(F32::Lanes)vsqrtq_f32((float32x4_t)x.v)}; }
inline F64 sqrt(F64 x) { return {(F64::Lanes)vsqrtq_f64((float64x2_t)x.v)}; }
inline F32 round_to_integral(F32 x) { return {(F32::Lanes)vrndnq_f32((float32x4_t)x.v)}; }  // ties to even
inline F64 round_to_integral(F64 x) { return {(F64::Lanes)vrndnq_f64((float64x2_t)x.v)}; }
inline F32 floor(F32 x) { return {(F32::Lanes)vrndmq_f32((float32x4_t)x.v)}; }
inline F64 floor(F64 x) { return {(F64::Lanes)vrndmq_f64((float64x2_t)x.v)}; }

// a > b ? a : b and a < b ? a : b, hence b where either is NaN or both are zeros. NEON's own vmaxq keeps NaN and orders zeros; levels must agree.
inline F32 max_or_second(F32 a, F32 b) { return select(a > b, a, b); }
inline F32 min_or_second(F32 a, F32 b) { return select(a < b, a, b); }
inline F64 max_or_second(F64 a, F64 b) { return select(a > b, a, b); }
inline F64 min_or_second(F64 a, F64 b) { return select(a < b, a, b); }
inline I32 max(I32 a, I32 b) { return {(I32::Lanes)vmaxq_s32((int32x4_t)a.v, (int32x4_t)b.v)}; }
inline I32 min(I32 a, I32 b) { return {(I32::Lanes)vminq_s32((int32x4_t)a.v, (int32x4_t)b.v)}; }
inline U32 max(U32 a, U32 b) { return {(U32::Lanes)vmaxq_u32((uint32x4_t)a.v, (uint32x4_t)b.v)}; }
inline U32 min(U32 a, U32 b) { return {(U32::Lanes)vminq_u32((uint32x4_t)a.v, (uint32x4_t)b.v)}; }
inline U8 max(U8 a, U8 b) { return {(U8::Lanes)vmaxq_u8((uint8x16_t)a.v, (uint8x16_t)b.v)}; }
inline U8 min(U8 a, U8 b) { return {(U8::Lanes)vminq_u8((uint8x16_t)a.v, (uint8x16_t)b.v)}; }

// The 64-bit products of lanes 0, 2, 4, ...
inline U64 multiply_even(U32 a, U32 b) { return {(U64::Lanes)vmull_u32(vmovn_u64((uint64x2_t)a.v), vmovn_u64((uint64x2_t)b.v))}; }

// ---- conversions --------------------------------------------------------------------------------------------------------------------------

// To the nearest integer (ties to even) and towards zero; unspecified where the integer does not fit.
inline I32 to_i32(F32 x) { return {(I32::Lanes)vcvtnq_s32_f32((float32x4_t)x.v)}; }
inline I32 truncate_to_i32(F32 x) { return {(I32::Lanes)vcvtq_s32_f32((float32x4_t)x.v)}; }

// Lower and upper halves of the lanes, exactly; and back, rounded to nearest.
inline F64 widen_low(F32 x) { return {(F64::Lanes)vcvt_f64_f32(vget_low_f32((float32x4_t)x.v))}; }
inline F64 widen_high(F32 x) { return {(F64::Lanes)vcvt_high_f64_f32((float32x4_t)x.v)}; }
inline F32 narrow(F64 low, F64 high) { return {(F32::Lanes)vcvt_high_f32_f64(vcvt_f32_f64((float64x2_t)low.v), (float64x2_t)high.v)}; }

inline U32 load_as_u32(const uint8_t* p) {
  uint32_t word;
  __builtin_memcpy(&word, p, 4);
  return {(U32::Lanes)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(word))))};
}
inline U32 load_as_u32(const uint16_t* p) { return {(U32::Lanes)vmovl_u16(vld1_u16(p))}; }
inline void store_low16(U32 x, uint16_t* p) { vst1_u16(p, vmovn_u32((uint32x4_t)x.v)); }
inline void store_low8(U32 x, uint8_t* p) {
  const uint16x4_t words = vmovn_u32((uint32x4_t)x.v);
  const uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
  __builtin_memcpy(p, &bytes, 4);
}

// Half-precision codes in the low 16 bits of each lane.
inline F32 f32_of_f16(U32 code) { return {(F32::Lanes)vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32((uint32x4_t)code.v)))}; }
inline U32 f16_of_f32(F32 x) { return {(U32::Lanes)vmovl_u16(vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x.v)))}; }

// ---- moves between lanes ------------------------------------------------------------------------------------------------------------------

// 32-bit lane i receives lane i ^ distance, distance a power of two; 64-bit lanes move as two.
template <int distance, typename T> Vec<T> swap_lanes(Vec<T> x) {
  using Lanes = typename Vec<T>::Lanes;
  const uint32x4_t v = (uint32x4_t)x.v;
  if constexpr (distance == 2) return {(Lanes)vextq_u32(v, v, 2)};
  if constexpr (distance == 1) return {(Lanes)vrev64q_u32(v)};
}

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
