// The kernels of sketch.cu and residual.cu without a device: threads one after the other. A shared library that tests/python/test_sketch_scatter_torch.py compiles.
#include <cmath>
#include <vector>

#include "sketch/hadamard_rows.h"
#include "sketch/residual_rows.h"
#include "sketch/scatter_rows.h"

using namespace slipstick::sketch;

namespace {

scatter::Job scatter_job(const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace) {
  return scatter::job_of(parameters, a, scale, first_row, 1.0 / std::sqrt(static_cast<double>(parameters.nonzeros)), workspace);
}

void run_scatter(const scatter::Job& job, double* out) {
  for (int64_t quarter = 0; quarter < (job.nonzeros + 3) / 4; ++quarter) {
    for (int64_t row = 0; row < job.a.rows; ++row) scatter::draw_targets(job, row, quarter);
  }
  std::vector<double> sums(static_cast<size_t>((job.sketch_rows + job.nonzeros - 1) / job.nonzeros));
  for (int64_t chunk = 0; chunk < job.chunks; ++chunk) {
    for (int64_t band = 0; band < job.nonzeros; ++band) {
      for (int64_t column = 0; column < job.a.columns; ++column) scatter::scatter_column(job, chunk, band, column, sums.data(), 1);
    }
  }
  for (int64_t at = 0; at < job.sketch_rows * job.a.columns; ++at) out[at] = scatter::sum_of_chunks(job, at);
}

// One block of transform_kernel: all its threads between two waits, then all between the next two.
template <typename T, int samples> void transform(const hadamard::Job& job, int64_t of_job, int64_t first, int64_t first_column) {
  struct Thread {
    hadamard::Fetched<T> fetched;
    double sums[samples] = {};
  };
  std::vector<Thread> threads(hadamard::kThreads);
  std::vector<double> work(hadamard::kWorkDoubles, NAN);
  const auto each = [&](auto step) {
    for (int thread = 0; thread < hadamard::kThreads; ++thread)
      step(thread, threads[static_cast<size_t>(thread)], first_column + thread % hadamard::kColumns);
  };
  for (int64_t k = hadamard::begin_of(job, of_job); k < hadamard::begin_of(job, of_job + 1); ++k) {
    each([&](int thread, Thread& own, int64_t column) {
      hadamard::fetch(job, k, column, thread, own.fetched);
      hadamard::first_pass(job, k, thread, own.fetched, work.data());
    });
    each([&](int thread, Thread&, int64_t) { hadamard::pass<8>(thread, work.data()); });
    each([&](int thread, Thread&, int64_t) { hadamard::pass<64>(thread, work.data()); });
    each([&](int thread, Thread& own, int64_t) { hadamard::add_samples(job, k, first, thread, work.data(), own.sums); });
  }
  each([&](int thread, Thread& own, int64_t column) { hadamard::store_sums(job, of_job, first, column, thread, own.sums); });
}

template <int samples> void run_transform(const hadamard::Job& job) {
  for (int64_t of_job = 0; of_job < job.jobs; ++of_job) {
    for (int64_t column = 0; column < job.a.columns; column += hadamard::kColumns) {
      for (int64_t first = 0; first < job.sketch_rows; first += hadamard::kSamplesOf<samples>) {
        job.a.single ? transform<float, samples>(job, of_job, first, column) : transform<double, samples>(job, of_job, first, column);
      }
    }
  }
}

void run_hadamard(const hadamard::Job& job, double* out) {
  std::vector<uint16_t> order(hadamard::kRows);
  if (job.jobs > 0) {
    for (int64_t item = 0; item <= job.blocks; ++item) hadamard::draw_places(job, item, order.data(), 1);
    for (int64_t j = 0; j < job.sketch_rows; ++j) hadamard::draw_sample(job, j);
    job.sketch_rows <= hadamard::kSamplesOf<8> ? run_transform<8>(job) : run_transform<16>(job);
  }
  for (int64_t at = 0; at < job.sketch_rows * job.a.columns; ++at) out[at] = hadamard::sum_of_jobs(job, at);
}

// One block of residual_kernel.
template <typename T> void run_residual(const residuals::Job& job, int64_t chunk) {
  std::vector<double> sums(static_cast<size_t>(job.bands * job.a.columns));
  residuals::Shared shared;
  const int64_t end = residuals::end_of(job, chunk);
  const auto each = [&](auto step) {
    for (int thread = 0; thread < residuals::kThreads; ++thread) step(thread);
  };
  each([&](int thread) { residuals::clear(job, thread, sums.data(), shared); });
  for (int64_t first = chunk * job.chunk_rows; first < end; first += residuals::kRows) {
    each([&](int thread) { residuals::multiply_rows<T>(job, first, end, thread, shared); });
    each([&](int thread) { residuals::take_rests(job, first, end, thread, shared); });
    each([&](int thread) { residuals::add_rows<T>(job, first, end, thread, shared, sums.data()); });
  }
  each([&](int thread) { residuals::store_sums(job, chunk, thread, shared, sums.data()); });
}

}  // namespace

extern "C" {

int64_t slipstick_test_sketch_bytes(int kind, int64_t sketch_rows, int64_t nonzeros, int64_t rows, int64_t columns) {
  Matrix a;
  a.rows = rows;
  a.columns = columns;
  const Sketch parameters{static_cast<Kind>(kind), 0, sketch_rows, nonzeros};
  return parameters.kind == Kind::sjlt ? scatter::bytes_of(scatter_job(parameters, a, nullptr, 0, nullptr))
                                       : hadamard::bytes_of(hadamard::job_of(parameters, a, nullptr, kHadamardRows - 1, nullptr));
}

void slipstick_test_sketch(int kind, uint64_t seed, int64_t sketch_rows, int64_t nonzeros, const void* data, int single, int64_t rows,
                           int64_t columns, int64_t row_stride, int64_t column_stride, const double* scale, uint64_t first_row,
                           void* workspace, double* out) {
  const Matrix a{data, single != 0, rows, columns, row_stride, column_stride};
  const Sketch parameters{static_cast<Kind>(kind), seed, sketch_rows, nonzeros};
  if (parameters.kind == Kind::sjlt) {
    run_scatter(scatter_job(parameters, a, scale, first_row, workspace), out);
  } else {
    run_hadamard(hadamard::job_of(parameters, a, scale, first_row, workspace), out);
  }
}

int64_t slipstick_test_residual_bytes(int64_t rows, int64_t columns) {
  Matrix a;
  a.rows = rows;
  a.columns = columns;
  return residuals::bytes_of(residuals::job_of(a, a, nullptr, nullptr, nullptr));
}

void slipstick_test_residual(const void* data, int single, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                             const void* right, int right_single, int64_t right_stride, const double* scale, const double* x,
                             void* workspace, double* out) {
  const Matrix a{data, single != 0, rows, columns, row_stride, column_stride}, b{right, right_single != 0, rows, 1, right_stride, 1};
  const residuals::Job job = residuals::job_of(a, b, scale, x, workspace);
  for (int64_t chunk = 0; chunk < job.chunks; ++chunk) a.single ? run_residual<float>(job, chunk) : run_residual<double>(job, chunk);
  for (int64_t top = 0; top <= columns; top += residuals::kMergeColumns) {
    double parts[residuals::kMergeParts][residuals::kMergeColumns];
    for (int part = 0; part < residuals::kMergeParts; ++part) {
      for (int within = 0; within < residuals::kMergeColumns; ++within)
        parts[part][within] = residuals::sum_of_chunks(job, part, top + within);
    }
    for (int within = 0; within < residuals::kMergeColumns && top + within <= columns; ++within)
      out[top + within] = residuals::sum_of_parts(parts, within);
  }
}
}
