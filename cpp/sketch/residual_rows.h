// B - A X and A^T (B - A X) on CUDA with one read of A, as plain functions of a thread between two waits of its block, so that the host runs them too.
//
// A block of threads walks over its chunk of rows, kRows at a time: 16 threads to a row make its product with X, 16 make what is left of B, and all add
// the rows, which are in the first-level cache since, to sums of columns in shared memory. Right-hand sides go some at a time, in registers, and the next ones
// meet the rows in that cache. Chunks follow from the rows of A alone and the order of every sum from them and the columns, so every run has the same bits, and a
// right-hand side has those that it has alone.
#pragma once
#include "base/host_device.h"
#include "sketch/device_rows.h"
#include "slipstick/sketch.h"

namespace slipstick::sketch::residuals {

constexpr int kThreads = 256;
constexpr int kParts = 16;  // threads of a row, and sums of it
constexpr int kRows = kThreads / kParts;  // at a time
constexpr int kMergeColumns = 32, kMergeParts = kThreads / kMergeColumns;
constexpr int kRights = 4;  // right-hand sides at a time, where there is more than one

// What one launch works on.
struct Job {
  Matrix a, b;
  const double *scale, *x;  // x: [a.columns][b.columns]
  int64_t chunk_rows, chunks;
  int bands;  // of the rows at a time, each with sums of its own, so that no thread is idle where columns are few
  double* partials;  // [chunks][a.columns + 1][b.columns]: the gradient, and the squared norms
};

// What the threads of a block share beside the sums, [rights][bands][columns].
template <int together> struct Shared {
  double parts[together][kRows][kParts];
  double rests[together][kRows];
};

SLIPSTICK_HOST_DEVICE inline int64_t end_of(const Job& job, int64_t chunk) {
  const int64_t end = (chunk + 1) * job.chunk_rows;
  return end < job.a.rows ? end : job.a.rows;
}

SLIPSTICK_HOST_DEVICE inline double scaled(const Job& job, int64_t row, double value) {
  return job.scale ? times(job.scale[row], value) : value;
}

// sums: [rights][bands][columns]; squares: [rights][kRows]; shared by the block.
SLIPSTICK_HOST_DEVICE inline void clear(const Job& job, int thread, double* sums, double* squares) {
  for (int64_t at = thread; at < job.b.columns * job.bands * job.a.columns; at += kThreads) sums[at] = 0;
  for (int at = thread; at < job.b.columns * kRows; at += kThreads) squares[at] = 0;
}

// Of `count` right-hand sides from `right` on, at most `together`.
template <typename T, int together>
SLIPSTICK_HOST_DEVICE inline void multiply_rows(const Job& job, int64_t first, int64_t end, int right, int count, int thread,
                                                Shared<together>& shared) {
  const int64_t row = first + thread / kParts, rights = job.b.columns;
  double sums[together] = {};
  if (row < end) {
    const T* const data = static_cast<const T*>(job.a.data) + row * job.a.row_stride;
    const auto columns = static_cast<int>(job.a.columns);
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
    for (int j = thread % kParts; j < columns; j += kParts) {
      const double value = scaled(job, row, static_cast<double>(data[j * job.a.column_stride]));
      SLIPSTICK_UNROLL
      for (int i = 0; i < together; ++i)
        if (i < count) sums[i] = fused(value, job.x[j * rights + right + i], sums[i]);
    }
  }
  SLIPSTICK_UNROLL
  for (int i = 0; i < together; ++i) shared.parts[i][thread / kParts][thread % kParts] = sums[i];
}

// By one thread for each row and right-hand side. squares: theirs.
template <int together>
SLIPSTICK_HOST_DEVICE inline void take_rests(const Job& job, int64_t first, int64_t end, int right, int count, int thread,
                                             Shared<together>& shared, double* squares) {
  const int i = thread / kRows, r = thread % kRows;
  if (i >= count) return;
  const int64_t row = first + r;
  double sum = 0, rest = 0;
  if (row < end) {
    for (int part = 0; part < kParts; ++part) sum = plus(sum, shared.parts[i][r][part]);
    rest = minus(value_at(job.b, job.scale, row, right + i), sum);
    squares[i * kRows + r] = fused(rest, rest, squares[i * kRows + r]);
  }
  shared.rests[i][r] = rest;
}

// all_sums: those of the right-hand sides from the first on.
template <typename T, int together>
SLIPSTICK_HOST_DEVICE inline void add_rows(const Job& job, int64_t first, int64_t end, int count, int thread,
                                           const Shared<together>& shared, double* all_sums) {
  const auto columns = static_cast<int>(job.a.columns);
  const int rows = kRows / job.bands, there = static_cast<int>(end - first < kRows ? end - first : kRows), size = job.bands * columns;
  for (int at = thread; at < size; at += kThreads) {
    const int band = at / columns, last = band * rows + rows < there ? band * rows + rows : there;
    const T* const data = static_cast<const T*>(job.a.data) + first * job.a.row_stride + at % columns * job.a.column_stride;
    double sums[together];
    SLIPSTICK_UNROLL
    for (int i = 0; i < together; ++i) sums[i] = i < count ? all_sums[i * size + at] : 0;
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
    for (int r = band * rows; r < last; ++r) {
      const double value = scaled(job, first + r, static_cast<double>(data[r * job.a.row_stride]));
      SLIPSTICK_UNROLL
      for (int i = 0; i < together; ++i)
        if (i < count) sums[i] = fused(value, shared.rests[i][r], sums[i]);
    }
    SLIPSTICK_UNROLL
    for (int i = 0; i < together; ++i)
      if (i < count) all_sums[i * size + at] = sums[i];
  }
}

SLIPSTICK_HOST_DEVICE inline void store_sums(const Job& job, int64_t chunk, int thread, const double* squares, const double* sums) {
  double* const out = job.partials + chunk * (job.a.columns + 1) * job.b.columns;
  for (int64_t right = 0; right < job.b.columns; ++right, sums += job.bands * job.a.columns, squares += kRows) {
    for (int64_t j = thread; j < job.a.columns; j += kThreads) {
      double sum = 0;
      for (int band = 0; band < job.bands; ++band) sum = plus(sum, sums[band * job.a.columns + j]);
      out[j * job.b.columns + right] = sum;
    }
    if (thread != 0) continue;
    double square = 0;
    for (int r = 0; r < kRows; ++r) square = plus(square, squares[r]);
    out[job.a.columns * job.b.columns + right] = square;
  }
}

// Numbers of the result: of the gradient, and the squared norms.
SLIPSTICK_HOST_DEVICE inline int64_t numbers_of(const Job& job) { return (job.a.columns + 1) * job.b.columns; }

// The sum of one of them over one part of the chunks; then that of the parts.
SLIPSTICK_HOST_DEVICE inline double sum_of_chunks(const Job& job, int64_t part, int64_t at) {
  double sum = 0;
  if (at >= numbers_of(job)) return sum;
  for (int64_t chunk = job.chunks * part / kMergeParts; chunk < job.chunks * (part + 1) / kMergeParts; ++chunk)
    sum = plus(sum, job.partials[chunk * numbers_of(job) + at]);
  return sum;
}
SLIPSTICK_HOST_DEVICE inline double sum_of_merged(const double (&parts)[kMergeParts][kMergeColumns], int column) {
  double sum = 0;
  for (int part = 0; part < kMergeParts; ++part) sum = plus(sum, parts[part][column]);
  return sum;
}

// ---- the host's part ------------------------------------------------------------------------------------------------------------------------

constexpr int64_t kMostSums = 4096, kMostRights = 32;  // of a block: 32 KiB of sums and 4 KiB of squares
constexpr int64_t kMostChunks = 1024, kLeastChunkRows = 8 * kRows;

inline int bands_of(int64_t columns) {
  int bands = kRows;
  while (bands > 1 && bands * columns > kThreads) bands /= 2;
  return bands;
}
// Right-hand sides whose sums a block has room for, beside so many columns of A.
inline int64_t most_rights(int64_t columns) {
  const int64_t sums = bands_of(columns) * columns, room = sums > 0 ? kMostSums / sums : kMostRights;
  return room < kMostRights ? room : kMostRights;
}

inline Job job_of(const Matrix& a, const Matrix& b, const double* scale, const double* x, void* workspace) {
  Job job{};
  job.a = a;
  job.b = b;
  job.scale = scale;
  job.x = x;
  const int64_t wanted = ((a.rows + kMostChunks - 1) / kMostChunks + kRows - 1) / kRows * kRows;
  job.chunk_rows = wanted < kLeastChunkRows ? kLeastChunkRows : wanted;
  job.chunks = (a.rows + job.chunk_rows - 1) / job.chunk_rows;
  job.bands = bands_of(a.columns);
  job.partials = static_cast<double*>(workspace);
  return job;
}
inline int64_t bytes_of(const Job& job) { return job.chunks * numbers_of(job) * static_cast<int64_t>(sizeof(double)); }
// Of a block's sums and squares.
inline int64_t shared_bytes_of(const Job& job) {
  return job.b.columns * (job.bands * job.a.columns + kRows) * static_cast<int64_t>(sizeof(double));
}

}  // namespace slipstick::sketch::residuals
