// Standard normals from random words (Box and Muller 1958), the bits of random.simd.cpp one pair at a time. Plain functions for host and device.
#pragma once
#include "base/host_device.h"
#include "simd/log_series.h"
#include "sketch/normal_series.h"

namespace slipstick::sketch {

// coefficients[0] + x * (coefficients[1] + x * (...)), each product and each sum rounded.
template <int size> SLIPSTICK_HOST_DEVICE inline double series_of(double x, const double (&coefficients)[size]) {
  double sum = coefficients[size - 1];
  SLIPSTICK_UNROLL
  for (int i = size - 2; i >= 0; --i) sum = plus(times(sum, x), coefficients[i]);
  return sum;
}

// log of simd/math.h, for positive numbers that are neither subnormal nor infinite.
SLIPSTICK_HOST_DEVICE inline double log_of(double x) {
  constexpr simd::LogSeries series = simd::kLogSeries;  // a copy, as devices see no constants of the host
  const uint64_t word = bits_of(x), steps = (word - 0x3fe6a09e667f3bcdu + (uint64_t{1023} << 52)) >> 52;
  const auto e = static_cast<double>(static_cast<int>(steps) - 1023);
  const double f = minus(double_of(word - ((steps - 1023) << 52)), 1.0);
  const double s = over(f, plus(2.0, f)), square = times(s, s), half_square = times(0.5, times(f, f));
  const double tail = times(square, series_of(square, series.tail));
  const double small = plus(times(s, plus(half_square, tail)), times(e, series.ln2_rest));
  return minus(times(e, series.ln2), minus(minus(half_square, small), f));
}

SLIPSTICK_HOST_DEVICE inline void draw_pair(uint32_t radius_word, uint32_t angle_word, double* first, double* second) {
  constexpr NormalSeries series = kNormalSeries;
  const double uniform = times(plus(static_cast<double>(radius_word), 0.5), 0x1p-32);
  const double radius = square_root(times(-2.0, log_of(uniform)));
  constexpr double kShift = 0x1.8p52;  // leaves the nearest integer, ties to even
  const double turns = times(static_cast<double>(angle_word), 0x1p-30), quarter = minus(plus(turns, kShift), kShift);
  const double x = times(minus(turns, quarter), kQuarterTurn), squared = times(x, x);
  const double sine = plus(x, times(times(x, squared), series_of(squared, series.sine)));
  const double cosine = plus(1.0, times(squared, series_of(squared, series.cosine)));
  const int turn = static_cast<int>(quarter) & 3;
  const double along = turn & 1 ? sine : cosine, across = turn & 1 ? cosine : sine;
  *first = times(radius, turn == 1 || turn == 2 ? -along : along);
  *second = times(radius, turn >= 2 ? -across : across);
}

// The four normals of one block of a stream. Where a row, or a pool, has `blocks` blocks, those of its block i are its numbers i + q blocks.
SLIPSTICK_HOST_DEVICE inline void draw_four(uint64_t seed, uint32_t purpose, uint64_t block, double (&out)[4]) {
  uint32_t words[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), purpose, 0};
  philox4x32_in_place(words, seed);
  draw_pair(words[0], words[1], &out[0], &out[1]);
  draw_pair(words[2], words[3], &out[2], &out[3]);
}

}  // namespace slipstick::sketch
