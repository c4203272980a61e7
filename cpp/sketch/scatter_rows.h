// The sparse sketch on CUDA, as plain functions of a thread, so that the host runs them too. Draws are those of sketch.cpp.
#pragma once
#include "base/host_device.h"
#include "sketch/device_rows.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch::scatter {

constexpr uint32_t kPurposeSjlt = 0x736a6c74;  // as in sketch.cpp
constexpr int kTogether = 8;  // rows whose values are on their way while those before are added

// What one launch works on.
struct Job {
  Matrix a;
  const double* scale;
  uint64_t seed, first_row;
  int64_t sketch_rows, nonzeros;
  double magnitude;  // 1 / sqrt(nonzeros)
  int64_t chunk_rows, chunks;
  uint32_t* targets;  // [nonzeros][rows]
  double* partials;  // [chunks][sketch_rows][columns]
};

SLIPSTICK_HOST_DEVICE inline int64_t band_begin(const Job& job, int64_t band) { return band * job.sketch_rows / job.nonzeros; }

// Where a row goes and with which sign: word q % 4 of block row * blocks_a_row + q / 4 decides nonzero q. By one thread a block of the stream.
SLIPSTICK_HOST_DEVICE inline void draw_targets(const Job& job, int64_t row, int64_t quarter) {
  const auto blocks_a_row = static_cast<uint64_t>((job.nonzeros + 3) / 4);
  const uint64_t block = (job.first_row + static_cast<uint64_t>(row)) * blocks_a_row + static_cast<uint64_t>(quarter);
  uint32_t words[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), kPurposeSjlt, 0};
  philox4x32_in_place(words, job.seed);
  SLIPSTICK_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int64_t q = 4 * quarter + i;
    if (q >= job.nonzeros) continue;
    const int64_t begin = band_begin(job, q), size = band_begin(job, q + 1) - begin;
    const uint64_t place = static_cast<uint64_t>(begin) + (uint64_t{words[i]} * static_cast<uint64_t>(size) >> 32);
    job.targets[q * job.a.rows + row] = static_cast<uint32_t>(2 * place + (words[i] & 1));
  }
}

// One column of one band of a chunk. sums: the thread's own, `stride` apart, one for each row of the band.
SLIPSTICK_HOST_DEVICE inline void scatter_column(const Job& job, int64_t chunk, int64_t band, int64_t column, double* sums,
                                                 int64_t stride) {
  const int64_t begin = band_begin(job, band), size = band_begin(job, band + 1) - begin;
  for (int64_t r = 0; r < size; ++r) sums[r * stride] = 0;
  const int64_t first = chunk * job.chunk_rows, left = job.a.rows - first;
  const int64_t end = first + (left < job.chunk_rows ? left : job.chunk_rows);
  const uint32_t* const targets = job.targets + band * job.a.rows;
  for (int64_t row = first; row < end; row += kTogether) {
    double values[kTogether];
    uint32_t to[kTogether];
    SLIPSTICK_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      const bool there = row + i < end;
      to[i] = there ? targets[row + i] : 0;
      values[i] = there ? value_at(job.a, job.scale, row + i, column) : 0;
    }
    SLIPSTICK_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      if (row + i >= end) break;
      double* const sum = sums + (static_cast<int64_t>(to[i] >> 1) - begin) * stride;
      *sum = fused(to[i] & 1 ? -job.magnitude : job.magnitude, values[i], *sum);
    }
  }
  double* const out = job.partials + (chunk * job.sketch_rows + begin) * job.a.columns + column;
  for (int64_t r = 0; r < size; ++r) out[r * job.a.columns] = sums[r * stride];
}

// One number of the sketch from those of the chunks.
SLIPSTICK_HOST_DEVICE inline double sum_of_chunks(const Job& job, int64_t at) {
  return sum_of_parts(job.partials, job.chunks, job.sketch_rows * job.a.columns, at);
}

// ---- the host's part ------------------------------------------------------------------------------------------------------------------------

constexpr int64_t kMostChunks = 32, kLeastChunkRows = 2048;

inline Job job_of(const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, double magnitude, void* workspace) {
  Job job{};
  job.a = a;
  job.scale = scale;
  job.seed = parameters.seed;
  job.first_row = first_row;
  job.sketch_rows = parameters.sketch_rows;
  job.nonzeros = parameters.nonzeros;
  job.magnitude = magnitude;
  const int64_t wanted = (a.rows + kMostChunks - 1) / kMostChunks;
  job.chunk_rows = wanted < kLeastChunkRows ? kLeastChunkRows : (wanted + kTogether - 1) / kTogether * kTogether;
  job.chunks = (a.rows + job.chunk_rows - 1) / job.chunk_rows;
  job.partials = static_cast<double*>(workspace);
  job.targets = reinterpret_cast<uint32_t*>(job.partials + job.chunks * job.sketch_rows * a.columns);
  return job;
}
inline int64_t bytes_of(const Job& job) {
  return job.chunks * job.sketch_rows * job.a.columns * static_cast<int64_t>(sizeof(double)) +
         job.nonzeros * job.a.rows * static_cast<int64_t>(sizeof(uint32_t));
}

}  // namespace slipstick::sketch::scatter
