// Gram matrices and residuals: the work cut into jobs of tiles, and the jobs' sums added.
#include <algorithm>
#include <vector>

#include "sketch/kernels.h"
#include "sketch/tile.h"
#include "slipstick/sketch.h"
#include "slipstick/threads.h"

namespace slipstick::sketch {
namespace {

// The upper triangle of sums [padded, padded] as a symmetric matrix [size, size].
void unfold(const double* sums, int64_t stride, int64_t size, double* out) {
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = i; j < size; ++j) out[i * size + j] = out[j * size + i] = sums[i * stride + j];
  }
}

// inverse_r [columns, columns], upper triangular, in panels of `columns` rows.
std::vector<double> pack_factor(const double* inverse_r, int64_t columns, int64_t panel) {
  std::vector<double> packed(static_cast<size_t>(columns * padded(columns, panel)), 0.0);
  for (int64_t i = 0; i < columns; ++i) {
    for (int64_t j = i; j < columns; ++j)
      packed[static_cast<size_t>((j / panel * columns + i) * panel + j % panel)] = inverse_r[i * columns + j];
  }
  return packed;
}

void gram_pass(const Matrix& a, const Matrix& b, RowScale scale, const double* inverse_r, double* out, int threads) {
  const Kernels& kernels = active_kernels();
  const int64_t size = a.columns + b.columns, width = padded(size, kernels.panel_columns);
  if (size == 0) return;
  std::vector<double> factor;
  if (inverse_r) factor = pack_factor(inverse_r, a.columns, kernels.panel_columns);
  const Grid grid(a.rows, size, width * width);
  std::vector<double> sums(static_cast<size_t>(grid.jobs * width * width), 0.0);
  parallel_for(grid.jobs, threads, [&](int64_t job) {
    std::vector<double> packed(static_cast<size_t>(kTileRows * width), 0.0), a_buffer, b_buffer;
    double* sum = sums.data() + job * width * width;
    for (int64_t first = grid.begin(job); first < grid.end(job); first += kTileRows) {
      const int64_t rows = std::min(kTileRows, grid.end(job) - first);
      const int64_t height = inverse_r ? (rows + kernels.lanes - 1) / kernels.lanes * kernels.lanes : rows;
      const Tile left = load_tile(a, scale, first, rows, height, a_buffer);
      if (inverse_r) {
        kernels.multiply(left.data, left.stride, height, a.columns, factor.data(), packed.data());
      } else {
        kernels.pack(left.data, left.stride, height, a.columns, 0, packed.data());
      }
      if (b.columns > 0) {
        const Tile right = load_tile(b, scale, first, rows, height, b_buffer);
        kernels.pack(right.data, right.stride, height, b.columns, a.columns, packed.data());
      }
      kernels.add_gram(packed.data(), height, size, sum, rows_ahead(a, first + rows, std::min(first + rows + kTileRows, grid.end(job))));
    }
  });
  add_jobs(sums.data(), grid.jobs, width * width);
  unfold(sums.data(), width, size, out);
}

}  // namespace

void gram(const Matrix& a, const Matrix& b, RowScale scale, double* out, int threads) {
  check_pair("gram", a, b);
  gram_pass(a, b, scale, nullptr, out, threads);
}

void preconditioned_gram(const Matrix& a, const Matrix& b, RowScale scale, const double* inverse_r, double* out, int threads) {
  check_pair("preconditioned_gram", a, b);
  gram_pass(a, b, scale, inverse_r, out, threads);
}

void residual(const Matrix& a, const Matrix& b, RowScale scale, const double* x, double* gradient, double* squared_norms, int threads) {
  check_pair("residual", a, b);
  const Kernels& kernels = active_kernels();
  const int64_t d = a.columns, rights = b.columns, size = (d + 1) * rights;
  std::vector<double> by_right(static_cast<size_t>(d * rights));  // a right-hand side's x is contiguous
  for (int64_t k = 0; k < rights; ++k) {
    for (int64_t j = 0; j < d; ++j) by_right[static_cast<size_t>(k * d + j)] = x[j * rights + k];
  }
  const Grid grid(a.rows, d + rights, size);
  std::vector<double> sums(static_cast<size_t>(grid.jobs * size), 0.0);
  parallel_for(grid.jobs, threads, [&](int64_t job) {
    std::vector<double> a_buffer, b_buffer, of_tile(static_cast<size_t>(d));
    double* sum = sums.data() + job * size;
    for (int64_t first = grid.begin(job); first < grid.end(job); first += kTileRows) {
      const int64_t rows = std::min(kTileRows, grid.end(job) - first);
      const Tile left = load_tile(a, scale, first, rows, rows, a_buffer), right = load_tile(b, scale, first, rows, rows, b_buffer);
      for (int64_t k = 0; k < rights; ++k) {
        std::fill(of_tile.begin(), of_tile.end(), 0.0);  // sums of short runs, added to the long one: less rounding
        sum[rights * d + k] +=
            kernels.residual(left.data, left.stride, rows, d, right.data + k, right.stride, by_right.data() + k * d, of_tile.data());
        for (int64_t j = 0; j < d; ++j) sum[k * d + j] += of_tile[static_cast<size_t>(j)];
      }
    }
  });
  add_jobs(sums.data(), grid.jobs, size);
  for (int64_t k = 0; k < rights; ++k) {
    for (int64_t j = 0; j < d; ++j) gradient[j * rights + k] = sums[static_cast<size_t>(k * d + j)];
    squared_norms[k] = sums[static_cast<size_t>(rights * d + k)];
  }
}

}  // namespace slipstick::sketch
