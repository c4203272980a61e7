// b - A x and A^T (b - A x) on CUDA with one read of A, as plain functions of a thread between two waits of its block, so that the host runs them too.
//
// A block of threads walks over its chunk of rows, kRows at a time: 16 threads to a row make its product with x, 16 make what is left of b, and all add
// the rows, which are in the first-level cache since, to sums of columns in shared memory. Chunks follow from the shape alone and are added in a fixed
// order, so every run has the same bits.
#pragma once
#include "base/host_device.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch::residuals {

constexpr int kThreads = 256;
constexpr int kParts = 16;  // threads of a row, and sums of it
constexpr int kRows = kThreads / kParts;  // at a time
constexpr int kMergeColumns = 32, kMergeParts = kThreads / kMergeColumns;
constexpr int64_t kMostColumns = 4096;  // 32 KiB of sums

// What one launch works on.
struct Job {
  Matrix a, b;  // b has one column
  const double *scale, *x;
  int64_t chunk_rows, chunks;
  int bands;  // of the rows at a time, each with sums of its own, so that no thread is idle where columns are few
  double* partials;  // [chunks][columns + 1]: the gradient, and the squared norm
};

// What the threads of a block share beside the sums, [bands][columns].
struct Shared {
  double parts[kRows][kParts];
  double rests[kRows], squares[kRows];
};

SLIPSTICK_HOST_DEVICE inline int64_t end_of(const Job& job, int64_t chunk) {
  const int64_t end = (chunk + 1) * job.chunk_rows;
  return end < job.a.rows ? end : job.a.rows;
}

SLIPSTICK_HOST_DEVICE inline double scaled(const Job& job, int64_t row, double value) {
  return job.scale ? times(job.scale[row], value) : value;
}

SLIPSTICK_HOST_DEVICE inline void clear(const Job& job, int thread, double* sums, Shared& shared) {
  for (int64_t at = thread; at < job.bands * job.a.columns; at += kThreads) sums[at] = 0;
  if (thread < kRows) shared.squares[thread] = 0;
}

template <typename T>
SLIPSTICK_HOST_DEVICE inline void multiply_rows(const Job& job, int64_t first, int64_t end, int thread, Shared& shared) {
  const int64_t row = first + thread / kParts;
  double sum = 0;
  if (row < end) {
    const T* const data = static_cast<const T*>(job.a.data) + row * job.a.row_stride;
    const auto columns = static_cast<int>(job.a.columns);
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
    for (int j = thread % kParts; j < columns; j += kParts)
      sum = fused(scaled(job, row, static_cast<double>(data[j * job.a.column_stride])), job.x[j], sum);
  }
  shared.parts[thread / kParts][thread % kParts] = sum;
}

SLIPSTICK_HOST_DEVICE inline void take_rests(const Job& job, int64_t first, int64_t end, int thread, Shared& shared) {
  if (thread >= kRows) return;
  const int64_t row = first + thread;
  double sum = 0, rest = 0;
  if (row < end) {
    for (int part = 0; part < kParts; ++part) sum = plus(sum, shared.parts[thread][part]);
    const int64_t at = row * job.b.row_stride;
    const double value =
        job.b.single ? static_cast<double>(static_cast<const float*>(job.b.data)[at]) : static_cast<const double*>(job.b.data)[at];
    rest = minus(scaled(job, row, value), sum);
    shared.squares[thread] = fused(rest, rest, shared.squares[thread]);
  }
  shared.rests[thread] = rest;
}

template <typename T>
SLIPSTICK_HOST_DEVICE inline void add_rows(const Job& job, int64_t first, int64_t end, int thread, const Shared& shared, double* sums) {
  const auto columns = static_cast<int>(job.a.columns);
  const int rows = kRows / job.bands, there = static_cast<int>(end - first < kRows ? end - first : kRows);
  for (int at = thread; at < job.bands * columns; at += kThreads) {
    const int band = at / columns, last = band * rows + rows < there ? band * rows + rows : there;
    const T* const data = static_cast<const T*>(job.a.data) + first * job.a.row_stride + at % columns * job.a.column_stride;
    double sum = sums[at];
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
    for (int r = band * rows; r < last; ++r)
      sum = fused(scaled(job, first + r, static_cast<double>(data[r * job.a.row_stride])), shared.rests[r], sum);
    sums[at] = sum;
  }
}

SLIPSTICK_HOST_DEVICE inline void store_sums(const Job& job, int64_t chunk, int thread, const Shared& shared, const double* sums) {
  double* const out = job.partials + chunk * (job.a.columns + 1);
  for (int64_t j = thread; j < job.a.columns; j += kThreads) {
    double sum = 0;
    for (int band = 0; band < job.bands; ++band) sum = plus(sum, sums[band * job.a.columns + j]);
    out[j] = sum;
  }
  if (thread != 0) return;
  double squares = 0;
  for (int r = 0; r < kRows; ++r) squares = plus(squares, shared.squares[r]);
  out[job.a.columns] = squares;
}

// The sum of one column of partials over one part of the chunks; then that of the parts.
SLIPSTICK_HOST_DEVICE inline double sum_of_chunks(const Job& job, int64_t part, int64_t column) {
  double sum = 0;
  if (column > job.a.columns) return sum;
  for (int64_t chunk = job.chunks * part / kMergeParts; chunk < job.chunks * (part + 1) / kMergeParts; ++chunk)
    sum = plus(sum, job.partials[chunk * (job.a.columns + 1) + column]);
  return sum;
}
SLIPSTICK_HOST_DEVICE inline double sum_of_parts(const double (&parts)[kMergeParts][kMergeColumns], int column) {
  double sum = 0;
  for (int part = 0; part < kMergeParts; ++part) sum = plus(sum, parts[part][column]);
  return sum;
}

// ---- the host's part ------------------------------------------------------------------------------------------------------------------------

constexpr int64_t kMostChunks = 1024, kLeastChunkRows = 8 * kRows;

inline Job job_of(const Matrix& a, const Matrix& b, const double* scale, const double* x, void* workspace) {
  Job job{};
  job.a = a;
  job.b = b;
  job.scale = scale;
  job.x = x;
  const int64_t wanted = ((a.rows + kMostChunks - 1) / kMostChunks + kRows - 1) / kRows * kRows;
  job.chunk_rows = wanted < kLeastChunkRows ? kLeastChunkRows : wanted;
  job.chunks = (a.rows + job.chunk_rows - 1) / job.chunk_rows;
  job.bands = kRows;
  while (job.bands > 1 && job.bands * a.columns > kThreads) job.bands /= 2;
  job.partials = static_cast<double*>(workspace);
  return job;
}
inline int64_t bytes_of(const Job& job) { return job.chunks * (job.a.columns + 1) * static_cast<int64_t>(sizeof(double)); }

}  // namespace slipstick::sketch::residuals
