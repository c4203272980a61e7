// The kernels of sketch.cu and residual.cu without a device: threads one after the other. A shared library that tests/python/test_sketch_scatter_torch.py compiles.
#include <algorithm>
#include <cmath>
#include <vector>

#include "sketch/gaussian_rows.h"
#include "sketch/hadamard_rows.h"
#include "sketch/pooled_rows.h"
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

// launch(wave, job, step) is what the blocks of one step of one job do.
template <typename Job, typename Launch> void run_waves(const Job& job, Launch launch) {
  for (int64_t wave = 0; wave < job.waves.count; ++wave) {
    for (int64_t of_job = 0; of_job < job.jobs; ++of_job) {
      for (int64_t step = 0; step < job.waves.steps; ++step) launch(wave, of_job, step);
    }
    for (int64_t at = 0; at < job.jobs * job.sketch_rows * job.a.columns; ++at) add_wave(job, wave, at);
  }
}

// The blocks of transform_wave_kernel for one step of one job.
template <typename T> void transform_wave(const hadamard::Job& job, int64_t wave, int64_t of_job, int64_t step) {
  const int64_t k = hadamard::block_of(job, of_job, wave, step);
  if (k >= hadamard::begin_of(job, of_job + 1)) return;
  for (int64_t first_column = 0; first_column < job.a.columns; first_column += hadamard::kColumns) {
    std::vector<double> work(hadamard::kWorkDoubles, NAN);
    const auto each = [&](auto action) {
      for (int thread = 0; thread < hadamard::kThreads; ++thread) action(thread, first_column + thread % hadamard::kColumns);
    };
    each([&](int thread, int64_t column) {
      hadamard::Fetched<T> fetched;
      hadamard::fetch(job, k, column, thread, fetched);
      hadamard::first_pass(job, k, thread, fetched, work.data());
    });
    each([&](int thread, int64_t) { hadamard::pass<8>(thread, work.data()); });
    each([&](int thread, int64_t) { hadamard::pass<64>(thread, work.data()); });
    each([&](int thread, int64_t column) { hadamard::store_transformed(job, of_job, step, column, thread, work.data()); });
  }
}

void run_hadamard(const hadamard::Job& job) {
  if (job.jobs == 0) return;
  std::vector<uint16_t> order(hadamard::kRows);
  for (int64_t item = 0; item <= job.blocks; ++item) hadamard::draw_places(job, item, order.data(), 1);
  for (int64_t j = 0; j < job.sketch_rows; ++j) hadamard::draw_sample(job, j);
  if (job.waves.count > 0) {
    run_waves(job, [&](int64_t wave, int64_t of_job, int64_t step) {
      job.a.single ? transform_wave<float>(job, wave, of_job, step) : transform_wave<double>(job, wave, of_job, step);
    });
  } else {
    job.sketch_rows <= hadamard::kSamplesOf<8> ? run_transform<8>(job) : run_transform<16>(job);
  }
}

void run_pooled(const pooled::Job& job, double* out) {
  for (int64_t block = 0; block < pooled::blocks_of(job); ++block) pooled::draw(job, block);
  run_hadamard(job.rows);
  for (int64_t at = 0; at < job.rows.sketch_rows / kPooled * job.rows.a.columns; ++at) out[at] = pooled::sum_of_pool(job, at);
}

// One block of product_wave_kernel.
void multiply_tile(const gaussian::Job& job, int64_t of_job, int64_t step, int64_t tile, int64_t first_block, int64_t first_column) {
  struct Sums {
    double of_thread[gaussian::kOwn][gaussian::kOwn] = {};
  };
  std::vector<Sums> sums(gaussian::kThreads);
  gaussian::Shared shared;
  const int64_t end = std::min(tile * kTileRows + kTileRows, job.a.rows);
  const auto each = [&](auto action) {
    for (int thread = 0; thread < gaussian::kThreads; ++thread) action(thread, sums[static_cast<size_t>(thread)].of_thread);
  };
  for (int64_t row = tile * kTileRows; row < end; row += gaussian::kDepth) {
    each([&](int thread, auto&) { gaussian::fill(job, row, end, first_block, first_column, thread, shared); });
    each([&](int thread, auto& of_thread) { gaussian::multiply(end - row, thread, shared, of_thread); });
  }
  each([&](int thread, auto& of_thread) { gaussian::store_product(job, of_job, step, first_block, first_column, thread, of_thread); });
}

void run_gaussian(const gaussian::Job& job, double* out) {
  run_waves(job, [&](int64_t wave, int64_t of_job, int64_t step) {
    const int64_t tile = gaussian::tile_of(job, of_job, wave, step);
    if (tile >= gaussian::begin_of(job, of_job + 1)) return;
    for (int64_t block = 0; block < job.blocks_a_row; block += gaussian::kAcross) {
      for (int64_t column = 0; column < job.a.columns; column += gaussian::kColumns) multiply_tile(job, of_job, step, tile, block, column);
    }
  });
  for (int64_t at = 0; at < job.sketch_rows * job.a.columns; ++at) out[at] = gaussian::sum_of_jobs(job, at);
}

