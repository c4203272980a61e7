// How rows are cut into jobs, for the host's threads and, where it promises the same bits, for CUDA.
#pragma once
#include <algorithm>
#include <cstdint>

#include "slipstick/sketch.h"

namespace slipstick::sketch {

constexpr int64_t kShareOfMatrix = 40;  // all jobs' sums together are at most this part of the matrix, if more than one job runs
constexpr int64_t kLeastTiles = 8;      // of a job: fewer would not pay for a merge

// The least multiple of `panel` that holds the columns.
inline int64_t padded(int64_t columns, int64_t panel) { return (columns + panel - 1) / panel * panel; }

// The grid: jobs are contiguous ranges of whole tiles. Its size follows from the shape alone, so that sums of `doubles_a_job` stay small beside
// the matrix and results do not depend on threads.
struct Grid {
  Grid(int64_t row_count, int64_t columns, int64_t doubles_a_job) : rows(row_count) {
    const int64_t by_memory = rows * columns / std::max<int64_t>(kShareOfMatrix * doubles_a_job, 1);
    const int64_t by_work = rows / (kLeastTiles * kTileRows);
    jobs = std::max<int64_t>(1, std::min({by_memory, by_work, kMostJobs}));
  }
  int64_t begin(int64_t job) const {
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
    return std::min(rows, tiles * job / jobs * kTileRows);
  }
  int64_t end(int64_t job) const { return begin(job + 1); }
  int64_t rows;
  int64_t jobs;
};

// Jobs of the streamed Hadamard transform are ranges of blocks of global rows. Columns are padded as where they are transformed by most, so that
// all levels and devices have the same jobs.
constexpr int64_t kHadamardPadding = 8;
inline Grid hadamard_grid(int64_t blocks, int64_t sketch_rows, int64_t a_columns, int64_t b_columns) {
  const int64_t width = padded(a_columns, kHadamardPadding) + padded(b_columns, kHadamardPadding);
  return {blocks * kTileRows, a_columns + b_columns, sketch_rows * width};
}

// Jobs of the Gaussian sketch, likewise for panels of the widest level.
constexpr int64_t kGaussianPadding = 24;
inline Grid gaussian_grid(int64_t rows, int64_t sketch_rows, int64_t columns) {
  return {rows, columns, padded(sketch_rows, kGaussianPadding) * padded(columns, kGaussianPadding)};
}

}  // namespace slipstick::sketch
