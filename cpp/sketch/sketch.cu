// Sketches: a thread of a launch is one of scatter_rows.h, hadamard_rows.h, pooled_rows.h or gaussian_rows.h.
#include <algorithm>
#include <cmath>
#include <string>

#include "base/launch.cuh"
#include "sketch/gaussian_rows.h"
#include "sketch/hadamard_rows.h"
#include "sketch/pooled_rows.h"
#include "sketch/scatter_rows.h"
#include "slipstick/sketch_cuda.h"

namespace slipstick::sketch::cuda {
namespace {

using slipstick::cuda::all_threads;
using slipstick::cuda::check;
using slipstick::cuda::grid_size;
using slipstick::cuda::kBlockThreads;
using slipstick::cuda::OnDevice;
using slipstick::cuda::this_thread;

constexpr const char* kWhere = "sketch";
constexpr int kMostColumns = 8;  // of a block: 64 bytes of a row of doubles
constexpr int kMostBands = kBlockThreads / kMostColumns;

__global__ void __launch_bounds__(kBlockThreads) draw_kernel(scatter::Job job) {
  const int64_t quarters = (job.nonzeros + 3) / 4;
  for (int64_t at = this_thread(); at < job.a.rows * quarters; at += all_threads())
    scatter::draw_targets(job, at % job.a.rows, at / job.a.rows);
}

// Threads of a block: `columns` columns of each of some bands. A thread has its own sums, so none waits for another.
__global__ void __launch_bounds__(kBlockThreads) scatter_kernel(scatter::Job job, int columns, int64_t band_rows) {
  extern __shared__ double sums[];
  const int within = static_cast<int>(threadIdx.x) % columns, band_within = static_cast<int>(threadIdx.x) / columns;
  const int64_t bands = blockDim.x / columns, band = int64_t{blockIdx.z} * bands + band_within;
  const int64_t column = int64_t{blockIdx.x} * columns + within;
  if (band >= job.nonzeros || column >= job.a.columns) return;
  scatter::scatter_column(job, blockIdx.y, band, column, sums + band_within * band_rows * columns + within, columns);
}

__global__ void __launch_bounds__(kBlockThreads) sum_kernel(scatter::Job job, double* out) {
  for (int64_t at = this_thread(); at < job.sketch_rows * job.a.columns; at += all_threads()) out[at] = scatter::sum_of_chunks(job, at);
}

constexpr int kDrawThreads = 32;  // of a block: their permutations take 32 KiB of shared memory

__global__ void __launch_bounds__(kDrawThreads) draw_places_kernel(hadamard::Job job) {
  __shared__ uint16_t orders[hadamard::kRows][kDrawThreads];
  const int64_t item = int64_t{blockIdx.x} * kDrawThreads + threadIdx.x;
  if (item <= job.blocks) hadamard::draw_places(job, item, &orders[0][threadIdx.x], kDrawThreads);
}

__global__ void __launch_bounds__(kBlockThreads) draw_samples_kernel(hadamard::Job job) {
  for (int64_t j = this_thread(); j < job.sketch_rows; j += all_threads()) hadamard::draw_sample(job, j);
}

// Blocks along x are those of `groups` groups of samples, which follow each other so that the rows they all read are read close together, for each group
// of columns; along y, jobs.
template <typename T, int samples>
__global__ void __launch_bounds__(hadamard::kThreads, samples > 8 ? 2 : 3) transform_kernel(hadamard::Job job, unsigned groups) {
  __shared__ double work[hadamard::kWorkDoubles];
  const auto thread = static_cast<int>(threadIdx.x);
  const int64_t column = int64_t{blockIdx.x / groups} * hadamard::kColumns + thread % hadamard::kColumns;
  const int64_t first = blockIdx.x % groups * hadamard::kSamplesOf<samples>, end = hadamard::begin_of(job, blockIdx.y + 1);
  int64_t k = hadamard::begin_of(job, blockIdx.y);
  double sums[samples] = {};
  hadamard::Fetched<T> fetched;
  if (k < end) hadamard::fetch(job, k, column, thread, fetched);
  for (; k < end; ++k) {
    hadamard::first_pass(job, k, thread, fetched, work);
    if (k + 1 < end) hadamard::fetch(job, k + 1, column, thread, fetched);
    __syncthreads();  // all places are there
    hadamard::pass<8>(thread, work);
    __syncthreads();  // and those of the last levels
    hadamard::pass<64>(thread, work);
    __syncthreads();  // and every row that is sampled
    hadamard::add_samples(job, k, first, thread, work, sums);
    __syncthreads();  // all have read: the next block of rows may come
  }
  hadamard::store_sums(job, blockIdx.y, first, column, thread, sums);
}

// The same in waves: blocks along x are groups of columns, along y steps of the wave, along z jobs.
template <typename T> __global__ void __launch_bounds__(hadamard::kThreads) transform_wave_kernel(hadamard::Job job, int64_t wave) {
  __shared__ double work[hadamard::kWorkDoubles];
  const auto thread = static_cast<int>(threadIdx.x);
  const int64_t column = int64_t{blockIdx.x} * hadamard::kColumns + thread % hadamard::kColumns;
  const int64_t k = hadamard::block_of(job, blockIdx.z, wave, blockIdx.y);
  if (k >= hadamard::begin_of(job, int64_t{blockIdx.z} + 1)) return;  // the whole block
  hadamard::Fetched<T> fetched;
  hadamard::fetch(job, k, column, thread, fetched);
  hadamard::first_pass(job, k, thread, fetched, work);
  __syncthreads();  // all places are there
  hadamard::pass<8>(thread, work);
  __syncthreads();  // and those of the last levels
  hadamard::pass<64>(thread, work);
  __syncthreads();  // and every row
  hadamard::store_transformed(job, blockIdx.z, blockIdx.y, column, thread, work);
}

// Blocks along x are groups of columns for each group of samples; along y, steps of the wave; along z, jobs.
__global__ void __launch_bounds__(gaussian::kThreads, 2) product_wave_kernel(gaussian::Job job, int64_t wave, unsigned groups) {
  __shared__ gaussian::Shared shared;
  const auto thread = static_cast<int>(threadIdx.x);
  const int64_t first_block = int64_t{blockIdx.x / groups} * gaussian::kAcross;
  const int64_t first_column = int64_t{blockIdx.x % groups} * gaussian::kColumns;
  const int64_t tile = gaussian::tile_of(job, blockIdx.z, wave, blockIdx.y);
  if (tile >= gaussian::begin_of(job, int64_t{blockIdx.z} + 1)) return;  // the whole block
  const int64_t end = tile * kTileRows + kTileRows < job.a.rows ? tile * kTileRows + kTileRows : job.a.rows;
  double sums[gaussian::kOwn][gaussian::kOwn] = {};
  for (int64_t row = tile * kTileRows; row < end; row += gaussian::kDepth) {
    gaussian::fill(job, row, end, first_block, first_column, thread, shared);
    __syncthreads();  // all normals and numbers of these rows are there
    gaussian::multiply(end - row, thread, shared, sums);
    __syncthreads();  // all have read: the next rows may come
  }
  gaussian::store_product(job, blockIdx.z, blockIdx.y, first_block, first_column, thread, sums);
}

template <typename Job> __device__ int64_t numbers_of(const Job& job) { return job.sketch_rows * job.a.columns; }

template <typename Job> __global__ void __launch_bounds__(kBlockThreads) add_wave_kernel(Job job, int64_t wave) {
  for (int64_t at = this_thread(); at < job.jobs * numbers_of(job); at += all_threads()) add_wave(job, wave, at);
}

template <typename Job> __global__ void __launch_bounds__(kBlockThreads) sum_jobs_kernel(Job job, double* out) {
  for (int64_t at = this_thread(); at < numbers_of(job); at += all_threads()) out[at] = sum_of_jobs(job, at);
}

__global__ void __launch_bounds__(kBlockThreads) draw_pool_kernel(pooled::Job job) {
  for (int64_t at = this_thread(); at < pooled::blocks_of(job); at += all_threads()) pooled::draw(job, at);
}

__global__ void __launch_bounds__(kBlockThreads) sum_pool_kernel(pooled::Job job, double* out) {
  for (int64_t at = this_thread(); at < numbers_of(job.rows) / kPooled; at += all_threads()) out[at] = pooled::sum_of_pool(job, at);
}

void check_parameters(const Sketch& parameters, const Matrix& a) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::invalid_argument, std::string(kWhere) + ": " + what); };
  if (a.rows < 0 || a.columns < 0) refuse("a size of A is negative; expected 0 or more");
  const int64_t most_rows = INT32_MAX / (parameters.kind == Kind::gaussian_pooled ? kPooled : 1);
  if (parameters.sketch_rows < 1 || parameters.sketch_rows > most_rows)
    refuse("rows is " + std::to_string(parameters.sketch_rows) + "; expected 1 to " + std::to_string(most_rows));
  if (parameters.kind != Kind::sjlt) return;
  const int64_t most = std::min(kMostNonzeros, parameters.sketch_rows);
  if (parameters.nonzeros < 1 || parameters.nonzeros > most)
    refuse("nonzeros is " + std::to_string(parameters.nonzeros) + "; expected 1 to " + std::to_string(most));
}

