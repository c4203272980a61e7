// The Gaussian-pooled sketch on CUDA: what hadamard_rows.h leaves for kPooled times the rows, each times a normal number, added to one. The bits of
// sketch.cpp. Plain functions of a thread, so that the host runs them too.
#pragma once
#include "sketch/hadamard_rows.h"
#include "sketch/normals.h"

namespace slipstick::sketch::pooled {

constexpr uint32_t kPurpose = 0x706f6f6c;  // as in sketch.cpp

// What one launch works on.
struct Job {
  hadamard::Job rows;
  double* normals;  // [rows.sketch_rows]
};

SLIPSTICK_HOST_DEVICE inline int64_t blocks_of(const Job& job) { return (job.rows.sketch_rows + 3) / 4; }  // of the random stream

SLIPSTICK_HOST_DEVICE inline void draw(const Job& job, int64_t block) {
  double four[4];
  draw_four(job.rows.seed, kPurpose, static_cast<uint64_t>(block), four);
  SLIPSTICK_UNROLL
  for (int q = 0; q < 4; ++q) {
    const int64_t at = block + q * blocks_of(job);
    if (at < job.rows.sketch_rows) job.normals[at] = four[q];
  }
}

// One number of the sketch.
SLIPSTICK_HOST_DEVICE inline double sum_of_pool(const Job& job, int64_t at) {
  const int64_t columns = job.rows.a.columns, first = at / columns * kPooled, column = at % columns;
  double sum = 0;
  for (int64_t i = first; i < first + kPooled; ++i)
    sum = plus(sum, times(job.normals[i], hadamard::sum_of_jobs(job.rows, i * columns + column)));
  return sum;
}

// ---- the host's part ------------------------------------------------------------------------------------------------------------------------

inline Job job_of(const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace) {
  Sketch of_rows = parameters;
  of_rows.sketch_rows *= kPooled;
  Job job{};
  job.normals = static_cast<double*>(workspace);
  job.rows = hadamard::job_of(of_rows, a, scale, first_row, job.normals + of_rows.sketch_rows);
  return job;
}
inline int64_t bytes_of(const Job& job) {
  return job.rows.sketch_rows * static_cast<int64_t>(sizeof(double)) + hadamard::bytes_of(job.rows);
}

}  // namespace slipstick::sketch::pooled
