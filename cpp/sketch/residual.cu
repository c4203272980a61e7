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

// A block has one chunk.
template <typename T, int together> __global__ void __launch_bounds__(kThreads) residual_kernel(Job job) {
  extern __shared__ double sums[];  // then squares
  __shared__ residuals::Shared<together> shared;
  const int thread = static_cast<int>(threadIdx.x), rights = static_cast<int>(job.b.columns);
  const int64_t end = residuals::end_of(job, blockIdx.x), size = job.bands * job.a.columns;
  double* const squares = sums + rights * size;
  residuals::clear(job, thread, sums, squares);
  __syncthreads();  // all are 0 before any is added to
  for (int64_t first = blockIdx.x * job.chunk_rows; first < end; first += residuals::kRows) {
    for (int right = 0; right < rights; right += together) {
      const int count = rights - right < together ? rights - right : together;
      residuals::multiply_rows<T>(job, first, end, right, count, thread, shared);
      __syncthreads();  // all parts of each row are there, and nobody reads the rests of the rows before
      residuals::take_rests(job, first, end, right, count, thread, shared, squares + right * residuals::kRows);
      __syncthreads();  // all rests are there, and the parts may be overwritten
      residuals::add_rows<T>(job, first, end, count, thread, shared, sums + right * size);
    }
  }
  __syncthreads();  // the sums of other threads
  residuals::store_sums(job, blockIdx.x, thread, squares, sums);
}

__global__ void __launch_bounds__(kThreads) merge_kernel(Job job, double* out) {
  __shared__ double parts[residuals::kMergeParts][residuals::kMergeColumns];
  const auto thread = static_cast<int>(threadIdx.x);
  const int within = thread % residuals::kMergeColumns, part = thread / residuals::kMergeColumns;
  const int64_t at = int64_t{blockIdx.x} * residuals::kMergeColumns + within;
  parts[part][within] = residuals::sum_of_chunks(job, part, at);
  __syncthreads();  // all parts are there
  if (part == 0 && at < residuals::numbers_of(job)) out[at] = residuals::sum_of_merged(parts, within);
}

void check_sizes(const Matrix& a, const Matrix& b) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::invalid_argument, std::string(kWhere) + ": " + what); };
  if (a.rows < 0 || a.columns < 0) refuse("a size of A is negative; expected 0 or more");
  if (b.rows != a.rows) refuse("b has " + std::to_string(b.rows) + " rows; expected " + std::to_string(a.rows) + ", the rows of A");
  if (b.columns < 0) refuse("b has " + std::to_string(b.columns) + " columns; expected 0 or more");
  if (b.columns > residuals::most_rights(a.columns))
    throw Error(ErrorKind::unsupported, std::string(kWhere) + ": b has " + std::to_string(b.columns) + " columns and A " +
                                            std::to_string(a.columns) + "; expected at most " +
                                            std::to_string(residuals::most_rights(a.columns)) + " of b for so many of A");
}

template <typename T> void launch_residual(const Queue& queue, const Job& job) {
  const auto blocks = static_cast<unsigned>(job.chunks);
  const auto bytes = static_cast<size_t>(residuals::shared_bytes_of(job));
  const auto launch = [&](auto kernel) { kernel<<<blocks, kThreads, bytes, static_cast<cudaStream_t>(queue.stream)>>>(job); };
  job.b.columns == 1 ? launch(residual_kernel<T, 1>) : launch(residual_kernel<T, residuals::kRights>);
  check(kWhere, cudaGetLastError());
}

}  // namespace

int64_t residual_most_rights(int64_t columns) { return residuals::most_rights(columns); }

int64_t residual_bytes(int64_t rows, int64_t columns, int64_t rights) {
  Matrix a, b;
  a.rows = b.rows = rows;
  a.columns = columns;
  b.columns = rights;
  check_sizes(a, b);
  return residuals::bytes_of(residuals::job_of(a, b, nullptr, nullptr, nullptr));
}

void residual(const Queue& queue, const Matrix& a, const Matrix& b, const double* scale, const double* x, void* workspace, double* out) {
  check_sizes(a, b);
  if (b.columns == 0) return;
  const OnDevice on(kWhere, queue.device);
  const Job job = residuals::job_of(a, b, scale, x, workspace);
  if (job.chunks > 0) a.single ? launch_residual<float>(queue, job) : launch_residual<double>(queue, job);
  const int64_t blocks = (residuals::numbers_of(job) + residuals::kMergeColumns - 1) / residuals::kMergeColumns;
  merge_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(job, out);
  check(kWhere, cudaGetLastError());
}

}  // namespace slipstick::sketch::cuda
