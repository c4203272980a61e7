// exp, exp2, expm1, log, log2, log1p and tanh of float vectors, exp and log of double vectors; errors at most those of math_bounds.h.
//
// The results are the same bits on every level: each operation is exact or rounded once everywhere, and their order is fixed. That needs `fma`
// in float, which v2 emulates slowly; the double functions use none. No tables, no branches.
//
// NaN gives NaN; infinities and zeros give the limits, with the sign of zero kept by expm1, log1p and tanh; logarithms of negative numbers are
// NaN, of zeros -infinity. Subnormal arguments and results are right: nothing is flushed to zero. Rounding must be to nearest.
//
// The polynomials are minimax approximations of our own, of the relative error of the result, made with the exchange algorithm of Remez (double:
// interpolation at Chebyshev nodes) in 40-digit arithmetic; the comment at each gives its error before rounding.
#pragma once
#include "simd/log_series.h"
#include "simd/math_bounds.h"
#include "simd/vec.h"

namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE {

// coefficients[0] + x * (coefficients[1] + x * (...)), each step rounded once.
template <int size> F32 polynomial(F32 x, const float (&coefficients)[size]) {
  F32 sum = F32::all(coefficients[size - 1]);
  for (int i = size - 2; i >= 0; --i) sum = fma(sum, x, F32::all(coefficients[i]));
  return sum;
}
// The same, with each product and each sum rounded.
template <int size> F64 polynomial(F64 x, const double (&coefficients)[size]) {
  F64 sum = F64::all(coefficients[size - 1]);
  for (int i = size - 2; i >= 0; --i) sum = sum * x + F64::all(coefficients[i]);
  return sum;
}

// Adding this leaves the nearest integer (ties to even) of a small number in the last bits of the sum; subtracting it again gives that integer.
constexpr float kRoundingShift = 0x1.8p23f;
constexpr double kRoundingShiftF64 = 0x1.8p52;

// ---- exponentials: x = n ln 2 + r, |r| <= ln 2 / 2, e^x = 2^n e^r -----------------------------------------------------------------------------

constexpr float kLog2OfE = 0x1.715476p+0f;
constexpr float kLn2 = 0x1.62e430p-1f, kLn2Rest = -0x1.05c610p-29f;  // their sum is ln 2 within 2^-54
// (e^r - 1 - r) / r^2; relative error of e^r at most 2^-28.2.
constexpr float kExpTail[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558b0p-5f, 0x1.12398ep-7f, 0x1.6a4d60p-10f};
// (2^r - 1 - r ln 2) / r^2; relative error of 2^r at most 2^-28.2.
constexpr float kExp2Tail[] = {0x1.ebfbdcp-3f, 0x1.c6af8ap-5f, 0x1.3b2decp-7f, 0x1.5f031cp-10f, 0x1.415e6ap-13f};

// (e^r - 1 - r) / r^2 again; relative error of e^r - 1 at most 2^-31.1.
constexpr float kExpm1Tail[] = {0x1.000000p-1f, 0x1.555554p-3f, 0x1.5554f8p-5f, 0x1.1112d8p-7f, 0x1.6d3a4ap-10f, 0x1.9e7380p-13f};

struct ReducedExp {
  F32 n, r;
};
inline ReducedExp reduce_exp(F32 x) {
  const F32 shift = F32::all(kRoundingShift);
  const F32 n = fma(x, F32::all(kLog2OfE), shift) - shift;
  return {n, fma(n, F32::all(-kLn2Rest), fma(n, F32::all(-kLn2), x))};  // the inner one is exact
}

inline F32 exp(F32 x) {
  // Beyond these the result is infinite, or less than half the smallest subnormal.
  const ReducedExp reduced = reduce_exp(clamp_keep_nan(x, F32::all(-104.0f), F32::all(89.0f)));
  const F32 one = F32::all(1.0f), r = reduced.r;
  return scale_by_power_of_two(fma(fma(polynomial(r, kExpTail), r, one), r, one), reduced.n);
}

inline F32 exp2(F32 x) {
  const F32 held = clamp_keep_nan(x, F32::all(-151.0f), F32::all(128.0f)), shift = F32::all(kRoundingShift);
  const F32 n = (held + shift) - shift, r = held - n;
  const F32 slope = fma(polynomial(r, kExp2Tail), r, F32::all(kLn2));
  return scale_by_power_of_two(fma(slope, r, F32::all(1.0f)), n);
}

// e^x - 1, accurate near 0.
inline F32 expm1(F32 x) {
  const ReducedExp reduced = reduce_exp(clamp_keep_nan(x, F32::all(-18.0f), F32::all(89.0f)));
  const F32 r = reduced.r, near = fma(polynomial(r, kExpm1Tail) * r, r, r);  // e^r - 1
  // 2^n (near + 1) - 1, by halves because 2^128 is not a float.
  const F32 half = F32::all(0.5f), scale = scale_by_power_of_two(half, reduced.n);
  const F32 far = fma(scale, near, scale - half);
  const F32 result = select(reduced.n == F32::all(0.0f), near, far + far);
  return select(x == F32::all(0.0f), x, result);  // keeps -0
}

// (e^2|x| - 1) / (e^2|x| + 1), with x's sign.
inline F32 tanh(F32 x) {
  const F32 two = F32::all(2.0f), magnitude = min_or_second(F32::all(10.0f), abs(x));  // 1 to the last bit from there on
  const F32 grown = expm1(two * magnitude);
  return copy_sign(grown / (grown + two), x);
}

// ---- logarithms: x = 2^e m, 2/3 <= m < 4/3, f = m - 1, log x = e ln 2 + log(1 + f) ----------------------------------------------------------

// (log(1 + f) - f) / f^2; relative error of log(1 + f) at most 2^-27.6.
constexpr float kLogTail[] = {-0x1.000000p-1f, 0x1.555506p-2f,  -0x1.fffef2p-3f, 0x1.99d06cp-3f, -0x1.559d96p-3f,
                              0x1.1ed29ep-3f,  -0x1.f315b0p-4f, 0x1.1e7d94p-3f,  -0x1.07fe32p-3f};
// (log2(1 + f) - f log2(e)) / f^2; relative error likewise.
constexpr float kLog2Tail[] = {-0x1.715476p-1f, 0x1.ec7030p-2f,  -0x1.7153dep-2f, 0x1.279d7cp-2f, -0x1.ecd16cp-3f,
                               0x1.9de32ap-3f,  -0x1.68487ep-3f, 0x1.9cee6cp-3f,  -0x1.7bf89ap-3f};
constexpr float kLog2OfERest = 0x1.4ae0c0p-26f;  // log2(e) - kLog2OfE

struct ReducedLog {
  F32 e, f;
};
// x positive, finite and not subnormal; anything gives something for other x.
inline ReducedLog reduce_log(F32 x) {
  const I32 two_thirds = as_i32(U32::all(0x3f2aaaabu));
  const I32 e = (as_i32(x) - two_thirds) >> 23;
  return {to_f32(e), as_f32(as_i32(x) - (e << 23)) - F32::all(1.0f)};
}
// The same for subnormal x as well.
inline ReducedLog reduce_log_of_any(F32 x) {
  const Mask32 subnormal = x < F32::all(0x1p-126f);
  const ReducedLog reduced = reduce_log(select(subnormal, x * F32::all(0x1p23f), x));
  return {select(subnormal, reduced.e - F32::all(23.0f), reduced.e), reduced.f};
}

// result for positive finite x; the limits elsewhere.
inline F32 with_log_limits(F32 x, F32 result) {
  const F32 zero = F32::all(0.0f);
  result = select(x < F32::all(kInfinity), result, x + x);  // +infinity and NaN
  return select(x <= zero, select(x == zero, F32::all(-kInfinity), F32::all(kNaN)), result);
}

inline F32 log_of_reduced(ReducedLog reduced) {
  const F32 f = reduced.f, near = fma(f * f, polynomial(f, kLogTail), f);
  return fma(reduced.e, F32::all(kLn2), near);  // kLn2 is within 2^-28 of ln 2, relatively
}

inline F32 log(F32 x) { return with_log_limits(x, log_of_reduced(reduce_log_of_any(x))); }

inline F32 log2(F32 x) {
  const ReducedLog reduced = reduce_log_of_any(x);
  const F32 e = reduced.e, f = reduced.f;
  const F32 near = fma(f * f, polynomial(f, kLog2Tail), f * F32::all(kLog2OfERest));
  // e + f + (log2(e) - 1) f + near: the first sum is large, so what its rounding loses is kept (Dekker 1971).
  const F32 sum = e + f, lost = f - (sum - e);
  return with_log_limits(x, sum + (fma(f, F32::all(kLog2OfE - 1.0f), near) + lost));
}

// log(1 + x), accurate near 0: 1 + x is rounded only to find e, and f = 2^-e (1 + x) - 1 is made from x itself.
inline F32 log1p(F32 x) {
  const F32 one = F32::all(1.0f), sum = x + one;
  const ReducedLog reduced = reduce_log(sum);
  const F32 scale = as_f32((I32::all(127) << 23) - (truncate_to_i32(reduced.e) << 23));
  const F32 f = fma(scale, x, scale - one);
  const Mask32 one_vanishes = x >= F32::all(0x1p24f);
  const F32 result = with_log_limits(sum, log_of_reduced({reduced.e, select(one_vanishes, reduced.f, f)}));
  return select(x == F32::all(0.0f), x, result);  // keeps -0
}

// ---- double: the same reductions, without fma -------------------------------------------------------------------------------------------------

constexpr double kLog2OfEF64 = 0x1.71547652b82fep+0;
constexpr double kLn2F64 = kLogSeries.ln2, kLn2RestF64 = kLogSeries.ln2_rest;
// (e^r - 1 - r) / r^2; relative error of e^r at most 2^-61.9.
constexpr double kExpTailF64[] = {0x1.0000000000000p-1,  0x1.5555555555557p-3,  0x1.5555555555556p-5,  0x1.11111111100dcp-7,
                                  0x1.6c16c16c162d4p-10, 0x1.a01a01abe7fe1p-13, 0x1.a01a01a6d889cp-16, 0x1.71de0231960ebp-19,
                                  0x1.27e4db646b17ep-22, 0x1.af4de97ca4194p-26, 0x1.1f730349868cep-29};

inline F64 exp(F64 x) {
  const F64 held = clamp_keep_nan(x, F64::all(-746.0), F64::all(710.0)), shift = F64::all(kRoundingShiftF64);
  const F64 n = (held * F64::all(kLog2OfEF64) + shift) - shift;
  const F64 r = (held - n * F64::all(kLn2F64)) - n * F64::all(kLn2RestF64);
  return scale_by_power_of_two(F64::all(1.0) + (r + (r * r) * polynomial(r, kExpTailF64)), n);
}

// sqrt(1/2) <= m < sqrt(2). With s = f / (2 + f), log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + tail), which loses nothing to the rounding of s.
inline F64 log(F64 x) {
  const Mask64 subnormal = x < F64::all(0x1p-1022);
  const U64 word = as_u64(select(subnormal, x * F64::all(0x1p54), x));
  // The biased exponent, made a double by putting it into the last bits of 2^52.
  const U64 steps = (word - U64::all(0x3fe6a09e667f3bcdu) + U64::all(uint64_t{1023} << 52)) >> 52;
  const F64 biased = as_f64(steps | as_u64(F64::all(0x1p52))) - F64::all(0x1p52 + 1023.0);
  const F64 e = select(subnormal, biased - F64::all(54.0), biased);
  const F64 f = as_f64(word - ((steps - U64::all(1023)) << 52)) - F64::all(1.0);

  const F64 s = f / (F64::all(2.0) + f), square = s * s, half_square = F64::all(0.5) * (f * f);
  const F64 tail = square * polynomial(square, kLogSeries.tail);
  const F64 small = s * (half_square + tail) + e * F64::all(kLn2RestF64);
  const F64 result = e * F64::all(kLn2F64) - ((half_square - small) - f);

  const F64 zero = F64::all(0.0), infinity = F64::all(__builtin_inf());
  const F64 upper = select(x < infinity, result, x + x);  // +infinity and NaN
  return select(x <= zero, select(x == zero, -infinity, F64::all(__builtin_nan(""))), upper);
}

}  // namespace slipstick::simd::SLIPSTICK_ISA_NAMESPACE
