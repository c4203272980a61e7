// The sparse sketch: a thread of a launch is one of scatter_rows.h.
#include <algorithm>
#include <cmath>
#include <string>

#include "base/launch.cuh"
#include "sketch/scatter_rows.h"
#include "slipstick/sketch_cuda.h"

namespace slipstick::sketch::cuda {
namespace {

using scatter::Job;
using slipstick::cuda::check;
using slipstick::cuda::grid_size;
using slipstick::cuda::kBlockThreads;
using slipstick::cuda::OnDevice;

constexpr const char* kWhere = "sketch";
constexpr int kMostColumns = 8;  // of a block: 64 bytes of a row of doubles
constexpr int kMostBands = kBlockThreads / kMostColumns;

__device__ int64_t this_thread() { return int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; }
__device__ int64_t all_threads() { return int64_t{gridDim.x} * kBlockThreads; }

__global__ void __launch_bounds__(kBlockThreads) draw_kernel(Job job) {
  const int64_t quarters = (job.nonzeros + 3) / 4;
  for (int64_t at = this_thread(); at < job.a.rows * quarters; at += all_threads())
    scatter::draw_targets(job, at % job.a.rows, at / job.a.rows);
}

// Threads of a block: `columns` columns of each of some bands. A thread has its own sums, so none waits for another.
__global__ void __launch_bounds__(kBlockThreads) scatter_kernel(Job job, int columns, int64_t band_rows) {
  extern __shared__ double sums[];
  const int within = static_cast<int>(threadIdx.x) % columns, band_within = static_cast<int>(threadIdx.x) / columns;
  const int64_t bands = blockDim.x / columns, band = int64_t{blockIdx.z} * bands + band_within;
  const int64_t column = int64_t{blockIdx.x} * columns + within;
  if (band >= job.nonzeros || column >= job.a.columns) return;
  scatter::scatter_column(job, blockIdx.y, band, column, sums + band_within * band_rows * columns + within, columns);
}

__global__ void __launch_bounds__(kBlockThreads) sum_kernel(Job job, double* out) {
  for (int64_t at = this_thread(); at < job.sketch_rows * job.a.columns; at += all_threads()) out[at] = scatter::sum_of_chunks(job, at);
}

void check_parameters(const Sketch& parameters, const Matrix& a) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::invalid_argument, std::string(kWhere) + ": " + what); };
  if (parameters.kind != Kind::sjlt) throw Error(ErrorKind::unsupported, "sketch: kind is not 'sjlt'; expected it on CUDA, or the CPU");
  if (a.rows < 0 || a.columns < 0) refuse("a size of A is negative; expected 0 or more");
  if (parameters.sketch_rows < 1 || parameters.sketch_rows > INT32_MAX)
    refuse("rows is " + std::to_string(parameters.sketch_rows) + "; expected 1 to 2^31 - 1");
  const int64_t most = std::min(kMostNonzeros, parameters.sketch_rows);
  if (parameters.nonzeros < 1 || parameters.nonzeros > most)
    refuse("nonzeros is " + std::to_string(parameters.nonzeros) + "; expected 1 to " + std::to_string(most));
}

Job job_for(const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace) {
  return scatter::job_of(parameters, a, scale, first_row, 1.0 / std::sqrt(static_cast<double>(parameters.nonzeros)), workspace);
}

void launch_scatter(const Queue& queue, const Job& job) {
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

}  // namespace

int64_t sjlt_bytes(const Sketch& parameters, int64_t rows, int64_t columns) {
  Matrix a;
  a.rows = rows;
  a.columns = columns;
  check_parameters(parameters, a);
  return scatter::bytes_of(job_for(parameters, a, nullptr, 0, nullptr));
}

void sjlt(const Queue& queue, const Sketch& parameters, const Matrix& a, const double* scale, uint64_t first_row, void* workspace,
          double* out) {
  check_parameters(parameters, a);
  if (a.columns == 0) return;
  const OnDevice on(kWhere, queue.device);
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  const Job job = job_for(parameters, a, scale, first_row, workspace);
  if (job.chunks > 0) {
    draw_kernel<<<grid_size(kWhere, queue.device, a.rows * ((job.nonzeros + 3) / 4)), kBlockThreads, 0, stream>>>(job);
    check(kWhere, cudaGetLastError());
    launch_scatter(queue, job);
  }
  sum_kernel<<<grid_size(kWhere, queue.device, job.sketch_rows * a.columns), kBlockThreads, 0, stream>>>(job, out);
  check(kWhere, cudaGetLastError());
}

}  // namespace slipstick::sketch::cuda
