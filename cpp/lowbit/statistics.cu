// Statistics of a quantization: a block is one task of statistics_loops.h. Bit-equal to the host.
#include <string>

#include "base/launch.cuh"
#include "lowbit/kernel_bytes.h"
#include "lowbit/statistics_loops.h"
#include "slipstick/lowbit_cuda.h"

namespace slipstick::lowbit::cuda {
namespace {

using element::check_request;
using element::Finds;
using element::KernelFormat;
using element::kLooked;
using element::kLookers;
using element::kSums;
using element::kTask;
using element::Looked;
using element::Looking;
using slipstick::cuda::check;
using slipstick::cuda::OnDevice;

constexpr const char* kWhere = "statistics";

template <Dtype dtype>
__global__ void __launch_bounds__(kLookers)
    statistics_kernel(KernelFormat format, const void* memory, Looked all, Rounding mode, Random random) {
  __shared__ Looking shared;
  const element::Tables tables(format, memory);
  const auto thread = static_cast<int>(threadIdx.x);
  const int64_t begin = blockIdx.x * kTask, end = begin + kTask < all.count ? begin + kTask : all.count;
  element::clear(thread, shared);
  __syncthreads();  // nobody counts in a table before it is empty
  Finds finds{};
  double sum = 0;
  int buffer = 0;
  for (int64_t first = begin; first < end; first += kLooked, buffer ^= 1) {
    element::look<dtype>(format, tables, all, mode, random, first, buffer, thread, shared, finds);
    __syncthreads();  // all elements are there; and those of the time before, where the next go, have been added
    if (thread < kSums) element::add_looked(buffer, thread, shared, &sum);
  }
  if (thread < kSums) all.sums[blockIdx.x * int64_t{kSums} + thread] = sum;
  element::gather_finds(finds, shared);
  __syncthreads();  // all finds are there
  element::add_to_totals(all, thread, shared);
}

}  // namespace

int64_t statistics_bytes(int64_t count) { return element::statistics_bytes(count); }

void quantize_with_statistics(const Queue& queue, const DeviceFormat& format, Rounding rounding, const Random& random, Dtype dtype,
                              const void* x, void* y, int64_t count, void* found) {
  const auto numbers = element::of_bytes<KernelFormat>(kWhere, format.numbers);
  if (count < 0) throw Error(ErrorKind::invalid_argument, "statistics: count is " + std::to_string(count) + "; expected 0 or more");
  const int64_t tasks = element::tasks_of(count);
  if (tasks > INT32_MAX) throw Error(ErrorKind::unsupported, "statistics: count is " + std::to_string(count) + "; expected less");
  check_request(kWhere, numbers, random, dtype, count);
  const OnDevice on(kWhere, queue.device);
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  check(kWhere, cudaMemsetAsync(found, 0, sizeof(element::Totals), stream));
  if (tasks == 0) return;
  auto* const totals = static_cast<element::Totals*>(found);
  const Looked all{x, y, count, totals, reinterpret_cast<double*>(totals + 1)};
  const auto launch = [&](auto kernel) {
    kernel<<<static_cast<unsigned>(tasks), kLookers, 0, stream>>>(numbers, format.tables, all, rounding, random);
    check(kWhere, cudaGetLastError());
  };
  switch (dtype) {
    case Dtype::float32: return launch(statistics_kernel<Dtype::float32>);
    case Dtype::float64: return launch(statistics_kernel<Dtype::float64>);
    case Dtype::bfloat16: return launch(statistics_kernel<Dtype::bfloat16>);
    case Dtype::float16: return launch(statistics_kernel<Dtype::float16>);
  }
}

Statistics merged_statistics(const void* found, int64_t count) { return element::statistics_of(found, count); }

}  // namespace slipstick::lowbit::cuda
