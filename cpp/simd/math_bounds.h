// Largest errors of the functions of math.h, in units in the last place (ulp) of the exact result; the tests hold the functions to these numbers.
// One ulp of y is 2^(floor(log2 |y|) - 23) in float and - 52 in double, and at least the smallest subnormal.
// Float: found over all 2^32 inputs and rounded up. Double: over the sampled inputs of the test, with room to spare.
#pragma once

namespace slipstick::simd {

constexpr double kExpMaxUlp = 0.9;
constexpr double kExp2MaxUlp = 0.9;
constexpr double kLogMaxUlp = 0.94;
constexpr double kLog2MaxUlp = 1.15;
constexpr double kExpm1MaxUlp = 1.45;
constexpr double kLog1pMaxUlp = 1.55;
constexpr double kTanhMaxUlp = 2.45;
constexpr double kExpF64MaxUlp = 1.0;
constexpr double kLogF64MaxUlp = 1.0;

}  // namespace slipstick::simd
