// Half precision by integer arithmetic, for v2, which has no instruction for it. Bit for bit what F16C does, NaN payloads included.
// Included at the end of vec_v2.h, whose functions it uses.
#pragma once

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

// Half-precision codes in the low 16 bits of each lane.
inline F32 f32_of_f16(U32 code) {
  const U32 sign = (code & U32::all(0x8000u)) << 16, magnitude = code & U32::all(0x7fffu);
  // A float with the code's exponent and mantissa is the value times 2^-112; the product is exact, and right for subnormal codes too.
  const F32 finite = as_f32(magnitude << 13) * as_f32(U32::all((127u + 112u) << 23));
  // Infinity and NaN: all exponent bits set, NaN made quiet.
  const U32 quiet = as_u32(as_f32((magnitude << 13) | U32::all(0x7f800000u)) + as_f32(U32::all(0x7f800000u)));
  return as_f32(sign | select(as_i32(magnitude) > as_i32(U32::all(0x7bffu)), quiet, as_u32(finite)));
}

inline U32 f16_of_f32(F32 x) {
  const U32 word = as_u32(x), sign = (word >> 16) & U32::all(0x8000u), magnitude = word & U32::all(0x7fffffffu);
  // Normal results: round the mantissa to 10 bits, ties to even, and change the bias; overflow runs into the code of infinity.
  const U32 rounded = magnitude + U32::all(0xfffu) + ((magnitude >> 13) & U32::all(1u));
  const U32 normal = min(rounded - U32::all(112u << 23), U32::all(0x7c00u << 13)) >> 13;
  // Subnormal results: adding 0.5 puts the unit of rounding at 2^-24, and the code stands in the last bits of the sum.
  const U32 half = U32::all(0x3f000000u);
  const U32 subnormal = as_u32(as_f32(magnitude) + as_f32(half)) - half;
  const U32 finite = select(as_i32(magnitude) < as_i32(U32::all(113u << 23)), subnormal, normal);
  const U32 nan = U32::all(0x7e00u) | ((magnitude >> 13) & U32::all(0x3ffu));
  return sign | select(as_i32(magnitude) > as_i32(U32::all(0x7f800000u)), nan, finite);
}

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
