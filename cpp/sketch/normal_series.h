// Constants of normal numbers: of vectors in random.simd.cpp, and of one at a time in normals.h.
#pragma once

namespace slipstick::sketch {

struct NormalSeries {
  double sine[7], cosine[8];
};

// sin(x) / x - 1 and cos(x) - 1, by x^2, for x in [-pi/4, pi/4]: Taylor, the first term left out is below 2^-56 of the result.
constexpr NormalSeries kNormalSeries{
    {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0, -1.0 / 1307674368000.0},
    {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0, 1.0 / 20922789888000.0}};
constexpr double kQuarterTurn = 1.5707963267948966;

}  // namespace slipstick::sketch
