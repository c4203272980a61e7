// Products with a low-bit accumulator on CUDA; see product_loops.h. Bit-equal to the host but for the payload of NaN.
#include "base/launch.cuh"
#include "lowbit/kernel_bytes.h"
#include "lowbit/product_loops.h"
#include "slipstick/lowbit_cuda.h"

namespace slipstick::lowbit::cuda {
namespace {

using element::kProductThreads;
using element::kSide;
using element::kSteps;
using element::Product;

template <Rounding mode, bool rounds> __global__ void __launch_bounds__(kProductThreads) product_kernel(Product p) {
  __shared__ float a[kSteps][element::kPaddedSide], b[kSteps][kSide];
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t across = (p.columns + kSide - 1) / kSide, tiles = (p.rows + kSide - 1) / kSide * across;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t row = tile / across * kSide, column = tile % across * kSide;
    element::Sums sums;
    element::start_sums(p, sums);
    for (int64_t k = 0; k < p.inner; k += kSteps) {
      element::load_steps(p, row, column, k, thread, a, b);
      __syncthreads();  // all of the steps are there before one is read
      element::add_steps<mode, rounds>(p, k, thread, a, b, sums);
      __syncthreads();  // all have been read before the next are written
    }
    element::store_sums<mode, rounds>(p, row, column, thread, sums);
  }
}

template <Rounding mode, bool rounds> void launch(const Queue& queue, const Product& p) {
  constexpr int64_t kMostBlocks = int64_t{1} << 30;
  const int64_t tiles = ((p.rows + kSide - 1) / kSide) * ((p.columns + kSide - 1) / kSide);
  const auto blocks = static_cast<unsigned>(tiles < kMostBlocks ? tiles : kMostBlocks);
  product_kernel<mode, rounds><<<blocks, kProductThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(p);
  slipstick::cuda::check("matmul", cudaGetLastError());
}

}  // namespace

void matmul(const Queue& queue, const DeviceFormat* accumulator, Rounding rounding, int64_t round_every, const float* a, const float* b,
            float* c, int64_t rows, int64_t inner, int64_t columns) {
  if (rows < 0 || inner < 0 || columns < 0) throw Error(ErrorKind::invalid_argument, "matmul: a size is negative; expected 0 or more");
  Product p{a, b, c, rows, inner, columns, round_every < 0 ? 0 : round_every, {}};
  if (accumulator) {
    const auto format = element::of_bytes<element::KernelFormat>("matmul", accumulator->numbers);
    if (format.is_codebook) throw Error(ErrorKind::unsupported, "matmul: accumulate is a code book; expected a float or integer format");
    p.grid = format.grid;
  }
  if (rounding == Rounding::stochastic)
    throw Error(ErrorKind::unsupported, "matmul: rounding is 'stochastic'; expected a deterministic mode");
  if (rows == 0 || columns == 0) return;
  const slipstick::cuda::OnDevice on("matmul", queue.device);
  if (!accumulator) return launch<Rounding::nearest_even, false>(queue, p);
  switch (rounding) {
    case Rounding::nearest_even: return launch<Rounding::nearest_even, true>(queue, p);
    case Rounding::nearest_away: return launch<Rounding::nearest_away, true>(queue, p);
    case Rounding::toward_zero: return launch<Rounding::toward_zero, true>(queue, p);
    case Rounding::up: return launch<Rounding::up, true>(queue, p);
    case Rounding::down: return launch<Rounding::down, true>(queue, p);
    default: return launch<Rounding::to_odd, true>(queue, p);
  }
}

}  // namespace slipstick::lowbit::cuda