// One block of residual_kernel.
template <typename T, int together> void run_residual(const residuals::Job& job, int64_t chunk) {
  const int64_t size = job.bands * job.a.columns, end = residuals::end_of(job, chunk);
  const auto rights = static_cast<int>(job.b.columns);
  std::vector<double> sums(static_cast<size_t>(rights * size), NAN), squares(static_cast<size_t>(rights * residuals::kRows), NAN);
  residuals::Shared<together> shared;
  const auto each = [&](auto step) {
    for (int thread = 0; thread < residuals::kThreads; ++thread) step(thread);
  };
  each([&](int thread) { residuals::clear(job, thread, sums.data(), squares.data()); });
  for (int64_t first = chunk * job.chunk_rows; first < end; first += residuals::kRows) {
    for (int right = 0; right < rights; right += together) {
      const int count = std::min(rights - right, together);
      each([&](int thread) { residuals::multiply_rows<T>(job, first, end, right, count, thread, shared); });
      each([&](int thread) {
        residuals::take_rests(job, first, end, right, count, thread, shared, squares.data() + right * residuals::kRows);
      });
      each([&](int thread) { residuals::add_rows<T>(job, first, end, count, thread, shared, sums.data() + right * size); });
    }
  }
  each([&](int thread) { residuals::store_sums(job, chunk, thread, squares.data(), sums.data()); });
}

template <typename T> void run_residual(const residuals::Job& job) {
  for (int64_t chunk = 0; chunk < job.chunks; ++chunk)
    job.b.columns == 1 ? run_residual<T, 1>(job, chunk) : run_residual<T, residuals::kRights>(job, chunk);
}

}  // namespace

extern "C" {

int64_t slipstick_test_sketch_bytes(int kind, int64_t sketch_rows, int64_t nonzeros, int64_t rows, int64_t columns, uint64_t first_row) {
  Matrix a;
  a.rows = rows;
  a.columns = columns;
  const Sketch parameters{static_cast<Kind>(kind), 0, sketch_rows, nonzeros};
  switch (parameters.kind) {
    case Kind::sjlt: return scatter::bytes_of(scatter_job(parameters, a, nullptr, first_row, nullptr));
    case Kind::gaussian: return gaussian::bytes_of(gaussian::job_of(parameters, a, nullptr, first_row, nullptr));
    case Kind::gaussian_pooled: return pooled::bytes_of(pooled::job_of(parameters, a, nullptr, first_row, nullptr));
    default: return hadamard::bytes_of(hadamard::job_of(parameters, a, nullptr, first_row, nullptr));
  }
}

void slipstick_test_sketch(int kind, uint64_t seed, int64_t sketch_rows, int64_t nonzeros, const void* data, int single, int64_t rows,
                           int64_t columns, int64_t row_stride, int64_t column_stride, const double* scale, uint64_t first_row,
                           void* workspace, double* out) {
  const Matrix a{data, single != 0, rows, columns, row_stride, column_stride};
  const Sketch parameters{static_cast<Kind>(kind), seed, sketch_rows, nonzeros};
  switch (parameters.kind) {
    case Kind::sjlt: return run_scatter(scatter_job(parameters, a, scale, first_row, workspace), out);
    case Kind::gaussian: return run_gaussian(gaussian::job_of(parameters, a, scale, first_row, workspace), out);
    case Kind::gaussian_pooled: return run_pooled(pooled::job_of(parameters, a, scale, first_row, workspace), out);
    default: break;
  }
  const hadamard::Job job = hadamard::job_of(parameters, a, scale, first_row, workspace);
  run_hadamard(job);
  for (int64_t at = 0; at < sketch_rows * columns; ++at) out[at] = hadamard::sum_of_jobs(job, at);
}

// How many waves the work goes in, and how many steps of a job one has.
void slipstick_test_waves(int kind, int64_t sketch_rows, int64_t rows, int64_t columns, int64_t* out) {
  Matrix a;
  a.rows = rows;
  a.columns = columns;
  const Sketch parameters{static_cast<Kind>(kind), 0, sketch_rows, 1};
  const Waves waves = parameters.kind == Kind::gaussian ? gaussian::job_of(parameters, a, nullptr, 0, nullptr).waves
                                                        : hadamard::job_of(parameters, a, nullptr, 0, nullptr).waves;
  out[0] = waves.count;
  out[1] = waves.steps;
}

int64_t slipstick_test_residual_most_rights(int64_t columns) { return residuals::most_rights(columns); }

int64_t slipstick_test_residual_bytes(int64_t rows, int64_t columns, int64_t rights) {
  Matrix a, b;
  a.rows = b.rows = rows;
  a.columns = columns;
  b.columns = rights;
  return residuals::bytes_of(residuals::job_of(a, b, nullptr, nullptr, nullptr));
}

void slipstick_test_residual(const void* data, int single, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                             const void* right, int right_single, int64_t rights, int64_t right_row_stride, int64_t right_column_stride,
                             const double* scale, const double* x, void* workspace, double* out) {
  const Matrix a{data, single != 0, rows, columns, row_stride, column_stride};
  const Matrix b{right, right_single != 0, rows, rights, right_row_stride, right_column_stride};
  const residuals::Job job = residuals::job_of(a, b, scale, x, workspace);
  a.single ? run_residual<float>(job) : run_residual<double>(job);
  const int64_t numbers = residuals::numbers_of(job);
  for (int64_t top = 0; top < numbers; top += residuals::kMergeColumns) {
    double parts[residuals::kMergeParts][residuals::kMergeColumns];
    for (int part = 0; part < residuals::kMergeParts; ++part) {
      for (int within = 0; within < residuals::kMergeColumns; ++within)
        parts[part][within] = residuals::sum_of_chunks(job, part, top + within);
    }
    for (int within = 0; within < residuals::kMergeColumns && top + within < numbers; ++within)
      out[top + within] = residuals::sum_of_merged(parts, within);
  }
}
}
