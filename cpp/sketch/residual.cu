// The residual of least squares and its gradient: a thread of a launch is one of residual_rows.h.
#include <string>

#include "base/launch.cuh"
#include "sketch/residual_rows.h"
#include "slipstick/sketch_cuda.h"

namespace slipstick::sketch::cuda {
namespace {

using residuals::Job;
using residuals::kThreads;
using slipstick::cuda::check;
using slipstick::cuda::OnDevice;

constexpr const char* kWhere = "residual";

template <typename T> __global__ void __launch_bounds__(kThreads) residual_kernel(Job job) {
  extern __shared__ double sums[];
  __shared__ residuals::Shared shared;
  const auto thread = static_cast<int>(threadIdx.x);
  const int64_t end = residuals::end_of(job, blockIdx.x);
  residuals::clear(job, thread, sums, shared);  // each sum by the thread that adds to it
  for (int64_t first = blockIdx.x * job.chunk_rows; first < end; first += residuals::kRows) {
    residuals::multiply_rows<T>(job, first, end, thread, shared);
    __syncthreads();  // all parts of each row are there, and nobody reads the rests of the rows before
    residuals::take_rests(job, first, end, thread, shared);
    __syncthreads();  // all rests are there, and the parts may be overwritten
    residuals::add_rows<T>(job, first, end, thread, shared, sums);
  }
  __syncthreads();  // the sums of other bands
  residuals::store_sums(job, blockIdx.x, thread, shared, sums);
}

__global__ void __launch_bounds__(kThreads) merge_kernel(Job job, double* out) {
  __shared__ double parts[residuals::kMergeParts][residuals::kMergeColumns];
  const auto thread = static_cast<int>(threadIdx.x);
  const int within = thread % residuals::kMergeColumns, part = thread / residuals::kMergeColumns;
  const int64_t column = int64_t{blockIdx.x} * residuals::kMergeColumns + within;
  parts[part][within] = residuals::sum_of_chunks(job, part, column);
  __syncthreads();  // all parts are there
  if (part == 0 && column <= job.a.columns) out[column] = residuals::sum_of_parts(parts, within);
}

void check_sizes(const Matrix& a, const Matrix& b) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::invalid_argument, std::string(kWhere) + ": " + what); };
  if (a.rows < 0 || a.columns < 0) refuse("a size of A is negative; expected 0 or more");
  if (b.rows != a.rows) refuse("b has " + std::to_string(b.rows) + " rows; expected " + std::to_string(a.rows) + ", the rows of A");
  if (b.columns != 1) refuse("b has " + std::to_string(b.columns) + " columns; expected 1");
  if (a.columns > residuals::kMostColumns)
    throw Error(ErrorKind::unsupported, std::string(kWhere) + ": A has " + std::to_string(a.columns) + " columns; expected at most " +
                                            std::to_string(residuals::kMostColumns));
}

}  // namespace

int64_t residual_most_columns() { return residuals::kMostColumns; }

int64_t residual_bytes(int64_t rows, int64_t columns) {
  Matrix a, b;
  a.rows = b.rows = rows;
  a.columns = columns;
  b.columns = 1;
  check_sizes(a, b);
  return residuals::bytes_of(residuals::job_of(a, b, nullptr, nullptr, nullptr));
}

void residual(const Queue& queue, const Matrix& a, const Matrix& b, const double* scale, const double* x, void* workspace, double* out) {
  check_sizes(a, b);
  const OnDevice on(kWhere, queue.device);
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  const Job job = residuals::job_of(a, b, scale, x, workspace);
  if (job.chunks > 0) {
    const auto bytes = static_cast<size_t>(job.bands * a.columns) * sizeof(double);
    const auto blocks = static_cast<unsigned>(job.chunks);
    if (a.single) {
      residual_kernel<float><<<blocks, kThreads, bytes, stream>>>(job);
    } else {
      residual_kernel<double><<<blocks, kThreads, bytes, stream>>>(job);
    }
    check(kWhere, cudaGetLastError());
  }
  merge_kernel<<<static_cast<unsigned>(a.columns / residuals::kMergeColumns + 1), kThreads, 0, stream>>>(job, out);
  check(kWhere, cudaGetLastError());
}

}  // namespace slipstick::sketch::cuda