scatter::Job job_for(const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace) {
  return scatter::job_of(parameters, a, scale, first_row, 1.0 / std::sqrt(static_cast<double>(parameters.nonzeros)), workspace);
}

void launch_scatter(const Queue& queue, const scatter::Job& job) {
  int most_bytes = 0;
  check(kWhere, cudaDeviceGetAttribute(&most_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, queue.device));
  const int64_t band_rows = (job.sketch_rows + job.nonzeros - 1) / job.nonzeros;
  int columns = kMostColumns;
  while (columns > 1 && band_rows * columns * 8 > most_bytes) columns /= 2;
  const int64_t band_bytes = band_rows * columns * 8;
  if (band_bytes > most_bytes)
    throw Error(ErrorKind::unsupported, "sketch: rows / nonzeros is " + std::to_string(band_rows) + " and this device has room for " +
                                            std::to_string(most_bytes / 8) + "; expected more nonzeros, fewer rows, or the CPU");
  const int64_t bands = std::min<int64_t>({job.nonzeros, kMostBands, most_bytes / band_bytes});
  const auto bytes = static_cast<int>(bands * band_bytes);
  check(kWhere, cudaFuncSetAttribute(scatter_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const dim3 grid(static_cast<unsigned>((job.a.columns + columns - 1) / columns), static_cast<unsigned>(job.chunks),
                  static_cast<unsigned>((job.nonzeros + bands - 1) / bands));
  scatter_kernel<<<grid, static_cast<unsigned>(bands * columns), static_cast<size_t>(bytes), static_cast<cudaStream_t>(queue.stream)>>>(
      job, columns, band_rows);
  check(kWhere, cudaGetLastError());
}

void queue_scatter(const Queue& queue, const scatter::Job& job, double* out) {
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  if (job.chunks > 0) {
    draw_kernel<<<grid_size(kWhere, queue.device, job.a.rows * ((job.nonzeros + 3) / 4)), kBlockThreads, 0, stream>>>(job);
    check(kWhere, cudaGetLastError());
    launch_scatter(queue, job);
  }
  sum_kernel<<<grid_size(kWhere, queue.device, job.sketch_rows * job.a.columns), kBlockThreads, 0, stream>>>(job, out);
  check(kWhere, cudaGetLastError());
}

// Blocks along the x axis of a grid.
unsigned along_x(int64_t blocks) {
  if (blocks > INT32_MAX)
    throw Error(ErrorKind::unsupported, "sketch: rows times columns of A is too much for a grid; expected less, or the CPU");
  return static_cast<unsigned>(blocks);
}

template <int samples> void launch_transform(const Queue& queue, const hadamard::Job& job) {
  const int64_t groups = (job.sketch_rows + hadamard::kSamplesOf<samples> - 1) / hadamard::kSamplesOf<samples>;
  const dim3 grid(along_x(hadamard::blocks_of<samples>(job)), static_cast<unsigned>(job.jobs));
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  if (job.a.single) {
    transform_kernel<float, samples><<<grid, hadamard::kThreads, 0, stream>>>(job, static_cast<unsigned>(groups));
  } else {
    transform_kernel<double, samples><<<grid, hadamard::kThreads, 0, stream>>>(job, static_cast<unsigned>(groups));
  }
  check(kWhere, cudaGetLastError());
}

// launch(wave, grid) makes one wave, of blocks_along_x blocks for each step of each job.
template <typename Job, typename Launch> void launch_waves(const Queue& queue, const Job& job, int64_t blocks_along_x, Launch launch) {
  const dim3 grid(along_x(blocks_along_x), static_cast<unsigned>(job.waves.steps), static_cast<unsigned>(job.jobs));
  const unsigned blocks = grid_size(kWhere, queue.device, job.jobs * job.sketch_rows * job.a.columns);
  for (int64_t wave = 0; wave < job.waves.count; ++wave) {
    launch(wave, grid);
    check(kWhere, cudaGetLastError());
    add_wave_kernel<<<blocks, kBlockThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(job, wave);
    check(kWhere, cudaGetLastError());
  }
}

template <typename T> void launch_transform_waves(const Queue& queue, const hadamard::Job& job) {
  const int64_t groups = (job.a.columns + hadamard::kColumns - 1) / hadamard::kColumns;
  launch_waves(queue, job, groups, [&](int64_t wave, dim3 grid) {
    transform_wave_kernel<T><<<grid, hadamard::kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(job, wave);
  });
}

template <typename Job> void launch_sum(const Queue& queue, const Job& job, double* out) {
  const unsigned blocks = grid_size(kWhere, queue.device, job.sketch_rows * job.a.columns);
  sum_jobs_kernel<<<blocks, kBlockThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(job, out);
  check(kWhere, cudaGetLastError());
}

// Up to the sums of each job.
void queue_hadamard(const Queue& queue, const hadamard::Job& job) {
  if (job.jobs == 0) return;
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  draw_places_kernel<<<static_cast<unsigned>(job.blocks / kDrawThreads + 1), kDrawThreads, 0, stream>>>(job);
  check(kWhere, cudaGetLastError());
  draw_samples_kernel<<<grid_size(kWhere, queue.device, job.sketch_rows), kBlockThreads, 0, stream>>>(job);
  check(kWhere, cudaGetLastError());
  if (job.waves.count > 0) {
    job.a.single ? launch_transform_waves<float>(queue, job) : launch_transform_waves<double>(queue, job);
  } else if (job.sketch_rows <= hadamard::kSamplesOf<8>) {
    launch_transform<8>(queue, job);
  } else {
    launch_transform<16>(queue, job);
  }
}

void queue_pooled(const Queue& queue, const pooled::Job& job, double* out) {
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  draw_pool_kernel<<<grid_size(kWhere, queue.device, pooled::blocks_of(job)), kBlockThreads, 0, stream>>>(job);
  check(kWhere, cudaGetLastError());
  queue_hadamard(queue, job.rows);
  const int64_t numbers = job.rows.sketch_rows / kPooled * job.rows.a.columns;
  sum_pool_kernel<<<grid_size(kWhere, queue.device, numbers), kBlockThreads, 0, stream>>>(job, out);
  check(kWhere, cudaGetLastError());
}

void queue_gaussian(const Queue& queue, const gaussian::Job& job, double* out) {
  const int64_t groups = (job.a.columns + gaussian::kColumns - 1) / gaussian::kColumns;
  const int64_t of_samples = (job.blocks_a_row + gaussian::kAcross - 1) / gaussian::kAcross;
  launch_waves(queue, job, groups * of_samples, [&](int64_t wave, dim3 grid) {
    product_wave_kernel<<<grid, gaussian::kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(job, wave, static_cast<unsigned>(groups));
  });
  launch_sum(queue, job, out);
}

}  // namespace

int64_t sketch_bytes(const Sketch& parameters, int64_t rows, int64_t columns, uint64_t first_row) {
  Matrix a;
  a.rows = rows;
  a.columns = columns;
  check_parameters(parameters, a);
  switch (parameters.kind) {
    case Kind::sjlt: return scatter::bytes_of(job_for(parameters, a, nullptr, first_row, nullptr));
    case Kind::gaussian: return gaussian::bytes_of(gaussian::job_of(parameters, a, nullptr, first_row, nullptr));
    case Kind::gaussian_pooled: return pooled::bytes_of(pooled::job_of(parameters, a, nullptr, first_row, nullptr));
    default: return hadamard::bytes_of(hadamard::job_of(parameters, a, nullptr, first_row, nullptr));
  }
}

void sketch(const Queue& queue, const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace,
            double* out) {
  check_parameters(parameters, a);
  if (a.columns == 0) return;
  const OnDevice on(kWhere, queue.device);
  switch (parameters.kind) {
    case Kind::sjlt: return queue_scatter(queue, job_for(parameters, a, scale, first_row, workspace), out);
    case Kind::gaussian: return queue_gaussian(queue, gaussian::job_of(parameters, a, scale, first_row, workspace), out);
    case Kind::gaussian_pooled: return queue_pooled(queue, pooled::job_of(parameters, a, scale, first_row, workspace), out);
    default: break;  // the Hadamard transforms
  }
  const hadamard::Job job = hadamard::job_of(parameters, a, scale, first_row, workspace);
  queue_hadamard(queue, job);
  launch_sum(queue, job, out);
}

}  // namespace slipstick::sketch::cuda
