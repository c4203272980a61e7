// Products with a low-bit accumulator as the threads of one CUDA block make them: 256 threads share a tile of 64 x 64 results and bring in 16 steps of
// a and b at a time. Which thread sums what never changes a sum: each goes through k in order, as matmul in lowbit.h defines it. Plain functions of
// the thread's number, so that the host runs them too.
#pragma once
#include "lowbit/element.h"

namespace slipstick::lowbit::element {

constexpr int kProductThreads = 256, kSide = 64, kSteps = 16;
constexpr int kAcross = 16;  // threads along a row of results
constexpr int kEach = kSide / kAcross;  // results of a thread: kEach rows of kEach
constexpr int kPaddedSide = kSide + 1;  // so that writing a column does not meet one bank of shared memory

struct Product {
  const float *a, *b;
  float* c;
  int64_t rows, inner, columns;
  int64_t round_every;  // 0: after the last step alone
  Grid grid;
};

// Steps k .. k + kSteps of the rows and columns of a tile; zeros beyond the ends, which nobody adds.
SLIPSTICK_HOST_DEVICE inline void load_steps(const Product& p, int64_t row, int64_t column, int64_t k, int thread,
                                             float (&a)[kSteps][kPaddedSide], float (&b)[kSteps][kSide]) {
  for (int i = thread; i < kSide * kSteps; i += kProductThreads) {
    const int a_row = i / kSteps, a_step = i % kSteps, b_step = i / kSide, b_column = i % kSide;
    a[a_step][a_row] = row + a_row < p.rows && k + a_step < p.inner ? p.a[(row + a_row) * p.inner + k + a_step] : 0.0f;
    b[b_step][b_column] = column + b_column < p.columns && k + b_step < p.inner ? p.b[(k + b_step) * p.columns + column + b_column] : 0.0f;
  }
}

// The sums of one thread: rows thread / kAcross + kAcross i of the tile, columns thread % kAcross + kAcross j.
struct Sums {
  float at[kEach][kEach];
  int64_t until_rounding;
};

template <Rounding mode> SLIPSTICK_HOST_DEVICE inline void round_sums(const Grid& grid, Sums& sums) {
  SLIPSTICK_UNROLL
  for (int i = 0; i < kEach; ++i) {
    SLIPSTICK_UNROLL
    for (int j = 0; j < kEach; ++j) sums.at[i][j] = round_to_grid<mode>(grid, sums.at[i][j], 0, 32);
  }
}

SLIPSTICK_HOST_DEVICE inline void start_sums(const Product& p, Sums& sums) {
  SLIPSTICK_UNROLL
  for (int i = 0; i < kEach; ++i) {
    SLIPSTICK_UNROLL
    for (int j = 0; j < kEach; ++j) sums.at[i][j] = 0;
  }
  sums.until_rounding = p.round_every;
}

template <Rounding mode, bool rounds>
SLIPSTICK_HOST_DEVICE inline void add_steps(const Product& p, int64_t k, int thread, const float (&a)[kSteps][kPaddedSide],
                                            const float (&b)[kSteps][kSide], Sums& sums) {
  const int steps = p.inner - k < kSteps ? static_cast<int>(p.inner - k) : kSteps;
  for (int step = 0; step < steps; ++step) {
    float of_a[kEach], of_b[kEach];
    SLIPSTICK_UNROLL
    for (int i = 0; i < kEach; ++i) {
      of_a[i] = a[step][thread / kAcross + kAcross * i];
      of_b[i] = b[step][thread % kAcross + kAcross * i];
    }
    SLIPSTICK_UNROLL
    for (int i = 0; i < kEach; ++i) {
      SLIPSTICK_UNROLL
      for (int j = 0; j < kEach; ++j) sums.at[i][j] = fused(of_a[i], of_b[j], sums.at[i][j]);
    }
    if (rounds && --sums.until_rounding == 0) {
      round_sums<mode>(p.grid, sums);
      sums.until_rounding = p.round_every;
    }
  }
}

// Rounding what has just been rounded changes nothing.
template <Rounding mode, bool rounds>
SLIPSTICK_HOST_DEVICE inline void store_sums(const Product& p, int64_t row, int64_t column, int thread, Sums& sums) {
  if (rounds) round_sums<mode>(p.grid, sums);
  SLIPSTICK_UNROLL
  for (int i = 0; i < kEach; ++i) {
    SLIPSTICK_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t r = row + thread / kAcross + kAcross * i, c = column + thread % kAcross + kAcross * j;
      if (r < p.rows && c < p.columns) p.c[r * p.columns + c] = sums.at[i][j] == 0 ? 0.0f : sums.at[i][j];  // -0 too
    }
  }
}

}  // namespace slipstick::lowbit::element
