// Products of tiles: Gram matrices, triangular products and residuals. Sums are in double, fused where the level fuses.
//
// One block of the product, `lanes` rows by one panel, stays in registers while the rows of the tile pass: 12 (v4: 24) independent sums hide the
// latency of the FMA, and a row costs 3 loads and `lanes` broadcasts for them. Both operands of a Gram come from the same packed tile, which
// lies in the second-level cache, the panel on the right in the first.
#include "sketch/products.h"

#include "simd/vec.h"
#include "sketch/kernels.h"

namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE {
namespace {

using simd::F64;
constexpr int64_t kLanes = F64::lanes;
constexpr int kRows = static_cast<int>(kLanes);  // of a block; equals the lanes so that blocks on the diagonal waste one vector at most
constexpr int kVectors = kLanes == 2 ? 6 : 3;  // of a panel: with kRows, as many sums as the registers hold
constexpr int64_t kPanel = kVectors * kLanes;
constexpr int64_t kLine = 64;  // bytes

int64_t panels_of(int64_t columns) { return (columns + kPanel - 1) / kPanel; }
int64_t vectors_of(int64_t columns) { return (columns + kLanes - 1) / kLanes; }

// sums[i][v] += sum over k of left[i * step + k * left_stride] * right[k * kPanel + v * kLanes ..]
template <int vectors> struct Block {
  F64 sums[kRows][vectors];

  void clear() {
    for (int i = 0; i < kRows; ++i) {
      for (int v = 0; v < vectors; ++v) sums[i][v] = F64::all(0.0);
    }
  }
  void add(const double* left, int64_t step, int64_t left_stride, const double* right, int64_t depth) {
    for (int64_t k = 0; k < depth; ++k) {
      F64 row[vectors];
      for (int v = 0; v < vectors; ++v) row[v] = F64::load(right + v * kLanes);
      for (int i = 0; i < kRows; ++i) {
        const F64 factor = F64::all(left[i * step]);
        for (int v = 0; v < vectors; ++v) sums[i][v] = multiply_add(factor, row[v], sums[i][v]);
      }
      left += left_stride;
      right += kPanel;
    }
  }
  void add_to(double* out, int64_t stride) const {
    for (int i = 0; i < kRows; ++i) {
      for (int v = 0; v < vectors; ++v) {
        double* at = out + i * stride + v * kLanes;
        (F64::load(at) + sums[i][v]).store(at);
      }
    }
  }
  void store_to(double* out, int64_t stride) const {
    for (int i = 0; i < kRows; ++i) {
      for (int v = 0; v < vectors; ++v) sums[i][v].store(out + i * stride + v * kLanes);
    }
  }
};

template <int vectors> void gram_block(const double* left, const double* right, int64_t rows, double* out, int64_t stride) {
  Block<vectors> block;
  block.clear();
  block.add(left, 1, kPanel, right, rows);
  block.add_to(out, stride);
}

template <int vectors>
void multiply_block(const double* tile, int64_t stride, const double* factor, int64_t depth, double* out) {
  Block<vectors> block;
  block.clear();
  block.add(tile, stride, 1, factor, depth);
  block.store_to(out, kPanel);
}

// Calls the function for a number of vectors that is known at run time only.
template <int vectors, typename... Arguments> void gram_block_of(int64_t count, Arguments... arguments) {
  if constexpr (vectors == 1) {
    gram_block<1>(arguments...);
  } else {
    if (count == vectors) {
      gram_block<vectors>(arguments...);
    } else {
      gram_block_of<vectors - 1>(count, arguments...);
    }
  }
}
template <int vectors, typename... Arguments> void multiply_block_of(int64_t count, Arguments... arguments) {
  if constexpr (vectors == 1) {
    multiply_block<1>(arguments...);
  } else {
    if (count == vectors) {
      multiply_block<vectors>(arguments...);
    } else {
      multiply_block_of<vectors - 1>(count, arguments...);
    }
  }
}

int64_t vectors_in_panel(int64_t panel, int64_t columns) {
  const int64_t left = vectors_of(columns) - panel * kVectors;
  return left < kVectors ? left : kVectors;
}

}  // namespace

int64_t panel_columns() { return kPanel; }

void pack(const double* tile, int64_t stride, int64_t rows, int64_t columns, int64_t first, double* packed) {
  const int64_t end = first + columns;
  for (int64_t panel = first / kPanel; panel < panels_of(end); ++panel) {
    const int64_t from = panel * kPanel < first ? first - panel * kPanel : 0;
    const int64_t to = end - panel * kPanel < kPanel ? end - panel * kPanel : kPanel;
    double* out = packed + panel * kPanel * rows;
    const double* in = tile + (panel * kPanel - first);
    if (from == 0 && to == kPanel) {
      for (int64_t r = 0; r < rows; ++r, in += stride, out += kPanel) {
        for (int v = 0; v < kVectors; ++v) F64::load(in + v * kLanes).store(out + v * kLanes);
      }
    } else {
      for (int64_t r = 0; r < rows; ++r, in += stride, out += kPanel) {
        for (int64_t j = from; j < to; ++j) out[j] = in[j];
        for (int64_t j = to; j < kPanel; ++j) out[j] = 0.0;
      }
    }
  }
}

void add_gram(const double* packed, int64_t rows, int64_t columns, double* sums, const Ahead& next) {
  const int64_t panels = panels_of(columns), stride = panels * kPanel;
  const int64_t lines = next.bytes / kLine + 1, pairs = panels * (panels + 1) / 2;
  int64_t fetched = 0;  // lines, the same number with every pair of panels
  for (int64_t right = 0; right < panels; ++right) {
    const double* right_panel = packed + right * kPanel * rows;
    const int64_t vectors = vectors_in_panel(right, columns);
    for (int64_t left = 0; left <= right; ++left) {
      const int64_t until = next.rows * lines * (right * (right + 1) / 2 + left + 1) / pairs;
      for (; fetched < until; ++fetched) __builtin_prefetch(next.data + fetched / lines * next.stride + fetched % lines * kLine, 0, 2);
      if (left == right) break;
      const double* left_panel = packed + left * kPanel * rows;
      for (int64_t block = 0; block < kVectors; ++block) {
        gram_block_of<kVectors>(vectors, left_panel + block * kLanes, right_panel, rows,
                                sums + (left * kPanel + block * kLanes) * stride + right * kPanel, stride);
      }
    }
    for (int64_t block = 0; block < vectors; ++block) {  // on the diagonal: vectors left of the block are not needed
      gram_block_of<kVectors>(vectors - block, right_panel + block * kLanes, right_panel + block * kLanes, rows,
                              sums + (right * kPanel + block * kLanes) * stride + right * kPanel + block * kLanes, stride);
    }
  }
}

void multiply(const double* tile, int64_t stride, int64_t rows, int64_t columns, const double* factor, double* packed) {
  for (int64_t panel = 0; panel < panels_of(columns); ++panel) {
    const int64_t end = (panel + 1) * kPanel, depth = end < columns ? end : columns;
    const int64_t vectors = vectors_in_panel(panel, columns);
    for (int64_t r = 0; r < rows; r += kRows) {
      multiply_block_of<kVectors>(vectors, tile + r * stride, stride, factor + panel * kPanel * columns, depth,
                                  packed + (panel * rows + r) * kPanel);
    }
  }
}

void add_product(const double* left, int64_t left_columns, const double* right, int64_t right_columns, int64_t rows, double* sums) {
  const int64_t stride = panels_of(right_columns) * kPanel;
  for (int64_t panel = 0; panel < panels_of(right_columns); ++panel) {
    const double* right_panel = right + panel * kPanel * rows;
    const int64_t vectors = vectors_in_panel(panel, right_columns);
    for (int64_t row = 0; row < left_columns; row += kRows) {
      const double* left_block = left + row / kPanel * kPanel * rows + row % kPanel;
      gram_block_of<kVectors>(vectors, left_block, right_panel, rows, sums + row * stride + panel * kPanel, stride);
    }
  }
}

// Four rows at a time: their dots with x share its loads, and the second use of a row finds it in the first-level cache.
double residual(const double* tile, int64_t stride, int64_t rows, int64_t columns, const double* b, int64_t b_stride, const double* x,
                double* gradient) {
  constexpr int kTogether = 4;
  double squares = 0.0;
  int64_t r = 0;
  for (; r + kTogether <= rows; r += kTogether) {
    const double* row = tile + r * stride;
    F64 dots[kTogether], more[kTogether];
    for (int i = 0; i < kTogether; ++i) dots[i] = more[i] = F64::all(0.0);
    int64_t j = 0;
    for (; j + 2 * kLanes <= columns; j += 2 * kLanes) {
      const F64 first = F64::load(x + j), second = F64::load(x + j + kLanes);
      for (int i = 0; i < kTogether; ++i) {
        for (int64_t line = 0; line < 2 * kLanes * 8; line += kLine)
          __builtin_prefetch(reinterpret_cast<const char*>(row + (kTogether + i) * stride + j) + line, 0, 3);
        dots[i] = multiply_add(F64::load(row + i * stride + j), first, dots[i]);
        more[i] = multiply_add(F64::load(row + i * stride + j + kLanes), second, more[i]);
      }
    }
    for (; j < columns; j += kLanes) {
      const F64 last = F64::load_first(x + j, columns - j, 0.0);
      for (int i = 0; i < kTogether; ++i) dots[i] = multiply_add(F64::load_first(row + i * stride + j, columns - j, 0.0), last, dots[i]);
    }
    F64 factors[kTogether];
    for (int i = 0; i < kTogether; ++i) {
      const double left = b[(r + i) * b_stride] - reduce_add(dots[i] + more[i]);
      squares += left * left;
      factors[i] = F64::all(left);
    }
    for (j = 0; j + kLanes <= columns; j += kLanes) {
      F64 sum = F64::load(gradient + j);
      for (int i = 0; i < kTogether; ++i) sum = multiply_add(factors[i], F64::load(row + i * stride + j), sum);
      sum.store(gradient + j);
    }
    if (j < columns) {
      F64 sum = F64::load_first(gradient + j, columns - j, 0.0);
      for (int i = 0; i < kTogether; ++i) sum = multiply_add(factors[i], F64::load_first(row + i * stride + j, columns - j, 0.0), sum);
      sum.store_first(gradient + j, columns - j);
    }
  }
  for (; r < rows; ++r) {
    const double* row = tile + r * stride;
    F64 dot = F64::all(0.0);
    for (int64_t j = 0; j < columns; j += kLanes) {
      dot = multiply_add(F64::load_first(row + j, columns - j, 0.0), F64::load_first(x + j, columns - j, 0.0), dot);
    }
    const double left = b[r * b_stride] - reduce_add(dot);
    squares += left * left;
    for (int64_t j = 0; j < columns; j += kLanes) {
      const F64 sum = F64::load_first(gradient + j, columns - j, 0.0);
      multiply_add(F64::all(left), F64::load_first(row + j, columns - j, 0.0), sum).store_first(gradient + j, columns - j);
    }
  }
  return squares;
}

}  // namespace slipstick::sketch::SLIPSTICK_ISA_NAMESPACE
