// The Gaussian sketch on CUDA: what a thread does between two waits of its block, as plain functions, so that the host runs them too. Draws, jobs and the
// order of every sum are those of sketch.cpp and products.simd.cpp, so the bits are those of its levels that fuse products and sums.
//
// A block of threads makes the product of one tile of kTileRows rows for kSamples rows of the sketch and kColumns columns, kDepth rows at a time: each
// thread draws four normals and loads four numbers of A into shared memory, then adds to 16 sums in registers. Normals are drawn anew for each
// kColumns columns, which costs less than to store them. Tiles go in waves (device_rows.h).
#pragma once
#include <cmath>

#include "sketch/device_rows.h"
#include "sketch/grid.h"
#include "sketch/normals.h"

namespace slipstick::sketch::gaussian {

constexpr uint32_t kPurpose = 0x67617573;  // as in sketch.cpp
constexpr int kAcross = 16, kOwn = 4;  // threads along each side of a block's sums, and sums of a thread along it
constexpr int kSamples = kAcross * kOwn, kColumns = kAcross * kOwn, kDepth = kAcross, kThreads = kAcross * kAcross;
static_assert(kTileRows % kDepth == 0, "a tile is whole steps");

// What one launch works on.
struct Job {
  Matrix a;
  const double* scale;
  uint64_t seed, first_row;
  int64_t sketch_rows, blocks_a_row;  // blocks of the random stream, each of four normals
  double magnitude;  // 1 / sqrt(sketch_rows)
  int64_t tiles, jobs;
  Waves waves;
  double* partials;  // [jobs][sketch_rows][columns]
  double* products;  // of a wave, [jobs][waves.steps][sketch_rows][columns]
};

// What the threads of a block share.
struct Shared {
  double normals[kDepth][kSamples], values[kDepth][kColumns];
};

SLIPSTICK_HOST_DEVICE inline int64_t begin_of(const Job& job, int64_t of_job) { return job.tiles * of_job / job.jobs; }

// The tile that a job has at one step of a wave; none from begin_of of the next job on.
SLIPSTICK_HOST_DEVICE inline int64_t tile_of(const Job& job, int64_t of_job, int64_t wave, int64_t step) {
  return begin_of(job, of_job) + wave * job.waves.steps + step;
}

// The four rows of the sketch that a block of the stream gives: `block`, and blocks_a_row apart. So a block of threads has those of kAcross of them.
SLIPSTICK_HOST_DEVICE inline int64_t sample_of(const Job& job, int64_t block, int q) { return block + q * job.blocks_a_row; }

// Row first + thread / kAcross, as long as it is before `end`: its normals of one block of the stream, and four of its numbers.
SLIPSTICK_HOST_DEVICE inline void fill(const Job& job, int64_t first, int64_t end, int64_t first_block, int64_t first_column, int thread,
                                       Shared& shared) {
  const int at = thread / kAcross, within = thread % kAcross;
  const int64_t row = first + at, block = first_block + within;
  if (row >= end) return;
  double four[4] = {};
  if (block < job.blocks_a_row) {
    const uint64_t of_row = (job.first_row + static_cast<uint64_t>(row)) * static_cast<uint64_t>(job.blocks_a_row);
    draw_four(job.seed, kPurpose, of_row + static_cast<uint64_t>(block), four);
  }
  SLIPSTICK_UNROLL
  for (int q = 0; q < kOwn; ++q) {
    const int64_t column = first_column + q * kAcross + within;
    shared.normals[at][q * kAcross + within] = times(job.magnitude, four[q]);
    shared.values[at][q * kAcross + within] = column < job.a.columns ? value_at(job.a, job.scale, row, column) : 0;
  }
}

SLIPSTICK_HOST_DEVICE inline void multiply(int64_t rows, int thread, const Shared& shared, double (&sums)[kOwn][kOwn]) {
  const int along = thread / kAcross, within = thread % kAcross;
  for (int r = 0; r < (rows < kDepth ? static_cast<int>(rows) : kDepth); ++r) {
    double values[kOwn];
    SLIPSTICK_UNROLL
    for (int c = 0; c < kOwn; ++c) values[c] = shared.values[r][c * kAcross + within];
    SLIPSTICK_UNROLL
    for (int q = 0; q < kOwn; ++q) {
      const double normal = shared.normals[r][q * kAcross + along];
      SLIPSTICK_UNROLL
      for (int c = 0; c < kOwn; ++c) sums[q][c] = fused(normal, values[c], sums[q][c]);
    }
  }
}

SLIPSTICK_HOST_DEVICE inline void store_product(const Job& job, int64_t of_job, int64_t step, int64_t first_block, int64_t first_column,
                                                int thread, const double (&sums)[kOwn][kOwn]) {
  const int64_t block = first_block + thread / kAcross;
  if (block >= job.blocks_a_row) return;
  double* const out = job.products + (of_job * job.waves.steps + step) * job.sketch_rows * job.a.columns;
  SLIPSTICK_UNROLL
  for (int q = 0; q < kOwn; ++q) {
    const int64_t sample = sample_of(job, block, q);
    SLIPSTICK_UNROLL
    for (int c = 0; c < kOwn; ++c) {
      const int64_t column = first_column + c * kAcross + thread % kAcross;
      if (sample < job.sketch_rows && column < job.a.columns) out[sample * job.a.columns + column] = sums[q][c];
    }
  }
}

// What a wave adds to one number of the partials.
SLIPSTICK_HOST_DEVICE inline void add_wave(const Job& job, int64_t wave, int64_t at) {
  const int64_t size = job.sketch_rows * job.a.columns, of_job = at / size, end = begin_of(job, of_job + 1);
  const double* const products = job.products + of_job * job.waves.steps * size + at % size;
  double sum = wave == 0 ? 0 : job.partials[at];
  for (int64_t step = 0; step < job.waves.steps && tile_of(job, of_job, wave, step) < end; ++step) sum = plus(sum, products[step * size]);
  job.partials[at] = sum;
}

// One number of the sketch from those of the jobs.
SLIPSTICK_HOST_DEVICE inline double sum_of_jobs(const Job& job, int64_t at) {
  return sum_of_parts(job.partials, job.jobs, job.sketch_rows * job.a.columns, at);
}

// ---- the host's part ------------------------------------------------------------------------------------------------------------------------

inline Job job_of(const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace) {
  Job job{};
  job.a = a;
  job.scale = scale;
  job.seed = parameters.seed;
  job.first_row = first_row;
  job.sketch_rows = parameters.sketch_rows;
  job.blocks_a_row = (parameters.sketch_rows + 3) / 4;
  job.magnitude = 1.0 / std::sqrt(static_cast<double>(parameters.sketch_rows));
  job.tiles = (a.rows + kTileRows - 1) / kTileRows;
  job.jobs = a.rows == 0 ? 0 : gaussian_grid(a.rows, job.sketch_rows, a.columns).jobs;
  if (job.jobs > 0) job.waves = waves_of(job.jobs, (job.tiles + job.jobs - 1) / job.jobs, job.sketch_rows * a.columns);
  job.partials = static_cast<double*>(workspace);
  job.products = job.partials + job.jobs * job.sketch_rows * a.columns;
  return job;
}
inline int64_t bytes_of(const Job& job) {
  return job.jobs * (1 + job.waves.steps) * job.sketch_rows * job.a.columns * static_cast<int64_t>(sizeof(double));
}

}  // namespace slipstick::sketch::gaussian
