// Constants of the logarithm in double: for vectors in math.h, and where there are none, as on a device, for the same bits one number at a time.
#pragma once

namespace slipstick::simd {

struct LogSeries {
  double ln2, ln2_rest;
  double tail[7];
};

// The first number has 12 zero bits at its end, so that its product with an exponent is exact; with the second it is ln 2. Then (log((1 + s) / (1 - s)) / s -
// 2) / s^2 in powers of s^2; relative error of the logarithm at most 2^-57.6.
constexpr LogSeries kLogSeries{0x1.62e42fefa3000p-1,
                               0x1.3de6af278ece6p-42,
                               {0x1.5555555555558p-1, 0x1.99999999952d7p-2, 0x1.2492492df281ap-2, 0x1.c71c62e3f11e6p-3,
                                0x1.7462b51cb66b1p-3, 0x1.39fe51a7c18f9p-3, 0x1.2b5900de53b32p-3}};

}  // namespace slipstick::simd
