// Matrix products with a low-bit accumulator: which kernel may round, and the grid of tiles.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "lowbit/elements.h"
#include "slipstick/error.h"
#include "slipstick/threads.h"

namespace slipstick::lowbit {
namespace {

// No sum of `inner` products, each rounding growing it by at most 2^-mantissa_bits, reaches `most`.
bool stays_below(const Grid& grid, const Reach& a, const Reach& b, int64_t inner, double most) {
  if (!a.finite || !b.finite) return false;
  const double growth = std::pow(1 + std::ldexp(1.0, -grid.mantissa_bits), static_cast<double>(inner));
  return static_cast<double>(inner) * a.greatest * b.greatest * growth < most;
}

// All sums are multiples of the product of what a and b are multiples of. If that is a quantum of the format or more, sums below its normal range
// are numbers of it, and rounding need not look there.
bool stays_above(const Grid& grid, const Reach& a, const Reach& b) {
  return a.lowest + b.lowest >= grid.least_exponent - grid.mantissa_bits;
}

// The quickest kernel that is exact for these a and b.
Accumulator accumulator_for(const Grid& grid, int64_t round_every, const float* a, int64_t a_count, const float* b, int64_t b_count,
                            int64_t inner) {
  const bool often = round_every > 0 && round_every < 128;  // else the rounding hardly costs
  const bool plain = grid.symmetric && grid.negative_zero && grid.flush_limit == 0 && grid.mantissa_bits > 0 && grid.dropped_bits > 0;
  if (often && plain) {
    const MatmulKernels& kernels = active_matmul_kernels();
    const Reach left = kernels.reach(a, a_count), right = kernels.reach(b, b_count);
    float greatest;
    std::memcpy(&greatest, &grid.max[0], 4);
    if (stays_below(grid, left, right, inner, greatest)) {
      // Its product with 2^dropped_bits + 1 must be a number of float32 too.
      const double splits = std::min<double>(greatest, FLT_MAX / (std::ldexp(1.0, grid.dropped_bits) + 2));
      if (stays_below(grid, left, right, inner, splits))
        return stays_above(grid, left, right) ? Accumulator::unbounded : Accumulator::split;
      if (grid.quick) return Accumulator::bounded;
    }
  }
  if (grid.quick) return Accumulator::quick;
  return plain && grid.subnormal_limit == 0 ? Accumulator::quick_wide : Accumulator::any;
}

void multiply(const Grid* grid, Rounding rounding, Accumulator kind, int64_t round_every, const float* a, const float* b, float* c,
              int64_t rows, int64_t inner, int64_t columns, int threads) {
  const MatmulKernels& kernels = active_matmul_kernels();
  // A task is some rows of a band of columns; the band of b is packed once so that it is read in order.
  const int64_t width = kernels.tile_columns, bands = columns / width + (columns % width != 0);
  const ExactFloats exact;
  parallel_for(bands, threads, [&](int64_t band) {
    const int64_t first = band * width, count = std::min(width, columns - first);
    std::vector<float> packed(static_cast<size_t>(std::max<int64_t>(1, inner * width)));
    for (int64_t k = 0; k < inner; ++k) std::copy(b + k * columns + first, b + k * columns + first + count, packed.data() + k * width);
    for (int64_t row = 0; row < rows; row += kMatmulRows)
      kernels.tile(grid, rounding, kind, round_every, a + row * inner, inner, packed.data(), width, c + row * columns + first, columns,
                   std::min(kMatmulRows, rows - row), count, inner);
  });
}

void check_sizes(int64_t rows, int64_t inner, int64_t columns) {
  if (rows < 0 || inner < 0 || columns < 0) throw Error(ErrorKind::invalid_argument, "matmul: a size is negative; expected 0 or more");
}

}  // namespace

void matmul(const Format& accumulator, Rounding rounding, int64_t round_every, const float* a, const float* b, float* c, int64_t rows,
            int64_t inner, int64_t columns, int threads) {
  check_sizes(rows, inner, columns);
  const Grid* grid = accumulator.grid();
  if (!grid) throw Error(ErrorKind::unsupported, "matmul: accumulate is a code book; expected a float or integer format");
  if (rounding == Rounding::stochastic)
    throw Error(ErrorKind::unsupported, "matmul: rounding is 'stochastic'; expected a deterministic mode");
  Accumulator kind = Accumulator::any;
  if (rounding == Rounding::nearest_even) kind = accumulator_for(*grid, round_every, a, rows * inner, b, inner * columns, inner);
  multiply(grid, rounding, kind, round_every, a, b, c, rows, inner, columns, threads);
}

void matmul_float32(const float* a, const float* b, float* c, int64_t rows, int64_t inner, int64_t columns, int threads) {
  check_sizes(rows, inner, columns);
  multiply(nullptr, Rounding::nearest_even, Accumulator::float32, 0, a, b, c, rows, inner, columns, threads);
}

}  // namespace slipstick::lowbit
