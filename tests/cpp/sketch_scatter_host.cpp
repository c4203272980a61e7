// The kernels of sketch.cu without a device: threads one after the other. A shared library that tests/python/test_sketch_scatter_torch.py compiles.
#include <cmath>
#include <vector>

#include "sketch/scatter_rows.h"

using namespace slipstick::sketch;

extern "C" {

int64_t slipstick_test_sjlt_bytes(int64_t sketch_rows, int64_t nonzeros, int64_t rows, int64_t columns) {
  Matrix a;
  a.rows = rows;
  a.columns = columns;
  return scatter::bytes_of(scatter::job_of({Kind::sjlt, 0, sketch_rows, nonzeros}, a, nullptr, 0, 1.0, nullptr));
}

void slipstick_test_sjlt(uint64_t seed, int64_t sketch_rows, int64_t nonzeros, const void* data, int single, int64_t rows, int64_t columns,
                         int64_t row_stride, int64_t column_stride, const double* scale, uint64_t first_row, void* workspace, double* out) {
  const Matrix a{data, single != 0, rows, columns, row_stride, column_stride};
  const scatter::Job job = scatter::job_of({Kind::sjlt, seed, sketch_rows, nonzeros}, a, scale, first_row,
                                           1.0 / std::sqrt(static_cast<double>(nonzeros)), workspace);
  for (int64_t quarter = 0; quarter < (nonzeros + 3) / 4; ++quarter) {
    for (int64_t row = 0; row < rows; ++row) scatter::draw_targets(job, row, quarter);
  }
  std::vector<double> sums(static_cast<size_t>((sketch_rows + nonzeros - 1) / nonzeros));
  for (int64_t chunk = 0; chunk < job.chunks; ++chunk) {
    for (int64_t band = 0; band < nonzeros; ++band) {
      for (int64_t column = 0; column < columns; ++column) scatter::scatter_column(job, chunk, band, column, sums.data(), 1);
    }
  }
  for (int64_t at = 0; at < sketch_rows * columns; ++at) out[at] = scatter::sum_of_chunks(job, at);
}
}
