// Sketches: a thread of a launch is one of scatter_rows.h or hadamard_rows.h.
#include <algorithm>
#include <cmath>
#include <string>

#include "base/launch.cuh"
#include "sketch/hadamard_rows.h"
#include "sketch/scatter_rows.h"
#include "slipstick/sketch_cuda.h"

namespace slipstick::sketch::cuda {
namespace {

using slipstick::cuda::check;
using slipstick::cuda::grid_size;
using slipstick::cuda::kBlockThreads;
using slipstick::cuda::OnDevice;

constexpr const char* kWhere = "sketch";
constexpr int kMostColumns = 8;  // of a block: 64 bytes of a row of doubles
constexpr int kMostBands = kBlockThreads / kMostColumns;

__device__ int64_t this_thread() { return int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; }
__device__ int64_t all_threads() { return int64_t{gridDim.x} * kBlockThreads; }

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

__global__ void __launch_bounds__(kBlockThreads) sum_jobs_kernel(hadamard::Job job, double* out) {
  for (int64_t at = this_thread(); at < job.sketch_rows * job.a.columns; at += all_threads()) out[at] = hadamard::sum_of_jobs(job, at);
}

void check_parameters(const Sketch& parameters, const Matrix& a) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::invalid_argument, std::string(kWhere) + ": " + what); };
  if (parameters.kind == Kind::gaussian || parameters.kind == Kind::gaussian_pooled)
    throw Error(ErrorKind::unsupported, "sketch: kind is one of normal numbers; expected 'sjlt' or 'srht' on CUDA, or the CPU");
  if (a.rows < 0 || a.columns < 0) refuse("a size of A is negative; expected 0 or more");
  if (parameters.sketch_rows < 1 || parameters.sketch_rows > INT32_MAX)
    refuse("rows is " + std::to_string(parameters.sketch_rows) + "; expected 1 to 2^31 - 1");
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

template <int samples> void launch_transform(const Queue& queue, const hadamard::Job& job) {
  const int64_t groups = (job.sketch_rows + hadamard::kSamplesOf<samples> - 1) / hadamard::kSamplesOf<samples>;
  const int64_t blocks = (job.a.columns + hadamard::kColumns - 1) / hadamard::kColumns * groups;
  if (blocks > INT32_MAX)
    throw Error(ErrorKind::unsupported, "sketch: rows times columns of A is too much for a grid; expected less, or the CPU");
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(job.jobs));
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  if (job.a.single) {
    transform_kernel<float, samples><<<grid, hadamard::kThreads, 0, stream>>>(job, static_cast<unsigned>(groups));
  } else {
    transform_kernel<double, samples><<<grid, hadamard::kThreads, 0, stream>>>(job, static_cast<unsigned>(groups));
  }
  check(kWhere, cudaGetLastError());
}

void queue_hadamard(const Queue& queue, const hadamard::Job& job, double* out) {
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  if (job.jobs > 0) {
    draw_places_kernel<<<static_cast<unsigned>(job.blocks / kDrawThreads + 1), kDrawThreads, 0, stream>>>(job);
    check(kWhere, cudaGetLastError());
    draw_samples_kernel<<<grid_size(kWhere, queue.device, job.sketch_rows), kBlockThreads, 0, stream>>>(job);
    check(kWhere, cudaGetLastError());
    if (job.sketch_rows <= hadamard::kSamplesOf<8>) {
      launch_transform<8>(queue, job);
    } else {
      launch_transform<16>(queue, job);
    }
  }
  sum_jobs_kernel<<<grid_size(kWhere, queue.device, job.sketch_rows * job.a.columns), kBlockThreads, 0, stream>>>(job, out);
  check(kWhere, cudaGetLastError());
}

}  // namespace

int64_t sketch_bytes(const Sketch& parameters, int64_t rows, int64_t columns) {
  Matrix a;
  a.rows = rows;
  a.columns = columns;
  check_parameters(parameters, a);
  return parameters.kind == Kind::sjlt ? scatter::bytes_of(job_for(parameters, a, nullptr, 0, nullptr))
                                       : hadamard::bytes_of(hadamard::job_of(parameters, a, nullptr, kHadamardRows - 1, nullptr));
}

void sketch(const Queue& queue, const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace,
            double* out) {
  check_parameters(parameters, a);
  if (a.columns == 0) return;
  const OnDevice on(kWhere, queue.device);
  if (parameters.kind == Kind::sjlt) {
    queue_scatter(queue, job_for(parameters, a, scale, first_row, workspace), out);
  } else {
    queue_hadamard(queue, hadamard::job_of(parameters, a, scale, first_row, workspace), out);
  }
}

}  // namespace slipstick::sketch::cuda
