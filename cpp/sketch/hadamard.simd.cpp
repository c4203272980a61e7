// The Hadamard transform of a block of rows, and the signed sums of some of its rows: one step of the streamed transform of sketch.cpp.
//
// The 9 levels of butterflies run as three passes of radix 8. The first reads the rows of A where they lie, 8 at a time in permuted order and
// with signs, and writes panels of a few columns that stay in the first-level cache for the other two. Rows of the next strip are
// prefetched meanwhile, as a strip of columns is too narrow for the hardware to foresee.
#include "sketch/hadamard.h"

#include "simd/vec.h"

namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::F64;
constexpr int64_t kLanes = F64::lanes;
constexpr int64_t kPanel = kLanes > 4 ? kLanes : 4;  // columns: 16 KiB of them are half a first-level cache
constexpr int kVectors = static_cast<int>(kPanel / kLanes);
constexpr int64_t kLine = 64;  // bytes

inline void butterfly(F64& a, F64& b) {
  const F64 sum = a + b;
  b = a - b;
  a = sum;
}

// The transform of 8 values.
inline void transform_8(F64 (&x)[8]) {
  butterfly(x[0], x[1]), butterfly(x[2], x[3]), butterfly(x[4], x[5]), butterfly(x[6], x[7]);
  butterfly(x[0], x[2]), butterfly(x[1], x[3]), butterfly(x[4], x[6]), butterfly(x[5], x[7]);
  butterfly(x[0], x[4]), butterfly(x[1], x[5]), butterfly(x[2], x[6]), butterfly(x[3], x[7]);
}

// Rows `distance` apart in a panel, all of them.
void pass(double* panel, int64_t distance) {
  const int64_t step = distance * kPanel;
  for (int64_t start = 0; start < kHadamardRows * kPanel; start += 8 * step) {
    for (int64_t i = start; i < start + step; i += kLanes) {
      F64 x[8];
      for (int k = 0; k < 8; ++k) x[k] = F64::load(panel + i + k * step);
      transform_8(x);
      for (int k = 0; k < 8; ++k) x[k].store(panel + i + k * step);
    }
  }
}

}  // namespace

int64_t hadamard_panel() { return kPanel; }

void hadamard(const HadamardStrip& strip, const HadamardStrip& next, int64_t samples, const int32_t* sampled, const double* sample_signs,
              double* work, double* sums) {
  static_assert(kHadamardRows == 8 * 8 * 8 && kPanel % kLanes == 0);
  const int64_t columns = strip.columns, panels = (columns + kPanel - 1) / kPanel, lines = next.columns * 8 / kLine + 1;
  for (int64_t r = 0; r < kHadamardRows; r += 8) {
    const double* rows[8];
    F64 signs[8];
    for (int k = 0; k < 8; ++k) {
      const int32_t source = strip.sources[r + k];
      const bool inside = source >= strip.first && source < strip.end;
      rows[k] = strip.data + (inside ? source - strip.first : 0) * strip.stride;
      signs[k] = F64::all(inside ? strip.signs[r + k] : 0.0);
    }
    double* to = work + r * kPanel;
    int64_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) {
      F64 x[8];
      for (int k = 0; k < 8; ++k) x[k] = signs[k] * F64::load(rows[k] + j);
      transform_8(x);
      double* at = to + j / kPanel * kPanel * kHadamardRows + j % kPanel;
      for (int k = 0; k < 8; ++k) x[k].store(at + k * kPanel);
    }
    for (; j < panels * kPanel; j += kLanes) {
      F64 x[8];
      for (int k = 0; k < 8; ++k) x[k] = j < columns ? signs[k] * F64::load_first(rows[k] + j, columns - j, 0.0) : F64::all(0.0);
      transform_8(x);
      double* at = to + j / kPanel * kPanel * kHadamardRows + j % kPanel;
      for (int k = 0; k < 8; ++k) x[k].store(at + k * kPanel);
    }
  }
  const int64_t rows_a_panel = kHadamardRows / panels + 1;
  int64_t fetched = next.first;
  for (int64_t p = 0; p < panels; ++p) {
    for (const int64_t until = fetched + rows_a_panel < next.end ? fetched + rows_a_panel : next.end; fetched < until; ++fetched) {
      const char* row = reinterpret_cast<const char*>(next.data + (fetched - next.first) * next.stride);
      for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(row + line * kLine, 0, 2);
    }
    double* panel = work + p * kHadamardRows * kPanel;
    pass(panel, 8);
    pass(panel, 64);
    double* to = sums + p * samples * kPanel;
    for (int64_t j = 0; j < samples; ++j, to += kPanel) {
      const double* from = panel + sampled[j] * kPanel;
      const F64 sign = F64::all(sample_signs[j]);
      for (int v = 0; v < kVectors; ++v)
        multiply_add(sign, F64::load(from + v * kLanes), F64::load(to + v * kLanes)).store(to + v * kLanes);
    }
  }
}

}  // namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE
